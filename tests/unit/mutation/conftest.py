"""`rig(…)`: a world for one small story; `heard`: what is said in it. `hand(…)`: a writer whose reader and destination the test plays
(by_hand.py). `two(…)`: two mailboxes that are compared (two.py)."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.mutation.by_hand import MakeHand, hands
from tests.unit.mutation.stories import Heard, Make
from tests.unit.mutation.two import MakeTwo, twos
from tests.unit.simulation import scenario
from tests.unit.simulation.rig import Rig, rigs


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Make]:
    """With twelve messages at the source."""
    def filled(destination: str = "IMAP4rev1 UIDPLUS LITERAL+", **options: int) -> Rig:
        one = make(destination=destination, **options)
        one.fill(12)
        return one

    with rigs(tmp_path) as make:
        yield filled


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """What the sink of a rig was told."""
    one = Heard()
    monkeypatch.setattr(scenario.Sink, "server_line", lambda sink, *line: one.lines.append(line))
    return one


@pytest.fixture
def hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeHand]:
    yield from hands(tmp_path, monkeypatch)


@pytest.fixture
def two() -> Iterator[MakeTwo]:
    yield from twos()
