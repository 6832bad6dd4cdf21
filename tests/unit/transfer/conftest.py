"""`bench(source, destination)`: two simulated servers and a ledger (moving.py)."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.transfer.moving import Bench, MakeBench, benches


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[MakeBench]:
    with benches(Bench, tmp_path) as make:
        yield make
