"""The configuration file: what is read, and that each fault names file, key, cause and what to write."""
from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from relay.config import LIMITS, BadConfig, Limits, Listen, RelayConfig, warnings
from relay.config_file import KEYS, load_config
from relay.preface import Answer
from relay.session import Ending

DOCUMENT = Path(__file__).parents[3] / "docs" / "relay.md"
HASH = "0f" * 32
GOOD = f"""
[relay]
listen = ["127.0.0.1:0", "[::1]:8443"]
listen_plaintext = ["127.0.0.1:8480"]
certificate = "relay.crt"
key = "relay.key"

[limits]
max_sessions = 7

[[clients]]
id = "worker-1"
token_sha256 = "{HASH}"
upstreams = ["cn263", "lab"]
expires = 2027-06-30T08:00:00+08:00
sources = ["198.51.100.0/24"]
max_connections = 5

[[upstreams]]
id = "cn263"
host = "IMAP.263.net"

[[upstreams]]
id = "lab"
host = "127.0.0.1"
port = 24193
allowed_networks = ["127.0.0.0/8", "::1/128"]
server_name = "localhost"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "relay.crt").write_text("certificate")
    (tmp_path / "relay.key").write_text("key")
    (tmp_path / "relay.key").chmod(0o600)
    return tmp_path


def write(folder: Path, text: str, mode: int = 0o640) -> Path:
    path = folder / "relay.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def read(folder: Path, text: str = GOOD, mode: int = 0o640) -> RelayConfig:
    return load_config(write(folder, text, mode))


def faults(folder: Path, text: str, mode: int = 0o640) -> list[str]:
    """The keys that are faulty; every fault is complete."""
    with pytest.raises(BadConfig) as caught:
        read(folder, text, mode)
    for problem in caught.value.problems:
        assert problem.file == str(folder / "relay.toml") and problem.key and problem.zh and problem.en and problem.write
        assert problem.key in str(caught.value) and problem.write in str(caught.value)
    return [problem.key for problem in caught.value.problems]


def test_a_good_file(folder: Path) -> None:
    config = read(folder)
    assert config.listen == (Listen("127.0.0.1", 0, True), Listen("::1", 8443, True), Listen("127.0.0.1", 8480, False))
    assert config.key == folder / "relay.key" and config.limits == Limits(max_sessions=7) and config.log_format == "json"
    client = config.clients["worker-1"]
    assert client.token_hashes == (HASH,) and client.max_connections == 5
    assert client.expires == datetime(2027, 6, 30, tzinfo=UTC) and client.sources == (ipaddress.ip_network("198.51.100.0/24"),)
    assert config.upstreams["cn263"].host == "imap.263.net" and config.upstreams["cn263"].port == 993
    assert config.upstreams["cn263"].expected_sni == "imap.263.net" and config.upstreams["lab"].expected_sni == "localhost"
    assert config.upstream_for(client, "127.0.0.1", 24193) is config.upstreams["lab"]
    assert config.upstream_for(client, "127.0.0.1", 993) is None and config.upstream_for(client, "other", 993) is None
    assert HASH not in repr(config)


def test_an_address_without_a_server_name_expects_no_sni(folder: Path) -> None:
    assert read(folder, GOOD.replace('server_name = "localhost"', "")).upstreams["lab"].expected_sni is None


@pytest.mark.parametrize(("old", "new", "key"), [
    ('listen = ["127.0.0.1:0", "[::1]:8443"]\nlisten_plaintext = ["127.0.0.1:8480"]', "", "relay.listen"),
    ('"127.0.0.1:0"', '"localhost:8443"', "relay.listen"),
    ('"127.0.0.1:0"', '"127.0.0.1:70000"', "relay.listen"),
    ('"127.0.0.1:0"', '"::1:8443"', "relay.listen"),
    ('["127.0.0.1:8480"]', '["0.0.0.0:8480"]', "relay.listen_plaintext"),
    ('["127.0.0.1:8480"]', '["192.0.2.1:8480"]', "relay.listen_plaintext"),
    ('["127.0.0.1:8480"]', '["[::]:8480"]', "relay.listen_plaintext"),
    ('certificate = "relay.crt"', "", "relay.certificate"),
    ('"relay.key"', '"missing.key"', "relay.key"),
    ('"relay.key"', "5", "relay.key"),
    ("[limits]", 'log_format = "xml"\n[limits]', "relay.log_format"),
    ("[limits]", "[limitz]", "limitz"),
    ("max_sessions = 7", "max_sesions = 7", "limits.max_sesions"),
    ("max_sessions = 7", "max_sessions = 0", "limits.max_sessions"),
    ("max_sessions = 7", "max_sessions = true", "limits.max_sessions"),
    ("max_sessions = 7", 'idle_seconds = "1800"', "limits.idle_seconds"),
    ('id = "worker-1"', 'id = "Worker 1"', "clients[0].id"),
    ('id = "worker-1"', "", "clients[0].id"),
    (HASH, HASH[:-1], "clients.worker-1.token_sha256"),
    (HASH, HASH.upper(), "clients.worker-1.token_sha256"),
    (f'token_sha256 = "{HASH}"', "token_sha256 = []", "clients.worker-1.token_sha256"),
    ('["cn263", "lab"]', '["cn263", "cn264"]', "clients.worker-1.upstreams"),
    ('["cn263", "lab"]', "[]", "clients.worker-1.upstreams"),
    ("2027-06-30T08:00:00+08:00", "2027-06-30T08:00:00", "clients.worker-1.expires"),
    ("2027-06-30T08:00:00+08:00", '"next year"', "clients.worker-1.expires"),
    ("198.51.100.0/24", "198.51.100.7/24", "clients.worker-1.sources"),
    ("max_connections = 5", "max_connections = 0", "clients.worker-1.max_connections"),
    ('"IMAP.263.net"', '"*.263.net"', "upstreams.cn263.host"),
    ('"IMAP.263.net"', '"imap.263.net."', "upstreams.cn263.host"),
    ('"IMAP.263.net"', '"邮箱.中国"', "upstreams.cn263.host"),
    ('"IMAP.263.net"', '"fe80::1%eth0"', "upstreams.cn263.host"),
    ('"IMAP.263.net"', '"0x7f.1"', "upstreams.cn263.host"),
    ("24193", "0", "upstreams.lab.port"),
    ('server_name = "localhost"', 'server_name = "127.0.0.1"', "upstreams.lab.server_name"),
    ('id = "lab"', 'id = "cn263"', "upstreams.cn263.id"),
    ("port = 24193", "port = 24193\ncomment = 1", "upstreams.lab.comment"),
    ('host = "127.0.0.1"\nport = 24193', 'host = "imap.263.net"', "upstreams.lab.host"),
])
def test_each_fault_names_its_key(folder: Path, old: str, new: str, key: str) -> None:
    assert old in GOOD
    assert key in faults(folder, GOOD.replace(old, new, 1))


def test_all_faults_come_at_once(folder: Path) -> None:
    found = faults(folder, GOOD.replace("max_sessions = 7", "max_sessions = 0").replace(HASH, "x").replace("24193", "0"))
    assert found == ["limits.max_sessions", "upstreams.lab.port", "clients.worker-1.token_sha256"]


def test_without_clients_or_upstreams_nothing_starts(folder: Path) -> None:
    assert faults(folder, GOOD.partition("[[clients]]")[0]) == ["upstreams", "clients"]


@pytest.mark.parametrize("mode", [0o660, 0o606, 0o646, 0o666])
def test_a_file_that_others_may_write_is_refused(folder: Path, mode: int) -> None:
    assert faults(folder, GOOD, mode) == ["-"]


@pytest.mark.parametrize(("mode", "good"), [(0o600, True), (0o640, True), (0o400, True), (0o644, False), (0o660, False), (0o602, False)])
def test_a_key_that_others_may_read_is_refused(folder: Path, mode: int, good: bool) -> None:
    (folder / "relay.key").chmod(mode)
    if good:
        read(folder)
    else:
        assert faults(folder, GOOD) == ["relay.key"]


@pytest.mark.parametrize("text", ["[relay", "\x00", "relay = 5\n", 'clients = "x"', "clients = [1]"])
def test_other_files_are_refused_in_words(folder: Path, text: str) -> None:
    assert faults(folder, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"nowhere\.toml"):
        load_config(tmp_path / "nowhere.toml")


def test_a_token_written_in_place_of_its_hash_is_not_repeated(folder: Path) -> None:
    token = "rt1.worker-1." + "Z" * 43
    with pytest.raises(BadConfig) as caught:
        read(folder, GOOD.replace(HASH, token))
    assert "ZZZZ" not in str(caught.value)


def test_what_will_not_work_is_warned_of(folder: Path) -> None:
    config = read(folder, GOOD.replace("port = 24193", "port = 143"))
    assert [one.key for one in warnings(config, datetime(2028, 1, 1, tzinfo=UTC))] == ["clients.worker-1.expires", "upstreams.lab.port"]


def test_the_document_tells_every_key_limit_answer_and_ending() -> None:
    text = DOCUMENT.read_text("utf-8")
    for table in ("relay", "clients", "upstreams"):
        for key in KEYS[table]:
            assert f"`{table}.{key}`" in text, f"{table}.{key}"
    assert KEYS["limits"] == set(LIMITS)
    for name, limit in LIMITS.items():
        assert re.search(rf"^\| `{name}` \| {limit.default} \|", text, re.M), name
    for answer in Answer:
        assert re.search(rf"^\| {answer.status} \| `{answer.code}` \|", text, re.M), answer
    for ending in Ending:
        assert f"`{ending.value}`" in text, ending


def test_the_documents_example_is_a_good_configuration(folder: Path) -> None:
    example = re.search(r"```toml\n(.*?)```", DOCUMENT.read_text("utf-8"), re.S)
    assert example is not None
    config = read(folder, example[1])
    assert config.upstreams["cn263"].port == 993 and config.clients["worker-1"].upstreams == {"cn263"}
