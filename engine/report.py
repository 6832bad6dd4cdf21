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

    def totals(self) -> dict[str, int]:
        keys = ("total", "moved", "already_there", "excluded", "set_aside", "vanished", "repaired", "gone", "flags_updated")
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


@dataclass
class FolderVerdict:
    folder: str
    source_messages: int = 0
    target_messages: int = 0
    missing: int = 0
    extra: int = 0
    altered_flags: int = 0
    altered_date: int = 0


@dataclass
class VerifyReport:
    """`equal` is true only if every message of every moved folder is at the destination, byte for byte, once, with its flags
    and date."""

    equal: bool = False
    cause: Cause | None = None
    side: Side | None = None
    server_text: str = ""
    detail: str = ""
    missing: int = 0
    extra: int = 0
    altered_flags: int = 0
    altered_date: int = 0
    folders: list[FolderVerdict] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
