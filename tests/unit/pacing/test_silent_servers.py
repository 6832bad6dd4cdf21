"""Given a server that gives next to nothing and says nothing, when it was waited for long enough, then its account is eased off; and what
is our own pause, our own idleness or an old story is never held against it. (The lines themselves: test_silent.py.)"""
from __future__ import annotations

import pytest

from engine.causes import Cause
from engine.errors import Throttled
from tests.unit.pacing.scene import Scene, meter_of


def test_a_server_that_throttles_silently_is_eased_off_within_a_minute() -> None:
    scene = Scene()
    gate = scene.gate()
    for _ in range(30):
        scene.work(gate, 1.0, 2_000_000, 50)
    begun = scene.time.past
    gate.before(100, 2_000_000)
    while scene.state().share == 1:
        assert scene.time.past - begun <= 60
        scene.look(gate, 2.0, octets=1000)
    assert scene.time.slept == pytest.approx(20.0, abs=0.2)  # a rest, then on at half the speed


def test_who_throttles_silently_again_is_left_alone_for_longer() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.before(100, 1_000_000)
    assert scene.crawl(gate, 60) is not None
    assert scene.time.slept == pytest.approx(20)
    with pytest.raises(Throttled) as raised:
        for _ in range(60):
            scene.look(gate)
    assert (raised.value.cause, raised.value.retry_after) == (Cause.THROTTLED, pytest.approx(40))


# -- what is no silence

def test_an_idle_source_is_not_accused() -> None:
    scene = Scene()
    gate = scene.gate()
    for _ in range(30):
        scene.work(gate, 1.0, 2_000_000, 50)
    for _ in range(600):  # looks at folders, keeps alive: small answers, long waits, no messages under way
        scene.look(gate, octets=60)
    assert (scene.state().share, scene.time.slept) == (1, 0)


def test_a_batch_that_ended_otherwise_is_not_under_way() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.before(100, 2_000_000)
    gate.settled()
    assert scene.crawl(gate, 120) is None


def test_a_long_rest_before_the_first_batch_is_not_held_against_the_server() -> None:
    scene = Scene()
    gate = scene.gate()
    scene.look(gate, 100.0)
    assert scene.state().share == 1


def test_a_server_that_is_waited_for_half_of_the_time_is_not_accused_for_what_it_was_before() -> None:
    scene = Scene()
    gate = scene.gate()
    for _ in range(60):
        scene.work(gate, 1.0, 2_000_000, 50)
    gate.before(100, 1_000_000)
    assert scene.crawl(gate, 90, waited=0.5) is None


# -- pauses of our own

def test_our_own_pauses_are_not_held_against_the_server() -> None:
    scene = Scene()
    gate = scene.gate()
    for _ in range(30):
        scene.work(gate, 1.0, 2_000_000, 50)
    for _ in range(10):
        gate.before(1, 100)
        gate.notice(Cause.TOO_MANY_CONNECTIONS, 1)
        scene.others_are_told_to_wait(19)
        scene.word_comes_round()
        gate.allow()
    assert scene.state().share == 1


def test_what_was_seen_before_a_pause_is_not_judged_with_what_comes_after() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.before(100, 1_000_000)
    assert scene.crawl(gate, 40) is None
    scene.others_are_told_to_wait(10)
    scene.word_comes_round()
    gate.allow()
    assert scene.time.slept == pytest.approx(10, abs=0.3)
    assert scene.crawl(gate, 40) is None
    assert scene.crawl(gate, 20) is not None


def test_a_pause_of_ours_is_no_time_in_which_the_server_was_quick() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.before(100, 1_000_000)
    scene.others_are_told_to_wait(19)
    scene.word_comes_round()
    gate.allow()
    found = scene.crawl(gate, 60)
    assert found is not None and found <= 46


def test_after_a_notice_the_judgement_begins_afresh() -> None:
    scene = Scene()
    gate = scene.gate()
    gate.before(100, 1_000_000)
    assert scene.crawl(gate, 40) is None
    gate.notice(Cause.SERVER_BUSY, None)
    share = scene.state().share
    for _ in range(30):
        scene.look(gate)
    assert scene.state().share == share


# -- several connections

def test_two_connections_that_wait_are_one_account_that_waits() -> None:
    scene = Scene()
    gates = [scene.gate(), scene.gate()]
    for gate in gates:
        gate.before(100, 1_000_000)
    while scene.state().share == 1:
        assert scene.time.past <= 60
        meter_of(gates[1]).waited += 1.0
        scene.look(gates[0])
    assert scene.time.past >= 45


def test_two_connections_that_wait_half_of_the_time_are_an_account_that_waits_half_of_the_time() -> None:
    scene = Scene()
    gate, other = scene.gate(), scene.gate()
    for one in (gate, other):
        one.before(100, 1_000_000)
    for _ in range(90):
        meter_of(other).waited += 0.5
        assert scene.crawl(gate, 1, waited=0.5) is None


def test_a_connection_that_was_closed_does_not_hide_the_silence_on_another() -> None:
    scene = Scene()
    gate, gone = scene.gate(), scene.gate()
    for one in (gate, gone):
        one.before(100, 1_000_000)
    meter_of(gone).closed = True
    found = scene.crawl(gate, 60)
    assert found is not None and found <= 46
