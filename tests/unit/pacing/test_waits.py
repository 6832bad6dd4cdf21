"""Given what a server asked for, when a connection wants to send, then it waits exactly as long as it has to, here or not at all, and
whoever asks is told until when."""
from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest

from engine.causes import Cause, Side
from engine.errors import Throttled
from engine.pacing.pace import (
    FRESH_SECONDS,
    RATE_WAIT_MOST,
    SHUT_SECONDS,
    UNSTATED_WAIT_SECONDS,
    WAIT_HERE_SECONDS,
    Clock,
    Pace,
)
from engine.pacing.store import MemoryPaceStore
from tests.unit.pacing.scene import KEY, Scene, meter_of


@pytest.fixture
def in_shanghai(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as here:
        here.setenv("TZ", "Asia/Shanghai")
        time.tzset()
        yield
    time.tzset()


def test_the_numbers_that_people_were_told() -> None:
    assert (WAIT_HERE_SECONDS, UNSTATED_WAIT_SECONDS, SHUT_SECONDS, RATE_WAIT_MOST) == (20, 10, 60, 60)
    assert FRESH_SECONDS == 0.25


# -- short waits

@pytest.mark.parametrize("seconds", [0.5, 7.5])
def test_a_short_wait_is_sat_out_to_its_end_and_no_longer(seconds: float) -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, seconds)
    gate.allow()
    assert scene.time.slept == pytest.approx(seconds)
    gate.allow()
    assert scene.time.slept == pytest.approx(seconds)


def test_what_stands_is_told_with_its_cause_until_it_is_over() -> None:
    """Whoever begins the next run is told of it."""
    scene = Scene()
    gate = scene.gate()
    assert scene.pace.standing_wait() == []
    gate.notice(Cause.SERVER_BUSY, 5.0)
    [(cause, seconds)] = scene.pace.standing_wait()
    assert (cause, seconds) == (Cause.SERVER_BUSY, pytest.approx(5.0))
    scene.time.pass_(4.5)
    assert [seconds for _, seconds in scene.pace.standing_wait()] == [pytest.approx(0.5)]
    scene.time.pass_(0.5)
    assert scene.pace.standing_wait() == []


def test_a_wait_nobody_timed_is_ten_seconds() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, None)
    gate.allow()
    assert scene.time.slept == pytest.approx(UNSTATED_WAIT_SECONDS)


def test_a_wait_of_exactly_the_limit_is_sat_out() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, WAIT_HERE_SECONDS)
    gate.allow()
    assert scene.time.slept == pytest.approx(WAIT_HERE_SECONDS)
    gate.notice(Cause.THROTTLED, WAIT_HERE_SECONDS + 0.01)
    with pytest.raises(Throttled):
        gate.allow()


def test_a_batch_obeys_a_wait_that_was_just_heard() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, 7.0)
    gate.before(1, 1)
    assert scene.time.slept == pytest.approx(7.0)
    gate.notice(Cause.THROTTLED, 60.0)
    with pytest.raises(Throttled):
        gate.before(1, 1)


def test_a_wait_that_is_made_longer_meanwhile_is_waited_whole() -> None:
    scene = Scene()
    first, second = scene.gate(), scene.gate()
    first.notice(Cause.THROTTLED, 5)
    slept = scene.time.sleep

    def sleep(seconds: float) -> None:
        slept(seconds)
        if scene.time.past < 0.15:
            second.notice(Cause.THROTTLED, 12)

    scene.pace._clock = Clock(scene.time.monotonic, sleep)
    first.allow()
    assert scene.time.past == pytest.approx(12.1, abs=0.11)


def test_a_connection_that_is_closed_already_is_not_waited_for() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, 10)
    meter_of(gate).closed = True
    gate.allow()
    assert scene.time.slept == 0


def test_a_connection_that_is_closed_while_it_waits_waits_no_longer() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, 15)
    scene.close_at(gate, 1.0)
    gate.allow()
    assert scene.time.slept == pytest.approx(1.0, abs=0.11)


@pytest.mark.parametrize("leaving", [True, False])
def test_neither_the_stopped_nor_the_leaving_wait(leaving: bool) -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, 5)
    scene.stopped = not leaving
    with pytest.raises(Throttled) as raised:
        gate.allow(leaving=leaving)
    assert (raised.value.retry_after, scene.time.slept) == (pytest.approx(5), 0)


def test_a_pace_that_was_given_no_clock_waits_in_real_time() -> None:
    gate = Pace(KEY, MemoryPaceStore()).connect(lambda gate: gate)
    gate.notice(Cause.THROTTLED, 0.05)
    begun = time.monotonic()
    gate.allow()
    assert 0.02 < time.monotonic() - begun < 5


# -- long waits

def test_a_long_wait_is_raised_and_holds_nobody() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, 92.0)
    with pytest.raises(Throttled) as raised:
        gate.allow()
    assert (raised.value.retry_after, raised.value.cause, scene.time.slept) == (pytest.approx(92.0), Cause.THROTTLED, 0)


def test_a_long_wait_becomes_a_short_one_when_most_of_it_is_over() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, 92.0)
    scene.time.pass_(92.0 - WAIT_HERE_SECONDS)
    gate.allow()
    assert scene.time.past == pytest.approx(92.0)


# -- what is told of it

@pytest.mark.usefixtures("in_shanghai")
@pytest.mark.parametrize("later", [0.0, 30.0])
def test_when_work_goes_on_is_told_in_utc_wherever_we_are(later: float) -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, 92.0)
    scene.time.pass_(later)
    with pytest.raises(Throttled) as raised:
        gate.allow()
    assert raised.value.detail == "test asked us to wait; goes on at 2027-01-15 08:01:32 UTC"


def test_the_destinations_waits_bear_the_destinations_causes() -> None:
    scene = Scene(side=Side.DESTINATION)
    gate = scene.gate()
    gate.notice(Cause.THROTTLED, 60)
    with pytest.raises(Throttled) as raised:
        gate.allow()
    assert (raised.value.cause, raised.value.side) == (Cause.DESTINATION_BUSY, Side.DESTINATION)


def test_whoever_reads_the_log_sees_what_the_server_asked_for_and_what_it_did_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene = Scene()
    gate = scene.gate()
    gate.before(100, 1_000_000)
    scene.crawl(gate, 60)
    gate.notice(Cause.THROTTLED, 7.4)
    gate.notice(Cause.SERVER_BUSY, None)
    assert [(record.name, record.getMessage()) for record in caplog.records] == [("engine.pacing.pace", said) for said in (
        "test throttles silently: fewer than 1 KiB a second",
        "test asks for less (throttled, 7 s)",
        "test asks for less (server_busy, no time stated)")]
