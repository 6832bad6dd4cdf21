"""`rig(…)`: a world for one small story."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.simulation.rig import Make, rigs


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Make]:
    with rigs(tmp_path) as make:
        yield make
