"""A whole mailbox: plans the folders, moves them over one or more pairs of connections, and says how it ended.

Parallel by folder, so that a folder's order is kept; folders that share a destination folder go one after the other. Connections
that break are opened again, BREAKS_IN_A_ROW times without progress at most; a server that asks us to wait is obeyed: a short wait
here, a long one ends the run as PAUSED with `retry_after`, and the ledger holds the place.
"""
from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.causes import Cause, Side
from engine.endpoint import Account, Route
from engine.errors import ConnectionBroken, EngineError, Refused, Throttled
from engine.folders.mapping import FolderPlan, ignores_case, plan_folders
from engine.folders.roles import FolderRole
from engine.imap.session import FolderStatus, Session
from engine.ledger import FolderRow, LedgerStore, SetAsideRow
from engine.progress import ProgressSink, Silent, Stop
from engine.redact import redact
from engine.report import CopyOutcome, CopyReport, FolderReport, SetAsideReport, Step, StepState
from engine.transfer.folder import Breaks, FolderMove, Sessions, sweep
from engine.transfer.matching import Claims
from engine.transfer.pace import UNSTATED_WAIT_SECONDS, WAIT_HERE_SECONDS
from engine.transfer.records import SerialStore
from engine.transfer.recover import Clock
from engine.transfer.tally import Tally
from engine.transfer.undo import finish_undone

log = logging.getLogger(__name__)

BREAKS_IN_A_ROW = 5              # reconnects without any progress between them
BREAKS_AT_THE_START = 2          # and when the first connections cannot be made at all
LOGIN_TRIES = 2                  # a server that hangs up at LOGIN may have counted it
QUICK_SECONDS = 30.0             # a failure that took longer is final for this run
RECONNECT_SECONDS = (0.5, 2.0, 5.0, 15.0, 30.0)  # each with up to half as much again, at random


class _Stopped(Exception):
    """Stop was asked; everything sent is answered and stored."""


@dataclass
class _Job:
    """Folders that go to one destination folder, in order."""

    target: str
    plans: list[FolderPlan]


@dataclass
class _End:
    """Why the run ended before all was done; the first reason counts."""

    error: BaseException | None = None
    stopped: bool = False


def copy_mailbox(source: Account, destination: Account, *, ledger: LedgerStore, source_route: Route | None = None,
                 destination_route: Route | None = None, connections: int = 1, progress: ProgressSink | None = None,
                 stop: Stop | None = None, retry_set_aside: bool = False, clock: Clock | None = None) -> CopyReport:
    """Moves everything that is not accounted for in `ledger`. Expected failures come back as the report's outcome and cause;
    LeaseLost (from the ledger or the sink) is raised, after every connection was closed."""
    move = _MailboxMove(source, destination, SerialStore(ledger), source_route or Route(), destination_route or Route(),
                        max(1, connections), progress or Silent(), stop or Stop(), retry_set_aside, clock or Clock())
    return move.run()


@dataclass
class _MailboxMove:
    source: Account
    destination: Account
    store: SerialStore
    source_route: Route
    destination_route: Route
    connections: int
    sink: ProgressSink
    stop: Stop
    retry_set_aside: bool
    clock: Clock
    rows: dict[str, FolderRow] = field(default_factory=dict)       # by source folder
    before: dict[str, FolderRow] = field(default_factory=dict)     # as they were when this run began; without those started anew
    plans: list[FolderPlan] = field(default_factory=list)
    counted: dict[str, FolderStatus] = field(default_factory=dict)  # source folders
    existing: dict[str, FolderStatus] = field(default_factory=dict)  # destination folders
    refused: list[SetAsideReport] = field(default_factory=list)    # whole folders
    jobs: deque[_Job] = field(default_factory=deque)
    breaks: Breaks = field(default_factory=Breaks)
    end: _End = field(default_factory=_End)
    lock: threading.Lock = field(default_factory=threading.Lock)
    tally: Tally | None = None
    at_login: bool = False  # the connection under way has sent its secret and had no answer

    def run(self) -> CopyReport:
        begun = time.monotonic()
        report = CopyReport()
        try:
            first = self._persist(self._open, BREAKS_AT_THE_START)
            try:
                self._plan(first)
                self._move_all(first)
                if self.end.error is None and not self.end.stopped:
                    self._sweep(first)
            finally:
                _close(first)
        except _Stopped:
            self.end.stopped = True
        except EngineError as error:
            self.end.error = self.end.error or error
        if self.end.error is not None and not isinstance(self.end.error, EngineError):
            raise self.end.error
        self._fill(report)
        report.seconds = time.monotonic() - begun
        return report

    # -- connections -------------------------------------------------------------------------------------------------------

    def _open(self) -> Sessions:
        self.at_login = False
        source = Session.open(self.source, self.source_route, side=Side.SOURCE, on_step=self._note_login)
        try:
            return Sessions(source, Session.open(self.destination, self.destination_route, side=Side.DESTINATION,
                                                 on_step=self._note_login))
        except BaseException:
            source.close()
            raise

    def _note_login(self, step: Step, state: StepState) -> None:
        self.at_login = step is Step.LOGIN and state is not StepState.OK

    def _persist(self, work: Callable[[], Sessions], most: int) -> Sessions:
        """Opens the connections; a broken one is tried again `most` times, a stated wait is obeyed. A server that took long to fail
        is not tried again: each try may count as a login there, and somebody waits for our word."""
        for tries in range(most + 1):
            begun = time.monotonic()
            try:
                return work()
            except (ConnectionBroken, Throttled) as error:
                slow = isinstance(error, ConnectionBroken) and time.monotonic() - begun > QUICK_SECONDS
                least = min(most, LOGIN_TRIES - 1) if self.at_login and isinstance(error, ConnectionBroken) else most
                self._wait_or_give_up(error, tries, tries if slow else least)
        raise AssertionError("_wait_or_give_up raises at the last try")

    def _wait_or_give_up(self, error: EngineError, tries: int, most: int) -> None:
        """Waits before try number `tries` + 1, or raises: PAUSED's Throttled for a long wait or one wait too many, the error itself after
        the last try."""
        self._tell(error)
        if self._stopping():
            raise _Stopped from error
        if error.server_text and (error.retry_after or 0) > WAIT_HERE_SECONDS:  # a wait counts in a goodbye, too
            raise Throttled(error.cause, side=error.side, server_text=error.server_text, detail=error.detail, causes=error.causes,
                            retry_after=error.retry_after) from error
        wait = RECONNECT_SECONDS[min(tries, len(RECONNECT_SECONDS) - 1)]
        if isinstance(error, Throttled):
            wait = error.retry_after if error.retry_after is not None else max(wait, UNSTATED_WAIT_SECONDS)
            if wait > WAIT_HERE_SECONDS or tries >= most:
                raise error
        elif tries >= most or error.cause in (Cause.TLS, Cause.ADDRESS_REFUSED):
            raise error
        deadline = time.monotonic() + wait * random.uniform(1.0, 1.5)  # noqa: S311  # jitter, not a secret
        while time.monotonic() < deadline:
            if self._stopping():
                raise _Stopped from error
            time.sleep(0.1)

    def _tell(self, error: EngineError) -> None:
        self.sink.server_line(error.side, error.cause, redact(error.server_text or error.detail))

    # -- the plan ----------------------------------------------------------------------------------------------------------

    def _plan(self, sessions: Sessions) -> None:
        """Which folders, where to, how many messages; unchanged folders are done with here, without being opened."""
        source, target = sessions.source, sessions.target
        self.rows = {row.source: row for row in finish_undone(target, self.store)}
        self.before = dict(self.rows)
        theirs = target.list_folders()
        prefix, separator = target.namespace_prefix()
        self.plans = plan_folders(
            source.list_folders(), theirs, source_prefix=source.namespace_prefix()[0], destination_prefix=prefix,
            destination_separator=separator or "", provider=self.source.endpoint.provider or source.provider,
            case_insensitive=ignores_case(target.provider), kept={row.source: row.target for row in self.rows.values() if row.target})
        self.counted = source.statuses([p.source.name for p in self.plans])
        wanted = [p for p in self.plans if p.rule is None]
        self.existing = target.statuses(sorted({p.target for p in wanted if p.exists}))
        self.tally = Tally(self.sink, sum(s.messages for s in self.counted.values()),
                           sum(s.size or 0 for s in self.counted.values()), len(self.plans))
        for plan in self.plans:
            if plan.rule is not None:
                self._exclude(plan)
        by_target: dict[str, _Job] = {}
        for plan in wanted:
            if self._unchanged(plan):
                self.tally.put(self.rows[plan.source.name])
            else:
                by_target.setdefault(plan.target, _Job(plan.target, [])).plans.append(plan)
        self.jobs.extend(sorted(by_target.values(), key=self._turn))

    def _turn(self, job: _Job) -> tuple[bool, int]:
        """Inbox first, then the largest: the longest folder must not be the last to start."""
        messages = sum(self.counted[p.source.name].messages for p in job.plans if p.source.name in self.counted)
        return (all(p.role is not FolderRole.INBOX for p in job.plans), -messages)

    def _row(self, plan: FolderPlan) -> FolderRow:
        name = plan.source.name
        return self.rows.get(name) or FolderRow(
            name, plan.target, source_display=plan.source.display, target_display=plan.target_display,
            role=plan.role.value if plan.role else None, note=plan.note)

    def _exclude(self, plan: FolderPlan) -> None:
        counted = self.counted.get(plan.source.name)
        messages = counted.messages if counted else 0
        row = self._row(plan)
        self.rows[row.source] = self.store.put_folder(FolderRow(
            row.source, "", row.id, source_display=plan.source.display, role=row.role, rule=plan.rule,
            total=messages, excluded=messages))
        assert self.tally is not None
        self.tally.put(self.rows[row.source])

    def _unchanged(self, plan: FolderPlan) -> bool:
        """Nothing new since the folder was completed, by one STATUS on each side."""
        row, here, there = self.rows.get(plan.source.name), self.counted.get(plan.source.name), self.existing.get(plan.target)
        if row is None or here is None or there is None or not row.complete or (self.retry_set_aside and row.set_aside):
            return False
        return (here.uidnext == row.source_uidnext and here.messages <= row.source_messages and here.uidvalidity == row.source_uidvalidity
                and there.uidvalidity == row.target_uidvalidity)

    # -- moving ------------------------------------------------------------------------------------------------------------

    def _move_all(self, first: Sessions) -> None:
        helpers = [threading.Thread(target=self._helper, name=f"pair-{n}", daemon=True)
                   for n in range(2, min(self.connections, len(self.jobs)) + 1)]
        for thread in helpers:
            thread.start()
        try:
            self._work(first)
        except BaseException as error:
            self._ended(error)
        for thread in helpers:
            thread.join()

    def _helper(self) -> None:
        """A further pair. That it cannot be opened is no failure of the move: the first pair does the work."""
        try:
            sessions = self._open()
        except EngineError as error:
            self._tell(error)
            return
        try:
            self._work(sessions)
        except BaseException as error:
            self._ended(error)
        finally:
            _close(sessions)

    def _ended(self, error: BaseException) -> None:
        with self.lock:
            if isinstance(error, _Stopped):
                self.end.stopped = True
            elif self.end.error is None:
                self.end.error = error

    def _stopping(self) -> bool:
        """Asked at every safe point by every pair: stop was asked, or another pair failed."""
        return self.stop.asked() or self.end.error is not None

    def _work(self, sessions: Sessions) -> None:
        while True:
            with self.lock:
                job = self.jobs.popleft() if self.jobs else None
            if job is None:
                return
            if self._stopping():
                raise _Stopped
            claims = self._claims(job.target)
            for plan in job.plans:
                self._move_folder(sessions, plan, claims)

    def _claims(self, target: str) -> Claims:
        """The destination UIDs that the ledger gave away in this folder, to whichever source folder."""
        return Claims(run for row in list(self.rows.values()) if row.target == target and row.id for run in self.store.runs(row.id))

    def _move_folder(self, sessions: Sessions, plan: FolderPlan, claims: Claims) -> None:
        """One folder to its end, over as many connections as it takes. Raises _Stopped when stop was asked."""
        assert self.tally is not None
        name, breaks, status = plan.source.name, 0, self.existing.get(plan.target)
        row = self._row(plan)
        while True:
            move = FolderMove(sessions, self.store, plan, claims, status, self.tally, self._stopping, self.breaks,
                              self.retry_set_aside and not breaks, self.clock, row)
            try:
                finished = move.run()
            except (ConnectionBroken, Throttled) as error:
                breaks = 1 if move.row.moved > row.moved else breaks + 1
                row, plan, status = move.row, move.plan, None
                self._wait_or_give_up(error, breaks - 1, BREAKS_IN_A_ROW)
                self._reopen(sessions)
                continue
            except Refused as error:
                if error.cause is not Cause.X_FOLDER:
                    raise
                self._folder_refused(plan, error)
                return
            finally:
                if move.row.id:
                    self.rows[name] = move.row
                if move.anew:
                    self.before.pop(name, None)
            if not finished:
                raise _Stopped
            return

    def _reopen(self, sessions: Sessions) -> None:
        _close(sessions)
        fresh = self._persist(self._open, BREAKS_IN_A_ROW)
        sessions.source, sessions.target = fresh.source, fresh.target

    def _folder_refused(self, plan: FolderPlan, error: EngineError) -> None:
        """One folder cannot be opened: it is named, and the mailbox goes on."""
        self._tell(error)
        with self.lock:
            words = redact(error.server_text or error.detail)
            self.refused.append(SetAsideReport(plan.source.display, 0, error.cause.value, words))

    # -- the end -----------------------------------------------------------------------------------------------------------

    def _sweep(self, sessions: Sessions) -> None:
        """The last look at what dead workers may have left behind."""
        for row in list(self.rows.values()):
            if row.rule is None and row.id and self.store.intents(row.id):
                stay = sweep(sessions, self.store, row, self._claims(row.target), self.clock)
                if stay:
                    self.refused.append(SetAsideReport(row.target_display, 0, Cause.INCOMPLETE.value,
                                                       f"{stay} surplus copies stay: the destination cannot remove single messages"))

    def _fill(self, report: CopyReport) -> None:
        for plan in self.plans:
            report.folders.append(self._folder_report(plan))
            row = self.rows.get(plan.source.name)
            for aside in self.store.set_aside(row.id) if row and row.id else ():
                report.set_aside.append(_set_aside_report(plan, aside))
        report.set_aside += self.refused
        before = {row.source: row.bytes_moved for row in self.before.values()}
        report.bytes = sum(max(0, row.bytes_moved - before.get(row.source, 0)) for row in self.rows.values())
        error = self.end.error
        if isinstance(error, EngineError):
            report.cause, report.side, report.detail = error.cause, error.side, error.detail
            report.server_text, report.retry_after = redact(error.server_text), error.retry_after
            report.outcome = CopyOutcome.PAUSED if isinstance(error, Throttled) else CopyOutcome.FAILED
        elif self.end.stopped:
            report.outcome = CopyOutcome.PAUSED
        else:
            report.outcome = CopyOutcome.PARTIAL if report.set_aside else CopyOutcome.COMPLETE

    def _folder_report(self, plan: FolderPlan) -> FolderReport:
        """`moved` is this run's; what earlier runs of the ledger moved was there already."""
        counted = self.counted.get(plan.source.name)
        row = self.rows.get(plan.source.name)
        if row is None:
            return FolderReport(plan.source.display, plan.target_display, plan.role.value if plan.role else None,
                                total=counted.messages if counted else 0, rule=plan.rule, note=plan.note)
        earlier = self.before.get(plan.source.name)
        moved = max(0, row.moved - earlier.moved) if earlier else row.moved
        return FolderReport(plan.source.display, row.target_display, row.role, row.total, moved,
                            row.already_there + row.moved - moved, row.excluded, row.set_aside, row.vanished, row.rule, row.note)


def _set_aside_report(plan: FolderPlan, aside: SetAsideRow) -> SetAsideReport:
    return SetAsideReport(plan.source.display, aside.uid, aside.reason.value, aside.server_text, aside.size, aside.internal_date)


def _close(sessions: Sessions) -> None:
    """Says goodbye where the connection still allows it."""
    for session in (sessions.source, sessions.target):
        session.logout()
