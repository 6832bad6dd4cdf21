"""One folder's part of the ledger, as the transfer sees it: which messages are accounted for, and how results become rows.

Decides how runs join; writes through the LedgerStore only. One thread at a time uses it; the store below is shared by all
connection pairs of a mailbox and therefore locked (`SerialStore`).
"""
from __future__ import annotations

import threading
import time
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from operator import attrgetter
from typing import NamedTuple

from engine.imap.fetch import Metadata
from engine.ledger import Entry, FlagChunk, FolderRow, Intent, LedgerStore, Outcome, PassRow, RepairRow, Run, SetAsideRow, Written
from engine.transfer import points
from engine.transfer.flags import Flags, StoredFlags, pack, pack_all, unpack


class Listed(NamedTuple):
    """A source message, and the UID that stands before it in the source's own listing (0: not known, or the first)."""

    meta: Metadata
    previous: int


def listed(messages: Iterable[Metadata], previous: int = 0) -> list[Listed]:
    """All messages of a UID range, in ascending order, each with its predecessor. A line that comes twice counts once."""
    out = []
    for meta in sorted(messages, key=lambda m: m.uid):
        if meta.uid > previous:
            out.append(Listed(meta, previous))
            previous = meta.uid
    return out


class Arrived(NamedTuple):
    """A message that is at the destination now, with its UID there."""

    listed: Listed
    target_uid: int


def source_uids(run: Run, stored: StoredFlags) -> Sequence[int]:
    """The run's messages, in the order of their copies; also those that left the source since. Empty where a ledger of the first format
    cannot tell which they were."""
    if run.dense:
        return range(run.source_first, run.source_last + 1)
    known = array("Q", stored.uids(run.source_first, run.source_last))
    return known if len(known) == run.count else ()


def place_of(uid: int, uids: Sequence[int]) -> int | None:
    """Where it stands among ascending ones; None: it does not."""
    at = bisect_left(uids, uid)
    return at if at < len(uids) and uids[at] == uid else None


class Accounted:
    """Which source UIDs need no more work, as of when it was made."""

    def __init__(self, runs: Sequence[Run], set_aside: Iterable[int]) -> None:
        self._first = array("Q", (r.source_first for r in runs))
        # The highest so far: ledgers of before may hold a run that lies over another.
        self._last = array("Q", accumulate((r.source_last for r in runs), max))
        self._set_aside = frozenset(set_aside)

    def __contains__(self, uid: int) -> bool:
        at = bisect_right(self._first, uid) - 1
        return (at >= 0 and uid <= self._last[at]) or uid in self._set_aside

    def last_below(self, uid: int) -> int:
        """The highest accounted UID below this one; 0 when there is none."""
        return max([last for last in self._last if last < uid] + [u for u in self._set_aside if u < uid], default=0)


class FolderRecords:
    """What the ledger says of one folder. `row` holds the counters that the next write stores. `pass_id` marks what is appended now."""

    def __init__(self, store: LedgerStore, row: FolderRow, pass_id: int = 0) -> None:
        self._store = store
        self.row = row
        self.pass_id = pass_id
        self.runs = sorted(store.runs(row.id), key=_first_uid)
        self.intents = store.intents(row.id)
        self.set_aside = {s.uid: s for s in store.set_aside(row.id)}

    def accounted(self) -> Accounted:
        return Accounted(self.runs, self.set_aside)

    def out_of_order(self) -> int:
        """How many messages of this pass stand at the destination behind one that follows them at the source."""
        displaced, lowest = 0, 1 << 33
        for run in reversed(self.runs):
            if run.pass_id == self.pass_id and run.outcome is Outcome.MOVED:
                displaced += run.count if run.target_first > lowest else 0
                lowest = min(lowest, run.target_first)
        return displaced

    def repaired(self) -> dict[int, RepairRow]:
        """Messages that were moved changed, by source UID."""
        return {row.uid: row for row in self._store.repairs(self.row.id)}

    def write_later_repairs(self, repairs: Sequence[RepairRow], *, row: FolderRow, set_aside: Sequence[SetAsideRow] = ()) -> None:
        """Of messages that may have been repaired before: then the row names both, and is not counted again."""
        earlier = self.repaired() if repairs else {}
        known = [one for one in repairs if one.uid in earlier]
        self.write(row=row._replace(repaired=row.repaired - len(known)), set_aside=set_aside,
                   repairs=[earlier[one.uid].and_then(one) if one.uid in earlier else one for one in repairs])

    def stored_flags(self) -> StoredFlags:
        return StoredFlags(self._store.flags(self.row.id))

    def write(self, *, arrived: Sequence[Arrived] = (), outcome: Outcome = Outcome.MOVED, set_aside: Sequence[SetAsideRow] = (),
              clear_set_aside: Sequence[int] = (), close: Sequence[int] = (), open_: Sequence[Intent] = (),
              octets: int = 0, append_seconds: float = 0.0, vanished: int = 0, repairs: Sequence[RepairRow] = (),
              row: FolderRow | None = None, can_wait: bool = False) -> Written:
        """One transaction; the in-memory view follows only if it succeeded. `row`: the folder's row with what changes besides the counters
        of these results, which are added here. `can_wait`: nothing is done because of it. Returns the ids of the opened intents."""
        arrived = sorted(arrived, key=_uid_of_arrived)
        runs = self._join(arrived, outcome)
        row = row or self.row
        cleared = {uid for uid in clear_set_aside if uid in self.set_aside}
        added = {s.uid for s in set_aside if s.uid not in self.set_aside or s.uid in cleared}
        row = row._replace(set_aside=len(self.set_aside) - len(cleared) + len(added), bytes_moved=row.bytes_moved + octets,
                      vanished=row.vanished + vanished, repaired=row.repaired + len(repairs),
                      moved=row.moved + (len(arrived) if outcome is Outcome.MOVED else 0),
                      already_there=row.already_there + (len(arrived) if outcome is Outcome.ALREADY_THERE else 0))
        if arrived and outcome is Outcome.MOVED:
            lowest = min(a.target_uid for a in arrived)
            row = row._replace(unproven_from=min(row.unproven_from or lowest, lowest))
        flags = [pack((a.listed.meta.uid, a.listed.meta.flags) for a in arrived)] if arrived else []
        points.reached("before a write of the ledger")
        written = self._store.write(Entry(row, close_intents=close, runs=runs, set_aside=set_aside, clear_set_aside=clear_set_aside,
                                          open_intents=open_, append_seconds=append_seconds, repairs=repairs, flags=flags,
                                          can_wait=can_wait))
        points.reached("after a write of the ledger")
        self.row = row
        for uid in cleared:
            del self.set_aside[uid]
        self.set_aside.update((s.uid, s) for s in set_aside)
        self._keep(runs, written.runs)
        if close:
            closed = set(close)
            self.intents = [i for i in self.intents if i.id not in closed]
        self.intents += [i._replace(id=n) for i, n in zip(open_, written.intents, strict=True)]
        return written

    def write_flags(self, row: FolderRow, messages: Iterable[tuple[int, Flags]], *, all_of_them: bool = False) -> None:
        """What the source's flags are now, after they were carried over; `all_of_them` replaces every older chunk."""
        self._store.write(Entry(row, flags=pack_all(messages), drop_flags=all_of_them))
        self.row = row

    def intend(self, batch: Iterable[Metadata], target_uidvalidity: int, target_uidnext: int) -> Intent:
        """`batch`: as the source listed it."""
        flags = sorted((meta.uid, meta.flags) for meta in batch)
        return Intent(tuple(uid for uid, _ in flags), target_uidvalidity, target_uidnext, time.time(), flags=pack(flags).data)

    def flags_on_their_way(self) -> dict[int, Flags]:
        """Of the messages of open intents, as the source had them when they were sent, by source UID; those that an older program sent
        are not among them."""
        return {uid: flags for intent in self.intents if intent.flags for uid, flags in unpack(intent.flags)}

    def forget(self) -> None:
        """Starts the folder anew: its UIDVALIDITY, or the destination's, is not what the rows speak of."""
        row = FolderRow(self.row.source, self.row.target, self.row.id, source_display=self.row.source_display,
                        target_display=self.row.target_display, role=self.row.role, note=self.row.note)
        points.reached("before a folder is forgotten")
        self._store.forget_folder(row)
        points.reached("after a folder was forgotten")
        self.row, self.runs, self.intents, self.set_aside = row, [], [], {}

    def _join(self, arrived: Sequence[Arrived], outcome: Outcome) -> list[Run]:
        """Runs for these messages, in ascending UIDs: the run that ends right before the first one is extended, the rest is new."""
        runs: list[Run] = []
        pass_id = self.pass_id if outcome is Outcome.MOVED else 0
        at = 0
        while at < len(arrived):
            first = last = arrived[at].listed.meta.uid
            target = arrived[at].target_uid
            count = 1
            while at + count < len(arrived):
                after = arrived[at + count]
                if after.listed.previous != last or after.target_uid != target + count:
                    break
                if self._begins_between(last, after.listed.meta.uid):
                    break
                last = after.listed.meta.uid
                count += 1
            new = Run(first, last, count, target, outcome, pass_id=pass_id)
            previous = arrived[0].listed.previous
            before = None if at or self._begins_between(previous, first) else self._run_ending_at(previous)
            runs.append((before.joined(new) if before else None) or new)
            at += count
        return runs

    def _begins_between(self, last: int, uid: int) -> bool:
        """Whether a run begins between these neighbours of today's list: what it stands for was deleted at the source since. A run over it
        would hide behind it."""
        if uid == last + 1 or not self.runs or self.runs[-1].source_first <= last:
            return False
        at = bisect_right(self.runs, last, key=_first_uid)
        return at < len(self.runs) and self.runs[at].source_first < uid

    def _run_ending_at(self, uid: int) -> Run | None:
        if self.runs and self.runs[-1].source_last == uid:  # as while a folder is copied
            return self.runs[-1]
        at = bisect_right(self.runs, uid, key=_first_uid) - 1
        return self.runs[at] if at >= 0 and self.runs[at].source_last == uid else None

    def _keep(self, runs: Sequence[Run], ids: Sequence[int]) -> None:
        for run, run_id in zip(runs, ids, strict=True):
            if run.id:
                at = bisect_right(self.runs, run.source_first, key=_first_uid) - 1
                self.runs[at] = run
            elif not self.runs or self.runs[-1].source_first < run.source_first:
                self.runs.append(replace(run, id=run_id))
            else:
                insort(self.runs, replace(run, id=run_id), key=_first_uid)


_first_uid = attrgetter("source_first")


def _uid_of_arrived(arrived: Arrived) -> int:
    return arrived.listed.meta.uid


class SerialStore:
    """A LedgerStore whose calls come one at a time, whichever connection pair makes them."""

    def __init__(self, store: LedgerStore) -> None:
        self._store = store
        self._lock = threading.Lock()

    def folders(self) -> list[FolderRow]:
        with self._lock:
            return self._store.folders()

    def put_folder(self, row: FolderRow) -> FolderRow:
        with self._lock:
            return self._store.put_folder(row)

    def runs(self, folder_id: int) -> list[Run]:
        with self._lock:
            return self._store.runs(folder_id)

    def intents(self, folder_id: int) -> list[Intent]:
        with self._lock:
            return self._store.intents(folder_id)

    def set_aside(self, folder_id: int) -> list[SetAsideRow]:
        with self._lock:
            return self._store.set_aside(folder_id)

    def repairs(self, folder_id: int) -> list[RepairRow]:
        with self._lock:
            return self._store.repairs(folder_id)

    def flags(self, folder_id: int) -> Iterator[FlagChunk]:
        chunks = self._store.flags(folder_id)
        while True:
            with self._lock:
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk

    def begin_pass(self, begun_at: float) -> int:
        with self._lock:
            return self._store.begin_pass(begun_at)

    def end_pass(self, pass_id: int, ended_at: float, outcome: str) -> None:
        with self._lock:
            self._store.end_pass(pass_id, ended_at, outcome)

    def passes(self) -> list[PassRow]:
        with self._lock:
            return self._store.passes()

    def write(self, entry: Entry) -> Written:
        with self._lock:
            return self._store.write(entry)

    def forget_folder(self, row: FolderRow) -> None:
        with self._lock:
            self._store.forget_folder(row)

    def append_seconds_peak(self) -> float:
        with self._lock:
            return self._store.append_seconds_peak()

    def close(self) -> None:
        with self._lock:
            self._store.close()
