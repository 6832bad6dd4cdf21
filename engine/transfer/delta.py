"""What changed at the source since a folder was completed: flags that are to be carried over, messages that are gone, mail that is new.

Compares what a look at the source tells with the flags as they were last carried over (flags.py). A change is carried over as a change:
flags that the source gained are added at the destination, flags that it lost are removed, and whatever else the owner set there
stays. Deletions are counted and never replayed. Bounded: eight octets for each changed message.
"""
from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from engine.errors import EngineError, Throttled
from engine.imap.flags import FlagChange, store_flags
from engine.imap.look import Ask, look
from engine.imap.session import Selected, Session
from engine.ledger import FolderRow, LedgerStore, Outcome, Repair, RepairRow, Run
from engine.redact import redact
from engine.transfer import points
from engine.transfer.flags import OVERLAPS_BEFORE_REWRITE, Flags, StoredFlags, change
from engine.transfer.records import FolderRecords, place_of, source_uids

Kind = tuple[frozenset[str], frozenset[str], Flags]  # added, removed, all that the message bears now


@dataclass
class FolderDelta:
    """Of one folder that was complete. `selected` None: the source does not open it now, or what it told cannot be used."""

    row: FolderRow
    selected: Selected | None = None
    refused: EngineError | None = None
    changed: dict[Kind, array[int]] = field(default_factory=dict)  # source UIDs

    @property
    def flags_changed(self) -> int:
        return sum(map(len, self.changed.values()))

    @property
    def gone(self) -> int:
        """Messages that the folder had at its last proof and has no more, as far as the counts tell without a listing."""
        return max(0, self.row.source_messages - self.selected.messages) if self.selected else 0

    def nothing_new(self) -> bool:
        """No message that was not there at the last proof (older mail that became visible counts as new)."""
        row, now = self.row, self.selected
        return (now is not None and now.uidvalidity == row.source_uidvalidity and now.uidnext in (None, row.source_uidnext)
                and now.messages <= row.source_messages)


class _Comparison:
    """One folder's flags, heard in ascending UIDs (mostly), against the stored ones."""

    def __init__(self, store: LedgerStore, row: FolderRow) -> None:
        self._stored = StoredFlags(store.flags(row.id))
        self._ahead = iter(self._stored)
        self._at: tuple[int, Flags] = (0, ())
        self.changed: dict[Kind, array[int]] = {}

    def hear(self, uid: int, flags: Flags) -> None:
        at = self._at
        while at[0] < uid:
            at = next(self._ahead, (1 << 33, ()))
        self._at = at
        if at[0] == uid:
            before: Flags | None = at[1]
        else:  # told again, or out of order; or it is not among what was carried over
            before = next((known for _, known in self._stored.between(uid, uid)), None)
        found = change(uid, before, flags) if before is not None else None
        if found is not None:
            self.changed.setdefault((found.add, found.remove, found.now), array("Q")).append(uid)


def look_for_changes(source: Session, rows: Iterable[FolderRow], store: LedgerStore) -> dict[str, FolderDelta]:
    """By source folder. Raises ConnectionBroken, ProtocolError, and Throttled when the source asks to wait."""
    deltas = {row.source: FolderDelta(row) for row in rows}
    comparisons: dict[str, _Comparison] = {}

    def hear(name: str, uid: int, flags: Flags) -> None:
        comparison = comparisons.get(name)
        if comparison is None:
            comparison = comparisons[name] = _Comparison(store, deltas[name].row)
        comparison.hear(uid, flags)

    asks = [Ask(name, delta.row.source_modseq, delta.row.source_uidnext) for name, delta in deltas.items()]
    for seen in look(source, asks, hear):
        delta, comparison = deltas[seen.name], comparisons.pop(seen.name, None)
        delta.selected, delta.refused = seen.selected, seen.refused
        if comparison is not None and seen.selected is not None and seen.selected.uidvalidity == delta.row.source_uidvalidity:
            delta.changed = comparison.changed
    waits = [delta.refused for delta in deltas.values() if isinstance(delta.refused, Throttled)]
    if waits:
        raise waits[0]
    source.unselect()
    return deltas


def carry_over(delta: FolderDelta, target: Session, store: LedgerStore, row: FolderRow) -> FolderRow:
    """Makes the changes at the destination, then stores what the flags are now. Interrupted, it is simply done again. Returns the
    folder's row. Flags that the destination refuses are named as repairs."""
    records = FolderRecords(store, row)
    stored = records.stored_flags()
    copies = _copies(records.runs, stored, delta.changed.values())
    changes: list[FlagChange] = []
    source_uid: dict[int, int] = {}  # by destination UID
    for (add, remove, _), uids in delta.changed.items():
        there = [copies[uid] for uid in uids if uid in copies]
        source_uid.update((copies[uid], uid) for uid in uids if uid in copies)
        if there:
            changes.append(FlagChange(tuple(sorted(there)), tuple(sorted(add)), tuple(sorted(remove))))
    points.reached("before flags are carried over")
    refused = store_flags(target, row.target, changes)
    points.reached("after flags were carried over")
    named = [RepairRow(source_uid[uid], Repair.KEYWORDS, f"changed at the source later: {redact(error.server_text or error.detail)}")
             for uid, error in refused if uid in source_uid]
    assert delta.selected is not None
    now = {uid: kind[2] for kind, uids in delta.changed.items() for uid in uids}
    row = row._replace(flags_updated=row.flags_updated + len(source_uid) - len(named), source_modseq=delta.selected.highestmodseq)
    if named:
        records.write_later_repairs(named, row=records.row)
        row = row._replace(repaired=records.row.repaired)
    anew = stored.overlaps >= OVERLAPS_BEFORE_REWRITE
    records.write_flags(row, _with(stored, now) if anew else sorted(now.items()), all_of_them=anew)
    return row


def _with(stored: StoredFlags, now: Mapping[int, Flags]) -> Iterator[tuple[int, Flags]]:
    return ((uid, now.get(uid, flags)) for uid, flags in stored)


def _copies(runs: list[Run], stored: StoredFlags, changed: Iterable[array[int]]) -> dict[int, int]:
    """Destination UIDs by source UID, of the changed messages that the ledger knows a copy of."""
    wanted = array("Q", sorted(uid for uids in changed for uid in uids))
    found: dict[int, int] = {}
    for run in runs:
        some = wanted[bisect_left(wanted, run.source_first):bisect_right(wanted, run.source_last)]
        if not some or run.outcome is Outcome.UNDOING:
            continue
        known = source_uids(run, stored)
        found.update((uid, run.target_first + at) for uid in some if (at := place_of(uid, known)) is not None)
    return found
