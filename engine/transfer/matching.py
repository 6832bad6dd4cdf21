"""Pairing source messages with destination messages, as multisets. Pure functions: no network, no ledger.

A destination UID is never given away twice, and genuine copies stay as many as they were: three equal messages at the source and
two at the destination give two pairs and one message still to move.
"""
from __future__ import annotations

import calendar
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from engine.ledger import Run


@dataclass(frozen=True, slots=True)
class Pair:
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


class Claims:
    """The destination UIDs of one target folder that the ledger already gave to a source message (of any source folder)."""

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self.renew(runs)

    def renew(self, runs: Iterable[Run]) -> None:
        """Forgets every claim but these: the ledger's rows were started anew."""
        self._first: list[int] = []
        self._last: list[int] = []
        for first, last in sorted((r.target_first, r.target_first + r.count - 1) for r in runs):
            if self._last and first <= self._last[-1] + 1:
                self._last[-1] = max(last, self._last[-1])
            else:
                self._first.append(first)
                self._last.append(last)
        self._loose: set[int] = set()

    def add(self, uids: Iterable[int]) -> None:
        self._loose.update(uids)

    def __contains__(self, uid: int) -> bool:
        at = bisect_right(self._first, uid) - 1
        return (at >= 0 and uid <= self._last[at]) or uid in self._loose


def spans(uids: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending UIDs as closed intervals of consecutive numbers."""
    out: list[tuple[int, int]] = []
    for uid in uids:
        if out and uid == out[-1][1] + 1:
            out[-1] = (out[-1][0], uid)
        else:
            out.append((uid, uid))
    return out


_MONTHS = {m: i for i, m in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1)}
_DATE = re.compile(r"^ ?(\d{1,2})-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)$")


def instant(internal_date: str) -> float | str:
    """An INTERNALDATE (RFC 3501 §9, date-time) as Unix time, so that two servers' zones do not matter; the text itself when it is
    none."""
    match = _DATE.match(internal_date)
    if not match or match[2].lower() not in _MONTHS:
        return internal_date
    day, year, hour, minute, second, zone_hours, zone_minutes = (int(match[i]) for i in (1, 3, 4, 5, 6, 8, 9))
    seconds = (zone_hours * 60 + zone_minutes) * 60 * (1 if match[7] == "+" else -1)
    return calendar.timegm((year, _MONTHS[match[2].lower()], day, hour, minute, second)) - float(seconds)
