"""Given an address or an option that does not fit the server, when a command is run, then the cause is what it was, and one line in both
languages says what to write instead; with --json the object stays alone on stdout."""
from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.cli import main
from engine.imap.channel import Timeouts
from engine.imap.session import Session
from tests.integration.relay.lab import TOKEN, Settings, Upstream, running_relay
from tests.support.certificates import authority, stranger
from tests.support.dovecot import PASSWORD, Dovecot

ROOT = Path(__file__).parents[3]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "engine", *words], cwd=ROOT, capture_output=True, text=True, timeout=90, check=False,
                              stdin=subprocess.DEVNULL, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environment,
                                                             "BANJIA_SOURCE_PASSWORD": PASSWORD, "BANJIA_DESTINATION_PASSWORD": PASSWORD})
    return call


@pytest.fixture
def ca(tmp_path: Path) -> tuple[str, str]:
    return "--ca-file", str(authority().write(tmp_path))


def hint_in(stderr: str) -> str:
    line, = [line for line in stderr.splitlines() if "Hint: " in line]
    assert line.startswith("提示：")
    return line


def place(server: Dovecot, login: str, scheme: str, port: str) -> str:
    assert server.ports
    return f"{scheme}://{login.replace('@', '%40')}@localhost:{getattr(server.ports, port)}"


@contextmanager
def answering(octets: bytes) -> Iterator[int]:
    """A port on which everybody is told `octets`, and then nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        def serve() -> None:
            while True:
                try:
                    there = listening.accept()[0]
                except OSError:
                    return
                kept.append(there)
                there.sendall(octets)

        kept: list[socket.socket] = []
        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        for one in kept:
            one.close()
        listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is to greet has half a second instead of forty."""
    for side in ("SOURCE", "DESTINATION"):
        monkeypatch.setenv(f"BANJIA_{side}_PASSWORD", PASSWORD)
    monkeypatch.setitem(Session.open.__func__.__kwdefaults__, "timeouts", Timeouts(greeting=0.5))  # type: ignore[attr-defined]


def test_tls_at_a_port_that_begins_in_clear_text(run: Run, ca: tuple[str, str], fresh_user: str, source_server: Dovecot) -> None:
    done = run("check", place(source_server, fresh_user, "imaps", "imap"), *ca, "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["cause"], told["detail"]) == (4, "tls", "no TLS with this server: WRONG_VERSION_NUMBER")
    assert hint_in(done.stderr).count(f"{place(source_server, fresh_user, 'imap', 'imap')}（") == 1
    assert f"try {place(source_server, fresh_user, 'imap', 'imap')} (STARTTLS)" in done.stderr
    assert run("check", place(source_server, fresh_user, "imap", "imap"), *ca).returncode == 0, "what it says is right"


@pytest.mark.parametrize("command", ["copy", "verify"])
def test_it_is_said_of_the_side_that_failed(run: Run, ca: tuple[str, str], command: str, fresh_user: str, source_server: Dovecot,
                                            destination_server: Dovecot) -> None:
    there = place(destination_server, fresh_user, "imaps", "imap")
    done = run(command, place(source_server, fresh_user, "imaps", "imaps"), there, *ca)
    assert done.returncode == 4 and "cause: destination_tls" in done.stdout
    assert f"try {place(destination_server, fresh_user, 'imap', 'imap')} (STARTTLS)" in hint_in(done.stderr)


@pytest.mark.parametrize("scheme", ["imap", "imap+plain"])
@pytest.mark.usefixtures("impatient")
def test_a_port_that_waits_for_tls_greets_nobody(scheme: str, ca: tuple[str, str], fresh_user: str, source_server: Dovecot,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["check", place(source_server, fresh_user, scheme, "imaps"), *ca, "--json"])
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert (code, told["cause"]) == (4, "server_busy")
    assert f"may be a port that begins with TLS; try {place(source_server, fresh_user, 'imaps', 'imaps')}" in hint_in(printed.err)
    assert main(["check", place(source_server, fresh_user, "imaps", "imaps"), *ca]) == 0, "what it says is right"


def test_an_authority_of_ones_own(run: Run, tmp_path: Path, fresh_user: str, source_server: Dovecot) -> None:
    where = place(source_server, fresh_user, "imaps", "imaps")
    done = run("check", where)
    assert "unable to get local issuer certificate" in done.stdout
    assert "add --ca-file FILE" in hint_in(done.stderr)
    other = tmp_path / "other.pem"
    other.write_text(stranger().pem)
    wrong = run("check", where, "--ca-file", str(other), "--json")
    assert json.loads(wrong.stdout)["cause"] == "tls"
    assert f"{other} does not hold the authority" in hint_in(wrong.stderr)


def test_the_relays_authority(run: Run, tmp_path: Path, fresh_user: str, source_server: Dovecot) -> None:
    assert source_server.ports
    upstream = Upstream("old", source_server.ports.imaps, host="localhost", allowed='127.0.0.0/8", "::1/128')
    with running_relay(tmp_path / "relay", Settings([upstream])) as relay:
        done = run("check", place(source_server, fresh_user, "imaps", "imaps"), "--via", f"https://localhost:{relay.port}", "--json",
                   BANJIA_RELAY_TOKEN=TOKEN)
    assert json.loads(done.stdout)["cause"] == "relay_unreachable"
    assert "certificate of the relay" in hint_in(done.stderr) and "add --via-ca-file FILE" in done.stderr


@pytest.mark.parametrize(("scheme", "capabilities", "says"), [
    ("imap", "IMAP4rev1 AUTH=PLAIN", "this port has no STARTTLS; try imaps://…, mostly on port 993"),
    ("imap+plain", "IMAP4rev1 STARTTLS LOGINDISABLED", "it takes no login without TLS; try imap://li@127.0.0.1:"),
])
def test_what_a_greeting_says_of_tls(run: Run, scheme: str, capabilities: str, says: str) -> None:
    with answering(f"* OK [CAPABILITY {capabilities}] ready\r\n".encode()) as port:
        done = run("check", f"{scheme}://li@127.0.0.1:{port}")
    assert (done.returncode, "cause: tls" in done.stdout) == (4, True), done.stdout
    assert says in hint_in(done.stderr)


def test_other_failures_suggest_nothing(run: Run, ca: tuple[str, str], fresh_user: str, source_server: Dovecot) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    unreachable = run("check", f"imap://li@127.0.0.1:{free}")
    wrong = run("check", place(source_server, f"nobody-{fresh_user}", "imaps", "imaps"), *ca)
    named = run("check", place(source_server, fresh_user, "imaps", "imaps").replace("localhost", "127.0.0.2"), *ca)
    assert [done.returncode for done in (unreachable, wrong, named)] == [4, 4, 4]
    assert "Hint" not in unreachable.stderr + wrong.stderr + named.stderr
