"""How the pace of an account changes: additive increase, multiplicative decrease, waits that nothing shortens."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.causes import Cause
from engine.pacing.budget import Budget, Unit
from engine.pacing.state import FLOOR, LEASE_SECONDS, LONGEST_HOLD, ONE_EVENT_SECONDS, RECOVERY_SECONDS, PaceState, Rates

NOW = 1_800_000_000.0
FULL = Rates(1e6, 100)


def test_a_stated_wait_is_not_shortened_by_a_shorter_one() -> None:
    state = PaceState().held(NOW, 300, Cause.THROTTLED).held(NOW + 1, 10, Cause.SERVER_BUSY)
    assert (state.wait(NOW + 1), state.cause) == (299, Cause.THROTTLED)
    assert state.held(NOW + 1, 400, Cause.SERVER_BUSY).wait(NOW + 1) == 400
    assert state.wait(NOW + 300) == 0
    assert state.held(NOW, 300, Cause.SERVER_BUSY) is state  # as long: what was said first is told


def test_too_many_connections_shut_the_door_and_let_the_open_ones_work() -> None:
    state = PaceState().shut(NOW, 120, Cause.TOO_MANY_CONNECTIONS)
    assert (state.wait(NOW), state.wait(NOW, opening=True)) == (0, 120)
    assert state.shut(NOW + 60, 30, Cause.TOO_MANY_CONNECTIONS) is state
    assert state.shut(NOW + 60, 60, Cause.SERVER_BUSY) is state
    assert PaceState().held(NOW, 50, Cause.THROTTLED).wait(NOW, opening=True) == 50


def test_an_absurd_wait_is_a_day_at_most() -> None:
    assert PaceState().held(NOW, 1e9, Cause.THROTTLED).wait(NOW) == LONGEST_HOLD
    assert PaceState().shut(NOW, 1e9, Cause.THROTTLED).wait(NOW, opening=True) == LONGEST_HOLD
    assert PaceState(not_before=NOW + 1e9).wait(NOW) == LONGEST_HOLD  # another clock wrote it


def test_the_speed_is_halved_once_for_one_event() -> None:
    state = PaceState().eased(NOW, FULL)
    assert (state.share, state.rates) == (0.5, FULL)
    assert state.eased(NOW, Rates()) is state  # two connections are told at the same instant
    assert state.eased(NOW + ONE_EVENT_SECONDS - 0.1, Rates()) is state
    again = state.eased(NOW + ONE_EVENT_SECONDS, Rates(1, 1))
    assert (again.share, again.rates) == (0.25, FULL)  # what counts is the rate before we held back


def test_the_speed_grows_back_evenly_and_then_nothing_is_remembered() -> None:
    state = PaceState().eased(NOW, FULL)
    state = state.recovered(NOW + 2.4)
    assert state.share == pytest.approx(0.51)
    for second in range(3, 130):
        state = state.recovered(NOW + second)
    assert (state.share, state.rates) == (1.0, Rates())


def test_it_grows_by_time_not_by_looks_and_never_when_a_clock_goes_back() -> None:
    state = PaceState().eased(NOW, FULL)
    assert state.recovered(NOW - 60).share == state.recovered(NOW).share == 0.5
    for tenth in range(1, 11):
        state = state.recovered(NOW + tenth / 10)
    assert state.share == pytest.approx(0.5 + 1 / RECOVERY_SECONDS)
    assert PaceState().recovered(NOW) == PaceState()


def test_idleness_proves_nothing() -> None:
    assert PaceState().eased(NOW, FULL).recovered(NOW + 9999).share == pytest.approx(0.5 + 5 / RECOVERY_SECONDS)


EVENTS = st.lists(st.tuples(st.sampled_from(("ease", "recover", "hold")), st.floats(0, 400)), max_size=60)


@given(EVENTS)
def test_whatever_happens_the_share_stays_between_floor_and_full_and_no_wait_is_cut(events: list[tuple[str, float]]) -> None:
    state, now, demanded = PaceState(), NOW, 0.0
    for what, seconds in events:
        now += seconds / 10
        before = state.share
        if what == "ease":
            state = state.eased(now, FULL)
            assert state.share <= before
        elif what == "recover":
            state = state.recovered(now)
            assert before <= state.share <= before + 5 / RECOVERY_SECONDS + 1e-9
        else:
            state = state.held(now, seconds, Cause.THROTTLED)
            demanded = max(demanded, now + seconds)
        assert FLOOR <= state.share <= 1
        assert (state.rates == Rates()) == (state.share == 1)
        assert state.wait(now) == pytest.approx(max(0.0, demanded - now))


@given(EVENTS)
def test_four_fifths_of_the_speed_are_back_within_five_minutes(events: list[tuple[str, float]]) -> None:
    """Of clean work looked at every second, after the last wait."""
    state, now = PaceState(), NOW
    for what, seconds in events:
        now += seconds / 10
        state = state.eased(now, FULL) if what == "ease" else state.recovered(now)
    for _ in range(300):
        now += 1
        state = state.recovered(now)
    assert state.share >= 0.8


def test_leases_expire_and_are_counted_by_holder() -> None:
    state = PaceState().leased(NOW, ["a/1", "a/2", "b/1"])
    assert state.others(NOW + 1, "a") == {"b": 1}
    assert state.others(NOW + 1, "c") == {"a": 2, "b": 1}
    later = state.leased(NOW + LEASE_SECONDS - 1, ["b/1"])
    assert later.others(NOW + LEASE_SECONDS, "c") == {"b": 1}
    assert later.leased(NOW + LEASE_SECONDS, ()).leases.keys() == {"b/1"}
    assert state.returned(["a/1", "b/1"]).others(NOW, "c") == {"a": 1}
    assert PaceState().leased(NOW, ["host/7/1", "host/8/1"]).others(NOW, "host/7") == {"host/8": 1}


def _states() -> st.SearchStrategy[PaceState]:
    at = st.floats(0, 4e9)
    return st.builds(PaceState, at, at, st.sampled_from(list(Cause)), st.floats(FLOOR, 1), st.builds(Rates, at, at), at, at,
                     st.dictionaries(st.sampled_from(list(Unit)), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**12)),
                                                                            max_size=3).map(tuple)),
                     st.dictionaries(st.text(max_size=8), at, max_size=3))


@given(_states())
def test_written_and_read_it_is_the_same(state: PaceState) -> None:
    assert PaceState.from_text(state.to_text()) == state
    assert PaceState.from_text(state.to_text().encode()) == state


@given(st.one_of(st.text(), st.binary(), st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5),
       lambda some: st.lists(some, max_size=4) | st.dictionaries(st.text(max_size=5), some, max_size=4)).map(repr)))
def test_what_cannot_be_read_is_the_careful_beginning(text: str | bytes) -> None:
    assert PaceState.from_text(text) == PaceState()


@pytest.mark.parametrize("wrong", [
    ('"share":1.0', '"share":NaN'), ('"share":1.0', '"share":"1"'), ('"not_before":0.0', '"not_before":1e999'),
    ('"cause":"throttled"', '"cause":"no such"'), ('"leases":{}', '"leases":[]'), ('"spent":{}', '"spent":{"upload":[[1]]}')])
def test_a_damaged_state_is_the_careful_beginning(wrong: tuple[str, str]) -> None:
    text = PaceState().to_text()
    assert wrong[0] in text
    assert PaceState.from_text(text.replace(*wrong)) == PaceState()


def test_a_share_out_of_bounds_is_brought_back() -> None:
    assert PaceState.from_text(PaceState(share=7.0).to_text()).share == 1
    assert PaceState.from_text(PaceState(share=0.0).to_text()).share == FLOOR


def test_what_was_spent_is_kept_by_unit() -> None:
    down, logins = Budget(Unit.DOWNLOAD, 100), Budget(Unit.LOGINS, 2, 3600)
    state = PaceState().used(NOW, [(down, 30), (logins, 1)]).used(NOW, [(down, 5)])
    assert down.used(state.spent[Unit.DOWNLOAD], NOW) == 35
    assert logins.used(state.spent[Unit.LOGINS], NOW) == 1
