"""How much of something may be used in a rolling stretch of time, and when there will be some again.

Pure: times are given, nothing is kept. What was spent is remembered in 24 buckets per stretch, so that a budget of a day is exact to
an hour, and never too generous: a bucket counts whole until it lies outside the stretch whole.
(Google states no hour at which its limits begin anew, so a calendar day would allow twice the day's share around midnight: facts,
engine 5.1.)
"""
from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

DAY, HOUR = 86_400.0, 3_600.0
BUCKETS = 24
RESUME_SHARE = 0.1  # of the amount must be free before work goes on: each new start costs a login


class Unit(StrEnum):
    DOWNLOAD = "download"  # octets
    UPLOAD = "upload"      # octets
    MESSAGES = "messages"
    LOGINS = "logins"


Spent = tuple[tuple[int, int], ...]  # (number of the bucket since the epoch, amount), oldest first


class Budget(NamedTuple):
    """`amount` per `seconds`."""

    unit: Unit
    amount: int
    seconds: float = DAY

    @property
    def _bucket(self) -> float:
        return self.seconds / BUCKETS

    def _first(self, now: float) -> int:
        """The oldest bucket of which a part lies within the stretch that ends now."""
        return int(now // self._bucket) - BUCKETS

    def used(self, spent: Spent, now: float) -> int:
        return sum(amount for bucket, amount in spent if bucket >= self._first(now))

    def add(self, spent: Spent, now: float, amount: int) -> Spent:
        """With `amount` more; what is older than the stretch is forgotten."""
        here, kept = int(now // self._bucket), dict(spent)
        kept[here] = kept.get(here, 0) + amount
        return tuple(sorted((bucket, used) for bucket, used in kept.items() if bucket >= self._first(now)))

    def wait(self, spent: Spent, now: float, amount: int) -> float:
        """Seconds until `amount` more may be used; 0: now. What is larger than the whole budget goes while anything is left."""
        used = self.used(spent, now)
        if used + amount <= self.amount or (amount > self.amount and used < self.amount):
            return 0.0
        most = self.amount - max(min(amount, self.amount), int(self.amount * RESUME_SHARE))
        for bucket, one in sorted(spent):
            if bucket >= self._first(now):
                used -= one
                if used <= most:
                    return (bucket + BUCKETS + 1) * self._bucket - now
        return 0.0
