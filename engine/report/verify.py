"""What a comparison of both sides found."""
from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from engine.causes import Cause, Side

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
