"""What a live check found."""
from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from engine.causes import Cause
from engine.report.steps import Step


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
