"""Given what the ledger's rows were and are, when a run has ended, then its report says of each folder what this run did, and whose word
ended it."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.causes import Cause, Side
from engine.errors import EngineError, Refused, Throttled
from engine.folders.mapping import FolderPlan
from engine.folders.roles import FolderRole
from engine.imap.session import FolderStatus
from engine.ledger import Entry, FolderRow, SetAsideRow
from engine.ledger_file import SqliteLedger
from engine.pacing.key import PaceKey
from engine.pacing.pace import Clock, Pace
from engine.pacing.store import MemoryPaceStore
from engine.progress import Silent
from engine.report.copy import CopyOutcome, CopyReport, FolderReport, SetAsideReport
from engine.transfer.outcome import End, report_of
from engine.transfer.planning import Plan, Rows
from engine.transfer.records import SerialStore
from engine.transfer.tally import Tally
from tests.unit.folders.listing import folder

NAME = folder("日本").name
LATE = SetAsideRow(9, Cause.X_ITEM, "not this one", 500, "17-Jul-2026 02:44:25 -0700")


class Run:
    """A run over one folder; the source counts seven messages in it. Time stands still."""

    def __init__(self, directory: Path) -> None:
        self.ledger = SqliteLedger(directory / "ledger", "pair")
        self.folder = FolderPlan(folder("日本"), "There", "There", FolderRole.ARCHIVE, True)
        self.plan = Plan(Tally(Silent(), 0, 0, 0))
        self.plan.folders, self.plan.counted = [self.folder], {NAME: FolderStatus(7, 8, 1)}
        self.rows = Rows()
        self.end = End()
        self.store = MemoryPaceStore(clock=lambda: 1000.0)
        self.paces = {side: Pace(PaceKey(side.value, "0" * 32), self.store, side=side, clock=Clock(lambda: 50.0, lambda _: None))
                      for side in Side}

    def report(self) -> CopyReport:
        return report_of(self.plan, self.rows, self.end, SerialStore(self.ledger), self.paces)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    one = Run(tmp_path)
    yield one
    one.ledger.close()


# -- folders


def test_a_folder_that_nobody_came_to_is_told_as_it_was_counted(run: Run) -> None:
    assert run.report().folders == [FolderReport("日本", "There", "archive", total=7)]
    run.plan.folders = [run.folder._replace(rule="view", note="renamed:x")]
    assert run.report().folders == [FolderReport("日本", "There", "archive", total=7, rule="view", note="renamed:x")]


def test_what_earlier_runs_moved_was_there_already(run: Run) -> None:
    run.rows.begin([FolderRow(NAME, "There", total=7, moved=4, already_there=1, bytes_moved=400)])
    run.rows.now[NAME] = FolderRow(
        NAME, "Named so", target_display="Named so", role="sent", total=9, moved=6, already_there=1, excluded=2, vanished=3, set_aside=8,
        bytes_moved=650, repaired=4, gone=5, flags_updated=6, rule="a rule", note="renamed:x")
    report = run.report()
    assert report.folders == [FolderReport("日本", "Named so", "sent", 9, 2, 5, 2, 8, 3, "a rule", "renamed:x", 4, 5, 6)]
    assert report.bytes == 250


def test_a_folder_that_was_started_anew_counts_from_nothing(run: Run) -> None:
    run.rows.begin([FolderRow(NAME, "There", moved=4, bytes_moved=400)])
    run.rows.now[NAME] = FolderRow(NAME, "There", moved=3, bytes_moved=300)
    assert (run.report().folders[0].moved, run.report().bytes) == (0, 0)  # fewer than before: an undo took some back
    del run.rows.before[NAME]
    assert (run.report().folders[0].moved, run.report().bytes) == (3, 300)


def test_what_was_set_aside_is_named_and_then_whole_folders(run: Run) -> None:
    row = run.ledger.put_folder(FolderRow(NAME, "There"))
    run.ledger.write(Entry(row, set_aside=[LATE]))
    run.rows.begin([row])
    refused = SetAsideReport("Locked", 0, "x_folder", "no such folder")
    run.end.refused.append(refused)
    run.end.out_of_order = {NAME: 2, "INBOX": 3}
    report = run.report()
    assert report.set_aside == [SetAsideReport("日本", 9, "x_item", "not this one", 500, "17-Jul-2026 02:44:25 -0700"), refused]
    assert (report.outcome, report.out_of_order) == (CopyOutcome.PARTIAL, 5)


# -- whose word ended it


def test_nothing_left_to_say_is_complete(run: Run) -> None:
    report = run.report()
    assert (report.outcome, report.cause, report.side, report.retry_after) == (CopyOutcome.COMPLETE, None, None, None)


@pytest.mark.parametrize(("kind", "outcome"), [(Refused, CopyOutcome.FAILED), (Throttled, CopyOutcome.PAUSED)])
def test_an_error_is_told_without_addresses_and_only_a_throttle_is_a_pause(run: Run, kind: type[EngineError], outcome: CopyOutcome) -> None:
    run.end.error = kind(Cause.THROTTLED, side=Side.DESTINATION, server_text="bob@corp.example is busy", detail="why", retry_after=60.0)
    run.end.stopped = True  # the error came first
    report = run.report()
    assert (report.outcome, report.cause, report.side) == (outcome, Cause.THROTTLED, Side.DESTINATION)
    assert (report.server_text, report.detail, report.retry_after) == ("b***@c*** is busy", "why", 60.0)


def test_a_stop_is_a_pause_and_the_longest_wait_that_stands_is_told(run: Run) -> None:
    run.end.stopped = True
    report = run.report()
    assert (report.outcome, report.cause, report.side, report.retry_after) == (CopyOutcome.PAUSED, None, None, None)
    for side, seconds in ((Side.SOURCE, 90.0), (Side.DESTINATION, 40.0)):
        run.paces[side].notice(Cause.THROTTLED, seconds)
    report = run.report()
    assert (report.outcome, report.cause, report.side, report.retry_after) == (CopyOutcome.PAUSED, Cause.THROTTLED, Side.SOURCE, 90.0)
