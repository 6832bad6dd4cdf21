"""Given a copy that a server paused, when somebody runs the command again at once, then nobody logs in before the time."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.provider_simulator import Action, Fault, ProviderSimulator, message

ROOT = Path(__file__).parents[3]
PAUSE = b"NO Request is throttled. Suggested Backoff Time: 3600000 milliseconds"


def run(command: str, source: ProviderSimulator, destination: ProviderSimulator, place: Path) -> tuple[int, dict[str, Any]]:
    ca_file = place / "ca.pem"
    ca_file.write_text(source.ca_pem)
    urls = [f"imaps://{server.account().login.replace('@', '%40')}@localhost:{server.port}" for server in (source, destination)]
    done = subprocess.run([sys.executable, "-m", "engine", command, *urls, "--ca-file", str(ca_file), "--json",
                           "--ledger", str(place / "ledger")], cwd=ROOT, capture_output=True, text=True, timeout=90,
                          stdin=subprocess.DEVNULL, env={"PATH": os.environ["PATH"], "HOME": str(place), "BANJIA_SOURCE_PASSWORD": "secret",
                                                         "BANJIA_DESTINATION_PASSWORD": "secret"})
    assert done.returncode in (0, 3, 4), done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_paused_copy_is_paused_for_the_next_command_too(tmp_path: Path) -> None:
    with ProviderSimulator("dovecot", tls=True) as source, ProviderSimulator("dovecot", tls=True) as destination:
        source.account()["INBOX"].put(*(message(str(n)) for n in range(5)))
        source.faults.append(Fault("UID FETCH", Action.REPLY, text=PAUSE))
        code, report = run("copy", source, destination, tmp_path)
        assert (code, report["cause"]) == (4, "throttled")
        heard, seen = len(source.commands), source.connections
        for command in ("copy", "verify"):
            code, report = run(command, source, destination, tmp_path)
            assert (code, report["cause"]) == (4, "throttled")
            assert 3400 < report["retry_after"] <= 3600
        assert (len(source.commands), source.connections) == (heard, seen)
        [kept] = tmp_path.glob("*.pace")
        assert b"user@example.com" not in kept.read_bytes()
        kept.unlink()  # as if the hour were over
        assert run("copy", source, destination, tmp_path)[0] == 0
        assert len(destination.account()["INBOX"].messages) == 5
