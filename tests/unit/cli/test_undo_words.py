"""What `undo` prints of a report, without a server."""
from __future__ import annotations

import io

import pytest

from engine.cli_undo import print_undo
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
        "pass 1: 2 would be removed, 0 not there any more, 0 left; 5.5 MiB\n")


@pytest.mark.parametrize(("number", "says"), [(0, "any copy"), (3, "pass 3")])
def test_nothing_to_undo_names_no_pass_that_never_was(number: int, says: str) -> None:
    text = printed(UndoReport(CopyOutcome.COMPLETE, number))
    assert "没有可撤销的" in text and f"of what {says} appended, nothing is there any more" in text
    assert "pass 0" not in text
