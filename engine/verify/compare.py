"""The comparison of what was read: by the ledger's pairs where it knows them, by content where it does not.

Owns what counts as a difference. Always: what could not be read is never equal; twins count (two equal messages at the source have to
be two at the destination); counts are complete, only the list of findings is cut; memory does not grow with the folder.

By pairs (a ledger that speaks of these very folders): a source message and its destination message have to agree. A run of which the
source has lost messages, and whose UIDs had gaps before, does not tell which partner is whose: such a run is compared by content.
By content: both sides as multisets of (octets, date, flags), as two sorted streams; what is left over on one side is missing or extra,
and copies with the same octets are paired so that as few flags and dates as possible differ, as far as that is quickly found.
"""
from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from engine.causes import Side
from engine.ledger import Repair, Run
from engine.report.verify import FINDINGS_OF_A_FOLDER, Finding, FindingKind, FolderVerdict, VerifyMode
from engine.verify.expected import Expected, between, claimed
from engine.verify.spool import Row, Spool

_BUCKET = 20_000      # messages of the same octets that are paired at once
_LAST_UID = (1 << 32) - 1
_NOT_KNOWN: frozenset[Repair] = frozenset()


@dataclass
class _ByContent:
    """The runs that are compared by content, all together: twins of one may stand in for those of another. `gone` of their messages have
    left the source, so that many extra ones are explained."""

    gone: int = 0
    missing: int = 0
    extra: int = 0
    lost: list[Row] = field(default_factory=list)
    gained: list[Row] = field(default_factory=list)


@dataclass
class Comparison:
    """One destination folder. `sources`: number -> name as people write it; `expected`: number -> what the ledger says of it, only where
    its UIDVALIDITYs still hold; `others`: runs of source folders that are no longer there. `has_ledger`: a ledger was given at all."""

    spool: Spool
    display: str
    sources: Mapping[int, str]
    mode: VerifyMode
    expected: Mapping[int, Expected] = field(default_factory=dict)
    others: Sequence[Run] = ()
    has_ledger: bool = False

    def __post_init__(self) -> None:
        self.verdict = FolderVerdict(self.display)
        self._runs = _ByContent()

    def run(self) -> FolderVerdict:
        spool, verdict = self.spool, self.verdict
        verdict.source_messages, verdict.target_messages = spool.count(Side.SOURCE), spool.count(Side.DESTINATION)
        if self.expected:
            for number in self.sources:
                if number in self.expected:
                    self._by_pairs(number, self.expected[number])
                else:
                    self._leave(Side.SOURCE, number, 1, _LAST_UID)
            self._rest_of_the_destination()
        self._by_content(rest=bool(self.expected))
        self._settle(self._runs)
        return verdict

    # -- by pairs ----------------------------------------------------------------------------------------------------------------

    def _by_pairs(self, number: int, expected: Expected) -> None:
        for run in expected.runs:
            there = self.spool.count(Side.SOURCE, number, run.source_first, run.source_last)
            self.verdict.gone += max(0, run.count - there)
            if run.dense or there == run.count:
                self._run(number, expected, run)
            else:
                self._run_by_content(number, run, max(0, run.count - there))
        for first, last in between([(r.source_first, r.source_last) for r in expected.runs], _LAST_UID):
            self._outside_of_runs(number, expected, first, last)
        counted = expected.set_aside.get(0)  # the server counts messages that it does not list: they have no UID
        if counted is not None:
            self.verdict.set_aside += 1
            self._found(FindingKind.UNREADABLE, number, words=counted.server_text)

    def _run(self, number: int, expected: Expected, run: Run) -> None:
        """Each source message of the run and the one UID at the destination where it has to be."""
        theirs = self.spool.by_uid(Side.DESTINATION, 0, run.target_first, run.target_first + run.count - 1)
        other = next(theirs, None)
        every_uid = run.dense
        lost: list[tuple[int, int, int, int]] = []
        for place, ours in enumerate(self.spool.by_uid(Side.SOURCE, number, run.source_first, run.source_last)):
            partner = run.target_first + (ours.uid - run.source_first if every_uid else place)
            while other is not None and other.uid < partner:
                other = next(theirs, None)  # its original has left the source
            if other is not None and other.uid == partner:
                if ours[2:5] != other[2:5] or ours.key is None or expected.repairs.get(ours.uid):
                    self._pair(ours, other, expected.repairs.get(ours.uid, _NOT_KNOWN))
            elif self.mode is VerifyMode.FULL:
                lost.append((number, ours.uid, partner, 0))
                if len(lost) >= 1000:
                    self.spool.set_rest(Side.SOURCE, lost)
                    lost = []
            else:
                self._missing(ours._replace(partner=partner))
        self.spool.set_rest(Side.SOURCE, lost)

    def _run_by_content(self, number: int, run: Run, gone: int) -> None:
        self._runs.gone += gone
        self._leave(Side.SOURCE, number, run.source_first, run.source_last, of_run=True)
        self._leave(Side.DESTINATION, 0, run.target_first, run.target_first + run.count - 1, of_run=True)

    def _outside_of_runs(self, number: int, expected: Expected, first: int, last: int) -> None:
        if self.mode is VerifyMode.FULL:
            self._leave(Side.SOURCE, number, first, last)
            return
        for row in self.spool.by_uid(Side.SOURCE, number, first, last):
            words = expected.why_not_there(row.uid)
            if row.uid in expected.set_aside:
                self.verdict.set_aside += 1
                self._found(FindingKind.MISSING, number, source=row, words=words)
            else:
                self.verdict.unaccounted += 1
                self._found(FindingKind.UNACCOUNTED, number, source=row, words=words or "the ledger does not know it")

    def _rest_of_the_destination(self) -> None:
        """What no run speaks of. In quick mode it is told, and looked at only where a folder is compared by content altogether."""
        runs = [run for one in self.expected.values() for run in one.runs]
        by_content = self.mode is VerifyMode.FULL or len(self.expected) < len(self.sources)
        for first, last in between(claimed([*runs, *self.others]), _LAST_UID):
            if by_content:
                self._leave(Side.DESTINATION, 0, first, last)
            else:
                self.verdict.unclaimed += self.spool.count(Side.DESTINATION, 0, first, last)
        self.verdict.gone += sum(run.count for run in self.others)

    def _leave(self, side: Side, number: int, first: int, last: int, *, of_run: bool = False) -> None:
        self.spool.set_rest(side, ((number, row.uid, 0, of_run) for row in self.spool.by_uid(side, number, first, last)))

    def _pair(self, ours: Row, other: Row, repairs: frozenset[Repair]) -> None:
        """What differs between two messages that should be one."""
        verdict, excused = self.verdict, False
        if ours.key is None or other.key is None:
            verdict.missing += 1
            verdict.unreadable += 1
            side = Side.SOURCE if ours.key is None else Side.DESTINATION
            self._found(FindingKind.UNREADABLE, ours.folder, ours, other, f"the {side.value} does not give it")
        elif ours.key != other.key and not (Repair.LINE_ENDS in repairs and self.mode is VerifyMode.QUICK):
            verdict.altered += 1
            self._found(FindingKind.ALTERED_OCTETS, ours.folder, ours, other)
        elif Repair.LINE_ENDS in repairs:
            excused = True
        if ours.date != other.date:
            if Repair.DATE in repairs:
                excused = True
            else:
                verdict.altered_date += 1
                self._found(FindingKind.ALTERED_DATE, ours.folder, ours, other, _dates(ours, other))
        if ours.flags != other.flags:
            if Repair.KEYWORDS in repairs and _only_keywords_less(ours.flags, other.flags):
                excused = True
            else:
                verdict.altered_flags += 1
                self._found(FindingKind.ALTERED_FLAGS, ours.folder, ours, other, _flag_words(ours, other))
        verdict.repaired += excused

    # -- by content --------------------------------------------------------------------------------------------------------------

    def _by_content(self, *, rest: bool) -> None:
        spool = self.spool
        for row in spool.by_content(Side.SOURCE, rest=rest, readable=False):
            self.verdict.missing += 1
            self.verdict.unreadable += 1
            self._found(FindingKind.UNREADABLE, row.folder, source=row, words="the source does not give it")
        for row in spool.by_content(Side.DESTINATION, rest=rest, readable=False):
            self.verdict.extra += 1
            self.verdict.unreadable += 1
            self._found(FindingKind.UNREADABLE, 0, target=row, words="the destination does not give it")
        for lost, gained in _unlike(spool.by_content(Side.SOURCE, rest=rest), spool.by_content(Side.DESTINATION, rest=rest)):
            pairs, lost, gained = _paired(lost, gained)
            for ours, other in pairs:
                if ours.date != other.date:
                    self.verdict.altered_date += 1
                    self._found(FindingKind.ALTERED_DATE, ours.folder, ours, other, _dates(ours, other))
                if ours.flags != other.flags:
                    self.verdict.altered_flags += 1
                    self._found(FindingKind.ALTERED_FLAGS, ours.folder, ours, other, _flag_words(ours, other))
            for row in lost:
                self._missing(row)
            for row in gained:
                self._extra(row)

    def _missing(self, row: Row) -> None:
        if row.of_run:
            self._runs.missing += 1
            _keep(self._runs.lost, row)
            return
        expected = self.expected.get(row.folder)
        words = expected.why_not_there(row.uid) if expected else ""
        self.verdict.missing += 1
        if expected is not None and row.uid in expected.set_aside:
            self.verdict.set_aside += 1
        self._found(FindingKind.MISSING, row.folder, source=row, words=words)

    def _extra(self, row: Row) -> None:
        if row.of_run:
            self._runs.extra += 1
            _keep(self._runs.gained, row)
        elif self.has_ledger and self.mode is VerifyMode.QUICK:
            self.verdict.unclaimed += 1
        else:
            self.verdict.extra += 1
            self._found(FindingKind.EXTRA, 0, target=row)

    def _settle(self, runs: _ByContent) -> None:
        """What remains of runs whose partners are not known one by one: as many as left the source are explained; a missing and an extra
        one are one message that was altered."""
        extra = max(0, runs.extra - runs.gone)
        altered = min(extra, runs.missing)
        self.verdict.altered += altered
        self.verdict.missing += runs.missing - altered
        self.verdict.extra += extra - altered
        for ours in runs.lost:
            other = _likest(ours, runs.gained) if altered else None
            if other is not None:
                altered -= 1
                self._found(FindingKind.ALTERED_OCTETS, ours.folder, ours, other)
            else:
                self._found(FindingKind.MISSING, ours.folder, source=ours)

    # -- telling -----------------------------------------------------------------------------------------------------------------

    def _found(self, kind: FindingKind, number: int, source: Row | None = None, target: Row | None = None, words: str = "") -> None:
        if len(self.verdict.findings) < FINDINGS_OF_A_FOLDER:
            source_uid = source.uid if source else None
            target_uid = target.uid if target else (source.partner or None) if source else None
            self.verdict.findings.append(Finding(kind, self.sources.get(number, self.display) if source else self.display, source_uid,
                                                 target_uid, source.size if source else None, target.size if target else None, words))


def _unlike(ours: Iterator[Row], theirs: Iterator[Row]) -> Iterator[tuple[list[Row], list[Row]]]:
    """Two streams ordered by (key, date, flags): what is only on one side, together with what is only on the other and has the same
    octets."""
    one, other = next(ours, None), next(theirs, None)
    lost: list[Row] = []
    gained: list[Row] = []
    while one is not None or other is not None:
        here, there = _content(one), _content(other)
        if here == there:
            one, other = next(ours, None), next(theirs, None)
            continue
        first = here is not None and (there is None or here < there)
        row = one if first else other
        assert row is not None
        if (lost or gained) and ((lost or gained)[0].key != row.key or len(lost) + len(gained) >= _BUCKET):
            yield lost, gained
            lost, gained = [], []
        if first:
            lost.append(row)
            one = next(ours, None)
        else:
            gained.append(row)
            other = next(theirs, None)
    if lost or gained:
        yield lost, gained


def _content(row: Row | None) -> tuple[bytes | int, str, str] | None:
    if row is None:
        return None
    assert row.key is not None
    return row.key, row.date, row.flags


def _paired(lost: list[Row], gained: list[Row]) -> tuple[list[tuple[Row, Row]], list[Row], list[Row]]:
    """Pairs among messages of the same octets, those that differ in one thing first; and what has no partner."""
    if not lost or not gained:
        return [], lost, gained
    tries = [_paired_by(lost, gained, order) for order in (("flags", "date"), ("date", "flags"))]
    return min(tries, key=lambda found: sum((a.date != b.date) + (a.flags != b.flags) for a, b in found[0]))


def _paired_by(lost: list[Row], gained: list[Row], order: tuple[str, str]) -> tuple[list[tuple[Row, Row]], list[Row], list[Row]]:
    pairs: list[tuple[Row, Row]] = []
    for same in order:
        free: defaultdict[str, list[Row]] = defaultdict(list)
        for row in reversed(gained):
            free[getattr(row, same)].append(row)
        left: list[Row] = []
        for row in lost:
            candidates = free[getattr(row, same)]
            if candidates:
                pairs.append((row, candidates.pop()))
            else:
                left.append(row)
        taken = {other.uid for _, other in pairs}
        lost, gained = left, [row for row in gained if row.uid not in taken]
    both = min(len(lost), len(gained))
    return pairs + list(zip(lost[:both], gained[:both], strict=True)), lost[both:], gained[both:]


def _likest(ours: Row, gained: list[Row]) -> Row | None:
    """Takes the one that most likely was this message: the same date and flags, or as much of it as there is."""
    if not gained:
        return None
    best = max(gained, key=lambda row: (row.date == ours.date) + (row.size == ours.size) + (row.flags == ours.flags))
    gained.remove(best)
    return best


def _keep(rows: list[Row], row: Row) -> None:
    if len(rows) < FINDINGS_OF_A_FOLDER:
        rows.append(row)


def _only_keywords_less(ours: str, theirs: str) -> bool:
    return set(theirs.split()) <= set(ours.split()) and not any(
        flag.startswith("\\") for flag in set(ours.split()) - set(theirs.split()))


def _flag_words(ours: Row, other: Row) -> str:
    here, there = set(ours.flags.split()), set(other.flags.split())
    return " ".join([*(f"-{flag}" for flag in sorted(here - there)), *(f"+{flag}" for flag in sorted(there - here))])


def _dates(ours: Row, other: Row) -> str:
    return f"{_date(ours.date)} -> {_date(other.date)}"


def _date(text: str) -> str:
    try:
        return dt.datetime.fromtimestamp(int(text), dt.UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return text or "none"
