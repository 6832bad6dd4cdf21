"""Given a file that is not what its option wants, when a command is run, then one sentence says which, why and what to do, nobody is asked
for a password, and the file is octet for octet what it was. No server is needed: every refusal comes before the first connection."""
from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.causes import Cause, Side
from engine.cli_files import secret, text_file
from engine.ledger import Entry, FolderRow, Outcome, Run
from engine.ledger_file import SqliteLedger
from engine.ledger_look import LedgerUnusable, is_begun
from tests.support.certificates import authority

ROOT = Path(__file__).parents[3]
SOURCE, DESTINATION = "imaps://li%40old.example@localhost:1", "imaps://li%40new.example@localhost:2"
PAIR = "li@old.example @ localhost:1 -> li@new.example @ localhost:2"
COMMANDS = {
    "copy": ("copy", SOURCE, DESTINATION), "verify": ("verify", SOURCE, DESTINATION), "report": ("report",),
    "report of two": ("report", SOURCE, DESTINATION), "undo": ("undo", DESTINATION, "--last", "--yes"),
    "undo of two": ("undo", SOURCE, DESTINATION, "--last", "--yes"),
}
every_command = pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)


def run(*words: str, state: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "BANJIA_SOURCE_PASSWORD": "x", "BANJIA_DESTINATION_PASSWORD": "x",
                   **more}
    return subprocess.run([sys.executable, "-m", "engine", *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
                          stdin=subprocess.DEVNULL, env=environment | ({"XDG_STATE_HOME": str(state)} if state else {}))


def refused(done: subprocess.CompletedProcess[str], *says: str) -> None:
    """Exit 2, and one sentence in each language that holds all of it."""
    assert done.returncode == 2, done.stdout + done.stderr
    zh, en = done.stderr.splitlines()
    assert all(text in en for text in says), en
    assert any("\u4e00" <= c <= "\u9fff" for c in zh) and says[0] in zh, zh
    assert done.stdout == ""


def contents(top: Path) -> dict[str, bytes]:
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def with_rows(path: Path, messages: int = 3) -> Path:
    """A ledger of PAIR as a copy leaves it."""
    ledger = SqliteLedger(path, PAIR)
    row = ledger.put_folder(FolderRow("INBOX", "INBOX"))
    number = ledger.begin_pass(1.0)
    runs = [Run(n, n, 1, n * 2, Outcome.MOVED, pass_id=number) for n in range(1, messages + 1)]
    ledger.write(Entry(row, runs=runs))
    ledger.close()
    return path


# --- what is no ledger ----------------------------------------------------------------------------------------------------


def address_book(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.executescript("CREATE TABLE contacts (name TEXT); INSERT INTO contacts VALUES ('李雪')")


def with_a_table_called_meta(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.executescript("CREATE TABLE meta (id INTEGER, text TEXT); CREATE TABLE runs (id INTEGER);"
                               "INSERT INTO meta VALUES (1, 'x')")


def marked_by_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA application_id = 7")
        database.execute("PRAGMA user_version = 1")


def with_a_write_ahead_log(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.executescript("PRAGMA journal_mode=WAL; CREATE TABLE contacts (name TEXT); INSERT INTO contacts VALUES ('李雪')")


def text(path: Path) -> None:
    path.write_text("a note that somebody wrote\n" * 300, encoding="utf-8")


FOREIGN = {"address book": address_book, "meta": with_a_table_called_meta, "marked": marked_by_another_program,
           "write-ahead log": with_a_write_ahead_log, "text": text}


@every_command
@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_another_programs_file_is_refused_and_not_touched(words: tuple[str, ...], make: Callable[[Path], None], tmp_path: Path) -> None:
    file = tmp_path / "places.sqlite"
    make(file)
    before = contents(tmp_path), file.stat().st_mtime_ns
    refused(run(*words, "--ledger", str(file)), f"--ledger {file}", "is no ledger of Banjia", "name a new file with --ledger")
    assert (contents(tmp_path), file.stat().st_mtime_ns) == before


def test_a_database_that_another_program_has_open_stays_its_own(tmp_path: Path) -> None:
    """What it wrote stands in its log only; the two files that hold it are not written to."""
    file, log = tmp_path / "places.sqlite", tmp_path / "places.sqlite-wal"
    with closing(sqlite3.connect(file)) as theirs:
        theirs.executescript("PRAGMA journal_mode=WAL; CREATE TABLE contacts (name TEXT); INSERT INTO contacts VALUES ('李雪')")
        before = file.read_bytes(), log.read_bytes()
        refused(run("copy", SOURCE, DESTINATION, "--ledger", str(file)), f"--ledger {file}", "another program's database")
        assert (file.read_bytes(), log.read_bytes()) == before
        theirs.execute("INSERT INTO contacts VALUES ('张伟')")
        theirs.commit()
        assert theirs.execute("SELECT count(*) FROM contacts").fetchone() == (2,)


def test_a_program_is_told_the_cause(tmp_path: Path) -> None:
    address_book(tmp_path / "places.sqlite")
    done = run("copy", SOURCE, DESTINATION, "--ledger", str(tmp_path / "places.sqlite"), "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["outcome"], told["cause"]) == (2, "failed", "ledger_unwritable")
    assert str(tmp_path) in told["detail"] and told["explanation"]["zh"]["next_step"]


# --- empty, cut off, damaged ----------------------------------------------------------------------------------------------


def test_an_empty_file_becomes_a_ledger(tmp_path: Path) -> None:
    """As mktemp makes them."""
    (tmp_path / "new").touch()
    assert not is_begun(tmp_path / "new")
    with_rows(tmp_path / "new")
    assert is_begun(tmp_path / "new")


@pytest.mark.parametrize("name", ["verify", "report", "undo", "undo of two"])
def test_an_empty_file_proves_nothing_and_stays_empty(name: str, tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    refused(run(*COMMANDS[name], "--ledger", str(tmp_path / "new")), f"--ledger {tmp_path / 'new'}", "is empty", "the one of your copy")
    assert contents(tmp_path) == {"new": b""}


def test_a_first_start_that_was_killed_left_an_empty_database_which_is_taken(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "new")) as database:
        database.execute("PRAGMA journal_mode=WAL")
    assert (tmp_path / "new").stat().st_size and not is_begun(tmp_path / "new")
    with_rows(tmp_path / "new")


@every_command
@pytest.mark.parametrize("left", [40, 600, 4096, 9000])
def test_a_ledger_that_was_cut_off_is_refused_and_kept(words: tuple[str, ...], left: int, tmp_path: Path) -> None:
    file = with_rows(tmp_path / "ledger")
    file.write_bytes(file.read_bytes()[:left])
    before = contents(tmp_path)
    refused(run(*words, "--ledger", str(file)), f"--ledger {file}", "is damaged", "name another file with --ledger")
    assert contents(tmp_path) == before


def test_one_broken_page_in_the_middle_is_found_before_anything_is_moved(tmp_path: Path) -> None:
    file = with_rows(tmp_path / "ledger", messages=2000)
    whole = file.read_bytes()
    page = int.from_bytes(whole[16:18], "big")
    for at in range(page, len(whole), page):
        file.write_bytes(whole[:at] + b"\xa5" * page + whole[at + page:])
        with pytest.raises(LedgerUnusable, match="is damaged"):
            SqliteLedger(file, PAIR)
    file.write_bytes(whole)
    ledger = SqliteLedger(file, PAIR)
    assert len(ledger.runs(1)) == 2000
    ledger.close()


def test_a_row_that_means_nothing_is_damage_too(tmp_path: Path) -> None:
    file = with_rows(tmp_path / "ledger")
    with closing(sqlite3.connect(file)) as database:
        database.execute("UPDATE folders SET row='{\"source\": 1'")
        database.execute("UPDATE runs SET outcome='lost'")
        database.commit()
    ledger = SqliteLedger(file, PAIR)
    for read in (ledger.folders, lambda: ledger.runs(1)):
        with pytest.raises(LedgerUnusable, match="is damaged"):
            read()
    ledger.close()
    refused(run("report", "--ledger", str(file)), f"--ledger {file}", "is damaged")


# --- which are ledgers ----------------------------------------------------------------------------------------------------


def test_a_ledger_of_before_the_mark_is_taken_and_marked(tmp_path: Path) -> None:
    file = with_rows(tmp_path / "ledger")
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA application_id = 0")
    assert is_begun(file)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ledger"], "looking left files behind"
    ledger = SqliteLedger(file, None)
    assert (ledger.pair, len(ledger.runs(1))) == (PAIR, 3)
    ledger.close()
    assert file.read_bytes()[68:72] == b"Banj"


def test_a_killed_copys_ledger_is_known_by_what_its_log_holds(tmp_path: Path) -> None:
    """Its file may hold nothing yet; the rows are in its -wal."""
    file = tmp_path / "ledger"
    code = ("import os, sys, pathlib; from engine.ledger_file import SqliteLedger; from engine.ledger import FolderRow\n"
            "SqliteLedger(pathlib.Path(sys.argv[1]), sys.argv[2]).put_folder(FolderRow('INBOX', 'INBOX')); os._exit(9)")
    assert subprocess.run([sys.executable, "-c", code, str(file), PAIR], cwd=ROOT, timeout=60).returncode == 9
    assert (tmp_path / "ledger-wal").stat().st_size > 0
    assert is_begun(file)
    ledger = SqliteLedger(file, None)
    assert (ledger.pair, [row.source for row in ledger.folders()]) == (PAIR, ["INBOX"])
    ledger.close()


def test_another_pairs_ledger_is_refused_by_name(tmp_path: Path) -> None:
    file = with_rows(tmp_path / "ledger")
    other = "imaps://wang%40new.example@localhost:2"
    for command, *more in (("copy",), ("verify",), ("report",), ("undo", "--last", "--yes")):
        refused(run(command, SOURCE, other, *more, "--ledger", str(file)), f"--ledger {file}", f"belongs to {PAIR}", "give another file")
    refused(run("undo", other, "--ledger", str(file), "--last", "--yes"), PAIR, "about another mailbox")


def test_a_ledger_in_use_is_a_cause_and_not_a_usage_error(tmp_path: Path) -> None:
    file = with_rows(tmp_path / "ledger")
    mine = SqliteLedger(file, PAIR)
    try:
        for words, code in ((COMMANDS["copy"], 4), (COMMANDS["report"], 4)):
            done = run(*words, "--ledger", str(file))
            assert done.returncode == code
            assert "is in use by another command" in done.stdout + done.stderr
    finally:
        mine.close()


# --- where none can be ----------------------------------------------------------------------------------------------------


def test_a_directory_is_no_ledger(tmp_path: Path) -> None:
    for words in COMMANDS.values():
        refused(run(*words, "--ledger", str(tmp_path)), f"--ledger {tmp_path}", "is a directory", str(tmp_path / "move.ledger"))


def test_a_missing_directory_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    file = tmp_path / "none" / "ledger"
    refused(run(*COMMANDS["copy"], "--ledger", str(file)), f"--ledger {file}", "there is no directory", f"mkdir -p {file.parent}")
    for name in ("verify", "report", "undo"):
        refused(run(*COMMANDS[name], "--ledger", str(file)), f"--ledger {file}", "does not exist; name the one of your copy")
    assert not file.parent.exists()


def test_a_file_where_a_directory_must_be_and_what_is_no_file(tmp_path: Path) -> None:
    text(tmp_path / "note")
    refused(run(*COMMANDS["copy"], "--ledger", str(tmp_path / "note" / "ledger")), "--ledger", "cannot be used (Not a directory)")
    os.mkfifo(tmp_path / "pipe")
    refused(run(*COMMANDS["copy"], "--ledger", str(tmp_path / "pipe")), "--ledger", "no ordinary file")
    refused(run(*COMMANDS["copy"], state=tmp_path / "note"), "Not a directory", "name one with --ledger FILE")


@pytest.fixture
def closed() -> Iterator[Path]:
    """A directory in which somebody else may read, but not write."""
    place = Path(tempfile.mkdtemp())
    try:
        yield place
    finally:
        place.chmod(0o700)
        shutil.rmtree(place)


GIVEN_UP = """
import os, sys, pathlib
from engine.errors import EngineError
from engine.ledger_file import SqliteLedger
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    SqliteLedger(pathlib.Path(sys.argv[1]), sys.argv[2]).close()
except EngineError as error:
    print(f"{error.cause}: {error}")
"""


def opened_by_somebody_else(path: Path) -> str:
    """What opening it is refused with where root's rights do not help: they are given up, once everything is loaded."""
    done = subprocess.run([sys.executable, "-c", GIVEN_UP, str(path), PAIR], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_unwritable_directory_and_an_unwritable_ledger(closed: Path) -> None:
    file = with_rows(closed / "ledger")
    file.chmod(0o444)
    closed.chmod(0o555)
    for path in (closed / "new", file):
        said = opened_by_somebody_else(path)
        assert said.startswith(Cause.LEDGER_UNWRITABLE)
        assert f"ledger {path} cannot be used (Permission denied)" in said and f"the directory {closed}" in said
    assert [p.name for p in closed.iterdir()] == ["ledger"]
    file.chmod(0o666)  # … and one whose log cannot be made beside it
    said = opened_by_somebody_else(file)
    assert "cannot be used (" in said and f"the directory {closed}" in said


# --- certificates, tokens, the report's file ------------------------------------------------------------------------------


def no_certificates() -> dict[str, bytes]:
    pem = authority().pem
    return {"note": b"no certificate", "empty": b"", "key": authority().issue().key_pem.encode(), "der": ssl.PEM_cert_to_DER_cert(pem),
            "cut": pem[:len(pem) // 2].encode()}


@pytest.mark.parametrize("name", ["note", "empty", "key", "der", "cut"])
def test_a_file_of_certificates_that_holds_none(name: str, tmp_path: Path) -> None:
    file, token = tmp_path / name, tmp_path / "token"
    file.write_bytes(no_certificates()[name])
    token.write_text("rt1.worker." + "A" * 43)
    via = ("--via", "https://relay.example", "--via-token-file", str(token))
    for option, words in (("--ca-file", ("check", SOURCE)), ("--via-ca-file", ("check", SOURCE, *via)),
                          ("--ca-file", ("undo", *COMMANDS["undo of two"][1:], "--ledger", str(with_rows(tmp_path / "ledger"))))):
        refused(run(*words, option, str(file)), f"{option} {file}", "holds no usable PEM certificate",
                f"openssl x509 -inform der -in {file}")


def test_certificates_with_names_in_other_alphabets_beside_them(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(f"# 公司的证书机构\n{authority().pem}", encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        port = closed_soon.getsockname()[1]
    done = run("check", f"imaps://li@127.0.0.1:{port}", "--ca-file", str(file), "--json")
    assert (done.returncode, json.loads(done.stdout)["cause"]) == (4, "dns_connect"), "it got as far as the server"


@pytest.mark.parametrize("option", ["--ca-file", "--source-password-file", "--via-token-file", "--via-ca-file"])
def test_a_file_that_cannot_be_read(option: str, tmp_path: Path) -> None:
    token = () if option == "--via-token-file" else ("--via-token-file", str(tmp_path / "token"))
    (tmp_path / "token").write_text("rt1.worker." + "A" * 43)
    for path, why in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
        refused(run("check", SOURCE, "--via", "https://relay.example", *token, option, str(path)), f"{option} {path}",
                f"cannot be read ({why})", "see that the path is right")


def test_a_secret_that_is_no_text_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"geheim\xff\xfe")
    done = run("check", SOURCE, "--source-password-file", str(tmp_path / "secret"))
    refused(done, f"--source-password-file {tmp_path / 'secret'}", "not UTF-8", "save it as UTF-8")
    assert "geheim" not in done.stderr and "xff" not in done.stderr


@pytest.mark.parametrize("line", ["geheim", "密码 é\r\n", "geheim\n"])
def test_a_mark_of_utf_8_is_no_part_of_a_secret(line: str, tmp_path: Path) -> None:
    (tmp_path / "saved").write_bytes(b"\xef\xbb\xbf" + line.encode())
    args = argparse.Namespace(source_password_file=tmp_path / "saved")
    assert secret(args, Side.SOURCE, "li").reveal() == line.rstrip("\r\n")
    assert text_file(tmp_path / "saved", "--via-token-file") == line


@pytest.mark.parametrize("relay", ["http://relay.example", "https://relay.example:99999", "https://[relay", "https://relay.example/x"])
def test_a_relay_that_is_written_wrongly(relay: str) -> None:
    refused(run("check", SOURCE, "--via", relay), "--via", "write https://relay.example:8443")


@pytest.mark.parametrize("option", ["--via-token-file", "--via-ca-file"])
def test_an_option_of_a_relay_without_the_relay(option: str, tmp_path: Path) -> None:
    """Left out in silence, the old mailbox would be reached by a way that nobody asked for. A token in the environment asks for none."""
    (tmp_path / "given").write_text("rt1.worker." + "A" * 43)
    for words in (("check", SOURCE), COMMANDS["copy"], COMMANDS["verify"]):
        refused(run(*words, option, str(tmp_path / "given"), state=tmp_path), option, "needs --via", "--via https://relay.example:8443")
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        port = closed_soon.getsockname()[1]
    done = run("check", f"imaps://li@127.0.0.1:{port}", "--json", BANJIA_RELAY_TOKEN="rt1.worker." + "A" * 43)
    assert (done.returncode, json.loads(done.stdout)["cause"]) == (4, "dns_connect"), "it got as far as the server"


def test_a_report_is_never_written_over_its_ledger(tmp_path: Path) -> None:
    file = with_rows(tmp_path / "ledger")
    before = contents(tmp_path)
    refused(run("report", "--ledger", str(file), "--output", str(file)), f"--output {file}", "is the ledger itself", "another file")
    refused(run("report", "--ledger", str(file), "--output", str(tmp_path)), f"--output {tmp_path}", "Is a directory", "another file")
    assert contents(tmp_path) == before
