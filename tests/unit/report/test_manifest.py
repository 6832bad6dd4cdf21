"""The proof of a folder: it holds only when the sum is the source's count and the counters are what the rows say."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.causes import Cause
from engine.ledger import FolderRow, Outcome, PassRow, Repair, RepairRow, Run, SetAsideRow
from engine.manifest import Facts, Proof, canonical_lines, folder_manifest, manifest_of
from tests.unit.report.ledgers import a_broken_move, a_finished_move, empty_ledger

ROW = FolderRow("INBOX", "INBOX", 1, 7, 20, 12, 9, total=12, moved=9, already_there=1, set_aside=1, vanished=1, complete=True)
FACTS = Facts([Run(1, 9, 9, 101, Outcome.MOVED, 1, 3), Run(10, 10, 1, 5, Outcome.ALREADY_THERE, 2)],
              [SetAsideRow(11, Cause.X_ITEM, "no")], [])


def test_a_sum_that_holds() -> None:
    assert folder_manifest(ROW, FACTS).proof is Proof.HOLDS


@pytest.mark.parametrize(("changed", "proof"), [
    ({"total": 13}, Proof.BROKEN),                       # one message of which nothing is said
    ({"total": 11}, Proof.BROKEN),                       # more accounted for than there were
    ({"total": 13, "moved": 10}, Proof.BROKEN),          # a counter that no row bears out
    ({"total": 13, "already_there": 2}, Proof.BROKEN),
    ({"total": 13, "set_aside": 2}, Proof.BROKEN),
    ({"complete": False}, Proof.OPEN),
    ({"complete": False, "total": 15}, Proof.OPEN),      # three are still to be moved
    ({"complete": False, "total": 11}, Proof.BROKEN),
])
def test_every_wrong_count_breaks_it(changed: dict[str, Any], proof: Proof) -> None:
    assert folder_manifest(ROW._replace(**changed), FACTS).proof is proof


def test_a_copy_that_the_destination_altered_counts_as_set_aside_though_it_is_in_a_run() -> None:
    facts = Facts([Run(1, 9, 9, 101, Outcome.MOVED)], [SetAsideRow(4, Cause.INCOMPLETE, "altered")], [])
    row = ROW._replace(total=9, moved=8, already_there=0, vanished=0)
    assert folder_manifest(row, facts).proof is Proof.HOLDS
    assert folder_manifest(row._replace(moved=9, total=10), facts).proof is Proof.BROKEN


def test_a_folder_left_out_holds_by_its_rule() -> None:
    row = FolderRow("Ads", "", 2, rule="ads", total=5, excluded=5)
    assert folder_manifest(row, Facts([], [], [])).proof is Proof.HOLDS
    assert folder_manifest(row._replace(total=6), Facts([], [], [])).proof is Proof.BROKEN


def test_what_is_being_undone_is_not_there() -> None:
    facts = Facts([Run(1, 9, 9, 101, Outcome.UNDOING, 1, 3)], [], [])
    found = folder_manifest(FolderRow("INBOX", "INBOX", 1, total=9), facts)
    assert (found.proof, found.undoing, found.by_pass) == (Proof.OPEN, 9, {3: 9})


@pytest.mark.parametrize(("field", "value"), [
    ("source_first", 2), ("source_last", 12), ("count", 8), ("target_first", 102), ("outcome", Outcome.ALREADY_THERE), ("pass_id", 4)])
def test_every_field_of_a_run_changes_the_digest(field: str, value: Any) -> None:
    run = replace(FACTS.runs[0], **{field: value})
    assert folder_manifest(ROW, replace(FACTS, runs=[run, FACTS.runs[1]])).digest != folder_manifest(ROW, FACTS).digest


def test_the_digest_is_of_what_happened_not_of_how_it_is_told() -> None:
    told_otherwise = replace(FACTS, set_aside=[SetAsideRow(11, Cause.X_ITEM, "other words")])
    row = ROW._replace(source_display="收件箱", bytes_moved=5)
    assert folder_manifest(row, told_otherwise).digest == folder_manifest(ROW, FACTS).digest


def test_the_canonical_form_is_what_the_docstring_says() -> None:
    facts = replace(FACTS, repairs=[RepairRow(3, Repair.DATE, "words")])
    lines = list(canonical_lines(ROW._replace(source="é\t\n"), facts))
    assert lines == [
        b'["folder","\\u00e9\\t\\n","INBOX",7,9,null]\n', b'["run",1,9,9,101,109,"moved",3]\n', b'["run",10,10,1,5,5,"already_there",0]\n',
        b'["set_aside",11,"x_item"]\n', b'["repair",3,"date"]\n', b'["sum",12,9,1,0,1,1,0,true]\n']
    assert all(line.isascii() and line.endswith(b"\n") and json.loads(line) for line in lines)


@pytest.fixture
def finished(tmp_path: Path) -> Iterator[Any]:
    ledger = a_finished_move(tmp_path / "ledger")
    yield ledger
    ledger.close()


def test_a_whole_move(finished: Any) -> None:
    manifest = manifest_of(finished)
    counts = manifest.counts
    assert (counts.total, counts.moved, counts.already_there, counts.excluded, counts.set_aside, counts.vanished) == (131, 117, 3, 5, 4, 2)
    assert (counts.accounted, counts.remaining, manifest.proof) == (131, 0, Proof.HOLDS)
    assert (manifest.appended(1), manifest.appended(2), manifest.last_pass()) == (103, 15, 2)
    folders = hashlib.sha256("".join(f"{folder.digest}\n" for folder in manifest.folders).encode())
    assert manifest.digest == folders.hexdigest()
    assert [one.outcome for one in manifest.passes] == ["partial", "partial"]


def test_one_broken_folder_breaks_the_whole(tmp_path: Path) -> None:
    ledger = a_broken_move(tmp_path / "ledger")
    assert manifest_of(ledger).proof is Proof.BROKEN
    ledger.close()


@pytest.mark.parametrize(("ended", "proof"), [("complete", Proof.HOLDS), ("partial", Proof.HOLDS), ("paused", Proof.OPEN),
                                              ("failed", Proof.OPEN), (None, Proof.OPEN)])
def test_the_whole_holds_only_when_the_last_pass_went_through(finished: Any, ended: str | None, proof: Proof) -> None:
    """A folder that it did not reach has no row that could be missing."""
    number = finished.begin_pass(5.0)
    if ended:
        finished.end_pass(number, 6.0, ended)
    assert manifest_of(finished).proof is proof


def test_an_empty_ledger_proves_nothing(tmp_path: Path) -> None:
    ledger = empty_ledger(tmp_path / "ledger")
    manifest = manifest_of(ledger)
    assert (manifest.proof, manifest.last_pass(), manifest.passes) == (Proof.OPEN, 0, [])
    assert PassRow(1, 0.0) not in manifest.passes
    ledger.close()
