"""What the report calls things: outcomes, rules, reasons, repairs, passes; in Chinese and English side by side.

Must not: know a format. Always: a stored value that this version does not know is shown as it is, never hidden.
"""
from __future__ import annotations

import datetime as dt

from engine.causes import Cause, Words, explain
from engine.folders.mapping import explain_note
from engine.folders.roles import names
from engine.ledger import Outcome, Repair
from engine.sizes import size as size

MOVED = Words("搬到了新邮箱", "Moved to the new mailbox")
ALREADY_THERE = Words("新邮箱里本来就有", "Were already there")
EXCLUDED = Words("按规则不搬", "Left out by rule")
SET_ASIDE = Words("没搬成", "Set aside")
VANISHED = Words("搬之前已从旧邮箱删掉", "Left the old mailbox before they were moved")
GONE = Words("搬好以后又从旧邮箱删掉", "Moved, and deleted in the old mailbox since")
REPAIRED = Words("改动后才收下", "Changed so that they were taken")
FLAGS_UPDATED = Words("后来补上了新的标记", "Later changes of flags carried over")
REMAINING = Words("还没有结果", "Not settled yet")
UNDOING = Words("正在撤销", "Being undone")

OUTCOMES = {Outcome.MOVED: MOVED, Outcome.ALREADY_THERE: ALREADY_THERE, Outcome.UNDOING: UNDOING}

REPAIRS = {
    Repair.KEYWORDS: Words("去掉了新邮箱不认的标签", "Labels that the new mailbox refuses were left off"),
    Repair.DATE: Words("新邮箱不认收信时间，换成了邮件自己写的日期", "The date of receipt was refused; the message’s own date was used"),
    Repair.LINE_ENDS: Words("把不规范的换行改成了标准换行，文字没有变", "Irregular line ends were made regular; the text is the same"),
}

# Of one message; the causes' own words speak of the mailbox.
REASONS = {
    Cause.X_ITEM: Words("旧邮箱没有给出完整内容", "The old mailbox did not give all of it"),
    Cause.INCOMPLETE: Words("核对时和旧邮箱对不上", "Did not agree with the old mailbox when checked"),
    Cause.DESTINATION_REFUSED: Words("新邮箱不接收这一封", "The new mailbox refused it"),
    Cause.DESTINATION_QUOTA: Words("新邮箱放不下", "The new mailbox has no room for it"),
}

PASS_OUTCOMES = {
    "complete": Words("全部到齐", "All arrived"), "partial": Words("完成，有邮件没搬成", "Done, some set aside"),
    "failed": Words("没有完成", "Failed"), "paused": Words("暂停", "Paused"), "": Words("进行中，或者中断了", "Under way, or broken off"),
}


def rule_words(rule: str) -> Words:
    """Why a folder is left out."""
    return names().rule_words.get(rule) or Words(rule, rule)


def note_words(note: str | None) -> Words | None:
    """How a folder's name was changed for the destination."""
    return explain_note(note) if note else None


def reason_words(reason: Cause, provider: str | None = None) -> Words:
    """Why one message could not be moved."""
    return REASONS.get(reason) or explain(reason, provider).title


def repair_words(repair: Repair) -> Words:
    return REPAIRS.get(repair) or Words(repair.value, repair.value)


def pass_words(outcome: str) -> Words:
    return PASS_OUTCOMES.get(outcome) or Words(outcome, outcome)


def internal_date_words(text: str) -> str:
    """An IMAP internal date ("01-Mar-2019 10:22:33 +0800", RFC 3501 section 9) as reports write times: 2019-03-01 10:22 +08:00. What is
    no such date is given back as it is."""
    try:
        at = dt.datetime.strptime(text.strip(), "%d-%b-%Y %H:%M:%S %z")
    except ValueError:
        return text
    return f"{at:%Y-%m-%d %H:%M} {at.isoformat()[-6:]}"


def folder_words(wire: str, display: str) -> Words:
    """As people call it: only INBOX is the same word at every server."""
    return Words("收件箱", "Inbox") if wire.upper() == "INBOX" else Words(display or wire, display or wire)


def number(value: int) -> str:
    return f"{value:,}"


class Counted(str):
    """A whole number as it is written; formatted with "one|many" it is the word of the two that fits: "{n} {n:message|messages}"."""

    value: int

    def __new__(cls, value: int) -> Counted:
        made = super().__new__(cls, number(value))
        made.value = value
        return made

    def __format__(self, spec: str) -> str:
        one, between, many = spec.partition("|")
        return (one if self.value == 1 else many) if between else super().__format__(spec)
