"""With a ledger each message is compared with its own copy; what the ledger cannot say is compared by content."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import pytest

from engine.causes import Cause, Side
from engine.imap.fetch import Metadata
from engine.ledger import Outcome, Repair, Run, SetAsideRow
from engine.report.verify import FINDINGS_OF_A_FOLDER, FindingKind, FolderVerdict, VerifyMode
from engine.verify.compare import Comparison
from engine.verify.expected import Expected
from engine.verify.spool import Spool

KINDS = FindingKind
DATE = "14-Nov-2023 22:13:20 +0800"
BOTH = pytest.mark.parametrize("mode", list(VerifyMode))


@dataclass
class Mail:
    """`octets` stands for the content; its length is the size. None: the server does not give it."""

    octets: str | None
    flags: tuple[str, ...] = ("\\Seen",)
    date: str = DATE


@dataclass
class Box:
    """Source folders (number -> UID -> mail) and a destination folder."""

    source: dict[int, dict[int, Mail]]
    target: dict[int, Mail]
    expected: dict[int, Expected] = field(default_factory=dict)
    others: list[Run] = field(default_factory=list)

    def verdict(self, mode: VerifyMode = VerifyMode.FULL, key: str | None = None) -> FolderVerdict:
        with Spool(key or ("digest" if mode is VerifyMode.FULL else "size")) as spool:
            for number, messages in self.source.items():
                _put(spool, Side.SOURCE, number, messages)
            _put(spool, Side.DESTINATION, 0, self.target)
            return Comparison(spool, "目标", {n: f"源{n}" for n in self.source}, mode, self.expected, self.others, True).run()


def _put(spool: Spool, side: Side, number: int, messages: Mapping[int, Mail]) -> None:
    spool.put(side, number, [Metadata(uid, len(m.octets or "?"), m.flags, m.date) for uid, m in messages.items()])
    spool.put_digests(side, number, [(uid, m.octets.encode().ljust(32)) for uid, m in messages.items() if m.octets is not None])


def moved(*runs: tuple[int, int, int, int]) -> list[Run]:
    """(first source UID, last, how many, first destination UID)."""
    return [Run(*run, Outcome.MOVED) for run in runs]


def box(uids: Iterable[int] = range(1, 7), *, first: int = 11, **more: object) -> Box:
    """One folder, one run, every message there."""
    uids = list(uids)
    run = moved((uids[0], uids[-1], len(uids), first))
    return Box({1: {uid: Mail(f"mail {uid}") for uid in uids}}, {first + n: Mail(f"mail {uid}") for n, uid in enumerate(uids)},
               {1: Expected(run, source_uidnext=uids[-1] + 1, **more)})  # type: ignore[arg-type]


def named(verdict: FolderVerdict) -> list[tuple[FindingKind, int | None, int | None]]:
    return [(f.kind, f.source_uid, f.target_uid) for f in verdict.findings]


def counts(verdict: FolderVerdict) -> dict[str, int]:
    return {key: value for key, value in vars(verdict).items() if isinstance(value, int) and value and not key.endswith("_messages")}


@BOTH
def test_an_exact_copy_has_no_findings(mode: VerifyMode) -> None:
    assert counts(box().verdict(mode)) == {}
    assert counts(box([2, 5, 9, 40]).verdict(mode)) == {}


def test_an_altered_message_is_one_finding_with_both_uids_and_sizes() -> None:
    one = box()
    one.target[13] = Mail("other octets")
    verdict = one.verdict()
    assert counts(verdict) == {"altered": 1}
    [found] = verdict.findings
    assert (found.kind, found.folder, found.source_uid, found.target_uid, found.source_size, found.target_size) == (
        KINDS.ALTERED_OCTETS, "源1", 3, 13, 6, 12)


@BOTH
def test_flags_and_dates_are_told_in_words(mode: VerifyMode) -> None:
    one = box()
    one.target[12].flags, one.target[13].date = ("$Done",), "14-Nov-2023 22:13:21 +0800"
    verdict = one.verdict(mode)
    assert named(verdict) == [(KINDS.ALTERED_FLAGS, 2, 12), (KINDS.ALTERED_DATE, 3, 13)]
    assert verdict.findings[0].words == "-\\seen +$done"
    assert verdict.findings[1].words == "2023-11-14T14:13:20+00:00 -> 2023-11-14T14:13:21+00:00"


@pytest.mark.parametrize("uids", [[1, 2, 3, 4], [2, 5, 9, 40]])
def test_two_messages_that_changed_places_are_altered_not_equal(uids: list[int]) -> None:
    one = box(uids)
    one.target[11], one.target[14] = one.target[14], one.target[11]
    assert named(one.verdict()) == [(KINDS.ALTERED_OCTETS, uids[0], 11), (KINDS.ALTERED_OCTETS, uids[3], 14)]


@BOTH
def test_a_missing_message_is_named_with_the_uid_that_it_had(mode: VerifyMode) -> None:
    one = box()
    del one.target[12]
    verdict = one.verdict(mode)
    assert (counts(verdict), named(verdict)) == ({"missing": 1}, [(KINDS.MISSING, 2, 12)])


def test_one_that_was_filed_anew_at_the_destination_is_found_by_content_and_missed_by_uid() -> None:
    one = box()
    one.target[99] = one.target.pop(12)
    assert counts(one.verdict()) == {}
    assert counts(one.verdict(VerifyMode.QUICK)) == {"missing": 1, "unclaimed": 1}


def test_a_twin_is_extra_in_full_and_told_in_quick_mode() -> None:
    one = box()
    one.target[20] = Mail("mail 2")
    verdict = one.verdict()
    assert (counts(verdict), named(verdict)) == ({"extra": 1}, [(KINDS.EXTRA, None, 20)])
    assert counts(one.verdict(VerifyMode.QUICK)) == {"unclaimed": 1}


@BOTH
def test_what_left_the_source_since_is_told_apart(mode: VerifyMode) -> None:
    one = box()
    del one.source[1][2], one.source[1][6]
    assert counts(one.verdict(mode)) == {"gone": 2}
    del one.target[12], one.target[13]  # and 13 is missing
    assert counts(one.verdict(mode)) == {"gone": 2, "missing": 1}


@BOTH
def test_in_a_run_with_gaps_content_tells_which_ones_left_the_source(mode: VerifyMode) -> None:
    """UIDs 2, 5, 9, 40, 41, and 9 is deleted: which of the five copies lost its original is not in the run."""
    one = box([2, 5, 9, 40, 41])
    for mail, length in zip(one.source[1].values(), range(5), strict=True):
        mail.octets = f"{mail.octets}{'x' * length}"
    one.target = {11 + n: Mail(mail.octets) for n, mail in enumerate(one.source[1].values())}
    del one.source[1][9]
    assert counts(one.verdict(mode)) == {"gone": 1}
    one.target[14] = Mail("altered and longer")
    verdict = one.verdict(mode)
    assert counts(verdict) == {"gone": 1, "altered": 1}
    assert [(f.kind, f.source_uid) for f in verdict.findings] == [(KINDS.ALTERED_OCTETS, 40)]
    del one.target[14]
    verdict = one.verdict(mode)
    assert counts(verdict) == {"gone": 1, "missing": 1}
    assert [(f.kind, f.source_uid) for f in verdict.findings] == [(KINDS.MISSING, 40)]


def test_flags_in_such_a_run_are_compared_too() -> None:
    one = box([2, 5, 9, 40])
    del one.source[1][9]
    one.target[14].flags = ()
    verdict = one.verdict()
    assert (counts(verdict), named(verdict)) == ({"gone": 1, "altered_flags": 1}, [(KINDS.ALTERED_FLAGS, 40, 14)])


def test_new_mail_and_mail_that_the_ledger_skipped_are_unaccounted() -> None:
    one = box()
    one.source[1][9] = Mail("new")
    one.expected = {1: Expected(moved((1, 2, 2, 11), (4, 6, 3, 14)), source_uidnext=7)}
    verdict = one.verdict(VerifyMode.QUICK)
    assert counts(verdict) == {"unaccounted": 2, "unclaimed": 1}
    assert [(f.source_uid, f.words) for f in verdict.findings] == [(3, "the ledger does not know it"), (9, "arrived after the last copy")]
    verdict = one.verdict()  # 3 is there nevertheless
    assert counts(verdict) == {"missing": 1}
    assert [(f.kind, f.source_uid, f.words) for f in verdict.findings] == [(KINDS.MISSING, 9, "arrived after the last copy")]


def test_a_folder_that_the_ledger_does_not_know_is_unaccounted() -> None:
    one = box([1, 2])
    one.target, one.expected = {}, {1: Expected()}
    assert counts(one.verdict(VerifyMode.QUICK)) == {"unaccounted": 2}
    assert counts(one.verdict()) == {"missing": 2}


def test_what_was_set_aside_says_why() -> None:
    one = box(set_aside={7: SetAsideRow(7, Cause.X_ITEM, "NO"), 0: SetAsideRow(0, Cause.INCOMPLETE, "the server counts 9 and lists 7")})
    one.source[1][7] = Mail("not taken")
    verdict = one.verdict(VerifyMode.QUICK)
    assert counts(verdict) == {"set_aside": 2}
    assert [(f.kind, f.source_uid, f.words) for f in verdict.findings] == [
        (KINDS.MISSING, 7, "set aside: x_item"), (KINDS.UNREADABLE, None, "the server counts 9 and lists 7")]
    assert counts(one.verdict()) == {"set_aside": 2, "missing": 1}


@BOTH
def test_a_recorded_repair_excuses_what_it_changed_and_no_more(mode: VerifyMode) -> None:
    one = box(repairs={1: frozenset({Repair.KEYWORDS}), 2: frozenset({Repair.DATE}), 3: frozenset({Repair.KEYWORDS}),
                       4: frozenset({Repair.DATE}), 5: frozenset({Repair.KEYWORDS})})
    for uid in (1, 3, 5):
        one.source[1][uid].flags = ("\\Seen", "$Label")
    one.target[12].date = "01-Jan-2020 00:00:00 +0000"
    one.target[13].flags = ()            # its \Seen is gone, too
    one.target[14].flags = ()
    one.target[15].flags = ("\\Seen", "$Other")
    verdict = one.verdict(mode)
    assert counts(verdict) == {"repaired": 2, "altered_flags": 3}
    assert named(verdict) == [(KINDS.ALTERED_FLAGS, 3, 13), (KINDS.ALTERED_FLAGS, 4, 14), (KINDS.ALTERED_FLAGS, 5, 15)]


def test_repaired_line_ends_make_no_size_wrong() -> None:
    """In full mode the reader has brought both sides to the same form (below, against servers)."""
    one = box(repairs={2: frozenset({Repair.LINE_ENDS})})
    one.target[12].octets = "mail 2 and CRs"
    assert counts(one.verdict(VerifyMode.QUICK)) == {"repaired": 1}
    assert counts(one.verdict()) == {"altered": 1}


@pytest.mark.parametrize("side", list(Side))
def test_what_cannot_be_read_is_missing_and_never_equal(side: Side) -> None:
    one = box()
    (one.source[1][2] if side is Side.SOURCE else one.target[12]).octets = None
    verdict = one.verdict()
    assert (counts(verdict), named(verdict)) == ({"missing": 1, "unreadable": 1}, [(KINDS.UNREADABLE, 2, 12)])
    one.source[1][2].octets = one.target[12].octets = None
    assert counts(one.verdict()) == {"missing": 1, "unreadable": 1}


def test_where_sizes_are_estimates_only_the_rest_is_compared() -> None:
    one = box()
    one.target[12].octets, one.target[13].flags = "much longer than that", ()
    assert counts(one.verdict(VerifyMode.QUICK)) == {"altered": 1, "altered_flags": 1}
    assert counts(one.verdict(VerifyMode.QUICK, key="0")) == {"altered_flags": 1}


@BOTH
def test_folders_that_share_a_destination_folder_are_each_compared_with_their_own(mode: VerifyMode) -> None:
    one = box([1, 2, 3])
    one.source[2] = {7: Mail("seven"), 8: Mail("eight")}
    one.target |= {20: Mail("seven"), 21: Mail("eight, altered")}
    one.expected[2] = Expected(moved((7, 8, 2, 20)))
    verdict = one.verdict(mode)
    assert [(f.folder, *pair) for f, pair in zip(verdict.findings, named(verdict), strict=True)] == [("源2", KINDS.ALTERED_OCTETS, 8, 21)]
    assert (verdict.source_messages, verdict.target_messages) == (5, 5)


@BOTH
def test_a_folder_of_another_uidvalidity_is_compared_by_content_beside_one_that_is_not(mode: VerifyMode) -> None:
    one = box([1, 2, 3])
    one.source[2] = {7: Mail("seven"), 8: Mail("eight and more")}
    one.target |= {20: Mail("eight and more"), 21: Mail("own mail of the destination")}
    verdict = one.verdict(mode)
    assert counts(verdict) == {"missing": 1, "extra" if mode is VerifyMode.FULL else "unclaimed": 1}
    assert (KINDS.MISSING, 7, None) in named(verdict)


def test_mail_of_a_folder_that_the_source_no_longer_has_is_gone_not_extra() -> None:
    one = box([1, 2, 3])
    one.target |= {20: Mail("its own"), 21: Mail("folder")}
    one.others = moved((1, 2, 2, 20))
    assert counts(one.verdict()) == {"gone": 2}


def test_the_list_is_cut_and_the_counts_are_not() -> None:
    one = box(range(1, 1201))
    for uid in range(11, 1211, 2):
        del one.target[uid]
    for uid in range(12, 1211, 2):
        one.target[uid].flags = ()
    for mode in VerifyMode:
        verdict = one.verdict(mode)
        assert counts(verdict) == {"missing": 600, "altered_flags": 600}
        assert len(verdict.findings) == FINDINGS_OF_A_FOLDER


@pytest.fixture(autouse=True)
def no_leftovers(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What waits on disk has no name."""
    place = tmp_path_factory.mktemp("spool")
    monkeypatch.setenv("SQLITE_TMPDIR", str(place))
    yield
    assert list(place.iterdir()) == []
