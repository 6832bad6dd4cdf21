"""What may be used in a rolling stretch of time, and when there will be some again."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pacing.budget import DAY, HOUR, Budget, Spent, Unit

NOON = 1_800_000_000.0 - 1_800_000_000 % DAY + 12 * HOUR
TEN = Budget(Unit.MESSAGES, 10)


def test_what_fits_goes_at_once() -> None:
    assert TEN.wait((), NOON, 10) == 0
    spent = TEN.add((), NOON, 6)
    assert TEN.wait(spent, NOON, 4) == 0
    assert TEN.wait(spent, NOON, 5) > 0


def test_a_spent_day_goes_on_when_its_hour_lies_outside_the_day() -> None:
    spent = TEN.add((), NOON + 100, 10)
    wait = TEN.wait(spent, NOON + 200, 1)
    assert wait == 25 * HOUR - 200
    assert TEN.wait(spent, NOON + 200 + wait - 1, 1) > 0
    assert TEN.wait(spent, NOON + 200 + wait, 1) == 0


def test_work_goes_on_when_a_tenth_is_free_and_not_for_less() -> None:
    hundred = Budget(Unit.MESSAGES, 100)
    spent = hundred.add(hundred.add((), NOON, 3), NOON + HOUR, 97)
    assert hundred.wait(spent, NOON + HOUR, 1) == 25 * HOUR  # the first three alone are not worth a login
    spent = hundred.add(hundred.add((), NOON, 10), NOON + HOUR, 90)
    assert hundred.wait(spent, NOON + HOUR, 1) == 24 * HOUR


def test_what_is_larger_than_the_budget_goes_while_anything_is_left() -> None:
    assert TEN.wait((), NOON, 11) == 0
    assert TEN.wait(TEN.add((), NOON, 9), NOON, 11) == 0
    full = TEN.add((), NOON, 10)
    assert TEN.wait(full, NOON, 11) == 25 * HOUR


def test_what_is_added_does_not_make_the_day_forget_an_hour_too_early() -> None:
    spent = TEN.add(TEN.add((), NOON, 9), NOON + DAY, 1)
    assert TEN.used(spent, NOON + DAY) == 10
    assert TEN.used(TEN.add(spent, NOON + DAY + HOUR, 0), NOON + DAY + HOUR) == 1


def test_an_hours_budget_is_free_again_after_an_hour() -> None:
    logins = Budget(Unit.LOGINS, 2, HOUR)
    spent = logins.add(logins.add((), NOON, 1), NOON + 1, 1)
    assert logins.wait(spent, NOON + 2, 1) == HOUR + 150 - 2
    assert logins.wait(spent, NOON + HOUR + 150, 1) == 0


@given(st.lists(st.tuples(st.floats(0, 3 * DAY), st.integers(1, 9)), max_size=40), st.integers(1, 40), st.sampled_from((DAY, HOUR)))
def test_no_stretch_ever_holds_more_than_the_budget(asked: list[tuple[float, int]], amount: int, seconds: float) -> None:
    """Whatever is asked for and whenever, what was let through within any stretch is at most the budget, but for one giant."""
    budget, spent, passed = Budget(Unit.MESSAGES, amount, seconds), (), []
    for at, wanted in sorted(asked):
        if budget.wait(spent, NOON + at, wanted) == 0:
            spent = budget.add(spent, NOON + at, wanted)
            passed.append((at, wanted))
    for at, _ in passed:
        within = [wanted for other, wanted in passed if at - seconds < other <= at]
        giants = max((wanted for wanted in within if wanted > amount), default=0)
        assert sum(within) - giants <= amount


@given(st.lists(st.tuples(st.floats(0, 2 * DAY), st.integers(1, 9)), max_size=30), st.integers(1, 20), st.integers(1, 30))
def test_the_wait_is_enough_and_never_for_ever(used: list[tuple[float, int]], amount: int, wanted: int) -> None:
    budget = Budget(Unit.UPLOAD, amount)
    spent: Spent = ()
    for at, one in sorted(used):
        spent = budget.add(spent, NOON + at, one)
    wait = budget.wait(spent, NOON + 2 * DAY, wanted)
    assert 0 <= wait <= DAY + HOUR
    assert budget.wait(spent, NOON + 2 * DAY + wait + 0.001, wanted) == 0


@pytest.mark.parametrize("days", range(1, 6))
def test_what_is_remembered_is_bounded(days: int) -> None:
    spent: Spent = ()
    for minute in range(days * 24 * 60):
        spent = TEN.add(spent, NOON + 60 * minute, 1)
    assert len(spent) <= 25
