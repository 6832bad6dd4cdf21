"""The live check: logs in once, counts what would be moved, and warns of what would go wrong.

Owns the order of the five steps as people see them, and the warnings. Must not: change anything, open more than one connection, try a
login twice, raise an EngineError (a failure is a result with its cause).
Always: within about BUDGET seconds after the login; what could not be counted by then is estimated and said to be. Message bodies stay
closed, but for one where the provider is known to serve headers only (263; facts: providers §9).
"""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from engine.causes import Cause, Side, Words
from engine.endpoint import Account, Route
from engine.errors import EngineError, MessageRefused, Refused
from engine.folders.mapping import FolderPlan, plan_folders
from engine.folders.roles import FolderRole
from engine.imap.fetch import Metadata, fetch_bodies, fetch_metadata
from engine.imap.session import FolderStatus, Session
from engine.pacing.key import PaceKey
from engine.pacing.pace import Pace
from engine.pacing.store import MemoryPaceStore, PaceStore
from engine.providers.catalogue import provider as provider_data
from engine.providers.detect import by_host, detect
from engine.providers.provider import Quirk
from engine.redact import redact
from engine.report.check import CheckResult, FolderFound
from engine.report.steps import Step, StepState
from engine.transfer.matching import instant

BUDGET = 12.0               # seconds for counting, where the server does not tell sizes
SHORT_BUDGET = 4.0          # … where it does, and only the largest message is still looked for
RANGE_MESSAGES = 2000       # messages asked for at a time, about
USUAL_SIZE = 75_000         # octets of a message, where none was seen
SLOW_ROUND_TRIP = 0.2       # seconds; an overseas line is worth a try then
PROBE_SIZES = range(2_000, 1_000_000)  # octets of the one message that is opened to see whether bodies come
DAY = 86_400.0
RANGE_OF_30_DAYS = (27 * DAY, 31.5 * DAY)  # the oldest message lies here when only 30 days are open to clients

OnStep = Callable[[Step, StepState], None]

WARNINGS: dict[str, Words] = {
    "only_30_days": Words("只能看到最近 30 天的邮件，更早的搬不过来；请先把收取范围改成“全部”",
                          "Only the last 30 days are visible; set the range to “all” first, or older mail stays behind"),
    "system_folders_only": Words("只看得到系统文件夹；如有自建文件夹，请先勾选“收取我的文件夹”",
                                 "Only built-in folders are visible; if there are others, open them for mail programs first"),
    "excluded_folders": Words("有些文件夹按规则不搬", "Some folders are left out by rule"),
    "all_mail_only": Words("有些邮件只在“所有邮件”里，没有标签，不会搬；请先给它们加标签",
                           "Some messages lie only in All Mail, without a label, and would stay behind; label them first"),
    "folder_unreadable": Words("这个文件夹打不开（可能上了安全锁）", "This folder cannot be opened (it may be locked)"),
    "header_only": Words("旧邮箱只给邮件头，不给正文", "The old server serves headers only, no bodies"),
    "overseas_host_better": Words("到旧邮箱的线路很慢，可以换用它的境外服务器",
                                  "The line to the old server is slow; its overseas host may be better"),
    "largest_over_limit": Words("最大的一封超过新邮箱单封上限", "The largest message is over the new mailbox's limit"),
    "quota_too_small": Words("新邮箱剩余空间不够", "The new mailbox has too little room"),
    "mx_switched": Words("域名的 MX 已指向新服务商；有的旧服务商会因此停用登录",
                         "The domain's MX points to the new provider already; some old providers then refuse logins"),
}


def check_account(account: Account, route: Route, *, side: Side = Side.SOURCE, on_step: OnStep | None = None,
                  compare: CheckResult | None = None, mx_lookup: Callable[[str], list[str]] | None = None,
                  pacing: PaceStore | None = None) -> CheckResult:
    """Logs in with one LOGIN and looks around. `compare`: the source's result, when the destination is checked against it.
    `mx_lookup`: asked for the login's domain when the source is checked; None: not asked. `pacing` knows what the server asked of those
    who move this mailbox: while a wait stands, nobody logs in. Never raises an EngineError."""
    begun = time.monotonic()
    steps = _Steps(on_step)
    result = CheckResult(provider=account.endpoint.provider or by_host(account.endpoint.host))
    session: Session | None = None
    key = PaceKey.of(account, route)
    pace = Pace(key, pacing or MemoryPaceStore(), side=side, limits=provider_data(key.provider).limits)
    try:
        session = pace.connect(lambda gate: Session.open(account, route, side=side, on_step=steps, gate=gate))
        result.provider = session.provider or result.provider
        result.append_limit = session.append_limit
        steps(Step.FOLDERS, StepState.RUNNING)
        _look(session, result)
        _warn_of_destination(session, result, compare) if side is Side.DESTINATION else _warn_of_line(session, account, result)
        steps(Step.FOLDERS, StepState.OK)
        result.outcome = "ok"
    except EngineError as error:
        steps.failed()
        _fail(result, error)
    finally:
        if session is not None:
            session.logout()
        pace.leave()
    if result.outcome == "ok" and side is Side.SOURCE and mx_lookup is not None:
        _warn_of_mx(account, result, mx_lookup)
    result.step = steps.last
    result.seconds = round(time.monotonic() - begun, 3)
    return result


class _Steps:
    """Passes steps on and remembers the last one."""

    def __init__(self, on_step: OnStep | None) -> None:
        self._on_step = on_step
        self.last = Step.NAME
        self._state = StepState.WAITING

    def __call__(self, step: Step, state: StepState) -> None:
        self.last, self._state = step, state
        if self._on_step is not None:
            self._on_step(step, state)

    def failed(self) -> None:
        """Unless the one who took the step has said so."""
        if self._state is StepState.RUNNING:
            self(self.last, StepState.FAILED)


def _fail(result: CheckResult, error: EngineError) -> None:
    result.cause, result.causes = error.cause, list(error.causes)
    result.server_text, result.detail = redact(error.server_text), error.detail
    result.retry_after = error.retry_after


def _warn(result: CheckResult, code: str, **facts: object) -> None:
    words = WARNINGS[code]
    result.warnings.append({"code": code, **facts, "zh": words.zh, "en": words.en})


# -- counting --------------------------------------------------------------------------------------------------------------------

@dataclass
class _Measured:
    """One folder. `octets` and `largest` of the messages seen; `oldest` in Unix time."""

    plan: FolderPlan
    status: FolderStatus | None
    seen: int = 0
    octets: int = 0
    largest: int = 0
    oldest: float | None = None
    probe: int | None = None  # UID of a message fit for opening
    ranges: list[tuple[int, int | None]] = field(default_factory=list)

    def add(self, one: Metadata) -> None:
        self.seen += 1
        self.octets += one.size
        self.largest = max(self.largest, one.size)
        when = instant(one.internal_date)
        if isinstance(when, float | int):
            self.oldest = when if self.oldest is None else min(self.oldest, when)
        if self.probe is None and one.size in PROBE_SIZES:
            self.probe = one.uid


def _look(session: Session, result: CheckResult) -> None:
    """Folders, messages, octets, the largest, the oldest; fills `found` and the warnings about the mailbox itself."""
    folders = session.list_folders()
    prefix, separator = session.namespace_prefix()
    plans = plan_folders(folders, [], source_prefix=prefix, destination_prefix="", destination_separator=separator or "",
                         provider=result.provider)
    counts = session.statuses([plan.source.name for plan in plans])
    measured = [_Measured(plan, counts.get(plan.source.name)) for plan in plans]
    moved = [one for one in measured if one.plan.rule is None]
    told = all(one.status is None or one.status.size is not None for one in moved)
    if session.side is Side.SOURCE:
        _measure(session, result, moved, time.monotonic() + (SHORT_BUDGET if told else BUDGET))
    seen, octets = sum(one.seen for one in measured), sum(one.octets for one in measured)
    average = octets / seen if seen else USUAL_SIZE
    for one in measured:
        _enter(result, one, average)
    if session.side is Side.SOURCE:
        _warn_of_mailbox(session, result, measured)


def _measure(session: Session, result: CheckResult, folders: Sequence[_Measured], until: float) -> None:
    """Reads metadata folder by folder, inbox first, then the fullest, until the time is up."""
    order = sorted(folders, key=lambda one: (one.plan.role is not FolderRole.INBOX, -(one.status.messages if one.status else 0)))
    for one in order:
        if time.monotonic() >= until:
            return
        if one.status is not None and one.status.messages == 0:
            continue
        try:
            selected = session.examine(one.plan.source.name)
        except Refused as error:
            if error.cause not in (Cause.X_FOLDER, Cause.UNKNOWN):
                raise
            _warn(result, "folder_unreadable", folder=one.plan.source.display, server_text=redact(error.server_text))
            continue
        one.status = one.status or FolderStatus(selected.messages, selected.uidnext or 0, selected.uidvalidity)
        for first, last in _ranges(selected.messages, selected.uidnext):
            for metadata in fetch_metadata(session, first, last):
                one.add(metadata)
            if time.monotonic() >= until:
                return


def _ranges(messages: int, uidnext: int | None) -> Iterator[tuple[int, int | None]]:
    """UID ranges that hold about RANGE_MESSAGES each, were the UIDs spread evenly (NetEase's are sparse)."""
    if messages and uidnext is None:
        yield 1, None
    elif messages and uidnext is not None:
        width = max(RANGE_MESSAGES, RANGE_MESSAGES * uidnext // messages)
        for first in range(1, uidnext, width):
            yield first, min(first + width, uidnext) - 1


def _enter(result: CheckResult, one: _Measured, average: float) -> None:
    messages = one.status.messages if one.status else one.seen
    if one.status is not None and one.status.size is not None:
        octets = one.status.size
    elif one.seen >= messages:
        octets = one.octets
    else:
        octets = round(one.octets + (messages - one.seen) * (one.octets / one.seen if one.seen else average))
        result.bytes_estimated = result.bytes_estimated or one.plan.rule is None
    role = one.plan.role.value if one.plan.role else None
    result.found.append(FolderFound(one.plan.source.display, role, messages, octets, one.plan.rule))
    if one.plan.rule is None:
        result.folders += 1
        result.messages += messages
        result.bytes += octets
        result.largest = max(result.largest, one.largest)


# -- warnings --------------------------------------------------------------------------------------------------------------------

def _warn_of_mailbox(session: Session, result: CheckResult, measured: Sequence[_Measured]) -> None:
    _warn_of_range(result, measured)
    maker = provider_data(result.provider)
    roles = {one.plan.role for one in measured}
    if maker.family == "tencent" and None not in roles:
        _warn(result, "system_folders_only")
    left_out = [row for row in result.found if row.excluded_by and row.messages]
    if left_out:
        _warn(result, "excluded_folders", folders=[row.name for row in left_out], messages=sum(row.messages for row in left_out))
    everything = sum(row.messages for row in left_out if row.excluded_by == "all_mail")
    labelled = sum(row.messages for row in result.found if row.role not in ("all", "flagged", "important", "junk", "trash", "chats"))
    if everything > labelled:
        _warn(result, "all_mail_only", messages=everything - labelled)
    if Quirk.HEADER_ONLY_BODIES in maker.quirks and _serves_no_body(session, measured):
        _warn(result, "header_only")


def _warn_of_range(result: CheckResult, measured: Sequence[_Measured]) -> None:
    """Trash and junk are left out of this: many servers empty them after 30 days."""
    emptied = (FolderRole.TRASH, FolderRole.JUNK)
    dates = [one.oldest for one in measured if one.oldest is not None and one.plan.role not in emptied]
    least, most = RANGE_OF_30_DAYS
    if dates and least <= time.time() - min(dates) <= most:
        _warn(result, "only_30_days", oldest=datetime.fromtimestamp(min(dates), UTC).date().isoformat())


def _serves_no_body(session: Session, measured: Sequence[_Measured]) -> bool:
    """Opens one message and looks whether anything comes after its header."""
    one = next((one for one in measured if one.probe is not None), None)
    if one is None or one.probe is None:
        return False
    session.examine(one.plan.source.name)
    try:
        contents = [body.read() for body in fetch_bodies(session, [[one.probe]], largest=max(PROBE_SIZES) * 2)]
    except MessageRefused:
        return True
    return not any(content.partition(b"\r\n\r\n")[2] for content in contents)  # also when answered without data


def _warn_of_line(session: Session, account: Account, result: CheckResult) -> None:
    other = provider_data(result.provider).overseas_host
    if other and other.host != account.endpoint.host and session.rtt > SLOW_ROUND_TRIP:
        _warn(result, "overseas_host_better", host=other.host, round_trip=round(session.rtt, 3))


def _warn_of_destination(session: Session, result: CheckResult, source: CheckResult | None) -> None:
    quota = session.quota()
    result.quota_free = quota.free if quota else None
    if source is None:
        return
    if result.quota_free is not None and result.quota_free < source.bytes:
        _warn(result, "quota_too_small", free=result.quota_free, needed=source.bytes)
    if result.append_limit is not None and result.append_limit < source.largest:
        _warn(result, "largest_over_limit", largest=source.largest, limit=result.append_limit)


def _warn_of_mx(account: Account, result: CheckResult, mx_lookup: Callable[[str], list[str]]) -> None:
    if detect(account.login, mx_lookup=mx_lookup).switched:
        _warn(result, "mx_switched")
