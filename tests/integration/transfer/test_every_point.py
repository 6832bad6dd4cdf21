"""SIGKILL at a moment of the transfer, and again at a moment of the recovery: nothing lost, nothing doubled.

The moments are those that engine/transfer names (points.py): around every write of the ledger, every batch, every folder that is made,
every change of flags, every proof. POINTS=all tries each of them (a few minutes); otherwise a seeded choice.
"""
from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.transfer.conftest import samples
from tests.support.dovecot import PASSWORD, Dovecot, differences, read_back, seed
from tests.support.slow_append_proxy import SlowAppendProxy

SEED = int(os.environ.get("POINTS_SEED", str(random.SystemRandom().randrange(10**6))))
ALL = os.environ.get("POINTS") == "all"
NEVER = 1 << 30
PATIENCE_SECONDS = 120.0


@dataclass
class Killed:
    """One mailbox on its way, by copies of which each may die at a moment."""

    login: str
    source: Dovecot
    destination: Dovecot
    directory: Path
    port: int

    def copy(self, at: int = NEVER) -> tuple[int, str]:
        """Exit code (-9: it died) and what it said on stderr."""
        assert self.source.ports is not None
        quoted, ca_file = self.login.replace("@", "%40"), self.directory / "ca.pem"
        ca_file.write_text(self.source.ca_pem)
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.dying_copy", str(at), "copy", f"imaps://{quoted}@localhost:{self.source.ports.imaps}",
             f"imap+plain://{quoted}@localhost:{self.port}", "--ledger", str(self.directory / f"{self.login}.ledger"),
             "--ca-file", str(ca_file), "--json", "--connections", "2"],
            env={**os.environ, "BANJIA_SOURCE_PASSWORD": PASSWORD, "BANJIA_DESTINATION_PASSWORD": PASSWORD},
            capture_output=True, timeout=PATIENCE_SECONDS, check=False)
        return done.returncode, done.stderr.decode()

    def is_exact(self) -> bool:
        return differences(read_back(self.source, self.login), read_back(self.destination, self.login)) == []


def moments(told: str) -> int:
    return int(told.rpartition("moments: ")[2].split()[0])


def begun(login: str, source: Dovecot, destination: Dovecot, directory: Path, port: int | None = None) -> Killed:
    assert destination.ports is not None
    seed(source, login, samples(24))
    return Killed(login, source, destination, directory, port or destination.ports.imap)


@pytest.mark.timeout(1800)
def test_killed_at_a_moment_and_again_in_the_recovery(tmp_path: Path, fresh_users: Callable[[], str], source_server: Dovecot,
                                                      destination_server: Dovecot) -> None:
    print(f"POINTS_SEED={SEED}")
    rng = random.Random(SEED)
    whole = begun(fresh_users(), source_server, destination_server, tmp_path)
    code, told = whole.copy()
    assert code == 0 and whole.is_exact(), told
    count = moments(told)
    assert count > 25
    chosen = range(1, count + 1) if ALL else sorted(rng.sample(range(1, count + 1), 4))
    for at in chosen:
        one = begun(fresh_users(), source_server, destination_server, tmp_path)
        code, first = one.copy(at)
        again = rng.randrange(1, 12)
        _, second = one.copy(again)  # it may be done before that moment
        code, last = one.copy()
        assert code == 0, last
        assert one.is_exact(), f"died at moment {at} ({first.strip()}), then at {again} ({second.strip()[-200:]})"


@pytest.mark.timeout(900)
def test_killed_at_a_moment_while_the_destination_is_late(tmp_path: Path, fresh_users: Callable[[], str], source_server: Dovecot,
                                                          destination_server: Dovecot) -> None:
    """What was sent before the death is executed after the successor's first look."""
    print(f"POINTS_SEED={SEED}")
    assert destination_server.ports is not None
    with SlowAppendProxy("127.0.0.1", destination_server.ports.imap, deliver_late=1.0) as proxy:
        one = begun(fresh_users(), source_server, destination_server, tmp_path, proxy.port)
        for at in (random.Random(SEED).randrange(8, 16), 6):
            one.copy(at)
        code, told = one.copy()
        assert code == 0, told
    assert one.is_exact()
