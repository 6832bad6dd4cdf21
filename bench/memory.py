"""The engine's peak memory, over mailboxes that need no disk: one huge message, a folder of very many small ones.

Says what was measured, judges nothing but the copy itself: as many messages and octets, and the same sum over octets, flags
and dates, at the destination as the rule gives. Times are shown as what they are: beside two servers in Python, no measure of speed.
"""
from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.imaginary import Imaginary
from bench.measure import Measured, run
from bench.rule import Rule

ROOT = Path(__file__).resolve().parent.parent
MIB = 1 << 20


@dataclass(frozen=True)
class Step:
    """One execution of the mover. `moved` is what it reports; `exact` whether the destination then held what it had to."""

    name: str
    measured: Measured
    moved: int
    exact: bool
    ledger: int  # octets of its file


def measure_memory(rule: Rule, *, connections: int | None, cap: float, grow: bool = True) -> list[Step]:
    """Copies, copies again, and again after one message in a hundred is new and one in a hundred has other flags. `cap` seconds each."""
    work = Path(tempfile.mkdtemp(prefix="banjia-bench-"))
    try:
        with Imaginary(rule) as source, Imaginary(None) as destination:
            names = ["first copy", "again, nothing changed"] + ["again, 1 % new, 1 % other flags"] * grow
            steps = []
            for name in names:
                if name is names[-1] and grow:
                    source.change(max(1, rule.messages // 100))
                steps.append(_step(name, source, destination, work, connections, cap))
            return steps
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _step(name: str, source: Imaginary, destination: Imaginary, work: Path, connections: int | None, cap: float) -> Step:
    ledger = work / "ledger"
    command = [sys.executable, "-m", "engine", "copy", f"imap+plain://old@127.0.0.1:{source.port}",
               f"imap+plain://new@127.0.0.1:{destination.port}", "--ledger", str(ledger), "--json",
               *(("--connections", str(connections)) if connections else ())]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "BANJIA_SOURCE_PASSWORD": "old", "BANJIA_DESTINATION_PASSWORD": "new"}
    measured = run(command, env=env, cwd=work, cap=cap, beside=(source.pid, destination.pid))
    exact = measured.code == 0 and source.sum() == destination.sum()
    size = sum(path.stat().st_size for path in work.glob("ledger*"))
    if measured.code:
        print(measured.output[-2000:].decode(errors="replace"), file=sys.stderr)
    return Step(name, measured, _moved(measured.output), exact, size)


def _moved(output: bytes) -> int:
    """Of the object that a copy ends with; before it stand the lines on how far it came. -1: there is none."""
    at = 0 if output.startswith(b"{") else output.find(b"\n{") + 1
    try:
        return int(json.loads(output[at:])["totals"]["moved"])
    except (ValueError, KeyError, TypeError):
        return -1


def show(rule: Rule, steps: list[Step]) -> str:
    """A markdown table; `rule` as it was at the beginning."""
    size = f"{rule.octets / MIB:,.0f} MiB" if rule.octets >= MIB else f"{rule.octets:,} octets"
    lines = [f"### {rule.messages:,} message{'s' * (rule.messages != 1)} of {size}, one folder", "",
             "| run | peak RSS, all processes | largest process | seconds | moved | ledger | copy |", "|---|---|---|---|---|---|---|"]
    for step in steps:
        m = step.measured
        outcome = "capped" if m.capped else "exact" if step.exact else f"NOT EXACT (exit {m.code})"
        lines.append(f"| {step.name} | {m.peak / MIB:.0f} MiB | {m.largest / MIB:.0f} MiB | {m.seconds:.1f}{'~' * m.noisy} "
                     f"| {step.moved:,} | {step.ledger / 1024:,.0f} KiB | {outcome} |")
    return "\n".join(lines) + "\n"
