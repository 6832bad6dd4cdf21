"""Results as markdown: one table for each cell, and one of ratios, which outlive the machine that the seconds were taken on.

Pure: results in, text out. Always: medians; runs beside foreign work are left out where quieter ones of the same kind exist, and marked
`~` where not; a ratio is taken only within one cell.
"""
from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence

from bench.measure import NOISY_CORES
from bench.runs import AGAIN, CHANGE, FULL, Result

BESIDE = ("raw4", "raw1", "dsync", "mbsync", "imapsync")
MIB = 1 << 20

Cells = dict[tuple[str, float, str, int], dict[tuple[str, int], list[Result]]]  # (corpus, rtt, kind, messages) -> (candidate, phase)


def render(results: Iterable[Result], mover: str = "engine") -> str:
    """Everything, for docs/bench.md. `mover` is whose ratios are shown."""
    cells = _cells(results)
    return "\n".join([_ratios(cells, mover), *(_cell(key, runs, mover) for key, runs in cells.items())])


def _cells(results: Iterable[Result]) -> Cells:
    cells: Cells = defaultdict(lambda: defaultdict(list))
    for result in results:
        cells[result.corpus, result.rtt, result.kind, result.messages][result.candidate, result.phase].append(result)
    return {key: {who: _calm(runs) for who, runs in found.items()} for key, found in cells.items()}


def _calm(runs: Sequence[Result]) -> list[Result]:
    return [run for run in runs if run.others <= NOISY_CORES] or list(runs)


def _seconds(runs: Sequence[Result]) -> float | None:
    """The median; None where there is none, or one was capped."""
    return statistics.median(run.seconds for run in runs) if runs and not any(run.capped for run in runs) else None


def _title(key: tuple[str, float, str, int]) -> str:
    corpus, rtt, kind, _ = key
    return f"{corpus}, RTT {rtt:g} ms{'' if kind == 'sdbox' else f', {kind}'}"


def _ratios(cells: Cells, mover: str) -> str:
    lines = [f"Time of a full copy, {mover} / other: below 1 is faster.", "", f"| cell | {' | '.join(f'/ {name}' for name in BESIDE)} |",
             "|---" * (len(BESIDE) + 1) + "|"]
    for key, runs in cells.items():
        own = _seconds(runs.get((mover, FULL), []))
        lines.append(f"| {_title(key)} | {' | '.join(_ratio(own, _seconds(runs.get((name, FULL), []))) for name in BESIDE)} |")
    return "\n".join([*lines, ""])


def _ratio(own: float | None, other: float | None) -> str:
    return "-" if own is None or not other else f"{own / other:.2f}"


def _cell(key: tuple[str, float, str, int], runs: dict[tuple[str, int], list[Result]], mover: str) -> str:
    first = next(iter(runs.values()))[0]
    lines = [f"### {_title(key)}: {first.messages:,} messages, {first.octets / MIB:,.0f} MiB", "",
             f"| | n | full copy | messages/s | MiB/s | CPU | peak RSS | nothing changed | 1 % changed | {mover} / it | copy |",
             "|---|---|---|---|---|---|---|---|---|---|---|"]
    own = _seconds(runs.get((mover, FULL), []))
    names = sorted({name for name, _ in runs}, key=lambda name: _seconds(runs.get((name, FULL), [])) or 1e9)
    for name in names:
        full = runs.get((name, FULL), [])
        seconds = _seconds(full)
        speed = (f"{first.messages / seconds:,.0f}", f"{first.octets / MIB / seconds:,.1f}") if seconds else ("-", "-")
        cpu, octets = (statistics.median(run.cpu for run in full), max(run.peak for run in full)) if full else (0.0, 0)
        peak = f"{octets / MIB:.0f} MiB" if octets else "-"  # a command of a few milliseconds is not caught
        lines.append(f"| {name} | {len(full)} | {_span(full)} | {speed[0]} | {speed[1]} | {cpu:.1f} s | {peak} "
                     f"| {_span(runs.get((name, AGAIN), []))} | {_span(runs.get((name, CHANGE), []))} | {_ratio(own, seconds)} "
                     f"| {_verdict(runs, name)} |")
    return "\n".join([*lines, ""])


def _span(runs: Sequence[Result]) -> str:
    if not runs:
        return "-"
    seconds = _seconds(runs)
    if seconds is None:
        return f"over {max(run.seconds for run in runs):.0f} s"
    mark = "~" if any(run.others > NOISY_CORES for run in runs) else ""
    ends = (min(run.seconds for run in runs), max(run.seconds for run in runs))
    return f"{seconds:.2f} s{mark}" + (f" ({ends[0]:.2f}-{ends[1]:.2f})" if len(runs) > 1 else "")


def _words(run: Result) -> str:
    return f"{run.verdict} (order differs in {run.disorder} folders)" if run.disorder and run.verdict == "exact" else run.verdict


def _verdict(runs: dict[tuple[str, int], list[Result]], name: str) -> str:
    words = {FULL: "full", AGAIN: "again", CHANGE: "1 %"}
    told: dict[str, list[str]] = {}
    for phase in (FULL, AGAIN, CHANGE):
        verdicts = dict.fromkeys(map(_words, runs.get((name, phase), [])))
        if verdicts:
            told.setdefault(" or ".join(verdicts), []).append(words[phase])
    if len(told) == 1:
        return next(iter(told))
    return "; ".join(f"{', '.join(phases)}: {verdict}" for verdict, phases in told.items())


def put_into(document: str, place: str, text: str) -> str:
    """The document with `text` between `<!-- place -->` and `<!-- /place -->`. Raises ValueError when it has no such place."""
    begin, end = f"<!-- {place} -->\n", f"<!-- /{place} -->"
    if begin not in document or end not in document:
        raise ValueError(f"the document has no {begin.strip()}")
    before, _, rest = document.partition(begin)
    return before + begin + "\n" + text.strip() + "\n\n" + end + rest.partition(end)[2]
