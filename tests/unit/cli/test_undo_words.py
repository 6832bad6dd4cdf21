"""What `undo` prints of a report, and of a ledger of which there is nothing to undo, without a server."""
from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.cli import main
from engine.cli_undo import print_undo
from engine.ledger import Entry, FolderRow, Outcome, Run
from engine.ledger_file import SqliteLedger
from engine.report.copy import CopyOutcome
from engine.report.undo import UndoFolder, UndoLeft, UndoReport


def printed(report: UndoReport) -> str:
    out = io.StringIO()
    print_undo(report, out)
    return out.getvalue()


@pytest.mark.parametrize("why", list(UndoLeft))
def test_what_is_left_is_told_with_its_reason_in_both_languages(why: UndoLeft) -> None:
    folder = UndoFolder("INBOX", "INBOX", messages=3, left=3, why=why, gone=2)
    text = printed(UndoReport(CopyOutcome.PARTIAL, 4, folders=[folder]))
    reason = text[text.index("["):text.index("]")]
    assert " / " in reason and any("\u4e00" <= c <= "\u9fff" for c in reason)
    assert ("2 of this folder were deleted at the source" in text) is (why is not UndoLeft.GONE_AT_SOURCE)
    assert text.splitlines()[-1] == "pass 4: 0 removed, 0 not there any more, 3 left; 0 B"


def test_how_much_is_told_in_units_that_people_read() -> None:
    folder = UndoFolder("INBOX", "INBOX", messages=2, removed=2, bytes=5 * 2**20 + 2**19)
    assert printed(UndoReport(CopyOutcome.COMPLETE, 1, dry_run=True, folders=[folder])).endswith(
        "pass 1: 2 would be removed, 0 not there any more, 0 left; 5.5 MB\n")


def test_a_pass_of_which_nothing_is_left_is_named_and_not_said_to_have_moved_something() -> None:
    """It may have found everything there."""
    text = printed(UndoReport(CopyOutcome.COMPLETE, 3))
    assert text == ("没有可撤销的：第 3 次没有搬进过邮件，或者搬进去的已经都撤销了。\n"
                    "Nothing to undo: pass 3 moved nothing, or all of it was undone.\n")


def never_reached(ledger: SqliteLedger) -> None:
    """The first copy could not sign in."""


def found_everything_there(ledger: SqliteLedger) -> None:
    number = ledger.begin_pass(1.0)
    row = ledger.put_folder(FolderRow("INBOX", "INBOX", total=3, already_there=3, complete=True))
    ledger.put_folder(FolderRow("Virtual", "", rule="virtual"))
    ledger.write(Entry(row, runs=[Run(1, 3, 3, 7, Outcome.ALREADY_THERE, pass_id=number)]))
    ledger.end_pass(number, 2.0, "complete")


def undone(ledger: SqliteLedger) -> None:
    """As an undo leaves a folder: open, and without the rows of what it removed."""
    found_everything_there(ledger)
    row, *_ = ledger.folders()
    ledger.write(Entry(row._replace(complete=False), runs=[]))


@pytest.mark.parametrize(("made", "more"), [(never_reached, False), (found_everything_there, False), (undone, True)])
def test_where_no_copy_moved_anything_the_last_pass_is_said_to_be_none(
        made: Callable[[SqliteLedger], None], more: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = SqliteLedger(tmp_path / "ledger", "li@old.example @ localhost:1 -> li@new.example @ localhost:2")
    made(ledger)
    ledger.close()
    assert main(["undo", "imaps://li%40new.example@localhost:2", "--ledger", str(tmp_path / "ledger"), "--last"]) == 0
    printed = capsys.readouterr()
    zh, en = printed.out.splitlines()
    assert (printed.err, "pass 0" in en, "any more" in en) == ("", False, False)
    assert zh.startswith("没有可撤销的：用这个账本的 copy 还没有搬进过邮件") and ("或者搬进去的已经都撤销了" in zh) is more
    assert en.startswith("Nothing to undo: no copy with this ledger has moved anything yet") and ("or all of it was undone" in en) is more
