"""A server that throttles without a word is noticed within a minute; what only looks like it is not."""
from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.pacing.silent import Sample, Silence, SilentThrottle


def feed(judge: SilentThrottle, seconds: float, octets_a_second: float, messages_a_second: float, *, waited: float = 1.0,
         step: float = 1.0) -> tuple[Silence, float] | None:
    """The first verdict, and after how many seconds of this."""
    past, messages = 0.0, 0.0
    while past < seconds:
        past += step
        messages += messages_a_second * step
        whole, messages = int(messages), messages - int(messages)
        verdict = judge.add(Sample(step, waited * step, int(octets_a_second * step), whole))
        if verdict is not None:
            return verdict, past
    return None


def test_a_fall_below_a_kibibyte_a_second_is_seen_within_a_minute() -> None:
    judge = SilentThrottle()
    assert feed(judge, 120, 2e6, 60) is None
    found = feed(judge, 120, 500, 0)
    assert found is not None and found[1] <= 60


def test_a_trickle_from_the_beginning_is_seen_within_a_minute() -> None:
    found = feed(SilentThrottle(), 120, 700, 0.02)
    assert found is not None and found[0] is Silence.OCTETS and found[1] <= 60


def test_a_handful_of_messages_is_seen_within_a_minute() -> None:
    found = feed(SilentThrottle(), 120, 4000, 0.05)
    assert found is not None and found[0] is Silence.ITEMS and found[1] <= 60


def test_rising_latency_with_a_falling_rate_is_seen_within_a_minute() -> None:
    judge = SilentThrottle()
    assert feed(judge, 60, 3e6, 100) is None
    found = feed(judge, 120, 60_000, 2)
    assert found is not None and found[0] is Silence.FALL and found[1] <= 60


def test_a_verdict_is_given_once_and_the_next_needs_as_long_again() -> None:
    judge = SilentThrottle()
    assert feed(judge, 60, 0, 0) is not None
    again = feed(judge, 60, 0, 0)
    assert again is not None and again[1] >= 45


def test_one_large_message_is_no_throttling() -> None:
    judge = SilentThrottle()
    assert feed(judge, 60, 2e6, 200) is None
    assert feed(judge, 600, 1.5e6, 0) is None


def test_small_messages_after_large_ones_are_no_throttling() -> None:
    judge = SilentThrottle()
    assert feed(judge, 60, 20e6, 0.2) is None
    assert feed(judge, 600, 8_000, 8) is None


def test_waiting_for_the_other_side_is_no_throttling() -> None:
    judge = SilentThrottle()
    assert feed(judge, 60, 2e6, 200) is None
    assert feed(judge, 600, 300, 0.01, waited=0.5) is None


def test_a_fast_server_that_became_slower_is_not_worth_easing_off() -> None:
    judge = SilentThrottle()
    assert feed(judge, 60, 60e6, 5000) is None
    assert feed(judge, 600, 200_000, 15) is None


@settings(deadline=None)
@given(st.floats(3e4, 5e7), st.floats(2, 5000), st.lists(st.tuples(st.floats(0, 1), st.integers(5, 60)), max_size=8))
def test_a_server_that_works_as_it_did_is_never_accused(octets: float, messages: float, mixes: list[tuple[float, int]]) -> None:
    """It spends its time on octets and on messages at its own rates; the mail's mix changes as it likes."""
    judge = SilentThrottle()
    for part, seconds in mixes:
        assert feed(judge, seconds, octets * part, messages * (1 - part)) is None


@settings(deadline=None)
@given(st.floats(1e4, 5e7), st.floats(1, 5000), st.floats(0, 1023), st.floats(0.2, 15))
def test_a_throttled_one_is_always_found_within_a_minute(octets: float, messages: float, slow: float, step: float) -> None:
    judge = SilentThrottle()
    feed(judge, 60, octets, messages)
    found = feed(judge, 120, slow, 0, step=step)
    assert found is not None and found[1] <= 60 + step


def test_the_best_rates_are_what_was_seen_or_a_beginning_shows() -> None:
    judge = SilentThrottle()
    assert judge.full_rates().octets == 0
    judge.add(Sample(1, 1, 5000, 10))
    assert (judge.full_rates().octets, judge.full_rates().messages) == (5000, 10)
    feed(judge, 30, 9000, 20)
    feed(judge, 30, 100, 1)
    assert judge.full_rates().octets >= 5000
    assert judge.full_rates().messages >= 10


def test_where_the_lines_are_drawn() -> None:
    """1 KiB a second where less than a message a second comes, 250 messages an hour where few octets come, an eighth of the best."""
    assert feed(SilentThrottle(), 120, 1000, 0.9) is not None
    assert feed(SilentThrottle(), 120, 1030, 0.9) is None
    assert feed(SilentThrottle(), 120, 500, 1.2) is None
    assert feed(SilentThrottle(), 120, 8100, 1 / 16) is not None
    assert feed(SilentThrottle(), 120, 8300, 1 / 16) is None
    assert feed(SilentThrottle(), 300, 8100, 1 / 10) is None
    for part, found in ((1 / 7.5, None), (1 / 8.5, Silence.FALL)):
        judge = SilentThrottle()
        assert feed(judge, 60, 200_000, 0) is None
        verdict = feed(judge, 60, 200_000 * part, 0)
        assert (verdict and verdict[0]) == found


def test_how_much_of_the_time_the_server_must_have_kept_us_waiting() -> None:
    assert feed(SilentThrottle(), 60, 100, 0, waited=0.76) is not None
    assert feed(SilentThrottle(), 60, 100, 0, waited=0.74) is None


def test_how_long_it_takes() -> None:
    verdict = feed(SilentThrottle(), 60, 100, 0)
    assert verdict == (Silence.OCTETS, 45)
    judge = SilentThrottle()
    feed(judge, 60, 1e6, 5)
    verdict = feed(judge, 60, 20_000, 0.5)
    assert verdict is not None and verdict[0] is Silence.FALL and 30 <= verdict[1] <= 36


def test_what_is_still_fast_is_not_worth_easing_off() -> None:
    for octets, messages, found in ((130 * 1024, 0, None), (125 * 1024, 0, Silence.FALL), (5000, 10.5, None), (5000, 9.5, Silence.FALL)):
        judge = SilentThrottle()
        feed(judge, 60, 20e6, 0)
        feed(judge, 60, 20e6, 200)
        verdict = feed(judge, 40, octets, messages)
        assert (verdict and verdict[0]) == found


def test_the_best_is_measured_over_three_seconds_at_least() -> None:
    judge = SilentThrottle()
    judge.add(Sample(2.9, 0, 29_000, 29))
    assert (judge.best_octets, judge.best_messages) == (0, 0)
    judge.add(Sample(0.1, 0, 1000, 1))
    assert (judge.best_octets, judge.best_messages) == (10_000, 10)
    judge.add(Sample(3, 0, 3, 3))
    assert (judge.best_octets, judge.best_messages) == (10_000, 10)


def test_two_looks_put_together_are_one_look_at_both() -> None:
    assert Sample(1, 0.5, 300, 2) + Sample(2, 0.25, 50, 3) == Sample(3, 0.75, 350, 5)


def test_on_the_line_itself_nobody_is_accused() -> None:
    assert feed(SilentThrottle(), 120, 1024, 0.5) is None
    assert feed(SilentThrottle(), 120, 500, 1.0) is None
    assert feed(SilentThrottle(), 120, 8192, 0) is None
    assert feed(SilentThrottle(), 144, 2000, 250 / 3600, step=14.4) is None
    for octets, messages in ((20_000, 0), (128 * 1024, 0), (5000, 10)):
        judge = SilentThrottle()
        feed(judge, 60, 160_000 if octets == 20_000 else 20e6, 0)
        if messages:
            feed(judge, 60, 20e6, 200)
        assert feed(judge, 42, octets, messages) is None
