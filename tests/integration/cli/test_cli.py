"""The command line as a program uses it: exit codes, one JSON object, secrets never among the arguments."""
from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.relay.lab import TOKEN, Settings, Upstream, running_relay
from tests.integration.transfer.conftest import mail, samples
from tests.support.certificates import authority
from tests.support.dovecot import PASSWORD, Dovecot, Sample, differences, read_back, seed, seed_maildir

ROOT = Path(__file__).parents[3]
COPY_KEYS = {"outcome", "cause", "folders", "totals", "set_aside", "bytes", "seconds", "ledger"}
FOLDER_KEYS = {"source", "target", "role", "total", "moved", "already_there", "excluded", "set_aside"}
CHECK_KEYS = {"outcome", "cause", "causes", "step", "provider", "server_text", "folders", "messages", "bytes", "largest", "warnings"}
VERIFY_KEYS = {"equal", "missing", "extra", "altered_flags", "altered_date", "folders"}


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        assert self.out.count("\n") == 1, self.out
        value: dict[str, Any] = json.loads(self.out)
        return value


Run = Callable[..., Ran]


@pytest.fixture
def run(tmp_path: Path, source_server: Dovecot, destination_server: Dovecot) -> Run:
    """run("copy", login, *options, **environment): with TLS at the source, STARTTLS at the destination."""
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(authority().pem)

    def call(command: str, login: str, *options: str, **environment: str) -> Ran:
        assert source_server.ports and destination_server.ports
        user = login.replace("@", "%40")
        urls = [f"imaps://{user}@localhost:{source_server.ports.imaps}"]
        if command != "check":
            urls.append(f"imap://{user}@localhost:{destination_server.ports.imap}")
        secrets = {"BANJIA_SOURCE_PASSWORD": PASSWORD, "BANJIA_DESTINATION_PASSWORD": PASSWORD, "XDG_STATE_HOME": str(tmp_path / "state")}
        done = subprocess.run([sys.executable, "-m", "engine", command, *urls, "--ca-file", str(ca_file), *options], cwd=ROOT,
                              capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL,
                              env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **secrets, **environment})
        return Ran(done.returncode, done.stdout, done.stderr)
    return call


def bodies_opened(server: Dovecot, login: str, since: int) -> int:
    """How many bodies sessions of this login fetched, by the server's own count, since that place in its log."""
    return sum(map(int, re.findall(rf"imap\({re.escape(login)}\).*body_count=(\d+)", server.log()[since:])))


def test_copy_then_verify_then_copy_again(run: Run, fresh_user: str, source_server: Dovecot, destination_server: Dovecot) -> None:
    seed(source_server, fresh_user, samples())
    first = run("copy", fresh_user, "--json")
    assert (first.code, first.json["outcome"]) == (0, "complete")
    assert COPY_KEYS <= first.json.keys()
    assert all(FOLDER_KEYS <= folder.keys() for folder in first.json["folders"])
    assert first.json["totals"]["moved"] == sum(map(len, read_back(source_server, fresh_user).values()))
    assert run("verify", fresh_user, "--json", "--ledger", first.json["ledger"]).json["ledger_used"] is True, "it names its ledger"
    verified = run("verify", fresh_user, "--json")
    assert (verified.code, verified.json["equal"]) == (0, True)
    assert VERIFY_KEYS <= verified.json.keys()
    since = len(source_server.log()), len(destination_server.log())
    again = run("copy", fresh_user, "--json")
    assert (again.code, again.json["totals"]["moved"], again.json["bytes"]) == (0, 0, 0)
    assert bodies_opened(source_server, fresh_user, since[0]) == bodies_opened(destination_server, fresh_user, since[1]) == 0


def test_a_ledger_that_was_deleted_doubles_nothing(run: Run, fresh_user: str, tmp_path: Path, source_server: Dovecot,
                                                   destination_server: Dovecot) -> None:
    seed(source_server, fresh_user, samples())
    ledger = tmp_path / "place.ledger"
    told = run("copy", fresh_user, "--ledger", str(ledger))
    assert (told.code, told.out.splitlines()[-1]) == (0, f"账本 / ledger: {ledger}")
    for file in tmp_path.glob("place.ledger*"):
        file.unlink()
    again = run("copy", fresh_user, "--ledger", str(ledger), "--json").json
    assert (again["totals"]["moved"], again["ledger"]) == (0, str(ledger))
    assert differences(read_back(source_server, fresh_user), read_back(destination_server, fresh_user)) == []


def test_a_message_that_its_owner_moved_is_found_as_the_document_says(run: Run, fresh_user: str, source_server: Dovecot,
                                                                      destination_server: Dovecot) -> None:
    seed(source_server, fresh_user, [Sample(mail(n)) for n in (1, 2, 3)])
    assert run("copy", fresh_user).code == 0

    def missing() -> dict[str, int]:
        return {mode: run("verify", fresh_user, "--json", mode).json["missing"] for mode in ("--quick", "--full")}

    with destination_server.client(fresh_user) as owner:
        owner.command(b"CREATE Elsewhere")
        owner.command(b"SELECT INBOX")
        owner.command(b"MOVE 2 Elsewhere")
        assert missing() == {"--quick": 1, "--full": 1}
        owner.command(b"SELECT Elsewhere")
        owner.command(b"MOVE 1 INBOX")
        assert missing() == {"--quick": 1, "--full": 0}


def test_something_set_aside_is_exit_3(run: Run, fresh_user: str, source_server: Dovecot) -> None:
    seed_maildir(source_server, fresh_user, [mail(1), b"", mail(2)])
    ran = run("copy", fresh_user, "--json")
    assert (ran.code, ran.json["outcome"], len(ran.json["set_aside"])) == (3, "partial", 1)
    assert {"folder", "uid", "reason", "server_text"} <= ran.json["set_aside"][0].keys()
    assert run("verify", fresh_user, "--json").code == 3


@pytest.mark.parametrize("command", ["check", "copy", "verify"])
def test_a_wrong_secret_is_one_login_and_exit_4(run: Run, fresh_user: str, command: str, source_server: Dovecot) -> None:
    since = len(source_server.log())
    ran = run(command, fresh_user, "--json", BANJIA_SOURCE_PASSWORD="not-this")
    assert (ran.code, ran.json["cause"]) == (4, "bad_secret")
    assert ran.json["explanation"]["zh"]["meaning"] and ran.json["explanation"]["en"]["meaning"]
    deadline, attempts = time.monotonic() + 10, []
    while not attempts and time.monotonic() < deadline:  # the server writes its line when it has noticed the goodbye
        attempts = re.findall(rf"auth failed, (\d+) attempts.*user=<{re.escape(fresh_user)}>", source_server.log()[since:])
        time.sleep(0.05)
    assert attempts == ["1"]
    assert "not-this" not in ran.out + ran.err


def test_a_failure_is_told_in_both_languages(run: Run, fresh_user: str) -> None:
    ran = run("check", fresh_user, BANJIA_SOURCE_PASSWORD="not-this")
    assert ran.code == 4
    assert "旧邮箱没有接受这个密码" in ran.out and "did not accept this password" in ran.out and "bad_secret" in ran.out


def test_check_counts_what_would_be_moved(run: Run, fresh_user: str, source_server: Dovecot) -> None:
    seed(source_server, fresh_user, samples())
    ran = run("check", fresh_user, "--json")
    source = [m for messages in read_back(source_server, fresh_user).values() for m in messages]
    assert (ran.code, ran.json["outcome"], ran.json["step"]) == (0, "ok", "folders")
    assert CHECK_KEYS <= ran.json.keys()
    assert (ran.json["messages"], ran.json["bytes"]) == (len(source), sum(len(m.content) for m in source))
    assert ran.json["largest"] == max(len(m.content) for m in source)


def test_via_a_relay(run: Run, fresh_user: str, tmp_path: Path, source_server: Dovecot, destination_server: Dovecot) -> None:
    seed(source_server, fresh_user, samples())
    assert source_server.ports
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    upstream = Upstream("old", source_server.ports.imaps, host="localhost", allowed='127.0.0.0/8", "::1/128')
    with running_relay(tmp_path / "relay", Settings([upstream])) as relay:
        via = ("--via", f"https://localhost:{relay.port}", "--via-token-file", str(token))
        assert run("copy", fresh_user, *via, "--json").json["outcome"] == "complete"
        relay.event("session", lambda row: row.get("bytes_down", 0) > 1_000_000)
        token.write_text("rt1.worker." + "A" * 43)
        refused = run("check", fresh_user, *via, "--json")
        assert (refused.code, refused.json["cause"]) == (4, "relay_refused")
    assert differences(read_back(source_server, fresh_user), read_back(destination_server, fresh_user)) == []
    assert run("check", fresh_user, *via[:2], "--json", BANJIA_RELAY_TOKEN=TOKEN).json["cause"] == "relay_unreachable"


@pytest.mark.parametrize(("arguments", "says"), [
    (["copy", "imaps://a@localhost"], "DESTINATION"),
    (["check", "http://a@localhost"], "scheme"),
    (["check", "imaps://a:secret@localhost"], "password"),
    (["check", "imaps://localhost"], "user"),
    (["check", "imaps://a@localhost:99999"], "port"),
    (["check", "imaps://a@localhost/x"], "path"),
    (["check", "imaps://a%0d%0ab@localhost"], "user"),
    (["check", "imap+plain://a@192.0.2.1"], "--allow-plaintext"),
    (["check", "imaps://a@localhost", "--ca-file", "/nonexistent"], "--ca-file"),
    (["check", "imaps://a@localhost", "--via", "http://relay"], "--via"),
    (["copy", "imaps://a@localhost", "imaps://b@localhost", "--connections", "0"], "--connections: '0'：请写 1 到 16 的数"),
    (["verify", "imaps://a@localhost", "imaps://b@localhost", "--connections", "17"], "write a number from 1 to 16"),
    (["copy", "imaps://a@localhost", "imaps://b@localhost", "--connections", "two"], "'two'：请写 1 到 16 的数 / write a number"),
    (["copy", "imaps://a@localhost", "imaps://b@localhost", "--recent-days", "0"], "--recent-days: '0'：请写 1 到 36500 的数"),
    (["copy", "imaps://a@localhost", "imaps://b@localhost", "--recent-days", "nan"], "write a number from 1 to 36500"),
    (["copy", "imaps://a@localhost", "imaps://b@localhost", "--recent-days", "soon"], "write a number from 1 to 36500"),
    (["copy", "imaps://a@localhost", "imaps://a@LOCALHOST:993"], "the same mailbox: a @ localhost:993"),
    (["verify", "imaps://a@localhost", "imaps://a@LOCALHOST:993"], "the same mailbox: a @ localhost:993"),
    (["undo", "imaps://b@localhost", "--pass", "first"], "--pass: 'first'：请写第几次"),
])
def test_what_is_written_wrongly_is_exit_2_and_says_what(arguments: list[str], says: str) -> None:
    done = subprocess.run([sys.executable, "-m", "engine", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
                          stdin=subprocess.DEVNULL, env={**os.environ, "BANJIA_SOURCE_PASSWORD": "x", "BANJIA_DESTINATION_PASSWORD": "x"})
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stdout == ""


def test_without_a_secret_it_asks_for_one_of_the_safe_ways() -> None:
    done = subprocess.run([sys.executable, "-m", "engine", "check", "imaps://a@localhost"], cwd=ROOT, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=60, check=False, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 2
    assert "--source-password-file" in done.stderr and "BANJIA_SOURCE_PASSWORD" in done.stderr


@pytest.mark.parametrize(("command", "asked"), [
    (["check", "imap+plain://li@localhost:1"], ["旧邮箱的密码 / Password of the old mailbox, li @ localhost:1: "]),
    (["copy", "imap+plain://li@localhost:1", "imap+plain://xu@localhost:2"],
     ["旧邮箱的密码 / Password of the old mailbox, li @ localhost:1: ",
      "新邮箱的密码 / Password of the new mailbox, xu @ localhost:2: "]),
])
def test_who_is_asked_for_a_password_is_told_of_which_mailbox(command: list[str], asked: list[str], tmp_path: Path) -> None:
    parent, child = pty.openpty()
    process = subprocess.Popen([sys.executable, "-m", "engine", *command], cwd=ROOT, stdin=child, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, start_new_session=True,
                               env={"PATH": os.environ["PATH"], "XDG_STATE_HOME": str(tmp_path)})
    try:
        assert process.stderr is not None
        for words in asked:
            assert process.stderr.read(len(words.encode())).decode() == words
            os.write(parent, b"not-shown\n")
            assert process.stderr.read(1) == b"\n"
    finally:
        process.kill()
        process.communicate(timeout=30)
        os.close(parent)
        os.close(child)


def test_a_secret_from_a_file(run: Run, fresh_user: str, tmp_path: Path, source_server: Dovecot) -> None:
    seed(source_server, fresh_user, [Sample(mail(1))])
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD + "\n", encoding="utf-8")
    assert run("check", fresh_user, "--source-password-file", str(secret), "--json", BANJIA_SOURCE_PASSWORD="not-this").code == 0
