"""Pairing source messages with destination messages, as multisets. Pure functions: no network, no ledger.

A destination UID is never given away twice, and genuine copies stay as many as they were: three equal messages at the source and
two at the destination give two pairs and one message still to move.
"""
from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from datetime import date
from functools import lru_cache
from typing import NamedTuple

from engine.ledger import Run


class Pair(NamedTuple):
    """A source message and the destination message that is its copy."""

    source_uid: int
    target_uid: int


def pair_equal(source: Mapping[int, Hashable], target: Mapping[int, Hashable]) -> list[Pair]:
    """Pairs UIDs whose keys are equal, lowest UIDs first, each UID at most once. In order of the source UIDs."""
    free: dict[Hashable, list[int]] = defaultdict(list)
    for uid in sorted(target, reverse=True):
        free[target[uid]].append(uid)
    pairs = []
    for uid in sorted(source):
        candidates = free.get(source[uid])
        if candidates:
            pairs.append(Pair(uid, candidates.pop()))
    return pairs


def pair_unique(source: Mapping[int, Hashable], target: Mapping[int, Hashable]) -> list[Pair]:
    """Pairs UIDs whose key nobody else has, on either side: where several have it, it does not tell whose copy is whose."""
    often_here, often_there = Counter(source.values()), Counter(target.values())
    alone = {key: uid for uid, key in target.items() if often_there[key] == 1}
    return [Pair(uid, alone[source[uid]]) for uid in sorted(source) if often_here[source[uid]] == 1 and source[uid] in alone]


class Claims:
    """The destination UIDs of one target folder that the ledger already gave to a source message (of any source folder)."""

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self.renew(runs)

    def renew(self, runs: Iterable[Run]) -> None:
        """Forgets every claim but these: the ledger's rows were started anew."""
        self._first: list[int] = []
        self._last: list[int] = []
        for run in sorted(runs, key=lambda r: r.target_first):
            self._add(run.target_first, run.target_first + run.count - 1)

    def add(self, uids: Iterable[int]) -> None:
        for uid in uids:
            self._add(uid, uid)

    def add_span(self, first: int, last: int) -> bool:
        """All from `first` to `last`. False, and nothing done, where one of them was given away already."""
        at = bisect_left(self._last, first)
        if at < len(self._first) and self._first[at] <= last:
            return False
        self._add(first, last)
        return True

    def _add(self, first: int, last: int) -> None:
        """Kept as spans: what is appended one after the other takes no room."""
        if self._last and first == self._last[-1] + 1:
            self._last[-1] = last
            return
        at = bisect_left(self._last, first - 1)  # the first span that touches this one or lies above it
        end = at
        while end < len(self._first) and self._first[end] <= last + 1:
            first, last = min(first, self._first[end]), max(last, self._last[end])
            end += 1
        self._first[at:end], self._last[at:end] = [first], [last]

    def __contains__(self, uid: int) -> bool:
        at = bisect_right(self._first, uid) - 1
        return at >= 0 and uid <= self._last[at]

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in zip(self._first, self._last, strict=True))


_MONTHS = {m: i for i, m in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1)}
_DATE = re.compile(r"^ ?(\d{1,2})-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-]\d\d)(\d\d)$")


def instant(internal_date: str) -> float | str:
    """An INTERNALDATE (RFC 3501 §9, date-time) as Unix time, so that two servers' zones do not matter; the text itself when it is
    none."""
    match = _DATE.match(internal_date)
    if not match:
        return internal_date
    day, name, year, hour, minute, second, zone_hours, zone_minutes = match.groups()
    month = _MONTHS.get(name.lower())
    if month is None or year == "0000":
        return internal_date
    zone = int(zone_hours) * 3600 + (int(zone_minutes) * 60 if zone_hours[0] == "+" else -int(zone_minutes) * 60)
    return float(_days(int(year), month) + int(day) - 1) * 86400 + int(hour) * 3600 + int(minute) * 60 + int(second) - zone


@lru_cache(maxsize=512)
def _days(year: int, month: int) -> int:
    """Days from 1970-01-01 to the first of the month."""
    return date(year, month, 1).toordinal() - 719_163
