"""Given octets that nobody would send, when a parser of ours reads them, then it ends in values or in its own error, and what has an
inverse comes back. The inputs come from a seed: FUZZ_SEED and FUZZ_COUNT choose others and more of them (`make fuzz` for minutes)."""
from __future__ import annotations

import os

import pytest

from tests.unit.fuzz.targets import TARGETS, variants

SEED = os.environ.get("FUZZ_SEED", "1")
COUNT = int(os.environ.get("FUZZ_COUNT", "800"))


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_whatever_comes(name: str) -> None:
    """The targets assert what must hold of each result; here it is counted that they were asked."""
    target, asked = TARGETS[name], 0
    for octets in variants(target, f"{name} {SEED}", COUNT):
        asked += 1
        try:
            target.run(octets)
        except Exception as error:
            raise AssertionError(f"{name}, seed {SEED}: {octets!r}") from error
    assert asked >= COUNT


# What was once found here, as it was found.
FOUND = [
    ("uid-list", b"7:0"),
    ("date", b"17-Jul-0000 02:44:25 -0700"),
    ("answers-bodies", b"* 1 FETCH (BODY[] {3}\r\nabc UID 1)\r\n<tag> OK\r\n"),
    ("answers-examine", b"* x EXISTS\r\n* OK [UIDNEXT]\r\n<tag> OK\r\n"),
]


@pytest.mark.parametrize(("name", "octets"), FOUND)
def test_what_was_found_stays_mended(name: str, octets: bytes) -> None:
    TARGETS[name].run(octets)
