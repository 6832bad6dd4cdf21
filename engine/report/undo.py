"""What became of an undo."""
from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from engine.causes import Cause, Side
from engine.report.copy import CopyOutcome


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
