"""How fast a move goes and when it may end, said as honestly as the numbers allow.

Reads a move's columns; must not promise: a rate needs half a minute and some messages behind it, a forecast is a range.
"""
from __future__ import annotations

from dataclasses import dataclass

from portal.language import say
from portal.models import Move, MoveState, now

LEAST_SECONDS = 20.0
LEAST_MESSAGES = 20
SILENT_SECONDS = 120  # twice the time after which another worker would take over
# Mailboxes are uneven (big mail comes in clumps, providers slow down), so the range is wide.
QUICKEST, SLOWEST = 0.8, 1.7


@dataclass(frozen=True)
class Pace:
    """`done` counts every message whose place is settled, `arrived` those that are in the new mailbox. `per_minute` is None while
    there is too little to go by."""

    done: int
    arrived: int
    total: int
    per_minute: int | None
    forecast: str
    silent: bool

    @property
    def percent(self) -> int:
        """Rounded down: 100 only when nothing is left."""
        return 100 * self.done // self.total if self.total else 0

    @property
    def left(self) -> int:
        return max(0, self.total - self.done)


def pace_of(move: Move, expected: int = 0) -> Pace:
    """`expected`: the total to show until the worker has counted."""
    done = move.moved + move.already_there + move.excluded + move.set_aside
    total = max(move.messages_total or expected, done)
    rate = _per_second(move) if move.state is MoveState.MOVING else None
    silent = (move.state is MoveState.MOVING and move.last_sign_at is not None
              and (now() - move.last_sign_at).total_seconds() > SILENT_SECONDS)
    forecast = _range((total - done) / rate) if rate and total > done and not silent else ""
    return Pace(done, move.moved + move.already_there, total, max(1, round(rate * 60)) if rate else None, forecast, silent)


def _per_second(move: Move) -> float | None:
    """Messages of this attempt per second of it, waits included: what was so far is the best guess at what comes."""
    attempt = move.attempts[-1] if move.attempts else None
    if attempt is None or attempt.started_at is None or move.last_sign_at is None:
        return None
    earlier = sum(a.moved for a in move.attempts[:-1])
    seconds, messages = (move.last_sign_at - attempt.started_at).total_seconds(), move.moved - earlier
    return messages / seconds if seconds >= LEAST_SECONDS and messages >= LEAST_MESSAGES else None


def _range(seconds: float) -> str:
    low, high = seconds * QUICKEST / 60, seconds * SLOWEST / 60
    if high <= 2:
        return say("还需不到 2 分钟", "less than 2 min left")
    if high < 90:
        step = 1 if high < 10 else 5
        least, most = max(1, int(low // step) * step), -(-int(-(-high // 1)) // step) * step
        return say("还需 {low}–{high} 分钟", "{low}–{high} min left", low=least, high=most)
    if high < 48 * 60:
        return say("还需 {low}–{high} 小时", "{low}–{high} h left", low=max(1, int(low // 60)), high=-(-int(high) // 60))
    return say("还需 {low}–{high} 天", "{low}–{high} days left", low=max(1, int(low // 1440)), high=-(-int(high) // 1440))
