"""Undo: removes from the destination exactly what one pass appended, by its UIDs.

Owns the order in which that happens. Per batch of runs: (1) the ledger marks them UNDOING, takes them off its counters and reopens the
folder; (2) the destination removes their UIDs; (3) it is read back that none is left; (4) the ledger drops them. Each ledger write is
durable before the next step. Killed after (1) or (2), the marks tell the next undo, and the next copy (`finish_undone`), what is to be
removed still; removing a UID that is gone does nothing, and a UID is never given to another message (RFC 3501 §2.3.1.1).

Must not: open the source; send EXPUNGE without UIDs (it would take what others marked \\Deleted); remove a folder; touch a folder whose
UIDVALIDITY is not the ledger's. Always: every message of the pass ends as removed, absent or left; what is left is named with its reason.
"""
from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from engine.causes import Cause, Side, at_destination
from engine.endpoint import Account, Route
from engine.errors import EngineError, Refused
from engine.imap.fetch import fetch_metadata, fetch_uids
from engine.imap.session import Session
from engine.ledger import Entry, FolderRow, LedgerStore, Outcome, RepairRow, Run, SetAsideRow
from engine.redact import redact
from engine.report.copy import CopyOutcome
from engine.report.undo import UndoFolder, UndoLeft, UndoReport
from engine.transfer import points
from engine.transfer.flags import StoredFlags, pack_all
from engine.transfer.records import Accounted
from engine.transfer.recover import WATCH_SECONDS

MESSAGES_AT_ONCE = 2000  # of one batch, unless one run alone has more
RUNS_AT_ONCE = 500
UIDS_AT_ONCE = 1000      # of one STORE and one UID EXPUNGE: their answer has a line for each
NO_UIDPLUS = ("the destination cannot remove single messages (no UIDPLUS, RFC 4315): nothing was touched; what is to go can only be "
              "deleted by hand there")


def undo_pass(destination: Account, *, ledger: LedgerStore, pass_id: int, route: Route | None = None, dry_run: bool = False,
              even_if_gone: bool = False) -> UndoReport:
    """Removes what pass `pass_id` of the ledger appended. Begun again after a kill it goes on. `even_if_gone`: also in folders of which
    messages were deleted at the source since. `dry_run`: looks (EXAMINE), changes nothing on either side, ledger included.

    Expected failures come back as the report's outcome and cause; LeaseLost and a ledger that cannot be written are raised."""
    begun = time.monotonic()
    report = UndoReport(pass_id=pass_id, dry_run=dry_run)
    try:
        _undo(destination, ledger, report, route or Route(), even_if_gone)
    except EngineError as error:
        if error.cause is Cause.LEDGER_UNWRITABLE:
            raise
        report.outcome, report.cause, report.side = CopyOutcome.FAILED, error.cause, error.side
        report.server_text, report.detail, report.retry_after = redact(error.server_text), error.detail, error.retry_after
    report.seconds = time.monotonic() - begun
    return report


def _undo(destination: Account, ledger: LedgerStore, report: UndoReport, route: Route, even_if_gone: bool) -> None:
    rows = [row for row in ledger.folders() if _appended(ledger, row, report.pass_id)]
    if not rows:
        report.outcome = CopyOutcome.COMPLETE
        return
    target = Session.open(destination, route, side=Side.DESTINATION)
    try:
        _must_have_uidplus(target)
        for row in rows:
            undone = _Folder(target, ledger, row, UndoFolder(row.source_display or row.source, row.target_display or row.target))
            report.folders.append(undone.told)
            undone.run(_appended(ledger, row, report.pass_id), dry_run=report.dry_run, even_if_gone=even_if_gone)
    finally:
        target.logout()
    left = any(folder.left or folder.unresolved for folder in report.folders)
    report.outcome = CopyOutcome.PARTIAL if left else CopyOutcome.COMPLETE


def finish_undone(target: Session, ledger: LedgerStore) -> list[FolderRow]:
    """For a copy that begins: ends an undo that was killed, so that no message is believed to be there which is not, and none is moved
    beside one that is about to go. Returns the ledger's folders as they are then. Raises Refused when the destination does not let
    single messages be removed."""
    rows = ledger.folders()
    for row in rows:
        if row.complete or not row.id:
            continue  # the mark reopens its folder
        marked = [run for run in ledger.runs(row.id) if run.outcome is Outcome.UNDOING]
        if not marked:
            continue
        _must_have_uidplus(target)
        undone = _Folder(target, ledger, row, UndoFolder(row.source_display, row.target_display))
        if undone.why_not(marked) is not None:  # their folder is gone, and they with it
            undone.drop(marked)
            continue
        undone.run(marked, dry_run=False, even_if_gone=True)
        if undone.told.left:
            raise Refused(Cause.DESTINATION_REFUSED, side=Side.DESTINATION,
                          detail=f"an undo was begun in {row.target_display!r} and the destination does not remove the rest")
    return ledger.folders()


def _must_have_uidplus(target: Session) -> None:
    if "UIDPLUS" not in target.capabilities:
        raise Refused(Cause.DESTINATION_REFUSED, side=Side.DESTINATION, detail=NO_UIDPLUS)


def _appended(ledger: LedgerStore, row: FolderRow, pass_id: int) -> list[Run]:
    """What the pass appended to this folder and is, for all the ledger knows, still there; by destination UID."""
    if not row.id or pass_id <= 0:
        return []
    runs = [r for r in ledger.runs(row.id) if r.pass_id == pass_id and r.outcome in (Outcome.MOVED, Outcome.UNDOING)]
    return sorted(runs, key=lambda run: run.target_first)


@dataclass
class _Batch:
    """Runs that are removed together, and what of them is at the destination."""

    runs: list[Run]
    there: int = 0
    octets: int = 0
    aside: list[SetAsideRow] = field(default_factory=list)   # rows about the copies that are removed
    repairs: list[RepairRow] = field(default_factory=list)

    @property
    def messages(self) -> int:
        return sum(run.count for run in self.runs)

    def uids(self) -> Iterator[int]:
        for run in self.runs:
            yield from range(run.target_first, run.target_first + run.count)


@dataclass
class _Folder:
    """One folder's undo. `row` is what the ledger has."""

    target: Session
    ledger: LedgerStore
    row: FolderRow
    told: UndoFolder

    def run(self, runs: Sequence[Run], *, dry_run: bool, even_if_gone: bool) -> None:
        told, row = self.told, self.row
        told.messages, told.gone = sum(run.count for run in runs), row.gone
        told.unresolved = self._unresolved()
        told.why = self.why_not(runs)
        begun = any(run.outcome is Outcome.UNDOING for run in runs)
        if told.why is None and row.gone and not even_if_gone and not begun:
            told.why = UndoLeft.GONE_AT_SOURCE
        if told.why is not None:
            told.left = told.messages
            return
        for batch in _batches(runs):
            self._look(batch)
            if dry_run:
                self._count(batch, left=0)
                continue
            before = self.row
            self._mark(batch)
            points.reached("undo marked")
            try:
                self._remove(batch)
            except Refused:
                self._take_back(batch, before)
                raise
            points.reached("undo removed")
            left = sum(1 for _ in self._still_there(batch))
            if not left:
                self.drop(batch.runs)
            self._count(batch, left)
            notice = self.target.take_throttle()
            if notice is not None:
                raise notice  # the next undo goes on from here

    def why_not(self, runs: Sequence[Run]) -> UndoLeft | None:
        """Why these UIDs do not name our messages any more; None: they do."""
        try:
            status = self.target.status(self.row.target)
        except Refused as error:
            if error.cause not in (Cause.X_FOLDER, at_destination(Cause.X_FOLDER)):
                raise
            return UndoLeft.FOLDER_MISSING
        last = max(run.target_first + run.count - 1 for run in runs)
        if status.uidvalidity != self.row.target_uidvalidity or (status.uidnext is not None and status.uidnext <= last):
            return UndoLeft.FOLDER_CHANGED  # or a UIDVALIDITY that was used again: such a folder never gave out these UIDs
        return None

    def drop(self, runs: Iterable[Run]) -> None:
        runs = list(runs)
        theirs = _accounted(runs)
        rest = pack_all(one for one in StoredFlags(self.ledger.flags(self.row.id)) if one[0] not in theirs)
        self.ledger.write(Entry(self.row, drop_runs=[run.id for run in runs], flags=rest, drop_flags=True))
        points.reached("undo dropped")

    def _look(self, batch: _Batch) -> None:
        """How many of the batch are there, and how large: the ledger does not keep sizes."""
        batch.there, batch.octets = 0, 0
        first, last, wanted = _extent(batch.runs)
        if self.target.examine(self.row.target).messages:
            for meta in fetch_metadata(self.target, first, last):
                if meta.uid in wanted:
                    batch.there, batch.octets = batch.there + 1, batch.octets + meta.size
        self.target.unselect()

    def _mark(self, batch: _Batch) -> None:
        """Step 1. From here on the ledger says that these are not at the destination, and that the folder is not done."""
        fresh = [run for run in batch.runs if run.outcome is Outcome.MOVED]
        if not fresh:
            return  # marked by an undo that was killed
        theirs = _accounted(fresh)
        batch.aside = [s for s in self.ledger.set_aside(self.row.id) if s.uid in theirs]
        batch.repairs = [r for r in self.ledger.repairs(self.row.id) if r.uid in theirs]
        row = self.row
        row = row._replace(
            complete=False, source_uidnext=0, moved=max(0, row.moved - sum(run.count for run in fresh) + len(batch.aside)),
            set_aside=max(0, row.set_aside - len(batch.aside)), repaired=max(0, row.repaired - len(batch.repairs)),
            bytes_moved=max(0, row.bytes_moved - batch.octets))
        self.ledger.write(Entry(
            row, runs=[replace(run, outcome=Outcome.UNDOING) for run in fresh], clear_set_aside=[s.uid for s in batch.aside],
            drop_repairs=[r.uid for r in batch.repairs], close_intents=self._old_watches()))
        self.row = row

    def _remove(self, batch: _Batch) -> None:
        """Step 2."""
        uids = list(batch.uids()) if batch.there else []
        for at in range(0, len(uids), UIDS_AT_ONCE):
            points.reached("undo about to remove")
            self.target.uid_expunge(self.row.target, uids[at:at + UIDS_AT_ONCE])

    def _take_back(self, batch: _Batch, before: FolderRow) -> None:
        """The destination refused. Where it has removed nothing the marks are taken back, so that a copy goes on as if nothing had been
        asked; the folder stays open, and the next copy proves it again."""
        if self.target.channel.stream.closed or any(run.outcome is Outcome.UNDOING for run in batch.runs):
            return
        if sum(1 for _ in self._still_there(batch)) == batch.there:
            row = before._replace(complete=False, source_uidnext=0)
            self.ledger.write(Entry(row, runs=batch.runs, set_aside=batch.aside, repairs=batch.repairs))
            self.row = row

    def _still_there(self, batch: _Batch) -> Iterator[int]:
        """Step 3: the batch's UIDs that exist."""
        first, last, wanted = _extent(batch.runs)
        if self.target.examine(self.row.target).messages:
            yield from (uid for uid in fetch_uids(self.target, first, last) if uid in wanted)
        self.target.unselect()

    def _count(self, batch: _Batch, left: int) -> None:
        told = self.told
        told.removed += batch.there - left
        told.absent += batch.messages - batch.there
        told.left += left
        told.bytes += batch.octets if not left else 0
        told.why = UndoLeft.NOT_REMOVED if left else told.why

    def _unresolved(self) -> int:
        """Messages that were in flight when a copy was killed, and were not looked up since."""
        intents = self.ledger.intents(self.row.id)
        if not intents:
            return 0
        known = _accounted(self.ledger.runs(self.row.id), self.ledger.set_aside(self.row.id))
        return len({uid for i in intents for uid in i.uids if uid not in known})

    def _old_watches(self) -> list[int]:
        """Intents whose messages were all looked up long ago: kept, they would make the next copy look for what is removed here."""
        old = [i for i in self.ledger.intents(self.row.id) if time.time() - i.begun_at > WATCH_SECONDS]
        if not old:
            return []
        known = _accounted(self.ledger.runs(self.row.id), self.ledger.set_aside(self.row.id))
        return [i.id for i in old if all(uid in known for uid in i.uids)]


class _Within:
    """Whether a destination UID belongs to one of the runs; these ascend by it and do not overlap."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._spans = [(run.target_first, run.target_first + run.count) for run in runs]
        self._at = 0

    def __contains__(self, uid: int) -> bool:
        spans = self._spans
        if self._at and uid < spans[self._at][0]:
            self._at = 0  # a server that does not list in order
        while self._at < len(spans) - 1 and uid >= spans[self._at][1]:
            self._at += 1
        first, end = spans[self._at]
        return first <= uid < end


def _extent(runs: Sequence[Run]) -> tuple[int, int, _Within]:
    return runs[0].target_first, max(run.target_first + run.count - 1 for run in runs), _Within(runs)


def _accounted(runs: Iterable[Run], aside: Iterable[SetAsideRow] = ()) -> Accounted:
    return Accounted(sorted(runs, key=lambda run: run.source_first), [s.uid for s in aside])


def _batches(runs: Sequence[Run]) -> Iterator[_Batch]:
    batch: list[Run] = []
    messages = 0
    for run in runs:
        if batch and (messages + run.count > MESSAGES_AT_ONCE or len(batch) >= RUNS_AT_ONCE):
            yield _Batch(batch)
            batch, messages = [], 0
        batch.append(run)
        messages += run.count
    if batch:
        yield _Batch(batch)
