"""Given a connection that broke or a server that asked for time, when it is tried again, then as often and as late as the numbers say,
and whoever waits for word hears the server's own. Time passes only when somebody sleeps."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.causes import Cause, Side
from engine.endpoint import Account, Endpoint, Route, Secret
from engine.errors import ConnectionBroken, EngineError, Throttled
from engine.transfer import pairs as module
from engine.transfer.pairs import Pairs, Stopped
from tests.unit.mutation.stories import Heard
from tests.unit.pacing.fake_time import FakeTime

DAY = 86_400.0


class Retries:
    """Pairs without servers: what `open` says is the test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = FakeTime()
        self.heard = Heard()
        self.stop_at = DAY
        self.jitter = 1.0
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=self.time.monotonic, sleep=self.time.sleep))
        monkeypatch.setattr(module, "random", SimpleNamespace(uniform=self._uniform))
        account = Account(Endpoint("a.example", 993), "me", Secret("x"))
        self.pairs = Pairs(account, account, Route(), Route(), self.heard, lambda: self.time.past >= self.stop_at, {})

    def _uniform(self, low: float, high: float) -> float:
        return low + (high - low) * (self.jitter - 1.0) * 2

    def waited(self, error: EngineError, tries: int, most: int = 99) -> float:
        before = self.time.past
        self.pairs.wait_or_give_up(error, tries, most)
        return self.time.past - before

    def raised(self, error: EngineError, tries: int, most: int = 99) -> BaseException:
        before = self.time.past
        with pytest.raises((EngineError, Stopped)) as caught:
            self.pairs.wait_or_give_up(error, tries, most)
        assert self.time.past == before  # at once
        return caught.value


@pytest.fixture
def retries(monkeypatch: pytest.MonkeyPatch) -> Retries:
    return Retries(monkeypatch)


def broken(**given: Any) -> ConnectionBroken:
    return ConnectionBroken(Cause.DNS_CONNECT, **given)


def asked(seconds: float | None) -> Throttled:
    return Throttled(Cause.THROTTLED, server_text="later", retry_after=seconds)


@pytest.mark.parametrize(("tries", "seconds"), [(0, 0.5), (1, 2), (2, 5), (3, 15), (4, 30), (5, 30), (40, 30)])
@pytest.mark.parametrize("jitter", [1.0, 1.5])
def test_each_try_waits_longer_and_by_chance_half_as_much_again(retries: Retries, tries: int, seconds: float, jitter: float) -> None:
    retries.jitter = jitter
    assert retries.waited(broken(), tries) == pytest.approx(seconds * jitter, abs=0.11)


@pytest.mark.parametrize("error", [broken(), asked(3)])
def test_after_the_last_try_the_error_is_what_it_was(retries: Retries, error: EngineError) -> None:
    assert retries.waited(error, 1, 2) > 0
    assert retries.raised(error, 2, 2) is error


@pytest.mark.parametrize("cause", [Cause.TLS, Cause.ADDRESS_REFUSED])
def test_what_no_second_try_can_mend_is_not_tried_again(retries: Retries, cause: Cause) -> None:
    error = ConnectionBroken(cause)
    assert retries.raised(error, 0) is error


def test_a_stated_wait_is_waited_whatever_try_it_is(retries: Retries) -> None:
    assert retries.waited(asked(20), 0) == pytest.approx(20, abs=0.11)
    assert retries.waited(asked(0), 4) == 0
    long = asked(20.01)
    assert retries.raised(long, 0) is not None


def test_a_wait_nobody_timed_is_ten_seconds_at_least(retries: Retries) -> None:
    assert retries.waited(asked(None), 0) == pytest.approx(10, abs=0.11)
    assert retries.waited(asked(None), 3) == pytest.approx(15, abs=0.11)
    unstated = asked(None)
    assert retries.raised(unstated, 4) is unstated  # thirty seconds hold nobody here


def test_a_long_wait_in_a_goodbye_pauses_the_run_with_the_servers_words(retries: Retries) -> None:
    error = broken(side=Side.DESTINATION, server_text="come back later", detail="said goodbye", retry_after=20.5,
                   causes=(Cause.DNS_CONNECT, Cause.SERVER_BUSY))
    paused = retries.raised(error, 0)
    assert isinstance(paused, Throttled)
    assert (paused.cause, paused.side, paused.server_text, paused.detail, paused.causes, paused.retry_after) == (
        Cause.DNS_CONNECT, Side.DESTINATION, "come back later", "said goodbye", error.causes, 20.5)


def test_a_short_wait_in_a_goodbye_is_sat_out(retries: Retries) -> None:
    assert retries.waited(broken(server_text="come back later", retry_after=20.0), 0) == pytest.approx(20, abs=0.11)
    assert retries.waited(broken(server_text="come back later", retry_after=1.0), 1) == pytest.approx(2, abs=0.11)
    assert retries.waited(broken(server_text="bye"), 0) == pytest.approx(0.5, abs=0.11)


@pytest.mark.parametrize("error", [broken(server_text="bye"), asked(15), asked(900)])
def test_who_is_stopped_waits_no_longer(retries: Retries, error: EngineError) -> None:
    retries.stop_at = 0.0
    assert isinstance(retries.raised(error, 0), Stopped)


def test_a_stop_during_a_wait_ends_it_within_a_moment(retries: Retries) -> None:
    retries.stop_at = 3.0
    with pytest.raises(Stopped):
        retries.pairs.wait_or_give_up(asked(15), 0, 5)
    assert retries.time.past == pytest.approx(3.0, abs=0.15)


def test_whoever_watches_hears_the_servers_words_or_else_ours_without_secrets(retries: Retries) -> None:
    retries.waited(broken(server_text="go away token=abcdefghijklmnop", detail="closed"), 0)
    retries.waited(broken(detail="closed", side=Side.DESTINATION), 0)
    assert [line[:2] for line in retries.heard.lines] == [(Side.SOURCE, Cause.DNS_CONNECT), (Side.DESTINATION, Cause.DNS_CONNECT)]
    assert "go away" in retries.heard.lines[0][2] and "abcdefghijklmnop" not in retries.heard.lines[0][2]
    assert retries.heard.lines[1][2] == "closed"
