"""What became of a copy."""
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
