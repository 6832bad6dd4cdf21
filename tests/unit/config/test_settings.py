"""Settings: every one documented, every bad value named, no password shown."""
from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

import config
from config import SETTINGS, BadSettings, LogFormat, PortRange, Settings, load_settings

ROOT = Path(__file__).resolve().parents[3]


def load(directory: Path, **variables: str) -> Settings:
    return load_settings({"INSTANCE_DIR": str(directory), **variables}, dotenv=None)


def test_every_field_is_one_row_of_the_table_and_the_document_is_made_from_it() -> None:
    assert [s.field for s in SETTINGS] == [f.name for f in dataclasses.fields(Settings)]
    assert len({s.name for s in SETTINGS}) == len(SETTINGS)
    assert all(s.zh and s.en and s.kind for s in SETTINGS)
    assert (ROOT / "docs" / "settings.md").read_text("utf-8") == config.document(), "run: python -m config > docs/settings.md"


def test_every_setting_is_read_by_some_process() -> None:
    files = [*(ROOT / "portal").rglob("*.py"), *(ROOT / "relay").rglob("*.py"), ROOT / "worker.py"]
    code = "\n".join(path.read_text("utf-8") for path in files)
    asked_of_settings = set(re.findall(r"\.(\w+)", code)) | ({"allowed_ports"} if "port_allowed" in code else set())
    assert [s.name for s in SETTINGS if s.field not in asked_of_settings] == []


def test_config_imports_nothing_of_ours() -> None:
    tree = ast.parse((ROOT / "config.py").read_text("utf-8"))
    imported = {node.module if isinstance(node, ast.ImportFrom) else alias.name
                for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)
                for alias in node.names}
    assert not {name for name in imported if name and name.split(".")[0] in ("engine", "portal", "relay", "worker", "tests")}


def test_defaults_stand_in_the_instance_directory(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.database_url == f"sqlite:///{tmp_path}/banjia.db"
    assert settings.redis_url == f"unix://{tmp_path}/redis/redis.sock?db=0"
    assert settings.vault_private_key_file == tmp_path / "vault.private"
    assert (settings.link_days, settings.slice_seconds, settings.lease_seconds, settings.language) == (30, 600, 60, "zh")
    assert settings.allowed_networks == () and settings.relay_config is None and not settings.secure_cookies


def test_values_are_read_as_their_kind(tmp_path: Path) -> None:
    settings = load(tmp_path, DATABASE_URL="postgres://u:p@db/banjia", BASE_URL="https://move.example.com/", LOG_FORMAT="JSON",
                    ALLOWED_NETWORKS="10.0.0.0/8, fd00::/8", ALLOWED_PORTS="993,8000-8999", LINK_DAYS=" 7 ", RELAY_CONFIG="r.toml")
    assert settings.database_url == "postgresql+psycopg://u:p@db/banjia"
    assert settings.base_url == "https://move.example.com" and settings.secure_cookies
    assert settings.log_format is LogFormat.JSON and settings.link_days == 7 and settings.relay_config == Path("r.toml")
    assert [str(n) for n in settings.allowed_networks] == ["10.0.0.0/8", "fd00::/8"]
    assert settings.allowed_ports == (PortRange(993, 993), PortRange(8000, 8999))
    assert settings.port_allowed(8500) and not settings.port_allowed(143)


def test_a_relative_sqlite_file_does_not_depend_on_where_a_process_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(tmp_path, DATABASE_URL="sqlite:///data/x.db").database_url == f"sqlite:///{tmp_path}/data/x.db"


@pytest.mark.parametrize(("name", "value", "problem", "write"), [
    ("SLICE_SECONDS", "ten minutes", "'ten minutes' is not a whole number", "from 5 to 3600"),
    ("SLICE_SECONDS", "0", "0 is out of range", "from 5 to 3600"),
    ("CONNECTIONS", "99", "99 is out of range", "from 1 to 10"),
    ("DEFAULT_LANGUAGE", "fr", "'fr' is not one of the choices", "zh or en"),
    ("LOG_FORMAT", "xml", "'xml' is not one of the choices", "text or json"),
    ("DATABASE_URL", "mysql://u:hunter2@h/x", "'mysql' is not supported", "postgresql://"),
    ("DATABASE_URL", "banjia.db", "not a database URL", "sqlite:////absolute"),
    ("DATABASE_URL", "sqlite://", "in memory", "sqlite:////absolute"),
    ("DATABASE_URL", "sqlite:///:memory:", "in memory", "sqlite:////absolute"),
    ("REDIS_URL", "localhost:6379", "not a Redis URL", "redis://host"),
    ("REDIS_URL", "redis://", "names no server", "redis://host"),
    ("BASE_URL", "move.example.com", "not a web address", "https://move.example.com"),
    ("BASE_URL", "https://move.example.com/x?y", "only scheme, host and port", "https://move.example.com"),
    ("BIND", "8000", "not an address and a port", "127.0.0.1:8000"),
    ("BIND", "::1:8000", "not an address and a port", "127.0.0.1:8000"),
    ("BASE_URL", "http://[::1", "not a web address", "https://move.example.com"),
    ("ALLOWED_NETWORKS", "10.0.0.1/8", "'10.0.0.1/8' is not a network", "10.1.0.0/16"),
    ("ALLOWED_PORTS", "993-143", "not a port or a range", "143,993"),
    ("ALLOWED_PORTS", "70000", "not a port or a range", "143,993"),
    ("RECONCILE_SECONDS", "300", "twice LEASE_SECONDS", "below 120"),
])
def test_a_bad_value_names_the_variable_the_problem_and_what_to_write(
    tmp_path: Path, name: str, value: str, problem: str, write: str
) -> None:
    with pytest.raises(BadSettings) as caught:
        load(tmp_path, **{name: value})
    assert caught.value.name == name and str(caught.value).startswith(f"{name}: ")
    assert problem in caught.value.problem and write in caught.value.write
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("bind", "base"), [
    ("127.0.0.1:8471", "http://127.0.0.1:8471"), ("[::1]:8471", "http://[::1]:8471"), ("localhost:8471", "http://localhost:8471"),
    ("10.1.2.3:8471", "http://10.1.2.3:8471"), ("0.0.0.0:8471", "http://127.0.0.1:8471"), ("[::]:8471", "http://127.0.0.1:8471"),
])
def test_an_unset_base_url_is_where_the_web_server_listens(tmp_path: Path, bind: str, base: str) -> None:
    """Or every printed link would be dead."""
    assert load(tmp_path, BIND=bind).base_url == base
    assert load(tmp_path, BIND=bind, BASE_URL="https://move.example.com").base_url == "https://move.example.com"


@pytest.mark.parametrize(("bind", "base", "warns"), [
    ("0.0.0.0:8471", "", True), ("[::]:8471", "", True), ("10.1.2.3:8471", "http://localhost:8000", True),
    ("0.0.0.0:8471", "https://move.example.com", False), ("10.1.2.3:8471", "", False), ("localhost:8471", "", False), ("", "", False),
])
def test_links_that_only_this_machine_opens_are_told_where_others_are_listened_for(tmp_path: Path, bind: str, base: str,
                                                                                   warns: bool) -> None:
    told = config.unreachable_links(load(tmp_path, BIND=bind, BASE_URL=base))
    assert bool(told) is warns
    assert not warns or ("只有这台机器打得开" in told and "Set BASE_URL" in told)


def test_the_environment_wins_over_dotenv_and_empty_means_not_set(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("LINK_DAYS=5\nCONNECTIONS=3\nOTHER_TOOL=x\nLOG_LEVEL=\n")
    settings = load_settings({"INSTANCE_DIR": str(tmp_path), "LINK_DAYS": "9", "CONNECTIONS": ""}, dotenv=dotenv)
    assert (settings.link_days, settings.connections, settings.log_level) == (9, 3, "info")


def test_a_misspelt_name_in_dotenv_is_an_error_that_names_the_right_one(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("DATABSE_URL=sqlite:////tmp/x.db\n")
    with pytest.raises(BadSettings, match=r"DATABSE_URL: there is no such setting .*\. Write DATABASE_URL\."):
        load_settings({}, dotenv=dotenv)


def test_a_password_in_an_url_is_never_shown(tmp_path: Path) -> None:
    settings = load(tmp_path, DATABASE_URL="postgresql://banjia:kanarie-1@db/banjia", REDIS_URL="rediss://:kanarie-2@r:6379/0?password=kanarie-3")
    assert "kanarie" in settings.database_url and "kanarie" in settings.redis_url
    assert "kanarie" not in repr(settings) and "kanarie" not in str(settings) and "banjia:***@db" in repr(settings)


def test_the_command_prints_the_document_and_this_machines_settings(tmp_path: Path) -> None:
    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "config", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60,
                              env={"INSTANCE_DIR": str(tmp_path), "PYTHONIOENCODING": "utf-8", **variables})

    assert run().stdout == config.document()
    shown = run("--check", DATABASE_URL="postgresql://u:kanarie@h/d")
    assert shown.returncode == 0 and "DATABASE_URL=postgresql+psycopg://u:***@h/d" in shown.stdout
    assert shown.stderr == "" and "Set BASE_URL" in run("--check", BIND="0.0.0.0:8000").stderr
    bad = run("--check", LINK_DAYS="x")
    assert bad.returncode == 1 and bad.stderr.startswith("LINK_DAYS: 'x' is not a whole number. Write")
    assert run("--nonsense").returncode == 2


def test_all_bad_settings_are_named_at_once() -> None:
    with pytest.raises(BadSettings) as refused:
        load_settings({"SLICE_SECONDS": "soon", "BIND": "here", "LINK_DAYS": "7"}, dotenv=None)
    lines = str(refused.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["BIND", "SLICE_SECONDS"]
    assert refused.value.name == "BIND"


def test_what_is_made_from_a_bad_setting_is_not_complained_of_too() -> None:
    with pytest.raises(BadSettings) as refused:
        load_settings({"BIND": "[::1"}, dotenv=None)
    assert refused.value.name == "BIND" and len(str(refused.value).splitlines()) == 1
