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

from engine.causes import Cause, Side
from engine.endpoint import Account, Route
from engine.errors import ConnectionBroken, EngineError
from engine.ledger import LedgerStore
from engine.pacing.key import PaceKey
from engine.pacing.pace import Pace
from engine.pacing.store import MemoryPaceStore, PaceStore
from engine.progress import ProgressSink, Silent, Stop
from engine.providers.catalogue import provider
from engine.report.copy import CopyReport, SetAsideReport
from engine.transfer.outcome import report_of
from engine.transfer.pairs import BREAKS_IN_A_ROW, Pairs, Stopped, close
from engine.transfer.planning import Plan, Planner
from engine.transfer.records import SerialStore
from engine.transfer.recover import Clock
from engine.transfer.sessions import Sessions
from engine.transfer.sweep import sweep
from engine.transfer.tally import Tally
from engine.transfer.working import Common, CopyOptions, PairWork


def copy_mailbox(source: Account, destination: Account, *, ledger: LedgerStore, source_route: Route | None = None,
                 destination_route: Route | None = None, connections: int | None = 1, progress: ProgressSink | None = None,
                 stop: Stop | None = None, retry_set_aside: bool = False, recent_days: float | None = None,
                 clock: Clock | None = None, pacing: PaceStore | None = None) -> CopyReport:
    """Moves everything that is not accounted for in `ledger`, and carries over what changed since. Expected failures come back as the
    report's outcome and cause; LeaseLost (from the ledger or the sink) is raised, after every connection was closed. `pacing` knows what
    the servers asked of others who use the same accounts."""
    options = CopyOptions(connections, retry_set_aside, recent_days)
    sink, stop = progress or Silent(), stop or Stop()
    pairs = Pairs(source, destination, source_route or Route(), destination_route or Route(), sink, stop.asked, {},
                  single=connections == 1)
    pairs.paces = _paces(pairs, pacing or MemoryPaceStore(), connections)
    common = Common(SerialStore(ledger), pairs, Plan(Tally(sink, 0, 0, 0)), stop, options, clock or Clock())
    pairs.stopping = common.stopping
    try:
        return _MailboxMove(common, sink, source.endpoint.provider).run()
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
    """One run. `helpers` are the threads of further pairs; they begin when it is `planned`. `provider`: the source's, where the account
    names it."""

    common: Common
    sink: ProgressSink
    provider: str | None
    planned: threading.Event = field(default_factory=threading.Event)
    helpers: list[threading.Thread] = field(default_factory=list)

    def run(self) -> CopyReport:
        begun, common = time.monotonic(), self.common
        try:
            self._run()
        except Stopped:
            common.end.stopped = True
        except EngineError as error:
            common.end.error = common.end.error or error
        if common.end.error is not None and not isinstance(common.end.error, EngineError):
            raise common.end.error
        report = report_of(common.plan, common.rows, common.end, common.store, common.pairs.paces)
        report.pass_id = common.pass_id
        if common.pass_id:
            with contextlib.suppress(EngineError):  # a ledger that cannot be written has been told already
                common.store.end_pass(common.pass_id, time.time(), report.outcome.value)
        report.seconds = time.monotonic() - begun
        return report

    def _run(self) -> None:
        common = self.common
        first = common.pairs.open_first()
        try:
            common.pass_id = common.store.begin_pass(time.time())
            self._plan_patiently(first)
            self._move_all(first)
            if common.end.error is None and not common.end.stopped:
                self._sweep(first)
        except BaseException as error:
            common.ended(error)  # a helper that waits for the plan goes home
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
                self.common.pairs.wait_or_give_up(error, tries, BREAKS_IN_A_ROW)
                self.common.pairs.reopen(first)

    def _plan(self, sessions: Sessions, *, make_folders: bool) -> None:
        common = self.common
        common.rows.begin(common.store.folders())
        if not self.helpers and not any(row.complete for row in common.rows.now.values()):
            self._open_helpers(sessions)  # there is work for them: they log in while we plan
        planner = Planner(self.provider, common.store, self.sink, common.options.retry_set_aside, common.plan, common.rows)
        planner.look(sessions, make_folders=make_folders)

    # -- moving ------------------------------------------------------------------------------------------------------------

    def _move_all(self, first: Sessions) -> None:
        common = self.common
        if not self.helpers:
            self._open_helpers(first, len(common.plan.jobs) - 1)
        inbox = common.next_job()
        self.planned.set()
        try:
            PairWork(common, first, inbox).run()
        except BaseException as error:
            common.ended(error)
        for thread in self.helpers:
            thread.join()

    def _open_helpers(self, first: Sessions, at_most: int = 15) -> None:
        """Further pairs, as many as are allowed."""
        allowed = self.common.options.connections
        if allowed is None:
            allowed = min(first.source.limits.connections, first.target.limits.connections)
        for number in range(2, min(allowed, at_most + 1) + 1):
            thread = threading.Thread(target=self._helper, name=f"pair-{number}", daemon=True)
            self.helpers.append(thread)
            thread.start()

    def _helper(self) -> None:
        """A further pair. That it cannot be opened is no failure of the move: the first pair does the work."""
        common = self.common
        try:
            sessions = common.pairs.open(here=False)
        except EngineError as error:
            common.pairs.tell(error)
            return
        try:
            self.planned.wait()
            if not common.stopping():
                PairWork(common, sessions, None).run()
        except BaseException as error:
            common.ended(error)
        finally:
            close(sessions)

    # -- the end -----------------------------------------------------------------------------------------------------------

    def _sweep(self, sessions: Sessions) -> None:
        """The last look at what dead workers may have left behind."""
        common = self.common
        for row in list(common.rows.now.values()):
            if row.rule is None and row.id and common.store.intents(row.id):
                stay = sweep(sessions, common.store, row, common.claims(row.target), common.clock)
                if stay:
                    common.end.refused.append(SetAsideReport(row.target_display, 0, Cause.INCOMPLETE.value,
                                                             f"{stay} surplus copies stay: the destination cannot remove single messages"))
