"""The command `undo`: removes from the new mailbox what one pass of `copy` appended there.

Must not: open the source, create a ledger, or remove anything from a mailbox that the ledger is not about. Always: it is asked for,
unless --yes or --dry-run was said. What it loads is loaded when it runs.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from engine.causes import Side, Words
from engine.cli import FAILED, NOT_ALL, OK, account_of, hint
from engine.cli_files import Usage, may_be_undone, named_ledger
from engine.endpoint import Route, parse_account_url
from engine.net.addresses import EVERYWHERE
from engine.report.copy import CopyOutcome

if TYPE_CHECKING:  # a run of another command does without
    from engine.manifest import Manifest
    from engine.report.undo import UndoFolder, UndoReport

_LEFT = {  # by UndoLeft
    "folder_changed": Words("新邮箱重建过这个文件夹，编号不再是当时的", "the folder was made anew, its UIDs name other messages"),
    "folder_missing": Words("新邮箱里没有这个文件夹了", "the folder is not there any more"),
    "gone_at_source": Words("有邮件后来从旧邮箱删了，这里可能是最后一份；确定要删就加 --even-if-gone",
                            "messages were deleted at the source since, these may be the last copies; say --even-if-gone"),
    "not_removed": Words("服务器说好了，邮件却还在", "the server said OK, and they are still there"),
}


def add_undo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    undo = commands.add_parser("undo", help="remove from the destination exactly what one pass of copy appended", description=(
        "Removes by UID what one pass appended and nothing else; needs UIDPLUS there. The source is not opened. Interrupted, it is simply "
        "run again. Exit: 0 all removed; 2 usage; 3 something was left, or you said no; 4 failed with a cause."))
    undo.add_argument("source", metavar="SOURCE", nargs="?", help="with DESTINATION: the two that were copied, which finds their ledger")
    undo.add_argument("destination", metavar="DESTINATION", help="alone, it needs --ledger")
    undo.add_argument("--ledger", type=Path, metavar="FILE", help="the ledger of the copy, where --ledger was said to copy, too")
    which = undo.add_mutually_exclusive_group()
    which.add_argument("--pass", dest="pass_id", type=_pass, metavar="N", help="this pass (report lists them)")
    which.add_argument("--last", action="store_true", help="the last pass of which something is there")
    undo.add_argument("--dry-run", action="store_true", help="count what would be removed, change nothing")
    undo.add_argument("--yes", action="store_true", help="do not ask")
    undo.add_argument("--even-if-gone", action="store_true", help="also where messages were deleted at the source since")
    undo.add_argument("--destination-password-file", type=Path, metavar="FILE", help="the new mailbox's secret")
    undo.add_argument("--ca-file", type=Path, metavar="FILE", help="trust these certificates instead of the system's")
    undo.add_argument("--allow-plaintext", action="store_true", help="allow imap+plain beyond this machine")
    undo.add_argument("--json", action="store_true", help="one JSON object on stdout")
    undo.set_defaults(run=_undo)


def _pass(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}：请写第几次，是个数 / write the number of a pass") from None


def _undo(args: argparse.Namespace) -> int:
    from engine.manifest import manifest_of
    from engine.report.undo import UndoReport
    from engine.transfer.undo import undo_pass

    ledger = named_ledger(args)
    try:
        _must_be_about(args, ledger.pair)
        manifest = manifest_of(ledger)
        pass_id = _which_pass(args, manifest)
        if not pass_id:
            undone = may_be_undone(folder.row for folder in manifest.folders)
            return _tell(args, UndoReport(outcome=CopyOutcome.COMPLETE, dry_run=args.dry_run), undone=undone)
        if not args.yes and not args.dry_run and not sys.stdin.isatty():
            raise Usage("这里没有人可以回答；请加 --yes，或者先用 --dry-run 看看",
                        "nobody can be asked here: say --yes, or --dry-run to look first")
        account, route = account_of(args, Side.DESTINATION), Route(allowed_networks=EVERYWHERE)
        if not args.yes and not args.dry_run:
            seen = undo_pass(account, ledger=ledger, pass_id=pass_id, route=route, dry_run=True, even_if_gone=args.even_if_gone)
            if seen.cause is not None:
                return _tell(args, seen)
            print_undo(seen, sys.stderr)
            if not _agreed():
                print("没有删除任何邮件。 / Nothing was removed.", file=sys.stderr)
                return NOT_ALL
        report = undo_pass(account, ledger=ledger, pass_id=pass_id, route=route, dry_run=args.dry_run, even_if_gone=args.even_if_gone)
    finally:
        ledger.close()
    return _tell(args, report)


def _must_be_about(args: argparse.Namespace, pair: str) -> None:
    """Its UIDs would name other people's mail."""
    endpoint, login = parse_account_url(args.destination)
    if not pair.endswith(f" -> {login} @ {endpoint}"):
        raise Usage(f"账本是另一个邮箱的：{pair}；请写那次搬家的新邮箱，或者指这个邮箱的账本",
                    f"the ledger is about another mailbox: {pair}; write the new mailbox of that move, or name the ledger of this one")


def _which_pass(args: argparse.Namespace, manifest: Manifest) -> int:
    """0: --last was said, and there is none."""
    if args.last:
        return manifest.last_pass()
    known = {one.id: manifest.appended(one.id) for one in manifest.passes}
    if args.pass_id in known:
        return int(args.pass_id)
    some = {number: messages for number, messages in known.items() if messages}
    zh = "；".join(f"第 {number} 次：{messages} 封" for number, messages in some.items()) or "没有"
    en = "; ".join(f"{number}: {messages} messages" for number, messages in some.items()) or "none"
    asked = Words("请写 --pass 第几次 或 --last", "say --pass N or --last") if args.pass_id is None else \
        Words(f"没有第 {args.pass_id} 次；请写 --pass 第几次 或 --last", f"there is no pass {args.pass_id}; say --pass N or --last")
    raise Usage(f"{asked.zh}；搬进去的邮件还在的有：{zh}", f"{asked.en}; passes of which something is there: {en}")


def _agreed() -> bool:
    print("输入 yes 删除 / Type yes to remove them: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() == "yes"


def _tell(args: argparse.Namespace, report: UndoReport, *, undone: bool = True) -> int:
    """The last words, and the exit code. `undone`: see print_undo."""
    from engine.printing import explanation, print_json

    if args.json:
        print_json({**report.to_json(), **explanation(report.cause, None)})
    else:
        print_undo(report, sys.stdout, undone=undone)
    hint(args, Side.DESTINATION, report.detail)
    return {CopyOutcome.COMPLETE: OK, CopyOutcome.PARTIAL: NOT_ALL}.get(report.outcome, FAILED)


def print_undo(report: UndoReport, out: TextIO, *, undone: bool = True) -> None:
    """`undone`: where there is no pass, whether one may have been undone already."""
    from engine.printing import print_cause
    from engine.sizes import size

    done = "would be removed" if report.dry_run else "removed"
    for folder in report.folders:
        print(f"{folder.source} -> {folder.target}: {folder.removed} {done}, {folder.absent} not there any more, {folder.left} left "
              f"of {folder.messages}{_remarks(folder)}", file=out)
    if report.cause is not None:
        print_cause(report.cause, None, report.server_text)
        if report.detail:
            print(report.detail)
    elif not report.folders:
        why = _nothing_to_undo(report.pass_id, undone)
        print(f"没有可撤销的：{why.zh}。\nNothing to undo: {why.en}.", file=out)
    else:
        totals = report.totals()
        print(f"pass {report.pass_id}: {totals['removed']} {done}, {totals['absent']} not there any more, {totals['left']} left; "
              f"{size(totals['bytes'])}", file=out)


def _nothing_to_undo(pass_id: int, undone: bool) -> Words:
    if pass_id:  # which of the two it is the ledger does not tell: it forgets what was undone
        return Words(f"第 {pass_id} 次没有搬进过邮件，或者搬进去的已经都撤销了", f"pass {pass_id} moved nothing, or all of it was undone")
    if undone:
        return Words("用这个账本的 copy 还没有搬进过邮件，或者搬进去的已经都撤销了",
                     "no copy with this ledger has moved anything yet, or all of it was undone")
    return Words("用这个账本的 copy 还没有搬进过邮件", "no copy with this ledger has moved anything yet")


def _remarks(folder: UndoFolder) -> str:
    remarks = [f"{_LEFT[folder.why].zh} / {_LEFT[folder.why].en}"] if folder.why else []
    if folder.gone and folder.why != "gone_at_source":
        remarks.append(f"! {folder.gone} of this folder were deleted at the source since")
    if folder.unresolved:
        remarks.append(f"! {folder.unresolved} were in flight when a copy was killed: run copy, then undo that pass")
    return "".join(f" [{remark}]" for remark in remarks)
