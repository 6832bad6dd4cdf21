"""Every two capabilities in all four ways of on and off, at either side, between every two servers: not the full product.

Two million combinations stand against a dozen rows; a fault that needs three settings at once is not looked for here.
"""
from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from tests.integration.matrix.conftest import CAPABILITIES, READING, ROUTES, Case, three_runs

# One factor for each thing that may differ: which servers, and what is off.
FACTORS: tuple[tuple[object, ...], ...] = (ROUTES, *((False, True),) * (len(CAPABILITIES) + len(READING)))


def all_pairs(factors: tuple[tuple[object, ...], ...], *, seed: int = 1, candidates: int = 60) -> list[tuple[object, ...]]:
    """Rows in which every two values of every two factors meet; greedy, the same for the same seed."""
    rng = random.Random(seed)

    def met(row: tuple[object, ...]) -> set[tuple[tuple[int, object], ...]]:
        return set(itertools.combinations(enumerate(row), 2))
    left = {((i, a), (j, b)) for (i, one), (j, two) in itertools.combinations(enumerate(factors), 2) for a in one for b in two}
    rows: list[tuple[object, ...]] = []
    while left:
        asked = dict(next(iter(sorted(left, key=repr))))  # so that each row meets one new pair at least
        made = [tuple(asked.get(i, rng.choice(values)) for i, values in enumerate(factors)) for _ in range(candidates)]
        rows.append(max(made, key=lambda row: len(met(row) & left)))
        left -= met(rows[-1])
    return rows


ROWS = all_pairs(FACTORS)


def test_every_two_settings_meet() -> None:
    for (i, one), (j, two) in itertools.combinations(enumerate(FACTORS), 2):
        assert {(row[i], row[j]) for row in ROWS} == set(itertools.product(one, two))


@pytest.mark.parametrize("row", ROWS, ids=[f"{number}" for number in range(len(ROWS))])
def test_together(case: Callable[..., Case], row: tuple[object, ...]) -> None:
    route, off = row[0], row[1:]
    destination = {name for name, is_off in zip(CAPABILITIES, off, strict=False) if is_off}
    source = {name for name, is_off in zip(READING, off[len(CAPABILITIES):], strict=True) if is_off}
    print(route, "off at the source:", sorted(source), "off at the destination:", sorted(destination))
    three_runs(case(route, source=source, destination=destination))
