"""The results that the engine hands back, and their JSON forms (field names are public: command line, portal)."""
from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from engine.causes import Cause, Side


class CopyOutcome(StrEnum):
    COMPLETE = "complete"
    PARTIAL = "partial"    # everything accounted for, something set aside
    FAILED = "failed"      # has a cause
    PAUSED = "paused"      # stopped when asked, or must wait (`retry_after`); the ledger holds the place


@dataclass
class FolderReport:
    """`source` and `target` are names as people write them; `total` is what the source counted."""

    source: str
    target: str
    role: str | None = None
    total: int = 0
    moved: int = 0
    already_there: int = 0
    excluded: int = 0
    set_aside: int = 0
    vanished: int = 0
    rule: str | None = None
    note: str | None = None
    repaired: int = 0        # of the ledger, not of this run alone: changed so that the destination took them
    gone: int = 0            # of the ledger: moved, and deleted at the source since
    flags_updated: int = 0   # of the ledger: changed flags that were carried over after the copy


@dataclass
class SetAsideReport:
    folder: str
    uid: int
    reason: str
    server_text: str
    size: int = 0
    internal_date: str = ""


@dataclass
class CopyReport:
    """Of one run: `moved` counts what this run appended, `already_there` what it found at the destination (moved by an earlier run
    of the same ledger, or by anyone). `bytes` are octets appended by this run."""

    outcome: CopyOutcome = CopyOutcome.FAILED
    cause: Cause | None = None
    side: Side | None = None
    server_text: str = ""
    detail: str = ""
    retry_after: float | None = None  # seconds
    folders: list[FolderReport] = field(default_factory=list)
    set_aside: list[SetAsideReport] = field(default_factory=list)
    bytes: int = 0
    seconds: float = 0.0
    pass_id: int = 0                  # of the ledger's pass; what this run appended can be undone by it. 0: none began
    out_of_order: int = 0             # messages that stand behind one that follows them at the source

    def totals(self) -> dict[str, int]:
        keys = ("total", "moved", "already_there", "excluded", "set_aside", "vanished", "repaired", "gone", "flags_updated")
        return {"folders": len(self.folders), **{k: sum(getattr(f, k) for f in self.folders) for k in keys}}

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "totals": self.totals()}


class UndoLeft(StrEnum):
    """Why an undo left messages of its pass where they are."""

    FOLDER_CHANGED = "folder_changed"    # the destination gave the folder another UIDVALIDITY: its UIDs name other messages
    FOLDER_MISSING = "folder_missing"    # the destination's folder is not there, or cannot be opened
    GONE_AT_SOURCE = "gone_at_source"    # messages of the folder were deleted at the source since; these may be the last copies
    NOT_REMOVED = "not_removed"          # the destination said OK, and they are still there


@dataclass
class UndoFolder:
    """Of the messages that the pass appended to this folder: `removed` were there and are not any more (a dry run: would be removed),
    `absent` had been removed or moved elsewhere by their owner, `left` stay, for the reason in `why`. `bytes` are octets removed.
    `gone`: messages of this source folder that were deleted at the source since. `unresolved`: messages that were in flight when a copy
    was killed; whether they arrived is known only after the next copy."""

    source: str
    target: str
    messages: int = 0
    removed: int = 0
    absent: int = 0
    left: int = 0
    bytes: int = 0
    why: UndoLeft | None = None
    gone: int = 0
    unresolved: int = 0


@dataclass
class UndoReport:
    """COMPLETE: nothing of the pass is at the destination any more (where it was appended). PARTIAL: something was left."""

    outcome: CopyOutcome = CopyOutcome.FAILED
    pass_id: int = 0
    dry_run: bool = False
    cause: Cause | None = None
    side: Side | None = None
    server_text: str = ""
    detail: str = ""
    retry_after: float | None = None  # seconds
    folders: list[UndoFolder] = field(default_factory=list)
    seconds: float = 0.0

    def totals(self) -> dict[str, int]:
        keys = ("messages", "removed", "absent", "left", "bytes", "gone", "unresolved")
        return {"folders": len(self.folders), **{k: sum(getattr(f, k) for f in self.folders) for k in keys}}

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "totals": self.totals()}


class Step(StrEnum):
    """The five visible steps of a live check, in order."""

    NAME = "name"
    CONNECT = "connect"
    TLS = "tls"
    LOGIN = "login"
    FOLDERS = "folders"


class StepState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass
class FolderFound:
    name: str
    role: str | None
    messages: int
    bytes: int
    excluded_by: str | None = None


@dataclass
class CheckResult:
    """`step` is the last step reached (the failing one when `outcome` is failed). `causes` are all that the server's words allow,
    likeliest first. `bytes` may be an estimate (`bytes_estimated`)."""

    outcome: str = "failed"  # ok | failed
    step: Step = Step.NAME
    cause: Cause | None = None
    causes: list[Cause] = field(default_factory=list)
    provider: str | None = None
    server_text: str = ""
    detail: str = ""
    retry_after: float | None = None
    folders: int = 0
    messages: int = 0
    bytes: int = 0
    bytes_estimated: bool = False
    largest: int = 0
    quota_free: int | None = None    # octets, when the server tells
    append_limit: int | None = None  # octets
    warnings: list[dict[str, Any]] = field(default_factory=list)  # {"code": "only_30_days", "oldest": "2026-10-25", …}
    found: list[FolderFound] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


FINDINGS_OF_A_FOLDER = 100  # that are listed; all are counted


class VerifyMode(StrEnum):
    QUICK = "quick"  # UIDs, sizes, flags, dates
    FULL = "full"    # every octet, flags, dates


class FindingKind(StrEnum):
    MISSING = "missing"
    EXTRA = "extra"
    ALTERED_OCTETS = "altered_octets"  # the pair is known, and its octets differ (quick: its sizes)
    ALTERED_FLAGS = "altered_flags"
    ALTERED_DATE = "altered_date"
    UNACCOUNTED = "unaccounted"        # a source message of which the ledger says nothing
    UNREADABLE = "unreadable"          # a server does not give its octets


@dataclass
class Finding:
    """One difference. `folder` as people write it; UIDs where the message is, or was, on that side; sizes in octets as the server tells."""

    kind: FindingKind
    folder: str
    source_uid: int | None = None
    target_uid: int | None = None
    source_size: int | None = None
    target_size: int | None = None
    words: str = ""


@dataclass
class FolderVerdict:
    """Of one destination folder and all that was moved into it. Counts are complete, `findings` is cut at FINDINGS_OF_A_FOLDER.
    `missing` and `extra` include what is `unreadable`; `altered` are pairs whose octets differ."""

    folder: str
    source_messages: int = 0
    target_messages: int = 0
    missing: int = 0
    extra: int = 0
    altered_flags: int = 0
    altered_date: int = 0
    altered: int = 0
    unaccounted: int = 0
    unreadable: int = 0
    set_aside: int = 0   # source messages that the ledger names as not moved (in full mode they are missing, too)
    gone: int = 0        # moved, and deleted at the source since
    unclaimed: int = 0   # at the destination and not by this ledger (quick mode; in full mode they are extra)
    repaired: int = 0    # differ only in what the ledger says the destination made us change
    note: str = ""       # why the ledger was not used for it
    findings: list[Finding] = field(default_factory=list)


_ADDED_UP = ("missing", "extra", "altered", "altered_flags", "altered_date", "unaccounted", "unreadable", "set_aside", "gone", "unclaimed",
             "repaired")


@dataclass
class VerifyReport:
    """`equal` is true only if every message of every moved folder is at the destination, once, byte for byte (quick mode: as far as
    UID and size tell), with its flags and date, but for changes that the ledger records (`repaired`)."""

    equal: bool = False
    mode: VerifyMode = VerifyMode.FULL
    octets_compared: bool = True
    sizes_compared: bool = True       # quick mode: not where a server only estimates sizes
    ledger_used: bool = False
    cause: Cause | None = None
    side: Side | None = None
    server_text: str = ""
    detail: str = ""
    retry_after: float | None = None  # seconds
    missing: int = 0
    extra: int = 0
    altered: int = 0
    altered_flags: int = 0
    altered_date: int = 0
    unaccounted: int = 0
    unreadable: int = 0
    set_aside: int = 0
    gone: int = 0
    unclaimed: int = 0
    repaired: int = 0
    folders: list[FolderVerdict] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, verdict: FolderVerdict) -> None:
        self.folders.append(verdict)
        for name in _ADDED_UP:
            setattr(self, name, getattr(self, name) + getattr(verdict, name))

    def differs(self) -> bool:
        """Whether anything counted so far is not as it should be."""
        return bool(self.missing or self.extra or self.altered or self.altered_flags or self.altered_date or self.unaccounted
                    or self.unreadable or self.set_aside)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
