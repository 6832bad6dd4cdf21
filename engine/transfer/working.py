"""One pair of connections at work: folder after folder, each over as many connections as it takes.

Owns: which folder is next, what a failure in a folder costs (the folder, a reconnect, the run), and the folder that is read ahead while the
end of the one before is stored and proven. Must not: plan, or know how many pairs there are.
"""
from __future__ import annotations

import contextlib
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.causes import Cause
from engine.errors import ConnectionBroken, EngineError, ProtocolError, Refused, Throttled
from engine.folders.mapping import FolderPlan
from engine.imap.held_ends import FolderIsLocked
from engine.imap.session import Selected
from engine.ledger import FolderRow
from engine.progress import Stop
from engine.redact import redact
from engine.report.copy import SetAsideReport
from engine.transfer import points
from engine.transfer.ahead import Ahead, nothing_is_known
from engine.transfer.breaks import Breaks
from engine.transfer.folder import FolderMove, ReadTooEarly
from engine.transfer.matching import Claims
from engine.transfer.outcome import End
from engine.transfer.pairs import BREAKS_IN_A_ROW, Link, Pairs, Stopped, compress_where_it_pays
from engine.transfer.planning import Job, Plan, Rows
from engine.transfer.proof import Proof
from engine.transfer.reading import Reader, reader_of
from engine.transfer.records import SerialStore
from engine.transfer.recover import Clock
from engine.transfer.sessions import Sessions
from engine.transfer.writing import FolderLost

FOLDER_LOST_TRIES = 2   # times that one destination folder may be deleted under our hands
DAY_SECONDS = 86_400.0


class CopyOptions(NamedTuple):
    """How a mailbox is moved. `connections`: pairs at most; None: as many as both providers' data allow. `recent_days`: of each folder,
    what is younger goes first."""

    connections: int | None = 1
    retry_set_aside: bool = False
    recent_days: float | None = None


@dataclass(eq=False, repr=False)
class Common:
    """What all pairs of a run share."""

    store: SerialStore
    pairs: Pairs
    plan: Plan
    stop: Stop
    options: CopyOptions
    clock: Clock
    rows: Rows = field(default_factory=Rows)
    pass_id: int = 0
    breaks: Breaks = field(default_factory=Breaks)
    end: End = field(default_factory=End)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ended(self, error: BaseException) -> None:
        with self.lock:
            if isinstance(error, Stopped):
                self.end.stopped = True
            elif self.end.error is None:
                self.end.error = error

    def stopping(self) -> bool:
        """Asked at every safe point by every pair: stop was asked, or another pair failed."""
        return self.stop.asked() or self.end.error is not None

    def next_job(self) -> Job | None:
        with self.lock:
            return self.plan.jobs.popleft() if self.plan.jobs else None

    def claims(self, target: str) -> Claims:
        """The destination UIDs that the ledger gave away in this folder, to whichever source folder."""
        return Claims(run for row in list(self.rows.now.values()) if row.target == target and row.id for run in self.store.runs(row.id))

    def recent_since(self) -> float | None:
        days = self.options.recent_days
        return None if days is None else self.clock.wall() - days * DAY_SECONDS


class PairWork:
    """`job`: the first one's folders; the others are taken as they come."""

    def __init__(self, common: Common, sessions: Sessions, job: Job | None) -> None:
        self._common = common
        self._sessions = sessions
        self._folders = deque(job.folders if job else ())  # of the job that was begun
        self._following: FolderPlan | None = None  # taken before its turn
        self._ahead: Ahead | None = None           # … and opened at the source
        self._claims: tuple[str, Claims] = ("", Claims())
        self._link = Link.of(sessions.source)

    def run(self) -> None:
        """Until no folder is left. Raises Stopped when stop was asked, and what ends the run."""
        try:
            while (folder := self._next()) is not None:
                if self._common.stopping():
                    raise Stopped
                self._move(folder)
        finally:
            self._leave_ahead()

    def _next(self) -> FolderPlan | None:
        folder, self._following = self._following, None
        if folder is not None:
            return folder
        if not self._folders and (job := self._common.next_job()) is not None:
            self._folders.extend(job.folders)
        return self._folders.popleft() if self._folders else None

    # -- ahead -----------------------------------------------------------------------------------------------------------------

    def _read_ahead(self) -> None:
        """The source's connection is free: the next folder is opened and read, if it is to be read whole."""
        common, source = self._common, self._sessions.source
        if self._ahead is not None or common.stopping():
            return
        if self._following is None:
            self._following = self._next()
        folder = self._following
        if folder is None or not nothing_is_known(common.rows.of(folder), folder, common.plan.existing.get(folder.target)):
            return
        name, since = folder.source.name, common.recent_since()

        def reader(selected: Selected) -> Reader:
            return reader_of(source, name, selected, common.breaks, since)

        self._ahead = Ahead(source, name, reader)

    def _leave_ahead(self) -> None:
        """The connections are given up, or the folder is not wanted."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.abandon()

    def _source_is_free(self) -> None:
        with contextlib.suppress(EngineError):  # a connection that is lost now is opened again for the next folder
            compress_where_it_pays(self._sessions.source, self._link)
        self._read_ahead()

    # -- a folder --------------------------------------------------------------------------------------------------------------

    def _claims_of(self, target: str) -> Claims:
        if self._claims[0] != target:
            self._claims = target, self._common.claims(target)
        return self._claims[1]

    def _move(self, folder: FolderPlan) -> None:
        """One folder to its end, over as many connections as it takes."""
        common, sessions, name = self._common, self._sessions, folder.source.name
        claims, status = self._claims_of(folder.target), common.plan.existing.get(folder.target)
        row, breaks, lost, unproven = common.rows.of(folder), 0, 0, Proof()
        while True:
            ahead, self._ahead = self._ahead, None
            assert ahead is None or ahead.name == name, "another folder was read ahead"
            move = FolderMove(sessions, common.store, folder, claims, status, common.plan.tally, common.stopping, common.breaks,
                              common.options.retry_set_aside and not breaks, common.clock, row, common.pass_id, common.recent_since(),
                              proof=unproven, ahead=ahead, source_is_free=self._source_is_free)
            self._link = Link.of(sessions.source)
            try:
                finished = True if name in common.plan.done_with else move.run()
                if finished and not move.anew:
                    move.row = self._carry_over(move.row)
            except (ConnectionBroken, Throttled, ProtocolError) as error:
                progress = (move.row.moved + move.row.set_aside > row.moved + row.set_aside
                            or move.row.unproven_from > row.unproven_from > 0)
                breaks = 1 if progress else breaks + 1
                if isinstance(error, FolderIsLocked):
                    common.pairs.single = True
                row, folder, status = move.row, move.plan, None
                self._leave_ahead()
                common.pairs.wait_or_give_up(_with_notice(error, sessions), breaks - 1, BREAKS_IN_A_ROW)
                common.pairs.reopen(sessions)
                continue
            except ReadTooEarly:
                row, folder, status = move.row, move.plan, None
                common.pairs.reopen(sessions)
                continue
            except FolderLost as error:
                lost += 1
                row, folder, status = move.row, move.plan._replace(exists=False), None
                self._leave_ahead()
                common.pairs.tell(error)
                if lost > FOLDER_LOST_TRIES:
                    self._folder_refused(folder, error, move.row)
                    return
                common.pairs.reopen(sessions)
                continue
            except Refused as error:
                if error.cause is not Cause.X_FOLDER:
                    raise
                self._folder_refused(folder, error, move.row)
                return
            finally:
                if move.out_of_order is not None:
                    common.end.out_of_order[name] = move.out_of_order
                if move.row.id:
                    common.rows.now[name] = move.row
                if move.anew:
                    common.rows.before.pop(name, None)
                    common.plan.deltas.pop(name, None)
            if not finished:
                raise Stopped
            if self._ahead is None:
                self._source_is_free()
            return

    def _carry_over(self, row: FolderRow) -> FolderRow:
        delta = self._common.plan.deltas.get(row.source)
        if delta is None or not delta.changed:
            return row
        from engine.transfer.delta import carry_over  # loaded already: there is a delta

        points.reached("before changed flags are looked up")
        row = carry_over(delta, self._sessions.target, self._common.store, row)
        delta.changed = {}
        return row

    def _folder_refused(self, folder: FolderPlan, error: EngineError, row: FolderRow) -> None:
        """One folder cannot be opened: it is named, the ledger counts its messages as open, and the mailbox goes on. `row`: as the move
        left it."""
        common = self._common
        common.pairs.tell(error)
        if not row.id:
            common.rows.now[row.source] = common.store.put_folder(row._replace(total=common.plan.messages(folder)))
        with common.lock:
            words = redact(error.server_text or error.detail)
            common.end.refused.append(SetAsideReport(folder.source.display, 0, error.cause.value, words))


def _with_notice(error: EngineError, sessions: Sessions) -> EngineError:
    """A wait that the server had stated before the connection broke counts, though nobody had come to read it out."""
    for session in (sessions.source, sessions.target, *sessions.lanes):
        notice = session.take_throttle()
        if notice is not None and session.side is error.side and not error.retry_after:
            error.retry_after, error.server_text = notice.retry_after, error.server_text or notice.server_text
    return error
