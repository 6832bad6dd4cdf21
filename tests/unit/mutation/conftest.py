"""`rig(…)`: a world for one small story, empty or `filled_rig(…)`; `heard`: what is said in it. `writer_rig(…)`: a writer whose reader and
destination the test plays (writer_rig.py). `mailboxes(…)`: two that are compared (two_mailboxes.py)."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.mutation.stories import Heard, Make
from tests.unit.mutation.two_mailboxes import MakeMailboxes, two_mailboxes
from tests.unit.mutation.writer_rig import MakeWriterRig, writer_rigs
from tests.unit.simulation import scenario
from tests.unit.simulation.rig import Rig, rigs


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Make]:
    with rigs(tmp_path) as make:
        yield make


@pytest.fixture
def filled_rig(rig: Make) -> Make:
    """With twelve messages at the source."""
    def filled(destination: str = "IMAP4rev1 UIDPLUS LITERAL+", **options: int) -> Rig:
        one = rig(destination=destination, **options)
        one.fill(12)
        return one

    return filled


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """What the sink of a rig was told."""
    one = Heard()
    monkeypatch.setattr(scenario.Sink, "server_line", lambda sink, *line: one.lines.append(line))
    return one


@pytest.fixture
def writer_rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeWriterRig]:
    yield from writer_rigs(tmp_path, monkeypatch)


@pytest.fixture
def mailboxes() -> Iterator[MakeMailboxes]:
    yield from two_mailboxes()
