"""Every command that the READMEs show is run, as it stands there; only host names and where state is kept are this test's own. So are the
backup of production.md and the tables of options, which have to say what the programs do.

A command that no rule below knows fails the test: whoever adds one says here how it is tried.
"""
from __future__ import annotations

import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from argparse import _SubParsersAction
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text as sql

import engine.cli
from portal.store.db import Database, migrate
from tests.support.certificates import authority
from tests.support.dovecot import Sample, differences, read_back, running_dovecot, seed

ROOT = Path(__file__).resolve().parent.parent
READMES = ("README.md", "README.en.md")
OLD, NEW = "xiaoming@old.example", "xiaoming@new.example"
PUBLIC = {"xiaoming%40old.example@imap.old.example": "old", "xiaoming%40new.example@imap.new.example": "new"}


def commands(name: str) -> list[str]:
    """The lines of all fenced blocks marked `sh`."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip() and not line.startswith("#")]


def run(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = shlex.split(line)
    if words[0] == "python":
        words[0] = sys.executable
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False, env={**kept, **environment})


def test_both_readmes_show_the_same_commands() -> None:
    assert commands("README.md") == commands("README.en.md")
    for name in READMES:
        assert not re.search(r"^```(bash|shell|console)$", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE), "mark blocks `sh`"


def is_a_target(line: str, _tmp: Path) -> None:
    """The demo, demo-check, run and clean-demo are started for real in tests/integration; here: that make knows what to do, and does it
    with this Python environment and no other step than `python -m …`."""
    done = run(line.replace("make ", "make -n -o .venv/.made -o .venv/.runtime -o .venv/.dev ", 1))
    assert done.returncode == 0, done.stderr
    assert all(word.startswith(".venv/bin/") for word in re.findall(r"^\S+", done.stdout, re.MULTILINE)), done.stdout


def shows_settings(line: str, tmp: Path) -> None:
    done = run(line, INSTANCE_DIR=str(tmp))
    assert done.returncode == 0 and f"INSTANCE_DIR={tmp}" in done.stdout


def brings_tables(line: str, tmp: Path) -> None:
    assert run(line, INSTANCE_DIR=str(tmp)).returncode == 0
    assert (tmp / "banjia.db").exists()
    assert run(line, INSTANCE_DIR=str(tmp)).returncode == 0


def invites(line: str, tmp: Path) -> None:
    done = run(line, INSTANCE_DIR=str(tmp), BASE_URL="https://move.example.com")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"https://move\.example\.com/invitation/[\w-]{43}", done.stdout.strip())


def is_done_with_two_servers(line: str, _tmp: Path) -> None:
    """See test_the_command_line_moves_a_mailbox_as_the_readme_says."""
    assert line.split()[3] in ("check", "copy", "verify", "report", "undo")


RULES: tuple[tuple[str, Callable[[str, Path], None]], ...] = (
    (r"make [a-z-]+$", is_a_target),
    (r"python -m config --check$", shows_settings),
    (r"python -m portal migrate$", brings_tables),
    (r"python -m portal invite ", invites),
    (r"python -m engine ", is_done_with_two_servers),
)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all commands: they build on each other."""
    return tmp_path_factory.mktemp("readme") / "instance"


@pytest.mark.parametrize("line", commands("README.md"))
def test_every_command_is_run(line: str, instance: Path) -> None:
    rule = next((rule for pattern, rule in RULES if re.match(pattern, line)), None)
    assert rule is not None, f"no rule tries {line!r}"
    rule(line, instance)


@pytest.mark.usefixtures("need_dovecot")
def test_the_command_line_moves_a_mailbox_as_the_readme_says(tmp_path: Path) -> None:
    lines = [line for line in commands("README.md") if line.startswith("python -m engine")]
    assert [line.split()[3] for line in lines] == ["check", "copy", "verify", "report", "undo"]
    ca = authority().write(tmp_path)
    with running_dovecot({OLD: "old secret"}) as old, running_dovecot({NEW: "new secret"}, separator="/") as new:
        seed(old, OLD, [Sample(f"Subject: {n}\r\n\r\n信 {n}\r\n".encode(), folder, ("\\Seen",)) for n in range(5)
                        for folder in ("INBOX", "客户/北京")])
        ports = {"old": old.imaps_port, "new": new.imaps_port}
        environment = {"SSL_CERT_FILE": str(ca), "BANJIA_SOURCE_PASSWORD": "old secret", "BANJIA_DESTINATION_PASSWORD": "new secret",
                       "XDG_STATE_HOME": str(tmp_path / "state")}
        results = []
        for line in lines:
            for public, side in PUBLIC.items():
                line = line.replace(public, f"{public.split('@')[0]}@localhost:{ports[side]}")
            done = run(line.replace("report.html", str(tmp_path / "report.html")) + " --json" * (" --output " not in line), **environment)
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            if " --output " not in line:
                results.append(json.loads(done.stdout))
            assert "secret" not in done.stdout + done.stderr
        assert (results[0]["messages"], results[1]["totals"]["moved"], results[2]["equal"]) == (10, 10, True)
        assert (results[3]["dry_run"], results[3]["totals"]["removed"]) == (True, 10)
        assert "每一封都有着落" in (tmp_path / "report.html").read_text(encoding="utf-8")
        assert differences(read_back(old, OLD), read_back(new, NEW)) == []


def test_make_help_tells_each_target_in_both_languages_and_one_style() -> None:
    """Chinese, " / ", English that begins with what it does; no full stop at the end."""
    shown = subprocess.run(["make", "--no-print-directory", "help"],  # as it is also when these tests run under make
                           cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    targets = re.findall(r"^([a-z-]+):.* #", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    listed = [re.fullmatch(r"  make ([a-z-]+) +(.*[\u4e00-\u9fff].*) / ([a-z][^\u4e00-\u9fff]*[^.])", line) for line in shown]
    assert all(listed), shown
    assert {line[1] for line in listed if line} <= set(targets) and len(listed) >= 10


# --- options ------------------------------------------------------------------------------------------------------------------


def options() -> dict[str, set[str]]:
    """What each command of the engine takes."""
    subcommands = next(a for a in engine.cli._parser()._actions if isinstance(a, _SubParsersAction))
    return {name: {word for action in one._actions for word in action.option_strings if word.startswith("--")} - {"--help"}
            for name, one in subcommands.choices.items()}


def documented(name: str) -> list[list[str]]:
    """The rows of a document's tables that begin with an option; their cells."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `--")]


@pytest.mark.parametrize("name", READMES)
def test_the_table_of_options_says_which_commands_take_each(name: str) -> None:
    takes = options()
    for cells in documented(name):
        option = cells[0].strip("`").split()[0]
        assert cells[1].split() == [command for command, theirs in takes.items() if option in theirs], option
    told = {cells[0].strip("`").split()[0] for cells in documented(name)}
    assert takes["check"] | takes["copy"] | takes["verify"] == told


@pytest.mark.parametrize(("name", "paragraph", "directory"), [("README.md", "退出码：", "在放代码的目录里运行"),
                                                             ("README.en.md", "Exit codes: ", "the directory of the code")])
def test_the_command_line_says_where_it_is_run_and_how_each_command_may_end(name: str, paragraph: str, directory: str) -> None:
    section, = [part for part in (ROOT / name).read_text(encoding="utf-8").split("\n## ") if paragraph in part]
    start = " ".join(section[:section.index("```sh")].split())
    assert directory in start and ". .venv/bin/activate" in start
    ends = section[section.index(paragraph):].split("\n\n")[0]
    cli = engine.cli
    codes = [cli.OK, cli.INTERNAL, cli.USAGE, cli.NOT_ALL, cli.FAILED, cli.INTERRUPTED]
    assert re.findall(r"(?<=[：；:;])\s*(\d+)\s", ends) == list(map(str, codes))


@pytest.mark.parametrize("name", READMES)
def test_the_readme_says_all_that_undo_cannot_do_without(name: str) -> None:
    """The new mailbox's address, which argparse demands, and a pass: without them the first try ends in a usage error."""
    section, = [part for part in (ROOT / name).read_text(encoding="utf-8").split("\n## ") if "python -m engine undo" in part]
    told = section[section.index("python -m engine undo"):]
    assert all(f"`{option}" in told for option in ("--ledger", "--last", "--pass N", "--dry-run"))


@pytest.mark.parametrize("name", ["docs/report.md", "docs/verify.md"])
def test_a_document_of_a_command_has_its_exit_codes_as_the_readmes_have_them(name: str) -> None:
    cli = engine.cli
    codes = list(map(str, (cli.OK, cli.USAGE, cli.NOT_ALL, cli.FAILED, cli.INTERRUPTED)))
    flat = " ".join((ROOT / name).read_text(encoding="utf-8").split())
    lists = re.findall(r"(?:退出码|Exit)[：:] ?((?:\d+ [^；;]+[；;] ?)+\d+ (?:按了 )?`Ctrl-C`)", flat)
    assert len(lists) == len(re.findall(r"退出码|Exit\b", flat)), "each ends with Ctrl-C"
    assert all(re.findall(r"(?:^|[；;])\s*(\d+) ", one) == codes for one in lists)


def test_the_options_of_report_and_undo_are_all_in_their_document() -> None:
    told = {cells[0].strip("`").split()[0] for cells in documented("docs/report.md")}
    assert told == options()["report"] | options()["undo"]
    english = (ROOT / "docs/report.md").read_text(encoding="utf-8").split("## In English")[1]
    assert [option for option in told if f"`{option}" not in english] == []


# --- words --------------------------------------------------------------------------------------------------------------------

OTHER_WORDS = {"中转": "中继", "口令": "令牌（中继的）、密码（人的）"}


def test_the_relay_and_its_token_have_one_name_each() -> None:
    texts = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "engine").rglob("*.toml"), *(ROOT / "portal").rglob("*.html"),
             *(path for part in ("engine", "portal", "relay") for path in (ROOT / part).rglob("*.py")), ROOT / "config.py"]
    assert len(texts) > 200
    found = [f"{path.relative_to(ROOT)}: {word}, not {right}" for path in texts for word, right in OTHER_WORDS.items()
             if word in path.read_text(encoding="utf-8")]
    assert found == []


# --- the backup ---------------------------------------------------------------------------------------------------------------


def test_the_backup_of_production_md_is_whole_while_the_service_writes(tmp_path: Path) -> None:
    """Given rows that stand in the write-ahead log alone and a secret that was destroyed, when the document's command is run, then its
    file has the ones and not the other; put back as the document says, it is what the service opens."""
    document = (ROOT / "docs/production.md").read_text(encoding="utf-8")
    block = re.search(r"^```sh\n(umask 077\n.*?)^```", document, re.MULTILINE | re.DOTALL)
    assert block
    script = block[1].replace("sudo -u banjia ", "").replace("/var/lib/banjia", shlex.quote(str(tmp_path)))
    script = script.replace("/opt/banjia/.venv/bin/python", shlex.quote(sys.executable))
    url, file = f"sqlite:///{tmp_path}/banjia.db", tmp_path / "banjia.db"
    migrate(url)
    service = Database(url)
    try:
        with service.session() as session:
            session.execute(sql("CREATE TABLE tried (words TEXT)"))
            session.execute(sql("INSERT INTO tried VALUES ('kept words'), ('destroyed words')"))
        with service.session() as session:
            session.execute(sql("DELETE FROM tried WHERE words = 'destroyed words'"))
        assert b"kept words" not in file.read_bytes(), "the file alone is not the database"
        subprocess.run(["sh", "-ec", script], check=True, timeout=60)
        again = subprocess.run(["sh", "-ec", script], check=False, timeout=60, capture_output=True, text=True)
        assert again.returncode and "already exists" in again.stderr
        with service.session() as session:
            session.execute(sql("INSERT INTO tried VALUES ('later words')"))
    finally:
        service.close()
    backup, = tmp_path.glob("backup-20??-??-??.db")
    assert backup.stat().st_mode & 0o077 == 0
    assert b"destroyed words" not in backup.read_bytes()
    with closing(sqlite3.connect(backup)) as found:
        assert found.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    backup.replace(file)
    for beside in ("banjia.db-wal", "banjia.db-shm"):
        (tmp_path / beside).unlink(missing_ok=True)
    restored = Database(url)
    try:
        assert restored.ready()
        with restored.reading() as session:
            assert session.execute(sql("SELECT words FROM tried")).scalars().all() == ["kept words"]
    finally:
        restored.close()
