"""`python -m bench`: run, table, list, memory."""
from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "instance" / "bench.jsonl"
MIB = 1 << 20


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and files go, as after Ctrl-C
    return int(args.run(args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures the mover beside its peers; see docs/bench.md.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="a quick set of about five minutes; with --full everything")
    run.add_argument("--full", action="store_true", help="every cell at full size: hours with slow peers, and 20 GiB of disk")
    run.add_argument("--corpus", type=_words, metavar="NAMES", help="these only, with --rtt, --kind, --scale and --repetitions")
    run.add_argument("--rtt", type=_words, default=("0",), metavar="MS", help="round trips, comma between")
    run.add_argument("--kind", default="sdbox", help="the destination")
    run.add_argument("--scale", type=float, default=1.0, help="of the number of messages")
    run.add_argument("--repetitions", type=int, metavar="N")
    run.add_argument("--candidates", type=_words, metavar="NAMES", help="default: all but engine1")
    run.add_argument("--cap", type=float, default=0.0, metavar="SECONDS", help="longest that one execution may take (60; with --full 900)")
    run.add_argument("--quiet", type=float, default=5.0, metavar="SECONDS", help="longest to wait for a calm machine before a copy")
    run.add_argument("--work", type=Path, metavar="DIR", help="where mail is kept, removed at the end (default: under /var/tmp)")
    run.set_defaults(run=_run)
    table = commands.add_parser("table", help="the last results as markdown, or those of FILES")
    table.add_argument("files", type=Path, nargs="*", default=[RESULTS])
    table.add_argument("--mover", default="engine", help="whose ratios are shown (default %(default)s)")
    table.set_defaults(run=_table)
    listing = commands.add_parser("list", help="corpora, destinations, candidates, and what is missing here")
    listing.set_defaults(run=_list)
    memory = commands.add_parser("memory", help="peak memory of a copy from a mailbox that needs no disk")
    memory.add_argument("--messages", type=int, default=1_000_000, help="in one folder (default %(default)s)")
    memory.add_argument("--octets", type=int, default=1024, help="of each message (default %(default)s)")
    memory.add_argument("--huge", type=int, metavar="MIB", help="one message of so many MiB instead")
    memory.add_argument("--connections", type=int, metavar="N", help="to each side (default: as the mover decides)")
    memory.add_argument("--cap", type=float, default=1200, metavar="SECONDS", help="longest that one run may take (default %(default)s)")
    memory.set_defaults(run=_memory)
    for command in (run, table, memory):
        command.add_argument("--into", type=Path, metavar="FILE", help="put the tables into this document too (docs/bench.md)")
    return parser


def _tell(text: str, place: str, document: Path | None) -> None:
    """On stdout, and into a document when one is named."""
    from bench.table import put_into

    print(text)
    if document is not None:
        document.write_text(put_into(document.read_text(encoding="utf-8"), place, text), encoding="utf-8")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _run(args: argparse.Namespace) -> int:
    from bench import runs, table
    from bench.candidates import CANDIDATES
    from bench.provision import provide

    if missing := provide():
        print(missing, file=sys.stderr)
        return 1
    cells = runs.WHOLE if args.full else runs.QUICK
    if args.corpus:
        cells = tuple(runs.Cell(name, float(rtt), args.kind, args.scale) for name in args.corpus for rtt in args.rtt)
    if args.repetitions:
        cells = tuple(replace(cell, repetitions=args.repetitions) for cell in cells)
    wanted = [CANDIDATES[name] for name in args.candidates or CANDIDATES if args.candidates or name != "engine1"]
    for one in wanted:
        if one.missing():
            print(f"without {one.name}: {one.missing()}", file=sys.stderr)
    work = args.work or Path(tempfile.mkdtemp(prefix="banjia-bench-", dir="/var/tmp"))
    (work / "corpora").mkdir(parents=True, exist_ok=True)
    work.chmod(0o755)  # the servers are not root
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.unlink(missing_ok=True)
    results = []
    try:
        for result in runs.run_cells(cells, [one for one in wanted if not one.missing()], work, cap=args.cap or (900 if args.full else 60),
                                     quiet=args.quiet):
            runs.save(result, RESULTS)
            results.append(result)
    finally:
        runs.tidy(work)
    _tell(table.render(results), "results", args.into)
    return 0 if all(result.verdict == "exact" for result in results if result.candidate.startswith("engine")) else 1


def _table(args: argparse.Namespace) -> int:
    from bench.runs import load
    from bench.table import render

    _tell(render(load(args.files), args.mover), "results", args.into)
    return 0


def _list(_args: argparse.Namespace) -> int:
    from bench.candidates import CANDIDATES
    from bench.corpora import CORPORA
    from bench.servers import KINDS

    for corpus in CORPORA.values():
        print(f"corpus     {corpus.name:22} {corpus.about}{f' ({corpus.messages:,} messages)' if corpus.messages else ''}")
    for kind in KINDS.values():
        print(f"kind       {kind.name:22} {kind.options.mail_format}, fsync {kind.options.fsync}"
              f"{', ' + kind.options.capability if kind.options.capability else ''}")
    for one in CANDIDATES.values():
        print(f"candidate  {one.name:22} {one.about}{' - ' + one.missing() if one.missing() else ''}")
    return 0


def _memory(args: argparse.Namespace) -> int:
    from bench.memory import measure_memory, show
    from bench.rule import Rule

    messages, octets = (1, args.huge * MIB) if args.huge else (args.messages, args.octets)
    steps = measure_memory(Rule(messages, octets), connections=args.connections, cap=args.cap, grow=not args.huge)
    _tell(show(Rule(messages, octets), steps), "huge message" if args.huge else "many messages", args.into)
    return 0 if all(step.exact for step in steps) else 1


if __name__ == "__main__":
    raise SystemExit(main())
