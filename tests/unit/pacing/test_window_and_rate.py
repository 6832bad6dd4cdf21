"""Given that a server asked for less, when work goes on, then at half the window and half the rate that were measured before, and the
speed grows back while mail moves. Where nothing was said, nobody is slowed down."""
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.causes import Cause, Side
from engine.pacing.pace import RATE_WAIT_MOST
from engine.pacing.state import FLOOR, Rates
from tests.unit.pacing.fake_time import FakeMeter
from tests.unit.pacing.scene import Scene, meter_of

# -- how much at once

def test_nothing_known_and_nothing_said_is_no_wait_and_the_whole_window() -> None:
    scene = Scene()
    gate = scene.gate()
    for _ in range(1000):
        scene.work(gate, 0.01, 100_000, 100)
    assert (scene.time.slept, gate.window(16), scene.state().spent) == (0, 16, {})


def test_a_busy_server_is_eased_off_and_not_waited_for_and_where_no_rate_is_known_none_is_kept() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.SERVER_BUSY, None)
    for _ in range(5):
        gate.before(10, 1_000_000)
    gate.allow()
    assert (scene.time.slept, gate.window(16)) == (0, 8)


def test_a_new_connection_goes_at_the_speed_that_is_remembered() -> None:
    scene = Scene()
    scene.was_eased(Rates(1e6, 100))
    gate = scene.gate()
    assert gate.window(16) == 8


# -- how fast

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


def test_the_first_batch_at_a_lowered_rate_goes_at_once_and_the_next_pays_for_it() -> None:
    scene = Scene()
    scene.was_eased(Rates(1e6, 100))
    gate = scene.gate()
    gate.before(10, 1_000_000)
    assert scene.time.slept == 0
    gate.before(10, 1_000_000)
    assert scene.time.slept == pytest.approx(2.0, abs=0.05)


def test_the_rate_counts_messages_where_they_are_what_it_takes() -> None:
    scene = Scene()
    gate = scene.gate()
    for _ in range(10):
        scene.work(gate, 1.0, 1000, 100)
    gate.notice(Cause.SERVER_BUSY, None)
    gate.before(100, 1)
    gate.before(1, 1)
    assert scene.time.slept == pytest.approx(2.0, abs=0.15)  # 100 messages at 50 a second


def test_a_rate_of_less_than_one_a_second_is_a_rate() -> None:
    scene = Scene()
    scene.was_eased(Rates(0, 0.5))
    gate = scene.gate()
    gate.before(10, 1)
    gate.before(1, 1)
    assert scene.time.slept == pytest.approx(40, abs=0.5)


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


# -- what was measured

def test_a_destination_is_measured_by_what_is_sent() -> None:
    scene = Scene(side=Side.DESTINATION)
    gate = scene.gate()
    for _ in range(10):
        gate.before(1, 1_000_000)
        meter_of(gate).bytes_out += 1_000_000
        scene.look(gate, octets=10)
        gate.done(1)
    gate.notice(Cause.SERVER_BUSY, None)
    assert scene.state().rates.octets == pytest.approx(1_000_000)


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


def test_what_a_connection_counted_before_it_was_given_to_us_is_not_its_mail() -> None:
    scene = Scene()
    scene.gate().allow()  # the store is believed for a moment: the first batch of the next asks nobody
    gate = scene.pace.connect(lambda gate: gate)
    gate.drive(FakeMeter(bytes_in=10_000_000, bytes_out=10_000_000, waited=50.0))
    gate.before(1, 1000)
    gate.done(1)
    scene.look(gate, 4.0, octets=4000, waited=0.0)
    gate.notice(Cause.SERVER_BUSY, None)
    assert scene.state().rates == Rates(1000, 0.25)


# -- how the speed comes back

def test_the_speed_grows_back_only_while_something_moves() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.notice(Cause.SERVER_BUSY, None)
    for _ in range(100):
        scene.look(gate, waited=0.0)
    assert scene.state().share == 0.5
    scene.work(gate, 1.0, 1000, 1)
    assert 0.5 < scene.state().share < 0.55


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
