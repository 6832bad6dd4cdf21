"""A whole mailbox: its folders are moved over one or more pairs of connections, from the plan (planning.py) to the report (outcome.py).

Parallel by folder, so that a folder's order is kept; folders that share a destination folder go one after the other. Connections
that break are opened again (pairs.py); a server that asks us to wait is obeyed: a short wait here, a long one ends the run as PAUSED
with `retry_after`, and the ledger holds the place.
"""
from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.causes import Cause, Side
from engine.endpoint import Account, Route
from engine.errors import ConnectionBroken, EngineError, ProtocolError, Refused, Throttled
from engine.folders.mapping import FolderPlan
from engine.ledger import FolderRow, LedgerStore
from engine.pacing.key import PaceKey
from engine.pacing.pace import Pace
from engine.pacing.store import MemoryPaceStore, PaceStore
from engine.progress import ProgressSink, Silent, Stop
from engine.providers.catalogue import provider
from engine.redact import redact
from engine.report.copy import CopyReport, SetAsideReport
from engine.transfer import points
from engine.transfer.breaks import Breaks
from engine.transfer.folder import FolderMove
from engine.transfer.matching import Claims
from engine.transfer.outcome import End, report_of
from engine.transfer.pairs import BREAKS_IN_A_ROW, Link, Pairs, Stopped, close, compress_where_it_pays
from engine.transfer.planning import Job, Plan, Planner, Rows
from engine.transfer.records import SerialStore
from engine.transfer.recover import Clock
from engine.transfer.sessions import Sessions
from engine.transfer.sweep import sweep
from engine.transfer.tally import Tally
from engine.transfer.writing import FolderLost

FOLDER_LOST_TRIES = 2   # times that one destination folder may be deleted under our hands
DAY_SECONDS = 86_400.0


class CopyOptions(NamedTuple):
    """How a mailbox is moved. `connections`: pairs at most; None: as many as both providers' data allow. `recent_days`: of each folder,
    what is younger goes first."""

    connections: int | None = 1
    retry_set_aside: bool = False
    recent_days: float | None = None


def copy_mailbox(source: Account, destination: Account, *, ledger: LedgerStore, source_route: Route | None = None,
                 destination_route: Route | None = None, connections: int | None = 1, progress: ProgressSink | None = None,
                 stop: Stop | None = None, retry_set_aside: bool = False, recent_days: float | None = None,
                 clock: Clock | None = None, pacing: PaceStore | None = None) -> CopyReport:
    """Moves everything that is not accounted for in `ledger`, and carries over what changed since. Expected failures come back as the
    report's outcome and cause; LeaseLost (from the ledger or the sink) is raised, after every connection was closed. `pacing` knows what
    the servers asked of others who use the same accounts."""
    options = CopyOptions(connections, retry_set_aside, recent_days)
    sink, stop = progress or Silent(), stop or Stop()
    pairs = Pairs(source, destination, source_route or Route(), destination_route or Route(), sink, stop.asked, {})
    pairs.paces = _paces(pairs, pacing or MemoryPaceStore(), connections)
    move = _MailboxMove(source, SerialStore(ledger), sink, stop, options, clock or Clock(), pairs, Plan(Tally(sink, 0, 0, 0)))
    try:
        return move.run()
    finally:
        for pace in pairs.paces.values():
            pace.leave()


def _paces(pairs: Pairs, store: PaceStore, connections: int | None) -> dict[Side, Pace]:
    keys = {Side.SOURCE: PaceKey.of(pairs.source, pairs.source_route),
            Side.DESTINATION: PaceKey.of(pairs.destination, pairs.destination_route)}
    return {side: Pace(key, store, side=side, limits=provider(key.provider).limits, pairs=connections, stopped=lambda: pairs.stopping())
            for side, key in keys.items()}


@dataclass(eq=False, repr=False)  # nobody compares or shows it, and each start would make both
class _MailboxMove:
    """One run. `helpers` are the threads of further pairs; they begin when it is `planned`."""

    source: Account
    store: SerialStore
    sink: ProgressSink
    stop: Stop
    options: CopyOptions
    clock: Clock
    pairs: Pairs
    plan: Plan
    rows: Rows = field(default_factory=Rows)
    pass_id: int = 0
    breaks: Breaks = field(default_factory=Breaks)
    end: End = field(default_factory=End)
    lock: threading.Lock = field(default_factory=threading.Lock)
    planned: threading.Event = field(default_factory=threading.Event)
    helpers: list[threading.Thread] = field(default_factory=list)

    def run(self) -> CopyReport:
        begun = time.monotonic()
        self.pairs.stopping = self._stopping
        try:
            self._run()
        except Stopped:
            self.end.stopped = True
        except EngineError as error:
            self.end.error = self.end.error or error
        if self.end.error is not None and not isinstance(self.end.error, EngineError):
            raise self.end.error
        report = report_of(self.plan, self.rows, self.end, self.store, self.pairs.paces)
        report.pass_id = self.pass_id
        if self.pass_id:
            with contextlib.suppress(EngineError):  # a ledger that cannot be written has been told already
                self.store.end_pass(self.pass_id, time.time(), report.outcome.value)
        report.seconds = time.monotonic() - begun
        return report

    def _run(self) -> None:
        first = self.pairs.open_first()
        try:
            self.pass_id = self.store.begin_pass(time.time())
            self._plan_patiently(first)
            self._move_all(first)
            if self.end.error is None and not self.end.stopped:
                self._sweep(first)
        except BaseException as error:
            self._ended(error)  # a helper that waits for the plan goes home
            raise
        finally:
            self.planned.set()
            for thread in self.helpers:
                thread.join()
            close(first)

    # -- the plan ----------------------------------------------------------------------------------------------------------

    def _plan_patiently(self, first: Sessions) -> None:
        """A connection that breaks while the mailboxes are looked at is opened again, like any other."""
        for tries in range(BREAKS_IN_A_ROW + 1):
            try:
                self._plan(first, make_folders=not tries)
                return
            except ConnectionBroken as error:
                self.pairs.wait_or_give_up(error, tries, BREAKS_IN_A_ROW)
                self.pairs.reopen(first)

    def _plan(self, sessions: Sessions, *, make_folders: bool) -> None:
        self.rows.begin(self.store.folders())
        if not self.helpers and not any(row.complete for row in self.rows.now.values()):
            self._open_helpers(sessions)  # there is work for them: they log in while we plan
        planner = Planner(self.source.endpoint.provider, self.store, self.sink, self.options.retry_set_aside, self.plan, self.rows)
        planner.look(sessions, make_folders=make_folders)

    # -- moving ------------------------------------------------------------------------------------------------------------

    def _move_all(self, first: Sessions) -> None:
        if not self.helpers:
            self._open_helpers(first, len(self.plan.jobs) - 1)
        inbox = self.plan.jobs.popleft() if self.plan.jobs else None
        self.planned.set()
        try:
            self._work(first, inbox)
        except BaseException as error:
            self._ended(error)
        for thread in self.helpers:
            thread.join()

    def _open_helpers(self, first: Sessions, at_most: int = 15) -> None:
        """Further pairs, as many as are allowed."""
        allowed = self.options.connections
        if allowed is None:
            allowed = min(first.source.limits.connections, first.target.limits.connections)
        for number in range(2, min(allowed, at_most + 1) + 1):
            thread = threading.Thread(target=self._helper, name=f"pair-{number}", daemon=True)
            self.helpers.append(thread)
            thread.start()

    def _helper(self) -> None:
        """A further pair. That it cannot be opened is no failure of the move: the first pair does the work."""
        try:
            sessions = self.pairs.open(here=False)
        except EngineError as error:
            self.pairs.tell(error)
            return
        try:
            self.planned.wait()
            if not self._stopping():
                self._work(sessions)
        except BaseException as error:
            self._ended(error)
        finally:
            close(sessions)

    def _ended(self, error: BaseException) -> None:
        with self.lock:
            if isinstance(error, Stopped):
                self.end.stopped = True
            elif self.end.error is None:
                self.end.error = error

    def _stopping(self) -> bool:
        """Asked at every safe point by every pair: stop was asked, or another pair failed."""
        return self.stop.asked() or self.end.error is not None

    def _work(self, sessions: Sessions, job: Job | None = None) -> None:
        """Folders, one after the other, beginning with this one, until none is left."""
        while True:
            with self.lock:
                job = job or (self.plan.jobs.popleft() if self.plan.jobs else None)
            if job is None:
                return
            if self._stopping():
                raise Stopped
            claims = self._claims(job.target)
            for folder in job.folders:
                self._move_folder(sessions, folder, claims)
            job = None

    def _claims(self, target: str) -> Claims:
        """The destination UIDs that the ledger gave away in this folder, to whichever source folder."""
        return Claims(run for row in list(self.rows.now.values()) if row.target == target and row.id for run in self.store.runs(row.id))

    def _move_folder(self, sessions: Sessions, folder: FolderPlan, claims: Claims) -> None:
        """One folder to its end, over as many connections as it takes. Raises Stopped when stop was asked."""
        name, breaks, lost, status = folder.source.name, 0, 0, self.plan.existing.get(folder.target)
        row = self.rows.of(folder)
        while True:
            move = FolderMove(sessions, self.store, folder, claims, status, self.plan.tally, self._stopping, self.breaks,
                              self.options.retry_set_aside and not breaks, self.clock, row, self.pass_id, self._recent_since())
            link = Link.of(sessions.source)
            try:
                finished = True if name in self.plan.done_with else move.run()
                if finished and not move.anew:
                    move.row = self._carry_over(sessions, move.row)
            except (ConnectionBroken, Throttled, ProtocolError) as error:
                progress = move.row.moved + move.row.set_aside > row.moved + row.set_aside
                breaks = 1 if progress else breaks + 1
                row, folder, status = move.row, move.plan, None
                self.pairs.wait_or_give_up(_with_notice(error, sessions), breaks - 1, BREAKS_IN_A_ROW)
                self.pairs.reopen(sessions)
                continue
            except FolderLost as error:
                lost += 1
                row, folder, status = move.row, move.plan._replace(exists=False), None
                self.pairs.tell(error)
                if lost > FOLDER_LOST_TRIES:
                    self._folder_refused(folder, error)
                    return
                self.pairs.reopen(sessions)
                continue
            except Refused as error:
                if error.cause is not Cause.X_FOLDER:
                    raise
                self._folder_refused(folder, error)
                return
            finally:
                if move.out_of_order is not None:
                    self.end.out_of_order[name] = move.out_of_order
                if move.row.id:
                    self.rows.now[name] = move.row
                if move.anew:
                    self.rows.before.pop(name, None)
                    self.plan.deltas.pop(name, None)
            if not finished:
                raise Stopped
            with contextlib.suppress(EngineError):  # a connection that is lost now is opened again for the next folder
                compress_where_it_pays(sessions.source, link)
            return

    def _recent_since(self) -> float | None:
        days = self.options.recent_days
        return None if days is None else self.clock.wall() - days * DAY_SECONDS

    def _carry_over(self, sessions: Sessions, row: FolderRow) -> FolderRow:
        delta = self.plan.deltas.get(row.source)
        if delta is None or not delta.changed:
            return row
        from engine.transfer.delta import carry_over  # loaded already: there is a delta

        points.reached("before changed flags are looked up")
        row = carry_over(delta, sessions.target, self.store, row)
        delta.changed = {}
        return row

    def _folder_refused(self, folder: FolderPlan, error: EngineError) -> None:
        """One folder cannot be opened: it is named, the ledger counts its messages as open, and the mailbox goes on."""
        self.pairs.tell(error)
        row = self.rows.of(folder)
        if not row.id:
            self.rows.now[row.source] = self.store.put_folder(row._replace(total=self.plan.messages(folder)))
        with self.lock:
            words = redact(error.server_text or error.detail)
            self.end.refused.append(SetAsideReport(folder.source.display, 0, error.cause.value, words))

    # -- the end -----------------------------------------------------------------------------------------------------------

    def _sweep(self, sessions: Sessions) -> None:
        """The last look at what dead workers may have left behind."""
        for row in list(self.rows.now.values()):
            if row.rule is None and row.id and self.store.intents(row.id):
                stay = sweep(sessions, self.store, row, self._claims(row.target), self.clock)
                if stay:
                    self.end.refused.append(SetAsideReport(row.target_display, 0, Cause.INCOMPLETE.value,
                                                       f"{stay} surplus copies stay: the destination cannot remove single messages"))


def _with_notice(error: EngineError, sessions: Sessions) -> EngineError:
    """A wait that the server had stated before the connection broke counts, though nobody had come to read it out."""
    for session in (sessions.source, sessions.target):
        notice = session.take_throttle()
        if notice is not None and session.side is error.side and not error.retry_after:
            error.retry_after, error.server_text = notice.retry_after, error.server_text or notice.server_text
    return error
