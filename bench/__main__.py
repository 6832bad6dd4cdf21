"""`python -m bench`: run, table, list, memory."""
from __future__ import annotations

import argparse
from collections.abc import Sequence

MIB = 1 << 20


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    return int(args.run(args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures the mover beside its peers; see docs/bench.md.")
    commands = parser.add_subparsers(dest="command", required=True)
    memory = commands.add_parser("memory", help="peak memory of a copy from a mailbox that needs no disk")
    memory.add_argument("--messages", type=int, default=1_000_000, help="in one folder (default %(default)s)")
    memory.add_argument("--octets", type=int, default=1024, help="of each message (default %(default)s)")
    memory.add_argument("--huge", type=int, metavar="MIB", help="one message of so many MiB instead")
    memory.add_argument("--connections", type=int, default=2)
    memory.add_argument("--cap", type=float, default=1200, metavar="SECONDS", help="longest that one run may take (default %(default)s)")
    memory.set_defaults(run=_memory)
    return parser


def _memory(args: argparse.Namespace) -> int:
    from bench.memory import measure_memory, show
    from bench.rule import Rule

    messages, octets = (1, args.huge * MIB) if args.huge else (args.messages, args.octets)
    steps = measure_memory(Rule(messages, octets), connections=args.connections, cap=args.cap, grow=not args.huge)
    print(show(Rule(messages, octets), steps))
    return 0 if all(step.exact for step in steps) else 1


if __name__ == "__main__":
    raise SystemExit(main())
