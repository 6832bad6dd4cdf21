"""SIGKILL at random instants, restarted at once or a little later: nothing lost, nothing doubled.

The destination goes on executing what a dead client sent; behind the late proxy it does so well after the successor has looked.
A few kills of each kind; `python -m bench.kills` is the same with as many as wanted. The seed is printed, and KILL_SEED runs it again.
"""
from __future__ import annotations

import os
import random

import pytest

from bench.kills import Setting, soak

KILLS = int(os.environ.get("KILLS", "3"))
SEED = int(os.environ.get("KILL_SEED", str(random.SystemRandom().randrange(10**6))))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("server", "uidplus", "late"), [
    ("dovecot", True, 0.0), ("dovecot", False, 1.0), ("cyrus", True, 1.0), ("cyrus", False, 0.0),
], ids=lambda value: str(value))
def test_killed_at_random_instants(server: str, uidplus: bool, late: float, need_dovecot: None, need_cyrus: None) -> None:
    outcome = soak(Setting(server, uidplus, late, kills=KILLS, seed=SEED, messages=300, largest=8_000))
    assert (outcome.lost, outcome.doubled) == (0, 0), outcome.told
    assert outcome.kills >= KILLS and outcome.mailboxes
