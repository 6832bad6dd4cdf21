"""`report` and `undo` as a program uses them: exit codes, what is asked before anything is removed, whose mailbox it is."""
from __future__ import annotations

import csv
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli.test_cli import ROOT, Ran
from tests.integration.transfer.conftest import mail
from tests.integration.undo.conftest import mails
from tests.support.certificates import authority
from tests.support.dovecot import PASSWORD, Dovecot, Sample, read_back, seed


class Line:
    """The command line of one login on both servers."""

    def __init__(self, tmp_path: Path, source: Dovecot, destination: Dovecot, login: str) -> None:
        assert source.ports and destination.ports
        self.source, self.destination, self.login = source, destination, login
        self.ca_file = tmp_path / "ca.pem"
        self.ca_file.write_text(authority().pem)
        user = login.replace("@", "%40")
        self.source_url = f"imaps://{user}@localhost:{source.ports.imaps}"
        self.destination_url = f"imap://{user}@localhost:{destination.ports.imap}"
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state"),
                            "BANJIA_SOURCE_PASSWORD": PASSWORD, "BANJIA_DESTINATION_PASSWORD": PASSWORD}
        self.ledger = tmp_path / "ledger"

    def run(self, *words: str, without_secrets: bool = False) -> Ran:
        environment = {k: v for k, v in self.environment.items() if not (without_secrets and "PASSWORD" in k)}
        done = subprocess.run([sys.executable, "-m", "engine", *words], cwd=ROOT, capture_output=True, text=True, timeout=90,
                              stdin=subprocess.DEVNULL, env=environment)
        return Ran(done.returncode, done.stdout, done.stderr)

    def copy(self) -> Ran:
        where = ("--ledger", str(self.ledger), "--ca-file", str(self.ca_file))
        ran = self.run("copy", self.source_url, self.destination_url, *where, "--json")
        assert ran.code == 0, ran.err
        return ran

    def report(self, *words: str) -> Ran:
        return self.run("report", "--ledger", str(self.ledger), *words, without_secrets=True)

    def undo(self, *words: str) -> Ran:
        return self.run("undo", self.destination_url, "--ledger", str(self.ledger), "--ca-file", str(self.ca_file), *words)

    def inbox(self) -> list[bytes]:
        return sorted(m.content for m in read_back(self.destination, self.login)["INBOX"])

    def seed(self, *numbers: int) -> None:
        seed(self.source, self.login, [Sample(mail(n), "INBOX") for n in numbers])


@pytest.fixture
def line(tmp_path: Path, source_server: Dovecot, destination_server: Dovecot, fresh_user: str) -> Line:
    made = Line(tmp_path, source_server, destination_server, fresh_user)
    made.seed(1, 2, 3)
    made.copy()
    return made


def told(ran: Ran) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(ran.out)
    return value


# --- report -----------------------------------------------------------------------------------------------------------------


def test_the_report_needs_no_login_and_no_secret(line: Line, tmp_path: Path) -> None:
    found = line.report("--format", "json", "--language", "en")
    assert (found.code, told(found)["proof"], told(found)["totals"]["moved"]) == (0, "holds", 3)
    assert told(found)["source"].startswith(line.login)
    page = line.report()
    assert (page.code, page.err) == (0, "") and "每一封都有着落" in page.out
    sheet = tmp_path / "report.csv"
    assert line.report("--format", "csv", "--output", str(sheet)).out == ""
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        assert sum(row[0] == "一段邮件" for row in csv.reader(file)) >= 1
    assert sheet.read_bytes().startswith(b"\xef\xbb\xbf")


def test_the_report_finds_the_ledger_that_copy_made_for_two_addresses(line: Line) -> None:
    assert line.run("copy", line.source_url, line.destination_url, "--ca-file", str(line.ca_file)).code == 0
    found = line.run("report", line.source_url, line.destination_url, "--format", "json", without_secrets=True)
    assert (found.code, told(found)["totals"]["total"]) == (0, 3)


@pytest.mark.parametrize(("words", "says"), [
    ((), "no ledger"), (("imaps://a@b",), "no ledger"), (("--ledger", "/nonexistent/ledger"), "does not exist"),
    (("--ledger", "/etc/passwd"), "is no ledger"), (("imaps://a@b", "imaps://c@d"), "does not exist")])
@pytest.mark.parametrize("command", [("report",), ("undo", "--last", "--yes")])
def test_without_a_ledger_it_says_what_is_missing_and_makes_none(line: Line, command: tuple[str, ...], words: tuple[str, ...],
                                                                 says: str, tmp_path: Path) -> None:
    if command[0] == "undo" and not any(word.startswith("imap") for word in words):
        words = ("imaps://a@b", *words)  # its DESTINATION must be there
    ran = line.run(*command, *words)
    assert ran.code == 2
    assert says in ran.err
    assert [p.name for p in tmp_path.rglob("*.ledger")] == []


# --- undo -------------------------------------------------------------------------------------------------------------------


def test_undo_takes_back_the_last_pass(line: Line) -> None:
    line.seed(4, 5)
    second = told(line.copy())["pass_id"]
    seed(line.destination, line.login, [Sample(mail(9), "INBOX")])
    looked = line.undo("--last", "--dry-run", "--json")
    assert (looked.code, told(looked)["totals"]["removed"], line.inbox()) == (0, 2, mails(1, 2, 3, 4, 5, 9))
    done = line.undo("--pass", str(second), "--yes", "--json")
    assert (done.code, told(done)["totals"]["removed"], line.inbox()) == (0, 2, mails(1, 2, 3, 9))
    opened = line.report("--format", "json")
    assert opened.code == 3, "the folder is open again"
    assert opened.err == ("没有搬完：2 封还没有搬，或者搬了又撤销了；再运行 copy 就接着搬。 / "
                          "Not all is moved: 2 not moved yet, or undone; copy goes on from there.\n")
    assert told(line.copy())["totals"]["moved"] == 2
    assert line.inbox() == mails(1, 2, 3, 4, 5, 9)


def test_undo_finds_the_ledger_that_copy_made_for_two_addresses(line: Line) -> None:
    line.seed(4, 5)
    both = (line.source_url, line.destination_url)
    assert line.run("copy", *both, "--ca-file", str(line.ca_file)).code == 0, "a second ledger, which finds 1 to 3 there"
    done = line.run("undo", *both, "--last", "--yes", "--json", "--ca-file", str(line.ca_file))
    assert (done.code, told(done)["totals"]["removed"], line.inbox()) == (0, 2, mails(1, 2, 3))
    with_both = line.run("undo", *both, "--ledger", str(line.ledger), "--last", "--yes", "--json", "--ca-file", str(line.ca_file))
    assert (with_both.code, told(with_both)["totals"]["removed"], line.inbox()) == (0, 3, [])


def test_when_there_is_nothing_to_undo_it_says_so_and_asks_nobody(line: Line) -> None:
    assert line.undo("--last", "--yes").code == 0
    again = line.run("undo", line.destination_url, "--ledger", str(line.ledger), "--last", without_secrets=True)
    assert (again.code, again.err) == (0, "")
    assert "没有可撤销的" in again.out and "Nothing to undo" in again.out and "pass 0" not in again.out
    named = line.undo("--pass", "1", "--yes")
    assert named.code == 0 and "pass 1 moved nothing, or all of it was undone" in named.out
    assert told(line.undo("--last", "--json"))["totals"]["removed"] == 0


def test_how_much_is_told_as_copy_tells_it(line: Line) -> None:
    seed(line.source, line.login, [Sample(mail(4) + b"x" * 3 * 2**20, "INBOX")])
    line.copy()
    assert "pass 2: 1 would be removed, 0 not there any more, 0 left; 3.0 MB" in line.undo("--last", "--dry-run").out


def test_a_program_that_is_asked_on_a_terminal_gets_one_object_for_a_failure(line: Line) -> None:
    """The look before the question failed."""
    line.environment["BANJIA_DESTINATION_PASSWORD"] = "wrong"
    parent, child = pty.openpty()
    try:
        done = subprocess.run([sys.executable, "-m", "engine", "undo", line.destination_url, "--ledger", str(line.ledger), "--ca-file",
                               str(line.ca_file), "--last", "--json"], cwd=ROOT, capture_output=True, text=True, timeout=90, stdin=child,
                              env=line.environment)
    finally:
        os.close(parent)
        os.close(child)
    assert (done.returncode, json.loads(done.stdout)["cause"]) == (4, "destination_login")


def test_nothing_is_removed_without_a_yes(line: Line) -> None:
    refused = line.undo("--last")
    assert (refused.code, line.inbox()) == (2, mails(1, 2, 3))
    assert "--yes" in refused.err
    for answer, code, left in (("no\n", 3, mails(1, 2, 3)), ("yes\n", 0, [])):
        parent, child = pty.openpty()
        try:
            os.write(parent, answer.encode())
            done = subprocess.run([sys.executable, "-m", "engine", "undo", line.destination_url, "--ledger", str(line.ledger), "--ca-file",
                                   str(line.ca_file), "--last"], cwd=ROOT, capture_output=True, text=True, timeout=90, stdin=child,
                                  env=line.environment)
        finally:
            os.close(parent)
            os.close(child)
        assert "3 would be removed" in done.stderr
        assert (done.returncode, line.inbox()) == (code, left)


def test_a_pass_must_be_named(line: Line) -> None:
    for words in ((), ("--pass", "77")):
        ran = line.undo(*words, "--yes")
        assert (ran.code, line.inbox()) == (2, mails(1, 2, 3))
        assert "1: 3 messages" in ran.err


def test_the_ledger_of_another_mailbox_is_refused(line: Line, fresh_user: str) -> None:
    """Its UIDs would name other people's mail."""
    other = line.destination_url.replace(line.login.split("@")[0], "u599")
    ran = line.run("undo", other, "--ledger", str(line.ledger), "--ca-file", str(line.ca_file), "--last", "--yes")
    assert ran.code == 2
    assert "another mailbox" in ran.err
    assert line.inbox() == mails(1, 2, 3)


def test_a_wrong_password_is_a_cause(line: Line) -> None:
    line.environment["BANJIA_DESTINATION_PASSWORD"] = "wrong"
    ran = line.undo("--last", "--yes", "--json")
    assert (ran.code, told(ran)["cause"]) == (4, "destination_login")
    assert "not-this-one-7" not in ran.out + ran.err
    assert line.inbox() == mails(1, 2, 3)
