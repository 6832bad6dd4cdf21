"""The proof after a move: reads both mailboxes whole, on fresh connections, and compares them message by message.

Owns the comparison: per destination folder the multiset of (SHA-256 of every octet, internal date as an instant, flags). Must not: use
the ledger, or anything that the move remembered; change anything (EXAMINE and BODY.PEEK on both sides).
Always: nothing is held of a message but its digest, date and flags; what could not be read counts as missing, never as equal.
"""
from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from engine.causes import Side
from engine.endpoint import Account, Route
from engine.errors import ConnectionBroken, EngineError, MessageRefused, Throttled
from engine.folders.mapping import FolderPlan, ignores_case, next_name_after_refusal, plan_folders
from engine.imap.fetch import fetch_digests, fetch_metadata
from engine.imap.session import Session
from engine.progress import Progress, ProgressSink
from engine.redact import redact
from engine.report import FolderVerdict, VerifyReport
from engine.transfer.matching import instant

TRIES = 3                   # of a folder whose connection breaks
PAUSE = 1.0                 # seconds before the second try, doubling
LONGEST_WAIT = 300.0        # seconds of a stated back-off that is waited out (facts: M04)


@dataclass(frozen=True)
class Print:
    """What has to be the same about a message: its octets, its date, its flags. `digest` b"" : it could not be read."""

    digest: bytes
    date: float | str
    flags: frozenset[str]


@dataclass
class _Counts:
    """How two multisets of prints differ."""

    missing: int = 0
    extra: int = 0
    altered_flags: int = 0
    altered_date: int = 0


@dataclass
class _Group:
    """The source folders that share one destination folder."""

    target: str
    display: str
    exists: bool
    plans: list[FolderPlan] = field(default_factory=list)


def verify_mailboxes(source: Account, destination: Account, *, source_route: Route = Route(), destination_route: Route = Route(),  # noqa: B008
                     connections: int = 1, progress: ProgressSink | None = None, targets: Mapping[str, str] | None = None) -> VerifyReport:
    """Reads every message of every moved folder on both sides and compares. `connections` per side. `targets`: source folder -> the
    destination folder that the move used, where the plan of today would find another. Never raises an EngineError."""
    begun = time.monotonic()
    report = VerifyReport()
    try:
        with _Readers(source, source_route, Side.SOURCE, connections) as ours, \
             _Readers(destination, destination_route, Side.DESTINATION, connections) as theirs:
            groups = _groups(ours, theirs, source.endpoint.provider, targets or {})
            _compare(report, groups, ours, theirs, progress)
        report.equal = not (report.missing or report.extra or report.altered_flags or report.altered_date)
    except EngineError as error:
        report.cause, report.side = error.cause, error.side
        report.server_text, report.detail = redact(error.server_text), error.detail
    report.seconds = round(time.monotonic() - begun, 3)
    return report


# -- the plan --------------------------------------------------------------------------------------------------------------------

def _groups(ours: _Readers, theirs: _Readers, provider: str | None, targets: Mapping[str, str]) -> list[_Group]:
    with ours.session() as source, theirs.session() as destination:
        there = destination.list_folders()
        prefix, separator = destination.namespace_prefix()
        plans = plan_folders(source.list_folders(), there, source_prefix=source.namespace_prefix()[0], destination_prefix=prefix,
                             destination_separator=separator or "", provider=provider or source.provider,
                             case_insensitive=ignores_case(destination.provider), kept=targets)
    names = {folder.name for folder in there if folder.selectable}
    groups: dict[str, _Group] = {}
    for plan in plans:
        if plan.rule is None:
            plan = _as_taken(plan, names)
            group = groups.setdefault(plan.target, _Group(plan.target, plan.target_display, plan.exists))
            group.plans.append(plan)
    return list(groups.values())


def _as_taken(plan: FolderPlan, names: set[str]) -> FolderPlan:
    """The plan with the name that the destination took, where it had refused the first."""
    other: FolderPlan | None = plan
    while other is not None and not plan.exists and other.target not in names:
        other = next_name_after_refusal(other, "")
    return plan if other is None or plan.exists else replace(other, exists=True)


# -- reading ---------------------------------------------------------------------------------------------------------------------

class _Readers:
    """Threads of one side, each with its own session, opened when first needed. A session that broke is replaced."""

    def __init__(self, account: Account, route: Route, side: Side, connections: int) -> None:
        self._account, self._route, self._side = account, route, side
        self._pool = ThreadPoolExecutor(max(1, connections), thread_name_prefix=f"verify-{side.value}")
        self._lock = threading.Lock()
        self._idle: list[Session] = []
        self._busy: set[Session] = set()

    def __enter__(self) -> _Readers:
        return self

    def __exit__(self, *failed: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            busy = list(self._busy)
        if failed[0] is not None:
            for session in busy:
                session.close()  # ends the reading in the other threads
        self._pool.shutdown(wait=True)
        for session in self._idle:
            session.logout()

    @contextmanager
    def session(self) -> Iterator[Session]:
        with self._lock:
            session = self._idle.pop() if self._idle else None
        session = session or Session.open(self._account, self._route, side=self._side)
        with self._lock:
            self._busy.add(session)
        try:
            yield session
        except BaseException:
            session.close()
            raise
        else:
            with self._lock:
                self._idle.append(session)
        finally:
            with self._lock:
                self._busy.discard(session)

    def read(self, folders: Sequence[str]) -> Future[list[Print]]:
        return self._pool.submit(lambda: [one for folder in folders for one in self._patiently(folder)])

    def _patiently(self, folder: str) -> list[Print]:
        """A stated back-off is waited out, a broken connection opened again; both at most TRIES times."""
        for attempt in range(1, TRIES + 1):
            try:
                with self.session() as session:
                    return _prints(session, folder)
            except (ConnectionBroken, Throttled) as error:
                wait = error.retry_after if isinstance(error, Throttled) and error.retry_after else PAUSE * 2 ** (attempt - 1)
                if attempt == TRIES or wait > LONGEST_WAIT:
                    raise
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")


def _prints(session: Session, folder: str) -> list[Print]:
    """The prints of a folder's messages. Raises what ends the folder; a message that cannot be read has an empty digest."""
    selected = session.examine(folder)
    if not selected.messages:
        return []
    last = selected.uidnext - 1 if selected.uidnext else None
    found = {one.uid: one for one in fetch_metadata(session, 1, last)}
    digests = dict.fromkeys(found, b"")
    try:
        for uid, digest in fetch_digests(session, list(found)):
            digests[uid] = bytes.fromhex(digest)
    except MessageRefused as refused:
        _one_by_one(session, [uid for uid in refused.uids or found if not digests.get(uid)], digests)
    return [Print(digests[uid], instant(one.internal_date), frozenset(flag.lower() for flag in one.flags)) for uid, one in found.items()]


def _one_by_one(session: Session, uids: Sequence[int], digests: dict[int, bytes]) -> None:
    """A refusal of a batch says little of each message in it."""
    for uid in uids:
        try:
            digests.update((found, bytes.fromhex(digest)) for found, digest in fetch_digests(session, [uid]))
        except MessageRefused:
            continue


# -- comparing -------------------------------------------------------------------------------------------------------------------

def _compare(report: VerifyReport, groups: Sequence[_Group], ours: _Readers, theirs: _Readers, progress: ProgressSink | None) -> None:
    """Both sides are read at once, a few folders ahead of the comparison."""
    tell = _teller(progress, len(groups))
    running: list[tuple[_Group, Future[list[Print]], Future[list[Print]] | None]] = [
        (group, ours.read([plan.source.name for plan in group.plans]), theirs.read([group.target]) if group.exists else None)
        for group in groups]
    while running:
        group, here, there = running.pop(0)
        source, target = here.result(), there.result() if there else []
        counts = differences(source, target)
        report.folders.append(FolderVerdict(group.display, len(source), len(target), counts.missing, counts.extra,
                                            counts.altered_flags, counts.altered_date))
        report.missing += counts.missing
        report.extra += counts.extra
        report.altered_flags += counts.altered_flags
        report.altered_date += counts.altered_date
        tell(group.display, len(source), len(source) - counts.missing)


def _teller(progress: ProgressSink | None, folders: int) -> Callable[[str, int, int], None]:
    total = found = 0

    def tell(folder: str, messages: int, equal: int) -> None:
        nonlocal total, found
        total, found = total + messages, found + equal
        if progress is not None:
            progress.progress(Progress(folder, folders, total, 0, 0, found, 0, total - found, 0))

    return tell


def differences(source: Sequence[Print], target: Sequence[Print]) -> _Counts:
    """Twins count: two equal messages at the source have to be two at the destination. Copies with the same octets are paired so that as
    few flags and dates as possible differ."""
    left, right = Counter(source), Counter(target)
    left, right = left - right, right - left
    unread = sum(count for one, count in Counter(source).items() if not one.digest)
    counts = _Counts(missing=unread)
    by_digest: dict[bytes, tuple[list[Print], list[Print]]] = {}
    for side, prints in enumerate((left, right)):
        for one, count in prints.items():
            if one.digest:
                by_digest.setdefault(one.digest, ([], []))[side].extend([one] * count)
            elif side:
                counts.extra += count
    for lost, gained in by_digest.values():
        for lacking in (1, 2):  # those that differ in one thing first
            for one in list(lost):
                other = next((twin for twin in gained if (one.date != twin.date) + (one.flags != twin.flags) == lacking), None)
                if other is not None:
                    lost.remove(one)
                    gained.remove(other)
                    counts.altered_date += one.date != other.date
                    counts.altered_flags += one.flags != other.flags
        counts.missing += len(lost)
        counts.extra += len(gained)
    return counts
