"""What the mutation run showed that nothing else held of a pace: what is told of a wait, what a pause of our own does to the judgement, and
what a connection knows before it has asked for the first time."""
from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest

from engine.causes import Cause, Side
from engine.errors import Throttled
from engine.pacing.budget import HOUR
from engine.pacing.key import PaceKey
from engine.pacing.pace import FRESH_SECONDS, Pace, PacedGate
from engine.pacing.state import PaceState, Rates
from engine.pacing.store import Change, MemoryPaceStore
from engine.providers.provider import Limits
from tests.unit.pacing.fake_time import FakeMeter
from tests.unit.pacing.scene import KEY, Scene

OTHER = PaceKey("test", "1" * 32)


@pytest.fixture
def in_shanghai(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as here:
        here.setenv("TZ", "Asia/Shanghai")
        time.tzset()
        yield
    time.tzset()


def crawl(scene: Scene, gate: PacedGate, seconds: int, *, waited: float = 1.0) -> int | None:
    """Looks every second at a batch of which nothing comes, and waits for the server so much of the time. After how many seconds the
    account was eased off."""
    assert isinstance(gate.meter, FakeMeter)
    for second in range(1, seconds + 1):
        scene.time.pass_(1.0)
        gate.meter.waited += waited
        gate.allow()
        if scene.state().share < 1:
            return second
    return None


# -- what is told

@pytest.mark.usefixtures("in_shanghai")
def test_when_work_goes_on_is_told_in_utc_wherever_we_are() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, 92.0)
    scene.time.pass_(30.0)
    with pytest.raises(Throttled) as raised:
        gate.allow()
    assert raised.value.detail == "test asked us to wait; goes on at 2027-01-15 08:01:32 UTC"


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
    scene = Scene(side=Side.DESTINATION, limits=Limits(logins_per_hour=1))
    scene.gate()
    with pytest.raises(Throttled, match=r"in an hour is used up \(logins: 1\)") as raised:
        scene.gate()
    assert (raised.value.side, raised.value.cause) == (Side.DESTINATION, Cause.DESTINATION_BUSY)


def test_whoever_reads_the_log_sees_what_the_server_asked_for_and_what_it_did_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene = Scene()
    gate = scene.gate()
    gate.before(100, 1_000_000)
    crawl(scene, gate, 60)
    gate.notice(Cause.THROTTLED, 7.4)
    gate.notice(Cause.SERVER_BUSY, None)
    assert [(record.name, record.getMessage()) for record in caplog.records] == [("engine.pacing.pace", said) for said in (
        "test throttles silently: fewer than 1 KiB a second",
        "test asks for less (throttled, 7 s)",
        "test asks for less (server_busy, no time stated)")]


def test_who_is_refused_a_connection_hears_why_and_on_which_side() -> None:
    scene = Scene(limits=Limits(connections=1), side=Side.DESTINATION)
    scene.store.change(KEY, lambda state, now: state.leased(now, ["other/1", "other/2"]))
    with pytest.raises(Throttled) as raised:
        scene.gate()
    assert (raised.value.side, raised.value.cause) == (Side.DESTINATION, Cause.DESTINATION_BUSY)
    assert raised.value.detail == "others hold all the connections that this account may have"


# -- waits

def test_half_a_second_is_waited_too() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, 0.5)
    gate.allow()
    assert scene.time.slept == pytest.approx(0.5)


def test_a_connection_that_is_closed_while_it_waits_waits_no_longer() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, 15)
    scene.close_at(gate, 1.0)
    gate.allow()
    assert scene.time.slept == pytest.approx(1.0, abs=0.11)


def test_a_connection_that_is_closed_while_a_budget_is_waited_for_asks_no_more() -> None:
    """Its thread does not ask the store again and again until the budget is free."""
    scene = Scene(limits=Limits(messages_per_day=1))
    gate = scene.gate()
    gate.before(1, 1)
    scene.time.pass_(25 * HOUR - 15)
    scene.close_at(gate, scene.time.past + 1.0)
    gate.before(1, 1)
    assert scene.time.slept == pytest.approx(1.0, abs=0.11)


# -- before the first look

def test_a_new_connection_goes_at_the_speed_that_is_remembered() -> None:
    scene = Scene()
    scene.store.change(KEY, lambda state, now: state.eased(now, Rates(1e6, 100)))
    gate = scene.gate()
    assert gate.window(16) == 8


def test_a_batch_obeys_a_wait_that_was_just_heard() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, 7.0)
    gate.before(1, 1)
    assert scene.time.slept == pytest.approx(7.0)
    gate.notice(Cause.THROTTLED, 60.0)
    with pytest.raises(Throttled):
        gate.before(1, 1)


def test_a_long_rest_before_the_first_batch_is_not_held_against_the_server() -> None:
    scene = Scene()
    gate = scene.gate()
    scene.time.pass_(100.0)
    assert isinstance(gate.meter, FakeMeter)
    gate.meter.waited += 100.0
    gate.allow()
    assert scene.state().share == 1


def test_what_a_connection_counted_before_it_was_given_to_us_is_not_its_mail() -> None:
    scene = Scene()
    scene.gate().allow()  # the store is believed for a moment: the first batch of the next asks nobody
    gate = scene.pace.connect(lambda gate: gate)
    gate.drive(FakeMeter(bytes_in=10_000_000, bytes_out=10_000_000, waited=50.0))
    gate.before(1, 1000)
    gate.done(1)
    scene.time.pass_(4.0)
    assert isinstance(gate.meter, FakeMeter)
    gate.meter.bytes_in += 4000
    gate.allow()
    gate.notice(Cause.SERVER_BUSY, None)
    assert scene.state().rates == Rates(1000, 0.25)


# -- pauses of our own

def test_what_was_seen_before_a_pause_is_not_judged_with_what_comes_after() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.before(100, 1_000_000)
    assert crawl(scene, gate, 40) is None
    scene.store.change(KEY, lambda state, now: state.held(now, 10, Cause.THROTTLED))
    scene.time.pass_(FRESH_SECONDS)
    gate.allow()
    assert scene.time.slept == pytest.approx(10, abs=0.3)
    assert crawl(scene, gate, 40) is None
    assert crawl(scene, gate, 20) is not None


def test_a_pause_of_ours_is_no_time_in_which_the_server_was_quick() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.before(100, 1_000_000)
    scene.store.change(KEY, lambda state, now: state.held(now, 19, Cause.THROTTLED))
    scene.time.pass_(FRESH_SECONDS)
    gate.allow()
    found = crawl(scene, gate, 60)
    assert found is not None and found <= 46


def test_after_a_notice_the_judgement_begins_afresh() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.before(100, 1_000_000)
    assert crawl(scene, gate, 40) is None
    gate.notice(Cause.SERVER_BUSY, None)
    share = scene.state().share
    assert isinstance(gate.meter, FakeMeter)
    for _ in range(30):
        scene.time.pass_(1.0)
        gate.meter.waited += 1.0
        gate.allow()
    assert scene.state().share == share


def test_a_server_that_is_waited_for_half_of_the_time_is_not_accused_for_what_it_was_before() -> None:
    scene = Scene()
    gate = scene.gate()
    for _ in range(60):
        scene.work(gate, 1.0, 2_000_000, 50)
    gate.before(100, 1_000_000)
    assert crawl(scene, gate, 90, waited=0.5) is None


def test_all_that_came_between_two_looks_counts_for_the_rate() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.before(30, 30_000)
    for _ in range(3):
        gate.done(10)
    scene.time.pass_(5.0)
    gate.allow()
    gate.notice(Cause.SERVER_BUSY, None)
    assert scene.state().rates.messages == 6


def test_who_throttles_silently_again_is_left_alone_for_longer() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.before(100, 1_000_000)
    assert crawl(scene, gate, 60) is not None
    assert scene.time.slept == pytest.approx(20)
    assert isinstance(gate.meter, FakeMeter)
    with pytest.raises(Throttled) as raised:
        for _ in range(60):
            scene.time.pass_(1.0)
            gate.meter.waited += 1.0
            gate.allow()
    assert (raised.value.cause, raised.value.retry_after) == (Cause.THROTTLED, pytest.approx(40))


# -- several connections

def test_two_connections_that_wait_half_of_the_time_are_an_account_that_waits_half_of_the_time() -> None:
    scene = Scene()
    gate, other = scene.gate(), scene.gate()
    for one in (gate, other):
        one.before(100, 1_000_000)
    assert isinstance(other.meter, FakeMeter)
    for _ in range(90):
        other.meter.waited += 0.5
        assert crawl(scene, gate, 1, waited=0.5) is None


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


def test_a_connection_that_was_closed_does_not_hide_the_silence_on_another() -> None:
    scene = Scene()
    gate, gone = scene.gate(), scene.gate()
    for one in (gate, gone):
        one.before(100, 1_000_000)
    assert isinstance(gone.meter, FakeMeter)
    gone.meter.closed = True
    found = crawl(scene, gate, 60)
    assert found is not None and found <= 46


@pytest.mark.parametrize(("pairs", "others", "enters"), [(4, 7, True), (4, 8, False), (None, 2, False), (None, 1, True)])
def test_who_was_told_to_use_more_connections_may_have_them(pairs: int | None, others: int, enters: bool) -> None:
    scene = Scene(limits=Limits(connections=1), pairs=pairs)
    scene.store.change(KEY, lambda state, now: state.leased(now, [f"other/{n}" for n in range(others)]))
    if enters:
        scene.gate()
    else:
        with pytest.raises(Throttled):
            scene.gate()


def test_a_door_that_is_shut_for_less_than_a_second_is_waited_for_too() -> None:
    scene = Scene()
    scene.gate().notice(Cause.TOO_MANY_CONNECTIONS, 0.5)
    scene.gate()
    assert scene.time.slept == pytest.approx(0.5)


# -- budgets and rates

def test_the_first_batch_at_a_lowered_rate_goes_at_once_and_the_next_pays_for_it() -> None:
    scene = Scene()
    scene.store.change(KEY, lambda state, now: state.eased(now, Rates(1e6, 100)))
    gate = scene.gate()
    gate.before(10, 1_000_000)
    assert scene.time.slept == 0
    gate.before(10, 1_000_000)
    assert scene.time.slept == pytest.approx(2.0, abs=0.05)


def test_where_no_rate_is_known_none_is_kept() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.SERVER_BUSY, None)
    for _ in range(5):
        gate.before(10, 1_000_000)
    assert (scene.time.slept, gate.window(16)) == (0, 8)


def test_a_rate_of_less_than_one_a_second_is_a_rate() -> None:
    scene = Scene()
    scene.store.change(KEY, lambda state, now: state.eased(now, Rates(0, 0.5)))
    gate = scene.gate()
    gate.before(10, 1)
    gate.before(1, 1)
    assert scene.time.slept == pytest.approx(40, abs=0.5)


def test_the_last_half_second_of_a_spent_budget_is_waited_for() -> None:
    scene = Scene(limits=Limits(messages_per_day=1))
    gate = scene.gate()
    gate.before(1, 1)
    scene.time.pass_(25 * HOUR - 0.5)
    gate.before(1, 1)
    assert scene.time.slept == pytest.approx(0.5)


def test_what_one_account_used_up_is_not_taken_from_another() -> None:
    scene = Scene(limits=Limits(messages_per_day=1))
    scene.gate().before(1, 1)
    other = Pace(OTHER, scene.store, limits=Limits(messages_per_day=1), clock=scene.time.clock).connect(lambda gate: gate)
    other.before(1, 1)
    with pytest.raises(Throttled):
        Pace(KEY, scene.store, limits=Limits(messages_per_day=1), clock=scene.time.clock).connect(lambda gate: gate).before(1, 1)


def test_a_pace_that_was_given_no_clock_waits_in_real_time() -> None:
    gate = Pace(KEY, MemoryPaceStore()).connect(lambda gate: gate)
    gate.notice(Cause.THROTTLED, 0.05)
    begun = time.monotonic()
    gate.allow()
    assert 0.02 < time.monotonic() - begun < 5
