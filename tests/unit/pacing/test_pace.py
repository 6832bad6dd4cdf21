"""Given what a server said and did, when a connection wants to send, then it waits exactly as long as it has to."""
from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.causes import Cause, Side
from engine.errors import Throttled
from engine.pacing.key import PaceKey
from engine.pacing.pace import (
    FRESH_SECONDS,
    RATE_WAIT_MOST,
    SHUT_SECONDS,
    UNSTATED_WAIT_SECONDS,
    WAIT_HERE_SECONDS,
    Pace,
    PacedGate,
    budgets_of,
    most_connections,
)
from engine.pacing.pacer import OPEN
from engine.pacing.state import FLOOR, LEASE_SECONDS, PaceState
from engine.pacing.store import MemoryPaceStore
from engine.providers.catalogue import provider
from engine.providers.provider import Limits
from tests.unit.pacing.fake_time import FakeMeter, FakeTime
from tests.unit.pacing.scene import KEY, Scene


def test_nothing_known_and_nothing_said_is_no_wait_and_the_whole_window() -> None:
    scene = Scene()
    gate = scene.gate()
    for _ in range(1000):
        scene.work(gate, 0.01, 100_000, 100)
    assert (scene.time.slept, gate.window(16), scene.state().spent) == (0, 16, {})


def test_a_short_wait_is_sat_out_to_its_end_and_no_longer() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, 7.5)
    gate.allow()
    assert scene.time.slept == pytest.approx(7.5)
    gate.allow()
    assert scene.time.slept == pytest.approx(7.5)


def test_a_long_wait_is_raised_and_holds_nobody() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, 92.0)
    with pytest.raises(Throttled) as raised:
        gate.allow()
    assert (raised.value.retry_after, raised.value.cause, scene.time.slept) == (pytest.approx(92.0), Cause.THROTTLED, 0)
    assert "2027-01-15 08:01:32 UTC" in raised.value.detail


def test_a_long_wait_becomes_a_short_one_when_most_of_it_is_over() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, 92.0)
    scene.time.pass_(92.0 - WAIT_HERE_SECONDS)
    gate.allow()
    assert scene.time.past == pytest.approx(92.0)


def test_a_wait_that_is_made_longer_meanwhile_is_waited_whole() -> None:
    scene = Scene()
    first, second = scene.gate(), scene.gate()
    first.notice(Cause.THROTTLED, 5)
    slept = scene.time.sleep

    def sleep(seconds: float) -> None:
        slept(seconds)
        if scene.time.past < 0.15:
            second.notice(Cause.THROTTLED, 12)

    scene.pace._clock = type(scene.time.clock)(scene.time.monotonic, sleep)
    first.allow()
    assert scene.time.past == pytest.approx(12.1, abs=0.11)


@pytest.mark.parametrize("leaving", [True, False])
def test_neither_the_stopped_nor_the_leaving_wait(leaving: bool) -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, 5)
    scene.stopped = not leaving
    with pytest.raises(Throttled) as raised:
        gate.allow(leaving=leaving)
    assert (raised.value.retry_after, scene.time.slept) == (pytest.approx(5), 0)


def test_a_wait_nobody_timed_is_ten_seconds() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, None)
    gate.allow()
    assert scene.time.slept == pytest.approx(UNSTATED_WAIT_SECONDS)


def test_a_busy_server_without_a_time_is_eased_off_and_not_waited_for() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.SERVER_BUSY, None)
    gate.allow()
    assert (scene.time.slept, gate.window(16)) == (0, 8)


def test_what_one_connection_was_told_holds_the_others_at_once_and_new_ones() -> None:
    scene = Scene()
    one, two = scene.gate(), scene.gate()
    two.allow()  # it believes the store for a moment
    one.notice(Cause.THROTTLED, 60)
    with pytest.raises(Throttled):
        two.allow()
    with pytest.raises(Throttled):
        scene.gate()


def test_what_another_worker_was_told_is_heard_within_a_moment() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.allow()
    scene.store.change(KEY, lambda state, now: state.held(now, 60, Cause.THROTTLED))
    scene.time.pass_(FRESH_SECONDS)
    with pytest.raises(Throttled):
        gate.allow()


def test_a_connection_that_is_closed_meanwhile_is_not_waited_for() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, 10)
    assert isinstance(gate.meter, FakeMeter)
    gate.meter.closed = True
    gate.allow()
    assert scene.time.slept == 0


def test_too_many_connections_hold_new_ones_only() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.TOO_MANY_CONNECTIONS, None)
    gate.allow()
    assert (scene.time.slept, gate.window(4)) == (0, 4)
    with pytest.raises(Throttled) as raised:
        scene.gate()
    assert (raised.value.cause, raised.value.retry_after) == (Cause.TOO_MANY_CONNECTIONS, pytest.approx(SHUT_SECONDS))


def test_a_helper_does_not_wait_for_the_door() -> None:
    scene = Scene()
    scene.gate().notice(Cause.TOO_MANY_CONNECTIONS, 3)
    with pytest.raises(Throttled):
        scene.gate(here=False)
    assert scene.time.slept == 0
    scene.gate()
    assert scene.time.slept == pytest.approx(3)


def test_the_destinations_waits_bear_the_destinations_causes() -> None:
    scene = Scene(side=Side.DESTINATION)
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, 60)
    with pytest.raises(Throttled) as raised:
        gate.allow()
    assert (raised.value.cause, raised.value.side) == (Cause.DESTINATION_BUSY, Side.DESTINATION)


# -- speed

def test_after_a_throttle_the_rate_is_half_of_what_it_was() -> None:
    scene = Scene()
    gate = scene.gate()
    for _ in range(20):
        scene.work(gate, 1.0, 1_000_000, 10)
    gate.notice(Cause.SERVER_BUSY, None)
    assert (gate.window(16), gate.window(1)) == (8, 1)
    begun, share = scene.time.past, scene.state().share
    for _ in range(10):
        scene.work(gate, 0.01, 1_000_000, 10)
    rate = 10 * 1_000_000 / (scene.time.past - begun)
    assert share == 0.5
    assert 0.4e6 < rate < 0.65e6  # it grows back meanwhile


@given(st.integers(1, 12))
@settings(deadline=None, max_examples=12)
def test_four_fifths_of_the_rate_are_back_five_minutes_after_the_last_throttle(throttles: int) -> None:
    scene = Scene()
    gate = scene.gate()
    for _ in range(20):
        scene.work(gate, 1.0, 100_000, 10)
    for _ in range(throttles):
        gate.notice(Cause.THROTTLED, 6)
        gate.allow()
    assert scene.state().share == pytest.approx(max(FLOOR, 0.5 ** throttles), abs=0.06)
    begun = scene.time.past
    while scene.time.past < begun + 290:
        scene.work(gate, 1.0, 100_000, 10)
    begun = scene.time.past
    for _ in range(30):
        scene.work(gate, 1.0, 100_000, 10)
    assert 30 / (scene.time.past - begun) >= 0.8


def test_two_workers_share_the_lowered_rate() -> None:
    scene = Scene()
    gate = scene.gate()
    for _ in range(10):
        scene.work(gate, 1.0, 1_000_000, 10)
    scene.store.change(KEY, lambda state, now: state.leased(now + 1000, ["move-2/1"]))
    gate.notice(Cause.SERVER_BUSY, None)
    scene.work(gate, 0.001, 1_000_000, 1)
    before = scene.time.slept
    scene.work(gate, 0.001, 1_000_000, 1)
    assert scene.time.slept - before == pytest.approx(4.0, rel=0.1)  # a quarter of 1 MB/s


def test_no_batch_costs_more_than_a_minute_and_a_stop_ends_the_wait() -> None:
    scene = Scene()
    gate = scene.gate()
    for _ in range(10):
        scene.work(gate, 1.0, 1000, 10)
    gate.notice(Cause.SERVER_BUSY, None)
    gate.before(1, 100_000_000)
    gate.before(1, 1)
    assert scene.time.slept == pytest.approx(RATE_WAIT_MOST, abs=0.2)
    gate.before(1, 100_000_000)
    scene.stopped = True
    before = scene.time.slept
    gate.before(1, 1)
    assert scene.time.slept == before


# -- silence

def test_a_server_that_throttles_silently_is_eased_off_within_a_minute() -> None:
    scene = Scene()
    gate = scene.gate()
    for _ in range(30):
        scene.work(gate, 1.0, 2_000_000, 50)
    begun = scene.time.past
    gate.before(100, 2_000_000)
    while scene.state().share == 1:
        assert scene.time.past - begun <= 60
        scene.time.pass_(2.0)
        assert isinstance(gate.meter, FakeMeter)
        gate.meter.waited += 2.0
        gate.meter.bytes_in += 1000
        gate.allow()
    assert scene.time.slept == pytest.approx(20.0, abs=0.2)  # a rest, then on at half the speed


def test_an_idle_source_is_not_accused() -> None:
    scene = Scene()
    gate = scene.gate()
    for _ in range(30):
        scene.work(gate, 1.0, 2_000_000, 50)
    for _ in range(600):  # looks at folders, keeps alive: small answers, long waits, no messages under way
        scene.time.pass_(1.0)
        assert isinstance(gate.meter, FakeMeter)
        gate.meter.waited += 1.0
        gate.meter.bytes_in += 60
        gate.allow()
    assert (scene.state().share, scene.time.slept) == (1, 0)


def test_a_batch_that_ended_otherwise_is_not_under_way() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.before(100, 2_000_000)
    gate.settled()
    for _ in range(120):
        scene.time.pass_(1.0)
        assert isinstance(gate.meter, FakeMeter)
        gate.meter.waited += 1.0
        gate.allow()
    assert scene.state().share == 1


def test_our_own_pauses_are_not_held_against_the_server() -> None:
    scene = Scene()
    gate = scene.gate()
    for _ in range(30):
        scene.work(gate, 1.0, 2_000_000, 50)
    for _ in range(10):
        gate.before(1, 100)
        gate.notice(Cause.TOO_MANY_CONNECTIONS, 1)
        scene.store.change(KEY, lambda state, now: state.held(now, 19, Cause.THROTTLED))
        scene.time.pass_(FRESH_SECONDS)
        gate.allow()
    assert scene.state().share == 1


# -- budgets

def test_a_spent_day_is_raised_with_its_end_and_goes_on_then() -> None:
    scene = Scene(limits=Limits(download_per_day=1_000_000))
    gate = scene.gate()
    for _ in range(9):
        gate.before(1, 100_000)
    with pytest.raises(Throttled) as raised:
        gate.before(1, 100_000)
    assert raised.value.cause is Cause.THROTTLED
    assert "1000000" in raised.value.detail and "download" in raised.value.detail and "UTC" in raised.value.detail
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


def test_logins_are_counted_by_the_hour() -> None:
    scene = Scene(limits=Limits(logins_per_hour=2, connections=4))
    scene.gate()
    scene.gate()
    with pytest.raises(Throttled, match="in an hour") as raised:
        scene.gate()
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


# -- connections

def test_no_more_connections_than_the_provider_takes_among_all_workers() -> None:
    assert most_connections(Limits(connections=4, published_connections=15), None) == 8
    assert most_connections(Limits(connections=4, published_connections=15), 10) == 15
    assert most_connections(Limits(connections=1), None) == 2
    time_ = FakeTime()
    states = time_.store("move-1")
    one = Pace(KEY, states, limits=Limits(connections=1), clock=time_.clock)
    one.connect(lambda gate: gate)
    states.holder = "move-2"
    two = Pace(KEY, states, limits=Limits(connections=1), clock=time_.clock)
    two.connect(lambda gate: gate)
    with pytest.raises(Throttled) as raised:
        two.connect(lambda gate: gate)
    assert (raised.value.cause, time_.slept) == (Cause.TOO_MANY_CONNECTIONS, 0)
    one.leave()
    two.connect(lambda gate: gate)


def test_what_a_dead_worker_held_stands_in_nobodys_way_for_long() -> None:
    time_ = FakeTime()
    states = time_.store("move-1")
    for _ in range(2):
        Pace(KEY, states, limits=Limits(connections=1), clock=time_.clock).connect(lambda gate: gate)  # it dies; its follower takes over
    states.holder = "move-2"
    states.change(KEY, lambda state, now: state.leased(now, ["move-1/1", "move-1/2"]))
    other = Pace(KEY, states, limits=Limits(connections=1), clock=time_.clock)
    with pytest.raises(Throttled):
        other.connect(lambda gate: gate)
    time_.pass_(LEASE_SECONDS)
    other.connect(lambda gate: gate)


def test_a_connection_at_work_keeps_its_lease_and_a_closed_one_loses_it() -> None:
    scene = Scene()
    gate, closed = scene.gate(), scene.gate()
    assert isinstance(closed.meter, FakeMeter)
    closed.meter.closed = True
    for _ in range(100):
        scene.work(gate, 1.0, 1000, 10)
    assert scene.state().leases.keys() == {gate.name}
    assert scene.state().leases[gate.name] > scene.time.wall()
    scene.pace.leave()
    assert not scene.state().leases


def test_a_connection_that_was_not_made_is_given_back() -> None:
    scene = Scene()

    def fail(_: PacedGate) -> None:
        raise OSError

    with pytest.raises(OSError):
        scene.pace.connect(fail)
    assert not scene.state().leases


# -- cost

def test_a_gate_that_is_open_costs_next_to_nothing() -> None:
    """Not a measurement: a bound a hundred times over what it takes, so that a store asked for every command would be seen."""
    gate = Pace(KEY, MemoryPaceStore()).connect(lambda gate: gate)
    gate.drive(FakeMeter())
    gate.allow()
    asked = 0
    store_look = gate._pace._store.look

    def look(key: PaceKey) -> Any:
        nonlocal asked
        asked += 1
        return store_look(key)

    gate._pace._store.look = look  # type: ignore[method-assign]
    begun = time.monotonic()
    for _ in range(20_000):
        gate.allow()
    assert asked <= (time.monotonic() - begun) / FRESH_SECONDS + 1


def test_an_open_gate_lets_everything_pass() -> None:
    OPEN.drive(FakeMeter())
    OPEN.notice(Cause.THROTTLED, 100)
    OPEN.allow(leaving=True)
    OPEN.before(1, 1)
    OPEN.done(1)
    OPEN.settled()
    assert OPEN.window(3) == 3


# -- what stands between the lines

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


def test_the_numbers_that_people_were_told() -> None:
    assert (WAIT_HERE_SECONDS, UNSTATED_WAIT_SECONDS, SHUT_SECONDS, RATE_WAIT_MOST) == (20, 10, 60, 60)
    assert FRESH_SECONDS == 0.25


def test_a_wait_of_exactly_the_limit_is_sat_out() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, WAIT_HERE_SECONDS)
    gate.allow()
    assert scene.time.slept == pytest.approx(WAIT_HERE_SECONDS)
    gate.notice(Cause.THROTTLED, WAIT_HERE_SECONDS + 0.01)
    with pytest.raises(Throttled):
        gate.allow()


def test_the_store_is_asked_again_when_a_moment_has_passed_and_not_before() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.allow()
    scene.store.change(KEY, lambda state, now: state.held(now, 60, Cause.THROTTLED))
    scene.time.pass_(FRESH_SECONDS - 0.01)
    gate.allow()
    scene.time.pass_(0.01)
    with pytest.raises(Throttled):
        gate.allow()


def test_each_message_costs_a_little_more_than_its_octets() -> None:
    scene = Scene(limits=Limits(download_per_day=1000))
    gate = scene.gate()
    gate.before(2, 600)
    with pytest.raises(Throttled):
        gate.before(1, 0)


def test_a_second_worker_waits_for_a_free_connection_and_is_told_when_to_ask() -> None:
    time_ = FakeTime()
    store = time_.store("move-2")
    store.change(KEY, lambda state, now: state.leased(now, [f"move-1/{n}" for n in range(1, 5)]))
    with pytest.raises(Throttled) as raised:
        Pace(KEY, store, limits=Limits(connections=2), clock=time_.clock).connect(lambda gate: gate)
    assert raised.value.retry_after == 5
    store.change(KEY, lambda state, now: state.returned(["move-1/1"]))
    Pace(KEY, store, limits=Limits(connections=2), clock=time_.clock).connect(lambda gate: gate)


def test_ones_own_connections_are_not_held_against_one() -> None:
    scene = Scene(limits=Limits(connections=1))
    gates = [scene.gate() for _ in range(5)]
    assert len({gate.name for gate in gates}) == 5


def test_a_server_that_holds_the_door_and_lets_work_go_on_is_waited_for_at_the_door() -> None:
    scene = Scene()
    scene.gate().notice(Cause.TOO_MANY_CONNECTIONS, 15)
    scene.gate()
    assert scene.time.slept == pytest.approx(15)


def test_the_rate_counts_messages_where_they_are_what_it_takes() -> None:
    scene = Scene()
    gate = scene.gate()
    for _ in range(10):
        scene.work(gate, 1.0, 1000, 100)
    gate.notice(Cause.SERVER_BUSY, None)
    gate.before(100, 1)
    gate.before(1, 1)
    assert scene.time.slept == pytest.approx(2.0, abs=0.15)  # 100 messages at 50 a second


def test_a_destination_is_measured_by_what_is_sent() -> None:
    scene = Scene(side=Side.DESTINATION)
    gate = scene.gate()
    assert isinstance(gate.meter, FakeMeter)
    for _ in range(10):
        gate.before(1, 1_000_000)
        scene.time.pass_(1.0)
        gate.meter.bytes_out += 1_000_000
        gate.meter.bytes_in += 10
        gate.meter.waited += 1
        gate.allow()
        gate.done(1)
    gate.notice(Cause.SERVER_BUSY, None)
    assert scene.state().rates.octets == pytest.approx(1_000_000)


def test_the_speed_grows_back_only_while_something_moves() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.SERVER_BUSY, None)
    for _ in range(100):
        scene.time.pass_(1.0)
        gate.allow()
    assert scene.state().share == 0.5
    scene.work(gate, 1.0, 1000, 1)
    assert 0.5 < scene.state().share < 0.55


def test_two_connections_that_wait_are_one_account_that_waits() -> None:
    scene = Scene()
    gates = [scene.gate(), scene.gate()]
    for gate in gates:
        gate.before(100, 1_000_000)
    while scene.state().share == 1:
        assert scene.time.past <= 60
        scene.time.pass_(1.0)
        for gate in gates:
            assert isinstance(gate.meter, FakeMeter)
            gate.meter.waited += 1.0
        gates[0].allow()
    assert scene.time.past >= 45
