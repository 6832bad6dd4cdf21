"""Given several connections, workers and processes at one account, when one of them is told something or takes a connection, then the
others know; no more connections are open than the provider takes; and knowing it costs next to nothing."""
from __future__ import annotations

import time
from typing import Any

import pytest

from engine.causes import Cause, Side
from engine.errors import Throttled
from engine.pacing.key import PaceKey
from engine.pacing.pace import FRESH_SECONDS, SHUT_SECONDS, Pace, PacedGate, most_connections
from engine.pacing.pacer import OPEN
from engine.pacing.state import LEASE_SECONDS, PaceState
from engine.pacing.store import Change, MemoryPaceStore
from engine.providers.provider import Limits
from tests.unit.pacing.fake_time import FakeMeter, FakeTime
from tests.unit.pacing.scene import KEY, Scene, meter_of

# -- what another was told

def test_what_one_connection_was_told_holds_the_others_at_once_and_new_ones() -> None:
    scene = Scene()
    one, two = scene.gate(), scene.gate()
    two.allow()  # it believes the store for a moment
    one.notice(Cause.THROTTLED, 60)
    with pytest.raises(Throttled):
        two.allow()
    with pytest.raises(Throttled):
        scene.gate()


def test_what_another_worker_was_told_is_heard_when_a_moment_has_passed_and_not_before() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.allow()
    scene.others_are_told_to_wait(60)
    scene.time.pass_(FRESH_SECONDS - 0.01)
    gate.allow()
    scene.time.pass_(0.01)
    with pytest.raises(Throttled):
        gate.allow()


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


# -- the door

def test_too_many_connections_hold_new_ones_only() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.TOO_MANY_CONNECTIONS, None)
    gate.allow()
    assert (scene.time.slept, gate.window(4)) == (0, 4)
    with pytest.raises(Throttled) as raised:
        scene.gate()
    assert (raised.value.cause, raised.value.retry_after) == (Cause.TOO_MANY_CONNECTIONS, pytest.approx(SHUT_SECONDS))


@pytest.mark.parametrize("seconds", [0.5, 15])
def test_a_door_that_is_shut_for_a_little_is_waited_for(seconds: float) -> None:
    scene = Scene()
    scene.gate().notice(Cause.TOO_MANY_CONNECTIONS, seconds)
    scene.gate()
    assert scene.time.slept == pytest.approx(seconds)


def test_a_helper_does_not_wait_for_the_door() -> None:
    scene = Scene()
    scene.gate().notice(Cause.TOO_MANY_CONNECTIONS, 3)
    with pytest.raises(Throttled):
        scene.gate(here=False)
    assert scene.time.slept == 0
    scene.gate()
    assert scene.time.slept == pytest.approx(3)


# -- how many connections

@pytest.mark.parametrize(("limits", "pairs", "most"), [
    (Limits(connections=4, published_connections=15), None, 8), (Limits(connections=4, published_connections=15), 10, 15),
    (Limits(connections=1), None, 2)])
def test_how_many_connections_all_workers_may_have(limits: Limits, pairs: int | None, most: int) -> None:
    assert most_connections(limits, pairs) == most


def test_no_more_connections_than_the_provider_takes_among_all_workers() -> None:
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


@pytest.mark.parametrize(("pairs", "others", "enters"), [(4, 7, True), (4, 8, False), (None, 2, False), (None, 1, True)])
def test_who_was_told_to_use_more_connections_may_have_them(pairs: int | None, others: int, enters: bool) -> None:
    scene = Scene(limits=Limits(connections=1), pairs=pairs)
    scene.others_hold([f"other/{n}" for n in range(others)])
    if enters:
        scene.gate()
    else:
        with pytest.raises(Throttled):
            scene.gate()


def test_ones_own_connections_are_not_held_against_one() -> None:
    scene = Scene(limits=Limits(connections=1))
    gates = [scene.gate() for _ in range(5)]
    assert len({gate.name for gate in gates}) == 5


def test_a_second_worker_waits_for_a_free_connection_and_is_told_when_to_ask() -> None:
    time_ = FakeTime()
    store = time_.store("move-2")
    store.change(KEY, lambda state, now: state.leased(now, [f"move-1/{n}" for n in range(1, 5)]))
    with pytest.raises(Throttled) as raised:
        Pace(KEY, store, limits=Limits(connections=2), clock=time_.clock).connect(lambda gate: gate)
    assert raised.value.retry_after == 5
    store.change(KEY, lambda state, now: state.returned(["move-1/1"]))
    Pace(KEY, store, limits=Limits(connections=2), clock=time_.clock).connect(lambda gate: gate)


def test_who_is_refused_a_connection_hears_why_and_on_which_side() -> None:
    scene = Scene(limits=Limits(connections=1), side=Side.DESTINATION)
    scene.others_hold(["other/1", "other/2"])
    with pytest.raises(Throttled) as raised:
        scene.gate()
    assert (raised.value.side, raised.value.cause) == (Side.DESTINATION, Cause.DESTINATION_BUSY)
    assert raised.value.detail == "others hold all the connections that this account may have"


# -- leases

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
    meter_of(closed).closed = True
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


def test_a_connection_that_is_still_being_opened_hinders_none_at_work() -> None:
    scene = Scene()
    gate = scene.gate()

    def open_slowly(opening: PacedGate) -> PacedGate:
        scene.work(gate, 4.0, 1_000_000, 10)
        scene.work(gate, 4.0, 1_000_000, 10)
        return opening

    scene.pace.connect(open_slowly)
    gate.notice(Cause.SERVER_BUSY, None)
    assert scene.state().rates.octets == 250_000


# -- what it costs

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


def test_at_full_speed_the_store_is_written_to_for_the_leases_alone_three_times_in_their_life() -> None:
    scene = Scene()
    gate = scene.gate()
    change, changes = scene.store.change, 0

    def count(key: PaceKey, change_: Change) -> tuple[PaceState, float]:
        nonlocal changes
        changes += 1
        return change(key, change_)

    scene.store.change = count
    for _ in range(100):
        scene.work(gate, 1.0, 1_000_000, 10)
    assert changes == 6


def test_an_open_gate_lets_everything_pass() -> None:
    OPEN.drive(FakeMeter())
    OPEN.notice(Cause.THROTTLED, 100)
    OPEN.allow(leaving=True)
    OPEN.before(1, 1)
    OPEN.done(1)
    OPEN.settled()
    assert OPEN.window(3) == 3
