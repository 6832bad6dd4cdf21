"""What the command line shows: progress on a terminal, results in words, results as one JSON object.

A failure is always shown in both languages, with its cause's name; a server's words are shown redacted.
"""
from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from engine.causes import Cause, Side, explain
from engine.errors import EngineError
from engine.progress import Progress, Silent
from engine.providers.catalogue import provider
from engine.redact import redact
from engine.sizes import size

if TYPE_CHECKING:  # a run loads only its own
    from engine.report.check import CheckResult
    from engine.report.copy import CopyReport
    from engine.report.verify import Finding, FolderVerdict, VerifyReport


STDERR = 2
LINE_SECONDS = 20.0  # between two lines of progress in a log
_STOPPING = "正在停下，等服务器答完 / stopping, waiting for the servers' answers"


class Bar(Silent):
    """Progress on stderr: a bar on a terminal; elsewhere (a log, cron) a line every LINE_SECONDS, so that a long move does not look hung
    and a short one says nothing but its result."""

    def __init__(self, shown: bool) -> None:
        self._shown, self._stopping = shown, False
        self._bar: Any = None
        self._told_at = time.monotonic()

    def __enter__(self) -> Bar:
        if self._shown:
            from tqdm import tqdm
            self._bar = tqdm(unit="msg", dynamic_ncols=True, file=sys.stderr, smoothing=0.1)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def progress(self, at: Progress) -> None:
        done = at.moved + at.already_there + at.excluded + at.set_aside
        if self._bar is not None:
            self._bar.total = at.messages_total
            self._bar.set_description(at.folder[:30], refresh=False)
            self._bar.n = done
            if not self._stopping:
                self._bar.refresh()
        elif time.monotonic() - self._told_at >= LINE_SECONDS:
            self._told_at = time.monotonic()
            of_all = f" of {at.messages_total}" if done < at.messages_total else ""  # a comparison counts as it goes
            print(f"{time.strftime('%H:%M:%S')} 进度 / progress: {done}{of_all}; 文件夹 / folder: {at.folder}", file=sys.stderr, flush=True)

    def stopping(self) -> None:
        """Says once, at once, that it was heard; the bar stands still from here. Safe in a signal handler: `print` is not, where the
        signal came in the middle of another one."""
        if not self._stopping:
            self._stopping = True
            below_the_bar = "\n" if self._bar is not None else ""
            with suppress(OSError):  # nobody reads it
                os.write(STDERR, f"{below_the_bar}{_STOPPING}\n".encode())

    def server_line(self, side: Side, cause: Cause, text: str) -> None:
        if self._bar is not None:
            self._bar.write(f"{side.value}: {cause.value}: {text}", file=sys.stderr)


def print_json(value: dict[str, Any]) -> None:
    json.dump(value, sys.stdout, ensure_ascii=False)
    print(flush=True)


def explanation(cause: Cause | None, provider_key: str | None) -> dict[str, Any]:
    """What the cause means, in both languages; nothing when there is no cause."""
    if cause is None:
        return {}
    words = explain(cause, provider_key, cli=True)
    return {"explanation": {language: {"title": words.title.in_(language), "meaning": words.meaning.in_(language),
                                       "next_step": words.next_step.in_(language)} for language in ("zh", "en")},
            "who": words.who.value}


def print_cause(cause: Cause, provider_key: str | None, server_text: str) -> None:
    words = explain(cause, provider_key, cli=True)
    print(f"{words.title.zh}：{words.meaning.zh}{words.next_step.zh}")  # Chinese sentences stand without a space between them
    print(f"{words.title.en}: {words.meaning.en} {words.next_step.en}")
    print(f"cause: {cause.value}")
    if server_text:
        print(f"server: {redact(server_text)}")


def print_failure(error: EngineError, as_json: bool) -> None:
    if as_json:
        print_json({"outcome": "failed", "cause": error.cause.value, "server_text": redact(error.server_text),
                     "detail": error.detail, **explanation(error.cause, None)})
    else:
        print_cause(error.cause, None, error.server_text)
        if error.detail:
            print(error.detail)


def print_check(result: CheckResult) -> None:
    if result.cause is not None:
        print_cause(result.cause, result.provider, result.server_text)
        if result.detail:
            print(result.detail)
        if len(result.causes) > 1:
            print("possible: " + ", ".join(c.value for c in result.causes))
        return
    name = provider(result.provider).name if result.provider else None
    print(f"{result.folders} folders, {result.messages} messages, {size(result.bytes)}, largest {size(result.largest)}"
          + (f" ({name.zh} / {name.en})" if name else ""))
    for warning in result.warnings:
        print("! " + ", ".join(f"{key}={value}" for key, value in warning.items()))


def print_copy(report: CopyReport) -> None:
    for f in report.folders:
        note = "".join(f" [{x}]" for x in (f.rule, f.note) if x)
        print(f"{f.source} -> {f.target or '-'}: {f.moved} moved, {f.already_there} already there, {f.excluded} left out, "
              f"{f.set_aside} set aside of {f.total}{note}")
    for s in report.set_aside:
        print(f"! {s.folder} UID {s.uid}: {s.reason}: {s.server_text}")
    if report.folders or report.cause is None:  # a failed login has no sum, and its reason comes first
        totals = report.totals()
        head = "已停下 / stopped" if report.cause is Cause.INTERRUPTED else report.outcome.value  # whoever stopped it sees no failure
        print(f"{head}: {totals['moved']} moved, {totals['already_there']} already there, {totals['excluded']} left out, "
              f"{totals['set_aside']} set aside of {totals['total']}; {size(report.bytes)} in {report.seconds:.1f} s")
    if report.out_of_order:
        print(f"{report.out_of_order} 封排在了原本在它们后面的邮件之后：起初没有被接受，只能分段取到，或者几路连接同时送到，"
              "新服务器按自己的次序存放；内容不受影响。")
        print(f"{report.out_of_order} stand behind one that follows them at the source: refused at first, given only in parts, or stored "
              "in another order by the new server, to which they came over several connections; their content is the same.")
    if report.cause is not None:
        print_cause(report.cause, None, report.server_text)
        if report.detail:
            print(report.detail)


def print_verify(report: VerifyReport) -> None:
    from engine.report.verify import FINDINGS_OF_A_FOLDER, FindingKind

    if report.cause is not None:
        print_cause(report.cause, None, report.server_text)
        if report.detail:
            print(report.detail)
        return
    for f in report.folders:
        counts, nothing_arrived = _differences(f), f.missing == f.source_messages > f.extra
        if counts or f.note:
            print(f"! {f.folder}: " + "; ".join(x for x in (counts, "一封也没有到 / none is there" * nothing_arrived, f.note) if x))
        shown = [one for one in f.findings if not (nothing_arrived and one.kind is FindingKind.MISSING)]  # a list of all says no more
        for one in sorted(shown, key=_place):
            print(f"    {one.kind.value}: {one.folder} {_of_finding(one)}")
        if shown and len(f.findings) == FINDINGS_OF_A_FOLDER:
            print("    … more of this folder are counted and not listed")
    counted = f"{sum(f.source_messages for f in report.folders)} messages in {len(report.folders)} folders"
    print(f"equal: {counted}" if report.equal else f"not equal: {_differences(report)}; {counted}")
    apart = ", ".join(f"{count} {words}" for count, words in (
        (report.gone, "deleted at the source since"), (report.unclaimed, "at the destination that this move did not bring"),
        (report.repaired, "changed as the ledger records")) if count)
    if apart:
        print(f"apart from that: {apart}")
    if not report.octets_compared:
        compared = "UIDs, sizes, flags and dates" if report.sizes_compared else "UIDs, flags and dates (a server only estimates sizes)"
        words = "编号、大小、标记和日期" if report.sizes_compared else "编号、标记和日期（有一方的大小只是估计）"
        print(f"快速核对：比较了{words}，没有读正文；正文被改而大小不变的看不出来，要 --full。")
        print(f"quick: compared {compared}, no octets; a change that keeps the size is not seen, --full sees it.")


def _place(one: Finding) -> tuple[str, bool, int, int]:
    """Where somebody looks for it: by source folder and UID there; after those what has none, by its UID at the destination. A comparison
    by content finds them in the order of their octets' digests."""
    return one.folder, one.source_uid is None, one.source_uid or 0, one.target_uid or 0


def _differences(of: FolderVerdict | VerifyReport) -> str:
    """The counts that are not zero, in words."""
    return ", ".join(f"{count} {words}" for count, words in (
        (of.missing, "missing"), (of.extra, "extra"), (of.altered, "altered"), (of.altered_flags, "flags"), (of.altered_date, "dates"),
        (of.unaccounted, "unaccounted"), (of.unreadable, "unreadable"), (of.set_aside, "set aside")) if count)


def _of_finding(one: Finding) -> str:
    uids = " -> ".join(f"UID {uid}" if uid else "-" for uid in (one.source_uid, one.target_uid))
    sizes = "/".join(str(size) for size in (one.source_size, one.target_size) if size is not None)
    return f"{uids} ({sizes} octets)" + (f": {redact(one.words)}" if one.words else "")
