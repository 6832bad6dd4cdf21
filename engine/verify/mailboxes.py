"""The whole comparison of two mailboxes: which folders, in which order they are read, when each is compared.

Both sides are read at once, several connections to each, the largest folder first; a folder is compared as soon as it was read. Must
not hold a folder: at most a few spools are open at a time.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass, field

from engine.causes import Side
from engine.endpoint import Account, Route
from engine.errors import EngineError
from engine.folders.mapping import FolderPlan, ignores_case, next_name_after_refusal, plan_folders
from engine.imap.folders import FolderStatus
from engine.ledger import FolderRow, LedgerStore, Run
from engine.pacing.store import MemoryPaceStore, PaceStore
from engine.progress import Progress, ProgressSink
from engine.providers.catalogue import provider as provider_data
from engine.providers.provider import Quirk
from engine.redact import redact
from engine.report.verify import Finding, FindingKind, FolderVerdict, VerifyMode, VerifyReport
from engine.verify.compare import Comparison
from engine.verify.expected import Expected, line_ends
from engine.verify.reading import Part, Readers, parts_of
from engine.verify.spool import Spool

_PIECES_PER_CONNECTION = 4  # UIDs are not spread evenly


@dataclass
class _Group:
    """The source folders that share one destination folder. `counted` are its messages on both sides, as STATUS says."""

    target: str
    display: str
    exists: bool
    plans: list[FolderPlan] = field(default_factory=list)
    counted: int = 0


@dataclass
class _Work:
    """A group that is being read; `open` is how many of its parts are not."""

    place: int
    group: _Group
    spool: Spool
    open: int = 0
    parts: list[Part] = field(default_factory=list)


_DIRECT = Route()


def verify_mailboxes(source: Account, destination: Account, *, source_route: Route = _DIRECT, destination_route: Route = _DIRECT,
                     connections: int | None = 1, progress: ProgressSink | None = None, targets: Mapping[str, str] | None = None,
                     mode: VerifyMode = VerifyMode.FULL, ledger: LedgerStore | None = None,
                     pacing: PaceStore | None = None) -> VerifyReport:
    """Reads every message of every moved folder on both sides (quick: what is told of it) and compares. `connections` to each side, None:
    as many as we hold ourselves to at its provider. `targets`: source folder -> the destination folder that the move used, where neither
    the plan of today nor the ledger finds it. With `ledger` messages are compared pair by pair. `pacing` knows what the servers asked of
    others who use the same accounts. Never raises an EngineError; what was compared before one is in the report."""
    begun = time.monotonic()
    report = VerifyReport(mode=mode, octets_compared=mode is VerifyMode.FULL, ledger_used=ledger is not None)
    try:
        run = _Run(report, mode, ledger, progress, targets or {}, source.endpoint.provider)
        pacing = pacing or MemoryPaceStore()
        with ExitStack() as spools, Readers(source, source_route, Side.SOURCE, connections, pacing) as ours, \
             Readers(destination, destination_route, Side.DESTINATION, connections, pacing) as theirs:
            run.compare(ours, theirs, spools)
        report.equal = not report.differs()
    except EngineError as error:
        report.cause, report.side = error.cause, error.side
        report.server_text, report.detail, report.retry_after = redact(error.server_text), error.detail, error.retry_after
    report.seconds = round(time.monotonic() - begun, 3)
    return report


@dataclass
class _Run:
    report: VerifyReport
    mode: VerifyMode
    ledger: LedgerStore | None
    progress: ProgressSink | None
    targets: Mapping[str, str]
    provider: str | None
    rows: dict[str, FolderRow] = field(default_factory=dict)  # the ledger's, by source folder
    here: dict[str, FolderStatus] = field(default_factory=dict)
    there: dict[str, FolderStatus] = field(default_factory=dict)
    key: str = "digest"

    def compare(self, ours: Readers, theirs: Readers, spools: ExitStack) -> None:
        """Fills the report's folders, in the order of the plan."""
        self.rows = {row.source: row for row in self.ledger.folders()} if self.ledger else {}
        groups = self._groups(ours, theirs)
        tell = _teller(self.progress, len(groups), sum(group.counted for group in groups))
        verdicts: dict[int, FolderVerdict] = {}
        try:
            for place, verdict in self._verdicts(groups, ours, theirs, spools):
                verdicts[place] = verdict
                tell(verdict)
        finally:
            for place in sorted(verdicts):
                self.report.add(verdicts[place])
        for verdict in self._gone_folders(groups):
            self.report.add(verdict)

    # -- the plan ----------------------------------------------------------------------------------------------------------------

    def _groups(self, ours: Readers, theirs: Readers) -> list[_Group]:
        kept = {row.source: row.target for row in self.rows.values() if row.target} | dict(self.targets)
        with ours.session() as source, theirs.session() as destination:
            there = destination.list_folders()
            prefix, separator = destination.namespace_prefix()
            plans = plan_folders(source.list_folders(), there, source_prefix=source.namespace_prefix()[0], destination_prefix=prefix,
                                 destination_separator=separator or "", provider=self.provider or source.provider,
                                 case_insensitive=ignores_case(destination.provider), kept=kept)
            names = {folder.name for folder in there if folder.selectable}
            groups: dict[str, _Group] = {}
            for plan in plans:
                if plan.rule is None:
                    plan = _as_taken(plan, names)
                    group = groups.setdefault(plan.target, _Group(plan.target, plan.target_display, plan.exists))
                    group.plans.append(plan)
            self.here = source.statuses([plan.source.name for group in groups.values() for plan in group.plans])
            self.there = destination.statuses([group.target for group in groups.values() if group.exists])
            guess = any(Quirk.SIZE_IS_ESTIMATE in provider_data(session.provider).quirks for session in (source, destination))
        if self.mode is VerifyMode.QUICK:
            self.key = "0" if guess else "size"
            self.report.sizes_compared = not guess
        for group in groups.values():
            counts = [self.here.get(plan.source.name) for plan in group.plans] + [self.there.get(group.target)]
            group.counted = sum(one.messages for one in counts if one is not None)
        return list(groups.values())

    def _gone_folders(self, groups: list[_Group]) -> Iterator[FolderVerdict]:
        """Folders of the ledger that the source no longer has, and whose destination folder no other folder shares."""
        if self.ledger is None:
            return
        seen = {plan.source.name for group in groups for plan in group.plans}
        shared = {group.target for group in groups}
        for row in self.rows.values():
            if row.source not in seen and row.rule is None and row.target not in shared:
                count = sum(run.count for run in self.ledger.runs(row.id))
                if count:
                    yield FolderVerdict(row.target_display or row.target, gone=count, note="the source no longer has this folder")

    # -- reading and comparing ---------------------------------------------------------------------------------------------------

    def _verdicts(self, groups: list[_Group], ours: Readers, theirs: Readers, spools: ExitStack) -> Iterator[tuple[int, FolderVerdict]]:
        """Place in `groups` and verdict of each, as they are ready. A few groups are read ahead, no more."""
        order = sorted(range(len(groups)), key=lambda place: -groups[place].counted)
        running: dict[Future[None], _Work] = {}
        active, at = 0, 0
        while at < len(order) or running:
            while at < len(order) and active < 2 * max(ours.connections, theirs.connections) + 2:
                work = self._begin(order[at], groups[order[at]], ours, theirs, spools, running)
                active, at = active + 1, at + 1
                if not work.open:
                    active -= 1
                    yield work.place, self._compare(work)
            done = wait(running, return_when=FIRST_COMPLETED).done if running else set()
            for future in done:
                work = running.pop(future)
                future.result()
                work.open -= 1
                if not work.open:
                    active -= 1
                    yield work.place, self._compare(work)

    def _begin(self, place: int, group: _Group, ours: Readers, theirs: Readers, spools: ExitStack,
               running: dict[Future[None], _Work]) -> _Work:
        spool = spools.enter_context(Spool(self.key))
        work = _Work(place, group, spool)
        full = self.mode is VerifyMode.FULL
        futures = []
        for number, plan in enumerate(group.plans, 1):
            counts = self.here.get(plan.source.name) or FolderStatus(0, 0, 0)
            parts = parts_of(Side.SOURCE, number, plan.source.name, full, messages=counts.messages, uidnext=counts.uidnext,
                             pieces=_pieces(ours), line_ends=self._line_ends(plan))
            futures += [ours.read(part, spool) for part in parts]
            work.parts += parts
        if group.exists:
            counts = self.there.get(group.target) or FolderStatus(0, 0, 0)
            parts = parts_of(Side.DESTINATION, 0, group.target, full, messages=counts.messages, uidnext=counts.uidnext,
                             pieces=_pieces(theirs))
            futures += [theirs.read(part, spool) for part in parts]
            work.parts += parts
        work.open = len(futures)
        running.update(dict.fromkeys(futures, work))
        return work

    def _name_refused(self, work: _Work, verdict: FolderVerdict) -> None:
        """A folder that its server does not open: as many messages as it counts cannot be compared."""
        display = {plan.source.name: plan.source.display for plan in work.group.plans}
        for part in work.parts:
            if part.refused and part.first == 1:
                counts = (self.here if part.side is Side.SOURCE else self.there).get(part.folder)
                verdict.unreadable += max(1, counts.messages if counts else 0)
                name = display[part.folder] if part.side is Side.SOURCE else work.group.display
                words = f"the {part.side.value} does not open it: {part.refused}"
                verdict.findings.append(Finding(FindingKind.UNREADABLE, name, words=words))

    def _line_ends(self, plan: FolderPlan) -> frozenset[int]:
        row = self.rows.get(plan.source.name)
        return line_ends(self.ledger.repairs(row.id)) if self.ledger and row else frozenset()

    def _compare(self, work: _Work) -> FolderVerdict:
        group, spool = work.group, work.spool
        expected: dict[int, Expected] = {}
        others: list[Run] = []
        unusable = []
        if self.ledger is not None:
            own = {plan.source.name for plan in group.plans}
            validity = spool.uidvalidity(Side.DESTINATION, 0)
            for number, plan in enumerate(group.plans, 1):
                row = self.rows.get(plan.source.name)
                one = Expected.read(self.ledger, row) if row else Expected()
                if one.source_uidvalidity in (0, spool.uidvalidity(Side.SOURCE, number)) and (
                        one.target_uidvalidity in (0, validity) or not group.exists):
                    expected[number] = one
                else:
                    unusable.append(plan.source.display)
            for row in self.rows.values():
                if row.target == group.target and row.source not in own and row.target_uidvalidity in (0, validity):
                    others += self.ledger.runs(row.id)
        comparison = Comparison(spool, group.display, {n: plan.source.display for n, plan in enumerate(group.plans, 1)}, self.mode,
                                expected, others, self.ledger is not None)
        with spool:
            verdict = comparison.run()
        self._name_refused(work, verdict)
        if unusable:
            verdict.note = "another UIDVALIDITY than the ledger's, compared by content: " + ", ".join(unusable)
        return verdict


def _pieces(readers: Readers) -> int:
    return _PIECES_PER_CONNECTION * readers.connections if readers.connections > 1 else 1


def _as_taken(plan: FolderPlan, names: set[str]) -> FolderPlan:
    """The plan with the name that the destination took, where it had refused the first."""
    other: FolderPlan | None = plan
    while other is not None and not plan.exists and other.target not in names:
        other = next_name_after_refusal(other, "")
    return plan if other is None or plan.exists else other._replace(exists=True)


def _teller(progress: ProgressSink | None, folders: int, counted: int) -> Callable[[FolderVerdict], None]:
    total = found = 0

    def tell(verdict: FolderVerdict) -> None:
        nonlocal total, found
        total += verdict.source_messages
        found += verdict.source_messages - verdict.missing
        if progress is not None:
            progress.progress(Progress(verdict.folder, folders, total, 0, 0, found, 0, total - found, 0))

    return tell
