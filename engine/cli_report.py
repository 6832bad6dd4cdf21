"""The commands `report` and `undo` of the command line: both begin with a ledger file, neither opens the source.

Must not: create a ledger, or remove anything from a mailbox that the ledger is not about. What they load is loaded when they run.
"""
from __future__ import annotations

import argparse
import sqlite3
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from engine.causes import Side, Words
from engine.cli import FAILED, NOT_ALL, OK, Usage, account_of, ledger_path
from engine.endpoint import Route, parse_account_url
from engine.ledger_file import SqliteLedger
from engine.net.addresses import EVERYWHERE
from engine.report import CopyOutcome, UndoFolder, UndoLeft, UndoReport

if TYPE_CHECKING:
    from engine.manifest import Manifest

_NO_LEDGER = "no ledger: give --ledger FILE, or the SOURCE and DESTINATION that were copied"
_LEFT = {
    UndoLeft.FOLDER_CHANGED: Words("新邮箱重建过这个文件夹，编号不再是当时的", "the folder was made anew, its UIDs name other messages"),
    UndoLeft.FOLDER_MISSING: Words("新邮箱里没有这个文件夹了", "the folder is not there any more"),
    UndoLeft.GONE_AT_SOURCE: Words("有邮件后来从旧邮箱删了，这里可能是最后一份；确定要删就加 --even-if-gone",
                                   "messages were deleted at the source since, these may be the last copies; say --even-if-gone"),
    UndoLeft.NOT_REMOVED: Words("服务器说好了，邮件却还在", "the server said OK, and they are still there"),
}


def add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    report = commands.add_parser("report", help="write down what became of every message, from the ledger", description=(
        "Writes the report of a move from its ledger alone; no login, no secret. Exit: 0 every message is accounted for; 2 usage; "
        "3 the move is not finished, or its sum does not hold."))
    report.add_argument("source", metavar="SOURCE", nargs="?", help="with DESTINATION, finds the ledger of their copy")
    report.add_argument("destination", metavar="DESTINATION", nargs="?")
    report.add_argument("--ledger", type=Path, metavar="FILE", help="the ledger of the copy")
    report.add_argument("--format", choices=("json", "csv", "html"), default="html", help="default: %(default)s, one page to print")
    report.add_argument("--language", choices=("zh", "en"), default="zh", help="default: %(default)s")
    report.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
    report.set_defaults(run=_report, json=False)


def add_undo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    undo = commands.add_parser("undo", help="remove from the destination exactly what one pass of copy appended", description=(
        "Removes by UID what one pass appended and nothing else; needs UIDPLUS there. The source is not opened. Interrupted, it is simply "
        "run again. Exit: 0 all removed; 2 usage; 3 something was left, or you said no; 4 failed with a cause."))
    undo.add_argument("destination", metavar="DESTINATION")
    undo.add_argument("--ledger", type=Path, metavar="FILE", required=True, help="the ledger of the copy")
    which = undo.add_mutually_exclusive_group()
    which.add_argument("--pass", dest="pass_id", type=int, metavar="N", help="this pass (report lists them)")
    which.add_argument("--last", action="store_true", help="the last pass of which something is there")
    undo.add_argument("--dry-run", action="store_true", help="count what would be removed, change nothing")
    undo.add_argument("--yes", action="store_true", help="do not ask")
    undo.add_argument("--even-if-gone", action="store_true", help="also where messages were deleted at the source since")
    undo.add_argument("--destination-password-file", type=Path, metavar="FILE", help="the new mailbox's secret")
    undo.add_argument("--ca-file", type=Path, metavar="FILE", help="trust these certificates instead of the system's")
    undo.add_argument("--allow-plaintext", action="store_true", help="allow imap+plain beyond this machine")
    undo.add_argument("--json", action="store_true", help="one JSON object on stdout")
    undo.set_defaults(run=_undo)


# -- the ledger ----------------------------------------------------------------------------------------------------------------

def _open(path: Path) -> tuple[SqliteLedger, str]:
    """An existing ledger, and the pair of mailboxes it is about."""
    if not path.is_file():
        raise Usage(f"{path}: no such ledger")
    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)
        try:
            found = database.execute("SELECT value FROM meta WHERE key='pair'").fetchone()
        finally:
            database.close()
    except sqlite3.OperationalError as error:
        raise Usage(f"{path}: {error}" + ("; a copy is using it" if "locked" in str(error) else "")) from None
    except sqlite3.DatabaseError:
        found = None
    if found is None:
        raise Usage(f"{path}: is no ledger")
    return SqliteLedger(path, found[0]), found[0]


def _named(pair: str) -> tuple[str, str]:
    source, arrow, destination = pair.partition(" -> ")
    return (source, destination) if arrow else (pair, "")


# -- report --------------------------------------------------------------------------------------------------------------------

def _report(args: argparse.Namespace) -> int:
    from engine.manifest import Proof, manifest_of
    from engine.report_files import WRITERS, Format, Heading

    ledger, pair = _open(_which_ledger(args))
    try:
        source, destination = _named(pair)
        pieces = WRITERS[Format(args.format)](ledger, Heading(source, destination, time.time(), args.language))
        if args.output is None:
            for piece in pieces:
                sys.stdout.buffer.write(piece.encode("utf-8"))
            sys.stdout.buffer.flush()
        else:
            try:
                with args.output.open("w", encoding="utf-8", newline="") as file:
                    file.writelines(pieces)
            except OSError as error:
                raise Usage(f"--output {args.output}: {error.strerror}") from None
        proof = manifest_of(ledger).proof
    finally:
        ledger.close()
    if proof is Proof.BROKEN:
        print("the sum does not hold: see the report", file=sys.stderr)
    return OK if proof is Proof.HOLDS else NOT_ALL


def _which_ledger(args: argparse.Namespace) -> Path:
    if args.ledger is not None:
        if args.source is not None:
            raise Usage("give --ledger FILE or SOURCE and DESTINATION, not both")
        return Path(args.ledger)
    if args.destination is None:
        raise Usage(_NO_LEDGER)
    ends = [parse_account_url(url) for url in (args.source, args.destination)]
    return ledger_path(args, " -> ".join(f"{login} @ {endpoint}" for endpoint, login in ends))


# -- undo ----------------------------------------------------------------------------------------------------------------------

def _undo(args: argparse.Namespace) -> int:
    from engine.manifest import manifest_of
    from engine.printing import explanation, print_json
    from engine.transfer.undo import undo_pass

    ledger, pair = _open(args.ledger)
    try:
        endpoint, login = parse_account_url(args.destination)
        if not pair.endswith(f" -> {login} @ {endpoint}"):
            raise Usage(f"the ledger is about another mailbox: {pair}")
        pass_id = _which_pass(args, manifest_of(ledger))
        if not args.yes and not args.dry_run and not sys.stdin.isatty():
            raise Usage("nobody can be asked here: say --yes, or --dry-run to look first")
        account, route = account_of(args, Side.DESTINATION), Route(allowed_networks=EVERYWHERE)
        if not args.yes and not args.dry_run:
            seen = undo_pass(account, ledger=ledger, pass_id=pass_id, route=route, dry_run=True, even_if_gone=args.even_if_gone)
            print_undo(seen, file=sys.stderr)
            if seen.cause is not None:
                return FAILED
            if not _agreed():
                print("没有删除任何邮件。 / Nothing was removed.", file=sys.stderr)
                return NOT_ALL
        report = undo_pass(account, ledger=ledger, pass_id=pass_id, route=route, dry_run=args.dry_run, even_if_gone=args.even_if_gone)
    finally:
        ledger.close()
    if args.json:
        print_json({**report.to_json(), **explanation(report.cause, None)})
    else:
        print_undo(report)
    return {CopyOutcome.COMPLETE: OK, CopyOutcome.PARTIAL: NOT_ALL}.get(report.outcome, FAILED)


def _which_pass(args: argparse.Namespace, manifest: Manifest) -> int:
    if args.last:
        return manifest.last_pass()
    known = {one.id: manifest.appended(one.id) for one in manifest.passes}
    if args.pass_id in known:
        return int(args.pass_id)
    listed = "; ".join(f"{number}: {messages} messages" for number, messages in known.items() if messages) or "none"
    asked = f"there is no pass {args.pass_id}" if args.pass_id is not None else "say --pass N or --last"
    raise Usage(f"{asked}; passes of which something is there: {listed}")


def _agreed() -> bool:
    print("输入 yes 删除 / Type yes to remove them: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() == "yes"


def print_undo(report: UndoReport, file: TextIO | None = None) -> None:
    from engine.printing import print_cause

    out = file or sys.stdout
    done = "would be removed" if report.dry_run else "removed"
    for folder in report.folders:
        print(f"{folder.source} -> {folder.target}: {folder.removed} {done}, {folder.absent} not there any more, {folder.left} left "
              f"of {folder.messages}{_remarks(folder)}", file=out)
    totals = report.totals()
    print(f"pass {report.pass_id}: {totals['removed']} {done}, {totals['absent']} not there any more, {totals['left']} left; "
          f"{totals['bytes']} octets", file=out)
    if report.cause is not None:
        print_cause(report.cause, None, report.server_text)
        if report.detail:
            print(report.detail)


def _remarks(folder: UndoFolder) -> str:
    remarks = [f"{_LEFT[folder.why].zh} / {_LEFT[folder.why].en}"] if folder.why else []
    if folder.gone and folder.why is not UndoLeft.GONE_AT_SOURCE:
        remarks.append(f"! {folder.gone} of this folder were deleted at the source since")
    if folder.unresolved:
        remarks.append(f"! {folder.unresolved} were in flight when a copy was killed: run copy, then undo that pass")
    return "".join(f" [{remark}]" for remark in remarks)
