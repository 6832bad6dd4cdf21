"""A whole mailbox: plans the folders, moves them over one or more pairs of connections, and says how it ended.

Parallel by folder, so that a folder's order is kept; folders that share a destination folder go one after the other. Connections
that break are opened again (pairs.py); a server that asks us to wait is obeyed: a short wait here, a long one ends the run as PAUSED
with `retry_after`, and the ledger holds the place. A folder that was complete is looked at, not read: what changed in it goes on.
"""
from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from engine.causes import Cause, Side
from engine.endpoint import Account, Route
from engine.errors import ConnectionBroken, EngineError, ProtocolError, Refused, Throttled
from engine.folders.mapping import FolderPlan, ignores_case, plan_folders
from engine.folders.roles import FolderRole
from engine.imap.session import FolderStatus, Session, Survey
from engine.ledger import FolderRow, LedgerStore, SetAsideRow
from engine.pacing.key import PaceKey
from engine.pacing.pace import Pace
from engine.pacing.store import MemoryPaceStore, PaceStore
from engine.progress import ProgressSink, Silent, Stop
from engine.providers.catalogue import provider
from engine.redact import redact
from engine.report.copy import CopyOutcome, CopyReport, FolderReport, SetAsideReport
from engine.transfer import points
from engine.transfer.breaks import Breaks
from engine.transfer.folder import FolderMove
from engine.transfer.matching import Claims
from engine.transfer.pairs import BREAKS_IN_A_ROW, Link, Pairs, Stopped, close, compress_where_it_pays
from engine.transfer.records import SerialStore
from engine.transfer.recover import Clock
from engine.transfer.sessions import Sessions
from engine.transfer.sweep import sweep
from engine.transfer.tally import Tally
from engine.transfer.writing import FolderLost

if TYPE_CHECKING:
    from engine.transfer.delta import FolderDelta

FOLDER_LOST_TRIES = 2   # times that one destination folder may be deleted under our hands
DAY_SECONDS = 86_400.0


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
    move = _MailboxMove(source, SerialStore(ledger), sink, stop, options, clock or Clock(), pairs)
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


@dataclass
class _MailboxMove:
    source: Account
    store: SerialStore
    sink: ProgressSink
    stop: Stop
    options: CopyOptions
    clock: Clock
    pairs: Pairs
    pass_id: int = 0
    rows: dict[str, FolderRow] = field(default_factory=dict)       # by source folder
    before: dict[str, FolderRow] = field(default_factory=dict)     # as they were when this run began; without those started anew
    plans: list[FolderPlan] = field(default_factory=list)
    counted: dict[str, FolderStatus] = field(default_factory=dict)  # source folders
    existing: dict[str, FolderStatus] = field(default_factory=dict)  # destination folders
    deltas: dict[str, FolderDelta] = field(default_factory=dict)   # of source folders that were complete
    done_with: set[str] = field(default_factory=set)               # source folders without new mail
    refused: list[SetAsideReport] = field(default_factory=list)    # whole folders
    jobs: deque[_Job] = field(default_factory=deque)
    breaks: Breaks = field(default_factory=Breaks)
    end: _End = field(default_factory=_End)
    lock: threading.Lock = field(default_factory=threading.Lock)
    planned: threading.Event = field(default_factory=threading.Event)
    helpers: list[threading.Thread] = field(default_factory=list)
    tally: Tally | None = None
    out_of_order: dict[str, int] = field(default_factory=dict)     # messages, by source folder

    def run(self) -> CopyReport:
        begun = time.monotonic()
        report = CopyReport()
        self.pairs.stopping = self._stopping
        try:
            self._run()
        except Stopped:
            self.end.stopped = True
        except EngineError as error:
            self.end.error = self.end.error or error
        if self.end.error is not None and not isinstance(self.end.error, EngineError):
            raise self.end.error
        self._fill(report)
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
        """Which folders, where to, how many messages; unchanged folders are done with here, without being read. Not `make_folders`: one of
        them may have broken the connection; each is then made when its turn comes."""
        source, target = sessions.source, sessions.target
        self.rows = {row.source: row for row in self.store.folders()}
        self.before, self.done_with = dict(self.rows), set()
        if not self.helpers and not any(row.complete for row in self.rows.values()):
            self._open_helpers(sessions)  # there is work for them: they log in while we plan
        here, there = self._survey(sessions)
        if self.rows:
            from engine.transfer.undo import finish_undone  # of no use in a first copy

            self.rows = {row.source: row for row in finish_undone(target, self.store)}
            self.before = dict(self.rows)
        self.plans = plan_folders(
            here.folders, there.folders, source_prefix=here.prefix, destination_prefix=there.prefix,
            destination_separator=there.separator or "", provider=self.source.endpoint.provider or source.provider,
            case_insensitive=ignores_case(target.provider), kept={row.source: row.target for row in self.rows.values() if row.target})
        self.counted, self.existing = here.statuses, there.statuses
        wanted = [p for p in self.plans if p.rule is None]
        self.deltas = self._look_for_changes(source, [row for p in wanted if (row := self._may_be_unchanged(p))])
        self.tally = Tally(self.sink, sum(s.messages for s in self.counted.values()),
                           sum(s.size or 0 for s in self.counted.values()), len(self.plans))
        for plan in self.plans:
            if plan.rule is not None:
                self._exclude(plan)
        by_target: dict[str, _Job] = {}
        for plan in wanted:
            if self._unchanged(plan):
                self._done_with(plan)
                if not self.deltas[plan.source.name].changed:
                    continue
            by_target.setdefault(plan.target, _Job(plan.target, [])).plans.append(plan)
        if make_folders:
            self._make_folders(target, [plan for job in by_target.values() for plan in job.plans])
        for job in by_target.values():
            job.plans = [plan._replace(exists=plan.exists or plan.target in self.existing) for plan in job.plans]
        self.jobs = deque(sorted(by_target.values(), key=self._turn))

    def _look_for_changes(self, source: Session, rows: list[FolderRow]) -> dict[str, FolderDelta]:
        if not rows:
            return {}
        from engine.transfer.delta import look_for_changes  # of no use in a first copy

        return look_for_changes(source, rows, self.store)

    def _make_folders(self, target: Session, plans: list[FolderPlan]) -> None:
        """All at once, while the destination has nothing else to do. What it refuses is asked for again when its turn comes, under
        another name if need be (target.py)."""
        wanted = list(dict.fromkeys(plan.target for plan in plans if not plan.exists))
        if wanted:
            points.reached("before folders are made")
            self.existing = self.existing | target.make(wanted)

    def _survey(self, sessions: Sessions) -> tuple[Survey, Survey]:
        """Both sides at once."""
        found: list[Survey | BaseException] = []

        def survey_target() -> None:
            try:
                found.append(sessions.target.survey())
            except BaseException as error:  # raised by the thread that asked
                found.append(error)

        helper = threading.Thread(target=survey_target, name="survey-destination", daemon=True)
        helper.start()
        try:
            here = sessions.source.survey()
        finally:
            helper.join()
        if isinstance(found[0], BaseException):
            raise found[0]
        return here, found[0]

    def _turn(self, job: _Job) -> tuple[bool, int]:
        """Inbox first, then the largest: the longest folder must not be the last to start."""
        messages = sum(self.counted[p.source.name].messages for p in job.plans
                       if p.source.name in self.counted and p.source.name not in self.done_with)
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
        excluded = FolderRow(row.source, "", row.id, source_display=plan.source.display, role=row.role, rule=plan.rule,
                             total=messages, excluded=messages)
        self.rows[row.source] = excluded if excluded == row else self.store.put_folder(excluded)
        assert self.tally is not None
        self.tally.put(self.rows[row.source])

    def _may_be_unchanged(self, plan: FolderPlan) -> FolderRow | None:
        """The row of a folder that was complete and whose destination is the one it was; whether it is the same still, a look tells."""
        row, there = self.rows.get(plan.source.name), self.existing.get(plan.target)
        if row is None or not row.complete or there is None or there.uidvalidity != row.target_uidvalidity:
            return None
        return None if self.options.retry_set_aside and row.set_aside else row

    def _unchanged(self, plan: FolderPlan) -> bool:
        delta = self.deltas.get(plan.source.name)
        return delta is not None and delta.nothing_new()

    def _done_with(self, plan: FolderPlan) -> None:
        """Nothing is to be moved. What is gone at the source is counted, once."""
        name = plan.source.name
        self.done_with.add(name)
        row, gone = self.rows[name], self.deltas[name].gone
        if gone:
            row = self.store.put_folder(row._replace(gone=row.gone + gone, source_messages=row.source_messages - gone))
            self.rows[name] = row
        assert self.tally is not None
        self.tally.put(row)

    # -- moving ------------------------------------------------------------------------------------------------------------

    def _move_all(self, first: Sessions) -> None:
        if not self.helpers:
            self._open_helpers(first, len(self.jobs) - 1)
        inbox = self.jobs.popleft() if self.jobs else None
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

    def _work(self, sessions: Sessions, job: _Job | None = None) -> None:
        """Folders, one after the other, beginning with this one, until none is left."""
        while True:
            with self.lock:
                job = job or (self.jobs.popleft() if self.jobs else None)
            if job is None:
                return
            if self._stopping():
                raise Stopped
            claims = self._claims(job.target)
            for plan in job.plans:
                self._move_folder(sessions, plan, claims)
            job = None

    def _claims(self, target: str) -> Claims:
        """The destination UIDs that the ledger gave away in this folder, to whichever source folder."""
        return Claims(run for row in list(self.rows.values()) if row.target == target and row.id for run in self.store.runs(row.id))

    def _move_folder(self, sessions: Sessions, plan: FolderPlan, claims: Claims) -> None:
        """One folder to its end, over as many connections as it takes. Raises Stopped when stop was asked."""
        assert self.tally is not None
        name, breaks, lost, status = plan.source.name, 0, 0, self.existing.get(plan.target)
        row = self._row(plan)
        while True:
            move = FolderMove(sessions, self.store, plan, claims, status, self.tally, self._stopping, self.breaks,
                              self.options.retry_set_aside and not breaks, self.clock, row, self.pass_id, self._recent_since())
            link = Link.of(sessions.source)
            try:
                finished = True if name in self.done_with else move.run()
                if finished and not move.anew:
                    move.row = self._carry_over(sessions, move.row)
            except (ConnectionBroken, Throttled, ProtocolError) as error:
                progress = move.row.moved + move.row.set_aside > row.moved + row.set_aside
                breaks = 1 if progress else breaks + 1
                row, plan, status = move.row, move.plan, None
                self.pairs.wait_or_give_up(_with_notice(error, sessions), breaks - 1, BREAKS_IN_A_ROW)
                self.pairs.reopen(sessions)
                continue
            except FolderLost as error:
                lost += 1
                row, plan, status = move.row, move.plan._replace(exists=False), None
                self.pairs.tell(error)
                if lost > FOLDER_LOST_TRIES:
                    self._folder_refused(plan, error)
                    return
                self.pairs.reopen(sessions)
                continue
            except Refused as error:
                if error.cause is not Cause.X_FOLDER:
                    raise
                self._folder_refused(plan, error)
                return
            finally:
                if move.out_of_order is not None:
                    self.out_of_order[name] = move.out_of_order
                if move.row.id:
                    self.rows[name] = move.row
                if move.anew:
                    self.before.pop(name, None)
                    self.deltas.pop(name, None)
            if not finished:
                raise Stopped
            with contextlib.suppress(EngineError):  # a connection that is lost now is opened again for the next folder
                compress_where_it_pays(sessions.source, link)
            return

    def _recent_since(self) -> float | None:
        days = self.options.recent_days
        return None if days is None else self.clock.wall() - days * DAY_SECONDS

    def _carry_over(self, sessions: Sessions, row: FolderRow) -> FolderRow:
        delta = self.deltas.get(row.source)
        if delta is None or not delta.changed:
            return row
        from engine.transfer.delta import carry_over  # loaded already: there is a delta

        points.reached("before changed flags are looked up")
        row = carry_over(delta, sessions.target, self.store, row)
        delta.changed = {}
        return row

    def _folder_refused(self, plan: FolderPlan, error: EngineError) -> None:
        """One folder cannot be opened: it is named, the ledger counts its messages as open, and the mailbox goes on."""
        self.pairs.tell(error)
        row = self._row(plan)
        if not row.id:
            counted = self.counted.get(plan.source.name)
            self.rows[plan.source.name] = self.store.put_folder(row._replace(total=counted.messages if counted else 0))
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
        report.pass_id, report.out_of_order = self.pass_id, sum(self.out_of_order.values())
        before = {row.source: row.bytes_moved for row in self.before.values()}
        report.bytes = sum(max(0, row.bytes_moved - before.get(row.source, 0)) for row in self.rows.values())
        error = self.end.error
        if isinstance(error, EngineError):
            report.cause, report.side, report.detail = error.cause, error.side, error.detail
            report.server_text, report.retry_after = redact(error.server_text), error.retry_after
            report.outcome = CopyOutcome.PAUSED if isinstance(error, Throttled) else CopyOutcome.FAILED
        elif self.end.stopped:  # a wait that the server stated outlives the stop: whoever begins the next run is told of it
            report.outcome = CopyOutcome.PAUSED
            standing = [(seconds, side, cause) for side, pace in self.pairs.paces.items() for cause, seconds in pace.standing_wait()]
            if standing:
                report.retry_after, report.side, report.cause = max(standing)
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
                            row.already_there + row.moved - moved, row.excluded, row.set_aside, row.vanished, row.rule, row.note,
                            row.repaired, row.gone, row.flags_updated)


def _set_aside_report(plan: FolderPlan, aside: SetAsideRow) -> SetAsideReport:
    return SetAsideReport(plan.source.display, aside.uid, aside.reason.value, aside.server_text, aside.size, aside.internal_date)


def _with_notice(error: EngineError, sessions: Sessions) -> EngineError:
    """A wait that the server had stated before the connection broke counts, though nobody had come to read it out."""
    for session in (sessions.source, sessions.target):
        notice = session.take_throttle()
        if notice is not None and session.side is error.side and not error.retry_after:
            error.retry_after, error.server_text = notice.retry_after, error.server_text or notice.server_text
    return error
