"""`rig(…)`: a world for one small story."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.simulation.rig import Make, Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Make]:
    opened: list[Rig] = []

    def make(source: str = "dovecot", destination: str = "IMAP4rev1 UIDPLUS LITERAL+", **options: int) -> Rig:
        for before in opened:  # one world at a time
            before.leave()
        opened.clear()
        directory = tmp_path / str(len([*tmp_path.iterdir()]))
        directory.mkdir()
        one = Rig(directory, source, destination, **options)
        one.enter()
        opened.append(one)
        return one

    yield make
    for one in opened:
        one.leave()
