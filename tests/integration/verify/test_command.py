"""`verify` on the command line: what it says of a copy, quickly and in full, and how it ends."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import authority
from tests.support.dovecot import PASSWORD, Dovecot, Sample, seed

ROOT = Path(__file__).resolve().parents[3]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def mail(n: int) -> bytes:
    return f"Subject: {n}\r\n\r\nbody {n}\r\n".encode()


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON object."""
    assert done.stdout.count("\n") == 1, done.stdout + done.stderr
    value: dict[str, Any] = json.loads(done.stdout)
    return value


@pytest.fixture
def run(tmp_path: Path, fresh_user: str, source_server: Dovecot, destination_server: Dovecot) -> Run:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(authority().pem)
    assert source_server.ports and destination_server.ports
    user = fresh_user.replace("@", "%40")
    urls = [f"imaps://{user}@localhost:{server.imaps_port}" for server in (source_server, destination_server)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "BANJIA_SOURCE_PASSWORD": PASSWORD,
                   "BANJIA_DESTINATION_PASSWORD": PASSWORD}

    def call(command: str, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "engine", command, *urls, "--ca-file", str(ca_file), *options], cwd=ROOT, check=False,
                              capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL, env=environment)
    return call


def test_what_differs_is_named_and_the_exit_code_says_so(run: Run, fresh_user: str, source_server: Dovecot,
                                                        destination_server: Dovecot) -> None:
    seed(source_server, fresh_user, [Sample(mail(n), "INBOX", ("\\Seen",)) for n in range(4)])
    copied = run("copy")
    assert copied.returncode == 0, copied.stderr
    for depth in ("--quick", "--full"):
        done = run("verify", depth, "--json")
        report = told(done)
        assert (done.returncode, report["equal"], report["ledger_used"], report["mode"]) == (0, True, True, depth[2:])
    with destination_server.client(fresh_user) as client:
        client.command(b"SELECT INBOX")
        client.command(b"UID STORE 2 -FLAGS.SILENT (\\Seen)")
        client.command(b"UID STORE 3 +FLAGS.SILENT (\\Deleted)")
        client.command(b"EXPUNGE")
    seed(destination_server, fresh_user, [Sample(mail(9))])
    quick, full = run("verify", "--quick"), run("verify")
    assert quick.returncode == full.returncode == 3
    for said in (quick.stdout, full.stdout):
        assert "missing: INBOX UID 3 -> UID 3" in said
        assert "altered_flags: INBOX UID 2 -> UID 2" in said and "-\\seen" in said
    assert "extra: INBOX - -> UID 5" in full.stdout and "not equal: 1 missing, 1 extra, 1 flags" in full.stdout
    assert "1 at the destination that this move did not bring" in quick.stdout
    found = [finding for folder in told(run("verify", "--json"))["folders"] for finding in folder["findings"]]
    assert {(f["kind"], f["source_uid"], f["target_uid"]) for f in found} == {
        ("missing", 3, 3), ("altered_flags", 2, 2), ("extra", None, 5)}


def test_quick_says_in_both_languages_what_it_cannot_see(run: Run, fresh_user: str, source_server: Dovecot) -> None:
    seed(source_server, fresh_user, [Sample(mail(1))])
    copied = run("copy")
    assert copied.returncode == 0, copied.stderr
    quick, full = run("verify", "--quick"), run("verify", "--full")
    assert "a change that keeps the size is not seen, --full sees it" in quick.stdout
    assert "正文被改而大小不变的看不出来，要 --full" in quick.stdout
    assert "not seen" not in full.stdout
    manual = (ROOT / "docs/verify.md").read_text(encoding="utf-8")
    assert "**a change that keeps the size**" in manual and "**正文被改而大小不变**" in manual


def test_without_a_ledger_it_compares_by_content_and_leaves_none_behind(run: Run, fresh_user: str, tmp_path: Path, source_server: Dovecot,
                                                                        destination_server: Dovecot) -> None:
    for server in (source_server, destination_server):
        seed(server, fresh_user, [Sample(mail(1))])
    done = run("verify", "--json")
    assert (done.returncode, told(done)["ledger_used"]) == (0, False)
    assert list(tmp_path.rglob("*.ledger")) == []


@pytest.mark.parametrize(("options", "says"), [(["--ledger", "/nonexistent/ledger"], "--ledger"), (["--quick", "--full"], "--full")])
def test_what_is_written_wrongly_is_exit_2(run: Run, options: list[str], says: str) -> None:
    done = run("verify", *options)
    assert done.returncode == 2 and says in done.stderr and done.stdout == ""
