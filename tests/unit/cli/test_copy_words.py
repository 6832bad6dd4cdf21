"""What `copy` prints of a report, without a server."""
from __future__ import annotations

from importlib import import_module

import pytest

from engine.causes import Cause
from engine.printing import print_copy
from engine.report.copy import CopyOutcome, CopyReport, FolderReport
from engine.sizes import size


def printed(report: CopyReport, capsys: pytest.CaptureFixture[str]) -> list[str]:
    report.folders = [FolderReport("INBOX", "INBOX", total=5, moved=3)]
    print_copy(report)
    return capsys.readouterr().out.splitlines()


def test_another_order_is_told_with_all_that_may_have_made_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Among them the new server itself, which stores in its own order what comes over several connections at once."""
    lines = printed(CopyReport(CopyOutcome.COMPLETE, out_of_order=2), capsys)
    zh, = [line for line in lines if line.startswith("2 封排在")]
    en, = [line for line in lines if line.startswith("2 stand behind")]
    assert "起初没有被接受" in zh and "分段取到" in zh and "几路连接" in zh and "内容不受影响" in zh
    assert "refused at first" in en and "in parts" in en and "over several connections" in en and "their content is the same" in en
    assert not any("排在" in line for line in printed(CopyReport(CopyOutcome.COMPLETE), capsys))


def test_a_copy_that_found_no_folder_begins_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """As after a wrong password: zeros in front of it would say nothing."""
    print_copy(CopyReport(CopyOutcome.FAILED, Cause.BAD_SECRET))
    first, *more = capsys.readouterr().out.splitlines()
    assert first.startswith("旧邮箱没有接受这个密码：") and not any("0 moved" in line for line in more)


def test_one_mailbox_has_one_size_wherever_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """By the command, the pages, the report and the demo's check."""
    assert size(7_071_234) == "6.7 MB"
    assert "; 6.7 MB in " in printed(CopyReport(CopyOutcome.COMPLETE, bytes=7_071_234), capsys)[1]
    for name in ("engine.report_files.words", "portal.language", "portal.demo.check"):
        assert vars(import_module(name))["size"] is size, name


@pytest.mark.parametrize(("cause", "head"), [(Cause.INTERRUPTED, "已停下 / stopped"), (Cause.DESTINATION_QUOTA, "failed")])
def test_a_copy_that_was_stopped_did_not_fail(cause: Cause, head: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, line, *_ = printed(CopyReport(CopyOutcome.FAILED, cause), capsys)
    assert line.startswith(f"{head}: 3 moved, 0 already there, 0 left out, 0 set aside of 5; ")
