"""The command `report`: what became of every message, written down from the ledger alone.

Must not: open a mailbox, ask for a secret, create a ledger or write over one. What it loads is loaded when it runs.
"""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from engine.causes import Words
from engine.cli import NOT_ALL, OK
from engine.cli_files import Usage, named_ledger, unusable
from engine.ledger_look import LedgerUnusable

if TYPE_CHECKING:  # a run of another command does without
    from engine.manifest import Manifest


def add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    report = commands.add_parser("report", help="write down what became of every message, from the ledger", description=(
        "Writes the report of a move from its ledger alone; no login, no secret. Exit: 0 every message is accounted for; 2 usage; "
        "3 the move is not finished, or its sum does not hold."))
    report.add_argument("source", metavar="SOURCE", nargs="?", help="with DESTINATION: the two that were copied, which finds their ledger")
    report.add_argument("destination", metavar="DESTINATION", nargs="?")
    report.add_argument("--ledger", type=Path, metavar="FILE", help="the ledger of the copy, where --ledger was said to copy, too")
    report.add_argument("--format", choices=("json", "csv", "html"), default="html", help="default: %(default)s, one page to print")
    report.add_argument("--language", choices=("zh", "en"), default="zh", help="default: %(default)s")
    report.add_argument("--output", type=Path, metavar="FILE", help="default: standard output, which for html may not be a terminal")
    report.set_defaults(run=_report, json=False)


def _named(pair: str) -> tuple[str, str]:
    source, arrow, destination = pair.partition(" -> ")
    return (source, destination) if arrow else (pair, "")


def _report(args: argparse.Namespace) -> int:
    from engine.manifest import Proof, manifest_of
    from engine.report_files import WRITERS, Format, Heading

    if args.output is None and Format(args.format) is Format.HTML and sys.stdout.isatty():
        raise Usage("报告是一页 HTML，在屏幕上没法看；请写 --output report.html，再用浏览器打开它",
                    "the report is a page of HTML, which nobody reads on a screen like this; write --output report.html, then open it in a "
                    "browser")
    ledger = named_ledger(args)
    try:
        source, destination = _named(ledger.pair)
        pieces = WRITERS[Format(args.format)](ledger, Heading(source, destination, time.time(), args.language))
        if args.output is None:
            for piece in pieces:
                sys.stdout.buffer.write(piece.encode("utf-8"))
            sys.stdout.buffer.flush()
        else:
            if args.output.exists() and args.output.samefile(ledger.path):
                raise Usage(f"--output {args.output} 是账本自己；报告请写到另一个文件",
                            f"--output {args.output} is the ledger itself; write the report to another file")
            try:
                with args.output.open("w", encoding="utf-8", newline="") as file:
                    file.writelines(pieces)
            except OSError as error:
                raise Usage(f"--output {args.output} 写不了（{error.strerror}）；请换一个文件，或者不写 --output，从标准输出接走",
                            f"--output {args.output} cannot be written ({error.strerror}); name another file, or leave it out to "
                            "have the report on standard output") from None
        manifest = manifest_of(ledger)
    except LedgerUnusable as error:
        raise unusable(args, error) from None
    finally:
        ledger.close()
    if manifest.proof is Proof.HOLDS:
        return OK
    why = _not_all(manifest)
    print(f"{why.zh} / {why.en}", file=sys.stderr)
    return NOT_ALL


def _not_all(manifest: Manifest) -> Words:
    """Why not every message is accounted for. What an undo took back counts as not moved: the ledger forgets that it was there."""
    from engine.manifest import Proof

    remaining = manifest.counts.remaining
    if manifest.proof is Proof.BROKEN:
        return Words("数目对不上：看报告里的红框。", "The sum does not hold: see the red box of the report.")
    if remaining > 0:
        return Words(f"没有搬完：{remaining} 封还没有搬，或者搬了又撤销了；再运行 copy 就接着搬。",
                     f"Not all is moved: {remaining} not moved yet, or undone; copy goes on from there.")
    if not manifest.folders:
        return Words("还没有开始搬；运行 copy。", "Nothing has been moved yet; run copy.")
    return Words("没有搬完：最后一次没有走完全部文件夹；再运行 copy 就接着搬。",
                 "Not all is moved: the last pass did not go through every folder; copy goes on from there.")
