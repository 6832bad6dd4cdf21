"""Given what a provider allows in a day or an hour, when it is used up, then nobody sends until there is some again, and whoever asks is
told what, how much and until when. (Stretches of time: test_budget.py.)"""
from __future__ import annotations

from typing import Any

import pytest

from engine.causes import Cause, Side
from engine.errors import Throttled
from engine.pacing.budget import HOUR
from engine.pacing.key import PaceKey
from engine.pacing.pace import Pace, budgets_of
from engine.pacing.state import PaceState
from engine.pacing.store import MemoryPaceStore
from engine.providers.catalogue import provider
from engine.providers.provider import Limits
from tests.unit.pacing.fake_time import FakeTime
from tests.unit.pacing.scene import KEY, Scene

OTHER = PaceKey("test", "1" * 32)


# -- what is spent

def test_a_spent_day_is_raised_with_its_end_and_goes_on_then() -> None:
    scene = Scene(limits=Limits(download_per_day=1_000_000))
    gate = scene.gate()
    for _ in range(9):
        gate.before(1, 100_000)
    with pytest.raises(Throttled) as raised:
        gate.before(1, 100_000)
    assert raised.value.cause is Cause.THROTTLED
    assert raised.value.retry_after is not None and 86_400 <= raised.value.retry_after <= 90_000
    gate.allow()  # what is no message costs nothing
    scene.time.pass_(raised.value.retry_after)
    gate.before(1, 100_000)


def test_a_days_upload_is_the_destinations_and_messages_are_everybodys() -> None:
    scene = Scene(limits=Limits(download_per_day=10, upload_per_day=1000, messages_per_day=5), side=Side.DESTINATION)
    gate = scene.gate()
    gate.before(2, 500)
    with pytest.raises(Throttled, match="upload"):
        gate.before(1, 200)
    scene = Scene(limits=Limits(upload_per_day=10, messages_per_day=5))
    gate = scene.gate()
    gate.before(5, 10_000_000)
    with pytest.raises(Throttled, match="messages"):
        gate.before(1, 1)


def test_what_was_refused_was_not_spent() -> None:
    scene = Scene(limits=Limits(messages_per_day=10))
    gate = scene.gate()
    gate.before(8, 1)
    with pytest.raises(Throttled):
        gate.before(3, 1)
    gate.before(2, 1)


def test_each_message_costs_a_little_more_than_its_octets() -> None:
    scene = Scene(limits=Limits(download_per_day=1000))
    gate = scene.gate()
    gate.before(2, 600)
    with pytest.raises(Throttled):
        gate.before(1, 0)


@pytest.mark.parametrize(("side", "cause"), [(Side.SOURCE, Cause.THROTTLED), (Side.DESTINATION, Cause.DESTINATION_BUSY)])
@pytest.mark.parametrize("logins", [1, 2])
def test_logins_are_counted_by_the_hour(side: Side, cause: Cause, logins: int) -> None:
    scene = Scene(limits=Limits(logins_per_hour=logins, connections=4), side=side)
    for _ in range(logins):
        scene.gate()
    with pytest.raises(Throttled, match=rf"in an hour is used up \(logins: {logins}\)") as raised:
        scene.gate()
    assert (raised.value.side, raised.value.cause) == (side, cause)
    assert raised.value.retry_after is not None
    scene.time.pass_(raised.value.retry_after)
    scene.gate()


def test_gmails_day_is_what_google_says() -> None:
    scene = Scene(limits=provider("gws").limits)
    gate = scene.gate()
    for _ in range(249):
        gate.before(1, 10_000_000)
    with pytest.raises(Throttled):
        gate.before(1, 10_000_000)


def test_what_one_account_used_up_is_not_taken_from_another() -> None:
    scene = Scene(limits=Limits(messages_per_day=1))
    scene.gate().before(1, 1)
    other = Pace(OTHER, scene.store, limits=Limits(messages_per_day=1), clock=scene.time.clock).connect(lambda gate: gate)
    other.before(1, 1)
    with pytest.raises(Throttled):
        Pace(KEY, scene.store, limits=Limits(messages_per_day=1), clock=scene.time.clock).connect(lambda gate: gate).before(1, 1)


# -- what is told, and how long it lasts

@pytest.mark.parametrize(("limits", "told"), [
    (Limits(messages_per_day=1), "what test allows in a day is used up (messages: 1); goes on at 2027-01-16 09:00:00 UTC"),
    (Limits(download_per_day=300), "what test allows in a day is used up (download: 300); goes on at 2027-01-16 09:00:00 UTC"),
])
def test_a_spent_budget_says_what_and_how_much_and_until_when(limits: Limits, told: str) -> None:
    scene = Scene(limits=limits)
    gate = scene.gate()
    gate.before(1, 100)
    scene.time.pass_(60.0)
    with pytest.raises(Throttled) as raised:
        gate.before(1, 100)
    assert (raised.value.detail, raised.value.side) == (told, Side.SOURCE)
    assert raised.value.retry_after == 25 * HOUR - 60


def test_of_two_spent_budgets_the_longer_wait_counts() -> None:
    scene = Scene(limits=Limits(messages_per_day=2, download_per_day=2000))
    gate = scene.gate()
    gate.before(2, 0)
    scene.time.pass_(5 * HOUR)
    gate.before(0, 1600)
    with pytest.raises(Throttled, match="download") as raised:
        gate.before(1, 300)
    assert raised.value.retry_after == 25 * HOUR  # messages would go on five hours earlier


def test_the_last_half_second_of_a_spent_budget_is_waited_for() -> None:
    scene = Scene(limits=Limits(messages_per_day=1))
    gate = scene.gate()
    gate.before(1, 1)
    scene.time.pass_(25 * HOUR - 0.5)
    gate.before(1, 1)
    assert scene.time.slept == pytest.approx(0.5)


def test_a_connection_that_is_closed_while_a_budget_is_waited_for_asks_no_more() -> None:
    """Its thread does not ask the store again and again until the budget is free."""
    scene = Scene(limits=Limits(messages_per_day=1))
    gate = scene.gate()
    gate.before(1, 1)
    scene.time.pass_(25 * HOUR - 15)
    scene.close_at(gate, scene.time.past + 1.0)
    gate.before(1, 1)
    assert scene.time.slept == pytest.approx(1.0, abs=0.11)


# -- several writers

class _Overtaken(MemoryPaceStore):
    """Somebody else's write comes between: the change is tried on a state that is no longer there first."""

    def __init__(self, stale: PaceState, clock: Any) -> None:
        super().__init__("move-1", clock)
        self.stale = stale

    def change(self, key: PaceKey, change: Any) -> tuple[PaceState, float]:
        change(self.stale, self._clock())
        return super().change(key, change)


def test_a_change_that_is_tried_again_says_only_what_the_last_try_found() -> None:
    time_ = FakeTime()
    spent = PaceState().used(time_.wall(), [(budget, 99) for budget in budgets_of(Limits(messages_per_day=10), Side.SOURCE)])
    spent = spent.held(time_.wall(), 60, Cause.THROTTLED)
    scene = Scene(limits=Limits(messages_per_day=10), store=_Overtaken(spent, time_.wall))
    gate = scene.gate()
    gate.before(10, 1)
    with pytest.raises(Throttled):
        gate.before(1, 1)
