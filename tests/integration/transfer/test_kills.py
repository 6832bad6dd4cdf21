"""SIGKILL at random instants, restarted at once or a little later: nothing lost, nothing doubled.

The destination goes on executing what a dead client sent; behind the late proxy it does so well after the successor has looked.
Rounds: KILL_ROUNDS (default 12 each; 200 takes about a quarter of an hour). The seed is printed, and KILL_SEED runs it again.
"""
from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.transfer.conftest import samples
from tests.support.dovecot import PASSWORD, Dovecot, differences, read_back, seed
from tests.support.slow_append_proxy import SlowAppendProxy

ROUNDS = int(os.environ.get("KILL_ROUNDS", "12"))
SEED = int(os.environ.get("KILL_SEED", str(random.SystemRandom().randrange(10**6))))
PATIENCE_SECONDS = 120.0


def start_copy(tmp_path: Path, login: str, source_port: int, destination_port: int, ca_file: Path) -> subprocess.Popen[bytes]:
    quoted = login.replace("@", "%40")
    return subprocess.Popen(
        [sys.executable, "-m", "engine", "copy", f"imaps://{quoted}@localhost:{source_port}",
         f"imap+plain://{quoted}@localhost:{destination_port}", "--ledger", str(tmp_path / "ledger"), "--ca-file", str(ca_file),
         "--json"],
        env={**os.environ, "BANJIA_SOURCE_PASSWORD": PASSWORD, "BANJIA_DESTINATION_PASSWORD": PASSWORD},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def kill_until_done(rng: random.Random, tmp_path: Path, login: str, ports: tuple[int, int], ca_file: Path) -> int:
    """Starts the copy again and again, kills it ROUNDS times, then lets it finish. Returns how many kills struck a running copy."""
    struck = 0
    for _ in range(ROUNDS):
        process = start_copy(tmp_path, login, *ports, ca_file)
        try:
            process.wait(timeout=rng.uniform(0.3, 4.0))
        except subprocess.TimeoutExpired:
            struck += 1
            process.kill()
        process.communicate()
        time.sleep(rng.choice([0.0, 0.0, rng.uniform(0, 2)]))  # the gap is the test's subject
    last = start_copy(tmp_path, login, *ports, ca_file)
    out, _ = last.communicate(timeout=PATIENCE_SECONDS)
    assert last.returncode == 0, out.decode()
    return struck


@pytest.mark.timeout(900)
def test_killed_at_random_instants(tmp_path: Path, fresh_user: str, source_server: Dovecot, destination_server: Dovecot) -> None:
    print(f"KILL_SEED={SEED}")
    seed(source_server, fresh_user, samples(400))
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(source_server.ca_pem)
    assert source_server.ports and destination_server.ports
    kill_until_done(random.Random(SEED), tmp_path, fresh_user, (source_server.ports.imaps, destination_server.ports.imap), ca_file)
    assert differences(read_back(source_server, fresh_user), read_back(destination_server, fresh_user)) == []


@pytest.mark.timeout(900)
@pytest.mark.parametrize("late", ["answer_late", "deliver_late"])
def test_killed_behind_a_destination_that_is_late(tmp_path: Path, fresh_user: str, late: str, source_server: Dovecot,
                                                  destination_server: Dovecot) -> None:
    print(f"KILL_SEED={SEED}")
    seed(source_server, fresh_user, samples(120))
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(source_server.ca_pem)
    assert source_server.ports and destination_server.ports
    with SlowAppendProxy("127.0.0.1", destination_server.ports.imap, **{late: 1.0}) as proxy:
        kill_until_done(random.Random(SEED), tmp_path, fresh_user, (source_server.ports.imaps, proxy.port), ca_file)
    assert differences(read_back(source_server, fresh_user), read_back(destination_server, fresh_user)) == []
