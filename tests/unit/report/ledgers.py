"""Ledgers as a mover leaves them, for the reports' tests: written through the store, never by hand."""
from __future__ import annotations

from pathlib import Path

from engine.causes import Cause
from engine.ledger import Entry, FolderRow, Outcome, Repair, RepairRow, Run, SetAsideRow
from engine.ledger_file import SqliteLedger

BEGUN = 1_764_000_000.0  # 2025-11-24 16:00 UTC


def empty_ledger(path: Path) -> SqliteLedger:
    return SqliteLedger(path, "li@old.example @ imap.old.example:993 -> li@new.example @ imap.new.example:993")


def a_finished_move(path: Path) -> SqliteLedger:
    """Two passes: INBOX with a repair and a refusal, a folder with names that must be escaped, one left out by rule, one whose name was
    changed. 131 messages in all: 117 moved, 3 there, 5 left out, 4 set aside, 2 vanished."""
    ledger = empty_ledger(path)
    first, second = ledger.begin_pass(BEGUN), ledger.begin_pass(BEGUN + 86_400)
    inbox = ledger.put_folder(FolderRow("INBOX", "INBOX", source_display="INBOX", target_display="INBOX", role="inbox"))
    ledger.write(Entry(
        FolderRow("INBOX", "INBOX", inbox.id, 7, 140, 111, 9, "INBOX", "INBOX", "inbox", 113, 105, 3, 0, 2, 3, 9_000_000, 1, 2, 6,
                  complete=True),
        runs=[Run(1, 100, 90, 500, Outcome.MOVED, pass_id=first), Run(101, 103, 3, 3, Outcome.ALREADY_THERE),
              Run(110, 124, 15, 800, Outcome.MOVED, pass_id=second)],
        set_aside=[SetAsideRow(105, Cause.X_ITEM, "NO [SERVERBUG] li@old.example: cannot read", 12_345, "01-Mar-2019 10:22:33 +0800"),
                   SetAsideRow(106, Cause.DESTINATION_REFUSED, "=cmd|' /C calc'!A0", 40_000_000, "02-Mar-2019 10:22:33 +0800"),
                   SetAsideRow(107, Cause.DESTINATION_REFUSED, "too large", 40_000_000, "")],
        repairs=[RepairRow(12, Repair.KEYWORDS, "NO [LIMIT] too many keywords")]))
    odd = ledger.put_folder(FolderRow("&UqJnRQ- =1+1 <b>", "A <i>&amp;", source_display="=1+1 <b>客户</b>", target_display="A <i>&amp;"))
    ledger.write(Entry(
        FolderRow(odd.source, odd.target, odd.id, 7, 20, 13, 9, odd.source_display, odd.target_display, None, 13, 12, 0, 0, 0, 1, 120_000,
                  complete=True, note="renamed:=1+1 <b>客户</b>"),
        runs=[Run(1, 13, 13, 1, Outcome.MOVED, pass_id=first)],
        set_aside=[SetAsideRow(5, Cause.INCOMPLETE, "at the destination as UID 5, but with 9 octets instead of 10", 10)]))
    ledger.put_folder(FolderRow("&Xn9USpCuTvY-", "", source_display="广告邮件", role="ads", rule="ads", total=5, excluded=5))
    ledger.end_pass(first, BEGUN + 600, "partial")
    ledger.end_pass(second, BEGUN + 86_460, "partial")
    return ledger


def a_broken_move(path: Path) -> SqliteLedger:
    """Its counters say ten, its rows nine."""
    ledger = empty_ledger(path)
    row = ledger.put_folder(FolderRow("INBOX", "INBOX", source_display="INBOX", target_display="INBOX"))
    ledger.write(Entry(FolderRow("INBOX", "INBOX", row.id, 7, 11, 10, 9, "INBOX", "INBOX", total=10, moved=10, complete=True),
                       runs=[Run(1, 9, 9, 1, Outcome.MOVED, pass_id=ledger.begin_pass(BEGUN))]))
    return ledger
