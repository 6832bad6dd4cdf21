"""Whatever two mailboxes hold: the comparison says equal exactly when they are, and its counts are those of the multisets."""
from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.causes import Side
from engine.imap.fetch import Metadata
from engine.ledger import Outcome, Run
from engine.report.verify import FolderVerdict, VerifyMode
from engine.verify.compare import Comparison
from engine.verify.expected import Expected
from engine.verify.spool import Spool

Mail = tuple[str, int, int]  # octets, day, flag; few of each, so that twins and near twins are common

mails = st.tuples(st.sampled_from("ab"), st.integers(1, 3), st.integers(0, 2))
FLAGS = ((), ("\\Seen",), ("\\Seen", "$Work"))


def put(spool: Spool, side: Side, number: int, box: Sequence[tuple[int, Mail]]) -> None:
    spool.put(side, number, [Metadata(uid, 5, FLAGS[flag], f"{day:02}-Jan-2024 00:00:00 +0000") for uid, (_, day, flag) in box])
    spool.put_digests(side, number, [(uid, octets.encode() * 32) for uid, (octets, _, _) in box])


def compared(source: Sequence[tuple[int, Mail]], target: Sequence[tuple[int, Mail]], runs: Sequence[Run] | None = None) -> FolderVerdict:
    with Spool() as spool:
        put(spool, Side.SOURCE, 1, source)
        put(spool, Side.DESTINATION, 0, target)
        expected = {} if runs is None else {1: Expected(runs)}
        return Comparison(spool, "f", {1: "f"}, VerifyMode.FULL, expected, (), runs is not None).run()


def least_altered(source: Sequence[Mail], target: Sequence[Mail]) -> int:
    """The fewest flags and dates that can differ when as many messages of the same octets as possible are paired; by trying all."""
    total = 0
    for octets in "ab":
        here, there = ([mail for mail in side if mail[0] == octets] for side in (source, target))
        few, many = sorted((here, there), key=len)
        total += min((sum((a[1] != b[1]) + (a[2] != b[2]) for a, b in zip(few, order, strict=True))
                      for order in itertools.permutations(many, len(few))), default=0)
    return total


@settings(max_examples=150, deadline=None)
@given(st.lists(mails, max_size=5), st.lists(mails, max_size=5))
def test_by_content_the_counts_are_those_of_the_multisets(source: list[Mail], target: list[Mail]) -> None:
    verdict = compared(list(enumerate(source, 1)), list(enumerate(target, 1)))
    here, there = Counter(mail[0] for mail in source), Counter(mail[0] for mail in target)
    assert (verdict.missing, verdict.extra) == ((here - there).total(), (there - here).total())
    altered = verdict.altered_flags + verdict.altered_date
    assert (altered == 0) == (least_altered(source, target) == 0)
    assert altered >= least_altered(source, target)
    assert len(verdict.findings) == verdict.missing + verdict.extra + altered


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_by_pairs_every_change_is_counted_once(data: st.DataObject) -> None:
    """A copy, of which messages are lost, changed and added at the destination, and deleted at the source; the source's UIDs have gaps."""
    box = data.draw(st.lists(mails, min_size=1, max_size=8))
    uids = list(itertools.accumulate(data.draw(st.lists(st.integers(1, 2), min_size=len(box), max_size=len(box)))))
    cut = data.draw(st.integers(0, len(box)))
    runs = [Run(uids[a], uids[b - 1], b - a, 101 + a, Outcome.MOVED) for a, b in ((0, cut), (cut, len(box))) if a < b]
    what = data.draw(st.lists(st.sampled_from(["", "", "lost", "octets", "flags", "gone"]), min_size=len(box), max_size=len(box)))
    source = [(uid, mail) for uid, mail, fate in zip(uids, box, what, strict=True) if fate != "gone"]
    changed = {"octets": lambda mail: ("c", *mail[1:]), "flags": lambda mail: (*mail[:2], (mail[2] + 1) % 3)}
    target = [(101 + n, changed.get(fate, lambda mail: mail)(mail))
              for n, (mail, fate) in enumerate(zip(box, what, strict=True)) if fate != "lost"]
    added = data.draw(st.integers(0, 2))
    target += [(201 + n, ("d", 1, 0)) for n in range(added)]
    verdict = compared(source, target, runs)
    fates = Counter(what)
    assert (verdict.gone, verdict.extra) == (fates["gone"], added)
    if all(fate != "gone" or run.count == run.source_last - run.source_first + 1
           for uid, fate in zip(uids, what, strict=True) for run in runs if run.source_first <= uid <= run.source_last):
        assert (verdict.missing, verdict.altered, verdict.altered_flags) == (fates["lost"], fates["octets"], fates["flags"])
    else:  # in a run with gaps twins may stand in for each other, and a copy whose original is gone for one that was lost
        assert verdict.missing + verdict.altered <= fates["lost"] + fates["octets"]
    if not fates["lost"] and not fates["octets"] and not fates["flags"]:
        assert not (verdict.missing or verdict.altered or verdict.altered_flags or verdict.altered_date)
