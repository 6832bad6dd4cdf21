"""What the ledger says should be where: per source folder its runs, what was set aside and what was repaired.

Reads the ledger, writes nothing to it and trusts it with nothing: it only says which two messages are to be compared.
"""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from engine.ledger import FolderRow, LedgerStore, Outcome, Repair, RepairRow, Run, SetAsideRow


@dataclass(frozen=True)
class Expected:
    """Of one source folder. No runs and a UIDVALIDITY of 0: the ledger does not know the folder."""

    runs: Sequence[Run] = ()                                      # in order of source_first
    set_aside: Mapping[int, SetAsideRow] = field(default_factory=dict)
    repairs: Mapping[int, frozenset[Repair]] = field(default_factory=dict)
    source_uidvalidity: int = 0
    target_uidvalidity: int = 0
    source_uidnext: int = 0                                       # below it everything was accounted for

    @classmethod
    def read(cls, ledger: LedgerStore, row: FolderRow) -> Expected:
        repairs: defaultdict[int, set[Repair]] = defaultdict(set)
        for one in ledger.repairs(row.id):
            repairs[one.uid] |= one.made
        runs = [run for run in ledger.runs(row.id) if run.outcome is not Outcome.UNDOING]
        return cls(runs, {s.uid: s for s in ledger.set_aside(row.id)}, {u: frozenset(r) for u, r in repairs.items()},
                   row.source_uidvalidity, row.target_uidvalidity, row.source_uidnext)

    def why_not_there(self, uid: int) -> str:
        """What the ledger has to say of a message that is not at the destination; empty when it says that it is."""
        aside = self.set_aside.get(uid)
        if aside is not None:
            return f"set aside: {aside.reason.value}"
        if self.source_uidnext and uid >= self.source_uidnext:
            return "arrived after the last copy"
        return ""


def line_ends(repairs: Iterable[RepairRow]) -> frozenset[int]:
    """Source UIDs whose octets were changed on the way, by bare CR and LF becoming CRLF."""
    return frozenset(one.uid for one in repairs if Repair.LINE_ENDS in one.made)


def claimed(runs: Iterable[Run]) -> list[tuple[int, int]]:
    """The destination UIDs that runs speak of, as ascending closed intervals that do not touch."""
    found: list[tuple[int, int]] = []
    for first, last in sorted((r.target_first, r.target_first + r.count - 1) for r in runs):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def between(intervals: Iterable[tuple[int, int]], last_uid: int) -> list[tuple[int, int]]:
    """The intervals of UIDs from 1 to `last_uid` that lie outside these ascending ones."""
    found, at = [], 1
    for first, last in intervals:
        if first > at:
            found.append((at, first - 1))
        at = max(at, last + 1)
    if at <= last_uid:
        found.append((at, last_uid))
    return found
