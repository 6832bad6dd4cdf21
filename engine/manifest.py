"""The proof of one folder, from the ledger alone: what became of every source message, and whether the sum is the source's count.

Owns the manifest's canonical form, its digest and the proof. Must not: open a mailbox, know a format or a language
(engine/report_files/). Always: read only; one folder's runs are in memory at a time, as the mover itself holds them (a few hundred
octets a run; 100,000 ordinary messages are one).

Canonical form of a folder, for the digest: one line for each fact, a JSON array without blanks in ASCII (other characters as \\uXXXX),
ended by LF, in this order:

    ["folder", source wire name, destination wire name, source UIDVALIDITY, destination UIDVALIDITY, rule or null]
    ["run", first source UID, last source UID, count, first destination UID, last destination UID, outcome, pass]   by source UID
    ["set_aside", source UID, reason]                                                                              by source UID
    ["repair", source UID, repair]                                                                                 by source UID
    ["sum", total, moved, already there, left out, set aside, vanished, gone, complete]

The digest is the SHA-256 of these lines, in hex. Names for people, times and servers' words are not in it, so two exports of one state
have one digest. The digest of a mailbox is the SHA-256 of its folders' hex digests, each ended by LF, in the ledger's order.
"""
from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from engine.ledger import FolderRow, LedgerStore, Outcome, PassRow, RepairRow, Run, SetAsideRow

ENDED = frozenset({"complete", "partial"})  # outcomes of a pass that went through every folder


class Proof(StrEnum):
    """Whether every message of a folder is accounted for."""

    HOLDS = "holds"          # the folder is done, and the sum is what the source counted
    OPEN = "open"            # not done yet: the rest is still to be moved
    BROKEN = "broken"        # the sum is wrong, or the counters are not what the rows say


@dataclass(frozen=True)
class Sum:
    """Counts of messages. `total` is what the source counted; it is to equal the sum of the next five. `gone`, `repaired` and
    `flags_updated` are of those moved."""

    total: int = 0
    moved: int = 0
    already_there: int = 0
    excluded: int = 0
    set_aside: int = 0
    vanished: int = 0
    gone: int = 0
    repaired: int = 0
    flags_updated: int = 0
    bytes_moved: int = 0

    @property
    def accounted(self) -> int:
        return self.moved + self.already_there + self.excluded + self.set_aside + self.vanished

    @property
    def remaining(self) -> int:
        """Still to be moved; negative when more is accounted for than the source counted."""
        return self.total - self.accounted

    def __add__(self, other: Sum) -> Sum:
        return Sum(*(getattr(self, name) + getattr(other, name) for name in Sum.__dataclass_fields__))


def sum_of(row: FolderRow) -> Sum:
    return Sum(**{name: getattr(row, name) for name in Sum.__dataclass_fields__})


@dataclass(frozen=True)
class Facts:
    """The rows of one folder, each kind by source UID."""

    runs: list[Run]
    set_aside: list[SetAsideRow]
    repairs: list[RepairRow]

    @classmethod
    def of(cls, store: LedgerStore, row: FolderRow) -> Facts:
        if not row.id:
            return cls([], [], [])
        return cls(sorted(store.runs(row.id), key=lambda run: run.source_first), sorted(store.set_aside(row.id), key=lambda s: s.uid),
                   sorted(store.repairs(row.id), key=lambda r: r.uid))


@dataclass
class FolderManifest:
    """One folder without its rows. `recorded`: messages that its rows name (runs, and set aside outside of runs). `by_pass`: messages
    that each pass appended and that are still there for all the ledger knows. `undoing`: messages that an undo was about to remove when
    it was killed."""

    row: FolderRow
    counts: Sum
    proof: Proof
    digest: str
    recorded: int = 0
    undoing: int = 0
    by_pass: dict[int, int] = field(default_factory=dict)


@dataclass
class Manifest:
    """A whole ledger without its rows."""

    folders: list[FolderManifest]
    passes: list[PassRow]
    digest: str

    @property
    def counts(self) -> Sum:
        return sum((folder.counts for folder in self.folders), Sum())

    @property
    def proof(self) -> Proof:
        found = {folder.proof for folder in self.folders}
        if Proof.BROKEN in found:
            return Proof.BROKEN
        return Proof.HOLDS if found == {Proof.HOLDS} and self.went_through else Proof.OPEN

    @property
    def went_through(self) -> bool:
        """Whether the last pass came to its end: a folder that it did not reach has no row. (A ledger of before passes were kept cannot
        tell; its rows must do.)"""
        return not self.passes or self.passes[-1].outcome in ENDED

    def appended(self, pass_id: int) -> int:
        return sum(folder.by_pass.get(pass_id, 0) for folder in self.folders)

    def last_pass(self) -> int:
        """The newest pass of which something is at the destination; 0: there is none."""
        return max((number for folder in self.folders for number, messages in folder.by_pass.items() if messages), default=0)


def manifest_of(store: LedgerStore) -> Manifest:
    """Reads each folder's rows once."""
    digest = hashlib.sha256()
    folders = []
    for row in store.folders():
        folders.append(folder_manifest(row, Facts.of(store, row)))
        digest.update(folders[-1].digest.encode("ascii") + b"\n")
    return Manifest(folders, store.passes(), digest.hexdigest())


def folder_manifest(row: FolderRow, facts: Facts) -> FolderManifest:
    digest = hashlib.sha256()
    for line in canonical_lines(row, facts):
        digest.update(line)
    by_pass: dict[int, int] = {}
    undoing = 0
    recorded = len(facts.set_aside) - sum(_set_aside_in(facts.runs, [s.uid for s in facts.set_aside]).values())
    for run in facts.runs:
        if run.outcome is Outcome.UNDOING:
            undoing += run.count
        else:
            recorded += run.count
        if run.outcome is not Outcome.ALREADY_THERE and run.pass_id:
            by_pass[run.pass_id] = by_pass.get(run.pass_id, 0) + run.count
    return FolderManifest(row, sum_of(row), _proof(row, facts), digest.hexdigest(), recorded, undoing, by_pass)


def canonical_lines(row: FolderRow, facts: Facts) -> Iterator[bytes]:
    """See the module."""
    yield _line("folder", row.source, row.target, row.source_uidvalidity, row.target_uidvalidity, row.rule)
    for run in facts.runs:
        yield _line("run", run.source_first, run.source_last, run.count, run.target_first, last_target(run), run.outcome.value, run.pass_id)
    for aside in facts.set_aside:
        yield _line("set_aside", aside.uid, aside.reason.value)
    for repair in facts.repairs:
        yield _line("repair", repair.uid, repair.repair.value)
    yield _line("sum", row.total, row.moved, row.already_there, row.excluded, row.set_aside, row.vanished, row.gone, row.complete)


def last_target(run: Run) -> int:
    return run.target_first + run.count - 1


def _line(*fields: object) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\n"


def _proof(row: FolderRow, facts: Facts) -> Proof:
    """The sum against the source's count, and the counters against the rows: two independent records of the same thing."""
    counts = sum_of(row)
    if counts.remaining < 0 or not _rows_agree(row, facts):
        return Proof.BROKEN
    if row.rule is not None:
        return Proof.HOLDS if counts.remaining == 0 else Proof.BROKEN
    if not row.complete:
        return Proof.OPEN
    return Proof.HOLDS if counts.remaining == 0 else Proof.BROKEN


def _rows_agree(row: FolderRow, facts: Facts) -> bool:
    """A message that a destination altered is in a run (it is there) and set aside (it is not what was sent): it counts as set aside."""
    if len(facts.set_aside) != row.set_aside:
        return False
    in_runs = {outcome: sum(run.count for run in facts.runs if run.outcome is outcome) for outcome in Outcome}
    aside = _set_aside_in(facts.runs, [s.uid for s in facts.set_aside])
    return (in_runs[Outcome.MOVED] - aside.get(Outcome.MOVED, 0) == row.moved
            and in_runs[Outcome.ALREADY_THERE] - aside.get(Outcome.ALREADY_THERE, 0) == row.already_there)


def _set_aside_in(runs: list[Run], uids: Iterable[int]) -> dict[Outcome, int]:
    """How many of these ascending UIDs lie in a run, by its outcome."""
    found: dict[Outcome, int] = {}
    at = 0
    for uid in uids:
        while at < len(runs) and runs[at].source_last < uid:
            at += 1
        if at < len(runs) and runs[at].source_first <= uid:
            found[runs[at].outcome] = found.get(runs[at].outcome, 0) + 1
    return found
