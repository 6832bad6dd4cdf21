"""`bench(source, destination)`: two simulated servers and a ledger (moving.py). `rig(…)`: a world for one small story, in virtual time."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.simulation.rig import Make, rigs
from tests.unit.transfer.moving import Bench, MakeBench, benches


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[MakeBench]:
    with benches(Bench, tmp_path) as make:
        yield make


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Make]:
    with rigs(tmp_path) as make:
        yield make
