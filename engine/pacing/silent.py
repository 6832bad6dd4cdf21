"""Noticing a server that throttles without saying so: the rate falls, the latency rises, every answer is OK.

Pure: it is shown what happened and says what it thinks. Must not take for throttling what is none: a source with nothing to do, a large
message, small ones after large ones, a destination that waits for us. So only time is judged in which messages were under way and we
waited for the server; and rates are compared with the best that this server gave to us.

Gmail falls below 1 KiB/s for hours before it locks an account; others give a handful of messages a minute (facts, engine §5.1 and §6.11).
"""
from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from engine.pacing.state import Rates

SAMPLE_SECONDS = 3.0          # shorter looks are put together
JUDGED_SECONDS = 45.0         # a verdict on the bare rate takes so long, one on a fall FALL_SECONDS: both within a minute
FALL_SECONDS = 30.0
WAITING = 0.75                # of the time the server kept us waiting; else the slow one is not the server
SLOW_OCTETS = 1024.0          # per second …
OCTETS_BELOW_ITEMS = 1.0      # … which say something only while fewer messages a second come: notices of 300 octets are mail, too
SLOW_ITEMS = 250 / 3600       # messages per second …
ITEMS_BELOW_OCTETS = 8192.0   # … which say something only while few octets come: large messages are few by nature
FALL = 8.0                    # times slower than at its best
SLOW_ENOUGH_OCTETS, SLOW_ENOUGH_ITEMS = 128 * 1024.0, 10.0  # per second: what is faster is worth no easing off


class Silence(StrEnum):
    """What was noticed."""

    OCTETS = "fewer than 1 KiB a second"
    ITEMS = "fewer than 250 messages an hour"
    FALL = "eight times slower than before"


@dataclass(frozen=True)
class Sample:
    """What happened in `seconds` while messages were under way. `waited` seconds of them the server let us wait."""

    seconds: float
    waited: float
    octets: int
    messages: int

    def __add__(self, other: Sample) -> Sample:
        return Sample(self.seconds + other.seconds, self.waited + other.waited, self.octets + other.octets, self.messages + other.messages)

    @property
    def octet_rate(self) -> float:
        return self.octets / self.seconds if self.seconds > 0 else 0.0

    @property
    def message_rate(self) -> float:
        return self.messages / self.seconds if self.seconds > 0 else 0.0

    @property
    def waiting(self) -> bool:
        return self.waited >= WAITING * self.seconds


_NOTHING = Sample(0.0, 0.0, 0, 0)


class SilentThrottle:
    """The judgement over one account's connections. `best_octets` and `best_messages`: the best rates seen, per second."""

    def __init__(self) -> None:
        self.best_octets = 0.0
        self.best_messages = 0.0
        self._short = _NOTHING
        self._samples: deque[Sample] = deque()

    def add(self, sample: Sample) -> Silence | None:
        """A verdict when this sample completes one; it is given once, and what comes after is judged afresh."""
        self._short += sample
        if self._short.seconds < SAMPLE_SECONDS:
            return None
        whole, self._short = self._short, _NOTHING
        self._samples.append(whole)
        self.best_octets = max(self.best_octets, whole.octet_rate)
        self.best_messages = max(self.best_messages, whole.message_rate)
        verdict = self._judge()
        if verdict is not None:
            self.forget()
        elif sum(one.seconds for one in self._samples) - self._samples[0].seconds >= JUDGED_SECONDS:
            self._samples.popleft()
        return verdict

    def full_rates(self) -> Rates:
        """The best rates seen, or what a beginning shows of them."""
        return Rates(self.best_octets or self._short.octet_rate, self.best_messages or self._short.message_rate)

    def forget(self) -> None:
        """What was seen so far says nothing about what comes: we paused, or opened anew. The best rates stay."""
        self._short = _NOTHING
        self._samples.clear()

    def _last(self, seconds: float) -> Sample | None:
        """What happened in the last `seconds` at least; None: that much was not seen yet."""
        total = _NOTHING
        for sample in reversed(self._samples):
            total += sample
            if total.seconds >= seconds:
                return total
        return None

    def _judge(self) -> Silence | None:
        long, short = self._last(JUDGED_SECONDS), self._last(FALL_SECONDS)
        if long is not None and long.waiting:
            if long.octet_rate < SLOW_OCTETS and long.message_rate < OCTETS_BELOW_ITEMS:
                return Silence.OCTETS
            if long.message_rate < SLOW_ITEMS and long.octet_rate < ITEMS_BELOW_OCTETS:
                return Silence.ITEMS
        if short is not None and short.waiting and self._part_of_best(short) < 1 / FALL and (
                short.octet_rate < SLOW_ENOUGH_OCTETS and short.message_rate < SLOW_ENOUGH_ITEMS):
            return Silence.FALL
        return None

    def _part_of_best(self, sample: Sample) -> float:
        """How much of the server's best we get. A server spends its time on messages and on octets: whatever the mix, the two parts make
        about 1 while it works as it did."""
        if not self.best_octets:
            return 1.0
        return sample.octet_rate / self.best_octets + (sample.message_rate / self.best_messages if self.best_messages else 0.0)
