"""What a check found, and what a move did, in words and rows for the pages.

Reads the JSON that engine.check left in a Check, defensively: a page must not fail because a key is missing in an older row.
Must not: change anything.
"""
from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from engine.causes import Cause, Side, Words
from engine.folders.mapping import explain_note
from engine.folders.roles import names
from engine.providers.provider import Provider
from engine.redact import visible
from engine.report.steps import Step, StepState
from engine.report_files.words import reason_words
from portal.language import day, say, stated_day, words
from portal.language import size as size_text
from portal.models import Check, CheckState, LedgerFolder

_STEP_WORDS = {
    Step.NAME: Words("找到服务器", "Find the server"),
    Step.CONNECT: Words("连上服务器", "Connect"),
    Step.TLS: Words("建立安全连接", "Secure the connection"),
    Step.LOGIN: Words("登录邮箱", "Sign in"),
    Step.FOLDERS: Words("看看有哪些文件夹", "Look at the folders"),
}
_STATE_WORDS = {
    StepState.WAITING: Words("等待中", "waiting"), StepState.RUNNING: Words("进行中", "in progress"),
    StepState.OK: Words("通过", "passed"), StepState.FAILED: Words("没通过", "failed"), StepState.SKIPPED: Words("还没做到", "not reached"),
}
_SHAPES = {StepState.WAITING: "ring", StepState.RUNNING: "half", StepState.OK: "tick", StepState.FAILED: "alert",
           StepState.SKIPPED: "dash"}
_ROLE_WORDS = {
    "inbox": Words("收件箱", "Inbox"), "sent": Words("已发送", "Sent"), "drafts": Words("草稿箱", "Drafts"),
    "trash": Words("已删除", "Trash"), "junk": Words("垃圾邮件", "Junk"), "archive": Words("归档", "Archive"),
}


# --- the five steps -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepLine:
    name: Words
    state: StepState

    @property
    def words(self) -> Words:
        return _STATE_WORDS[self.state]

    @property
    def shape(self) -> str:
        return _SHAPES[self.state]


def check_steps(check: Check) -> dict[Side, list[StepLine]]:
    """The five steps of each mailbox that is checked, the old one first. What was not reported waits, or was not done."""
    sides = [Side.SOURCE, Side.DESTINATION] if check.side == "both" else [Side(check.side)]
    unreported = StepState.SKIPPED if check.state is CheckState.DONE else StepState.WAITING
    reported: dict[tuple[str, str], str] = {
        (row.get("side", sides[0].value), row["step"]): row["state"] for row in check.steps if "step" in row and "state" in row}
    return {side: [StepLine(_STEP_WORDS[step], StepState(reported.get((side.value, step.value), unreported))) for step in Step]
            for side in sides}


# --- what was found -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FolderLine:
    """`lands` is where its mail goes; "" when it is left out, and then `left_out` says by which rule."""

    name: str
    messages: int
    octets: int
    lands: str
    left_out: str


@dataclass(frozen=True)
class Findings:
    """Of the old mailbox. `quota_free` is what the new one has left, in octets, when it says."""

    folders: int
    messages: int
    octets: int
    estimated: bool
    largest: int
    warnings: list[str]
    moved: list[FolderLine]
    left_out: list[FolderLine]


def findings(check: Check, provider: Provider) -> Findings:
    """Of the old mailbox's CheckResult; warnings about the new one too, when both were checked."""
    result: dict[str, Any] = check.result.get(Side.SOURCE.value) or {}
    found = sorted(result.get("found", []), key=lambda row: _place(row.get("role"), str(row.get("name", ""))))
    lines = [_folder_line(row) for row in found]
    moved = [line for line in lines if not line.left_out]
    warnings = [*result.get("warnings", []), *(check.result.get(Side.DESTINATION.value) or {}).get("warnings", [])]
    return Findings(len(moved) or int(result.get("folders", 0)), int(result.get("messages", 0)), int(result.get("bytes", 0)),
                    bool(result.get("bytes_estimated")), int(result.get("largest", 0)),
                    [text for row in warnings if (text := warning_text(row, provider))], moved,
                    [line for line in lines if line.left_out])


_ORDER = ("inbox", "sent", "drafts", "trash", "junk")


def _place(role: str | None, name: str) -> tuple[int, str]:
    """Where a folder stands in every list of folders: the known ones first, the others by name."""
    return (_ORDER.index(role) if role in _ORDER else len(_ORDER), name.casefold())


def _folder_line(row: dict[str, Any]) -> FolderLine:
    rule, role = row.get("excluded_by"), row.get("role")
    pair = _ROLE_WORDS.get(role or "")
    lands = words(pair) if pair else say("同名文件夹", "a folder of the same name")
    return FolderLine(folder_name(str(row.get("name", ""))), int(row.get("messages", 0)), int(row.get("bytes", 0)), "" if rule else lands,
                      rule_words(rule) if rule else "")


def expected_messages(check: Check | None) -> int:
    """How many messages the check promised: until the worker has counted."""
    return int((check.result.get(Side.SOURCE.value) or {}).get("messages", 0)) if check is not None else 0


def rule_words(rule: str) -> str:
    pair = names().rule_words.get(rule)
    return words(pair) if pair else say("按规则不搬", "left out by rule")


def warning_text(row: dict[str, Any], provider: Provider) -> str:
    """One warning of engine.check in words for the person; "" where the page says the same elsewhere."""
    match row.get("code"):
        case "excluded_folders":
            return ""
        case "only_30_days":
            return say("现在只能看到最近 30 天的邮件（最早一封是 {oldest}）。"
                       "在旧邮箱把收取范围改成「全部」再开始，否则更早的邮件搬不过来。",
                       "Only the last 30 days are visible (oldest: {oldest}). Set the range to “all” in your old mailbox before you "
                       "start, or older mail stays behind.", oldest=stated_day(str(row.get("oldest", ""))))
        case "system_folders_only":
            return say("现在只看得到系统文件夹。如果你自己建过文件夹，请先在旧邮箱的收取选项里把它们放开，再检查一次。",
                       "Only the built-in folders are visible. If you made folders of your own, open them for mail programs first, "
                       "then check again.")
        case "largest_over_limit":
            return say("最大的一封有 {largest}，新邮箱每封最多收 {limit}。超过的会单独列出来，不影响其他邮件。",
                       "The largest message has {largest}; the new mailbox takes {limit} each. Larger ones will be listed apart.",
                       largest=size_text(int(row.get("largest", 0))), limit=size_text(int(row.get("limit", 0))))
        case "quota_too_small":
            return say("新邮箱还剩 {free}，装不下全部 {needed}。请管理员先扩容；现在开始也行，装满时我们会停下来。",
                       "The new mailbox has {free} left, less than the {needed} to come. Ask for more room; you may also start: we stop "
                       "when it is full.", free=size_text(int(row.get("free", 0))), needed=size_text(int(row.get("needed", 0))))
        case "header_only":
            return say("旧邮箱现在只给邮件头，不给正文。先请{provider}的客服恢复，再开始；不然搬过来的是空邮件，我们会把它们留在名单里。",
                       "Your old mailbox gives only headers, no content. Ask the support of {provider} to restore it before you start; "
                       "otherwise such messages are listed and not moved.", provider=provider.name)
        case "folder_unreadable":
            return say("文件夹「{folder}」打不开，可能上了安全锁。在旧邮箱里打开它再检查一次，否则它搬不过来。",
                       "The folder “{folder}” cannot be opened; it may be locked. Unlock it and check again, or it stays behind.",
                       folder=visible(str(row.get("folder", ""))))
        case "overseas_host_better":
            return say("到旧邮箱的线路比较慢，搬得会久一些。", "The line to your old mailbox is slow, so this will take longer.")
    both = row.get("zh"), row.get("en")
    return words(Words(str(both[0]), str(both[1]))) if all(both) else ""


# --- what the move did ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MovedLine:
    name: str
    target: str
    total: int
    moved: int
    already_there: int
    set_aside: int
    remark: str
    settled: int

    @property
    def left_out(self) -> bool:
        return not self.target


def folder_lines(rows: list[LedgerFolder]) -> list[MovedLine]:
    return [MovedLine(folder_name(row.source_display or row.source), "" if row.rule else folder_name(row.target_display or row.target),
                      row.total, row.moved,
                      row.already_there, row.set_aside, _remark(row), row.moved + row.already_there + row.excluded + row.set_aside)
            for row in sorted(rows, key=lambda row: _place(row.role, row.source_display or row.source))]


def folder_name(name: str) -> str:
    """As people call it: only INBOX is the same word at every server."""
    return words(_ROLE_WORDS["inbox"]) if name.upper() == "INBOX" else name


def _remark(row: LedgerFolder) -> str:
    if row.rule:
        return rule_words(row.rule)
    return words(explain_note(row.note)) if row.note else ""


def set_aside_words(reason: str) -> str:
    """Why one message could not be moved."""
    cause = Cause(reason) if reason in set(Cause) else Cause.UNKNOWN
    return words(reason_words(cause))


def internal_day(text: str) -> str:
    """The day of an IMAP internal date ("01-Mar-2019 10:22:33 +0800"); "–" when there is none."""
    try:
        return day(dt.datetime.strptime(text.strip(), "%d-%b-%Y %H:%M:%S %z").date())
    except ValueError:
        return visible(text) or "–"
