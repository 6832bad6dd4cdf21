"""The loop: every candidate on every cell, three phases each, every result judged and kept as one line of JSON.

Phases: a full copy into an empty account; the same command when nothing has changed; and again after one message in a hundred is new
and one in a hundred has other flags. Candidates alternate (A B C, C B A), so that what drifts falls on all of them.
"""
from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.candidates import Candidate, Job
from bench.corpora import CORPORA, Corpus
from bench.judge import Account, compare, read_account
from bench.maildir import Maildir, change, give_away
from bench.measure import run, wait_for_quiet
from bench.servers import KINDS, SECRET, Place, Servers, running

CHANGED = 0.01
FULL, AGAIN, CHANGE = 1, 2, 3


@dataclass(frozen=True)
class Cell:
    """What is moved, into which kind of destination, over which path (`rtt` milliseconds); `scale` of the corpus."""

    corpus: str
    rtt: float = 0.0
    kind: str = "sdbox"
    scale: float = 1.0
    repetitions: int = 1


@dataclass(frozen=True)
class Result:
    """One execution of one candidate. Octets and seconds; `octets` and `messages` are the corpus's; `verdict` "exact" or what is wrong;
    `disorder`: folders whose order is another than at the source."""

    corpus: str
    rtt: float
    kind: str
    messages: int
    octets: int
    candidate: str
    phase: int
    seconds: float
    cpu: float
    peak: int
    others: float
    code: int
    capped: bool
    verdict: str
    disorder: int = 0


QUICK = (Cell("small", 0, scale=0.4, repetitions=3), Cell("small", 50, scale=0.4), Cell("mixed", 0, scale=0.15), Cell("many", 0, scale=0.2))
WHOLE = (*(Cell("small", rtt, repetitions=3) for rtt in (0, 50)), *(Cell("mixed", rtt, repetitions=2) for rtt in (0, 50)), Cell("large"),
         Cell("many"), Cell("many", 50), Cell("many", kind="mdbox"), Cell("small", kind="mdbox", repetitions=3),
         Cell("small", kind="no fsync", repetitions=3), Cell("small", kind="poor"), Cell("small", 50, "poor"),
         Cell("nasty", kind="sdbox, same separator"))


def run_cells(cells: Iterable[Cell], candidates: Iterable[Candidate], work: Path, *, cap: float, quiet: float) -> Iterator[Result]:
    """`cap` seconds for any one execution; `quiet` seconds at most to wait for a calm machine before each. `work` is left to the caller."""
    candidates = list(candidates)
    place = Place(work)
    for cell in cells:
        pristine = _pristine(CORPORA[cell.corpus], cell.scale, work)
        with running(place, KINDS[cell.kind], cell.rtt) as servers:
            print(f"{cell.corpus} at {cell.rtt:g} ms, {cell.kind}: {pristine.messages:,} messages"
                  f"{': ' + servers.path if servers.path else ''}", file=sys.stderr, flush=True)
            able = [one for one in candidates if not (one.rich and cell.kind == "poor")]
            for repetition in range(cell.repetitions):
                for candidate in able if repetition % 2 == 0 else able[::-1]:
                    for result in _measure(candidate, cell, pristine, servers, place, cap, quiet):
                        print(f"  {candidate.name:9} phase {result.phase} {result.seconds:8.2f} s {result.cpu:7.2f} s CPU "
                              f"{result.peak >> 20:5d} MiB others {result.others:.2f}  {result.verdict}", file=sys.stderr, flush=True)
                        yield result


def _pristine(corpus: Corpus, scale: float, work: Path) -> Maildir:
    """The corpus as files; made once for each scale."""
    home = work / "corpora" / f"{corpus.name}-{scale:g}" / "mail"
    if home.exists():
        about = json.loads(home.with_suffix(".json").read_text())
        return Maildir(home, about["messages"], about["octets"])
    box = Maildir(home)
    box.folder(("INBOX",))
    for folder, mail in corpus.mails(scale):
        box.add(folder, mail)
    box.finish()
    give_away(home, like=work / "corpora")
    home.with_suffix(".json").write_text(json.dumps({"messages": box.messages, "octets": box.octets}))
    return box


def _measure(candidate: Candidate, cell: Cell, pristine: Maildir, servers: Servers, place: Place, cap: float, quiet: float
             ) -> Iterator[Result]:
    login = place.account()
    work = place.directory / "work" / f"{candidate.name}-{login}"
    work.mkdir(parents=True)
    home = servers.provide(pristine.home, login)
    job = Job(*servers.ports, login, SECRET, work, servers.destination.root / "dovecot.conf")
    for phase in range(FULL, candidate.phases + 1):
        added = change(home, CHANGED, cell.corpus) if phase == CHANGE else 0
        before = _read(servers, login, source=True)  # warms the source's index too: no candidate pays for it
        assert sum(map(len, before.values())) == pristine.messages + added, "the source does not serve what was written for it"
        if phase == FULL:
            wait_for_quiet(quiet)
        launch = candidate.launch(job)
        measured = run(launch.command, env={**_environment(), **launch.env}, cwd=work, cap=cap, beside=servers.pids)
        verdict, disorder = "capped", 0
        if not measured.capped:
            judged = compare(before, _read(servers, login, source=False))
            changed = not compare(before, _read(servers, login, source=True)).exact if phase == FULL else False
            disorder = judged.order
            verdict = f"{judged}{f', exit {measured.code}' * bool(measured.code)}{', SOURCE CHANGED' * changed}"
        if measured.code:
            print(measured.output[-1500:].decode(errors="replace"), file=sys.stderr)
        yield Result(cell.corpus, cell.rtt, cell.kind, pristine.messages, pristine.octets, candidate.name, phase, measured.seconds,
                     measured.cpu, measured.peak, measured.others, measured.code, measured.capped, verdict, disorder)
        if measured.capped:
            return


def _read(servers: Servers, login: str, *, source: bool) -> Account:
    server = servers.source if source else servers.destination
    assert server.ports is not None
    return read_account(server.ports.imap, login, SECRET)


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "IMAPSYNC") if name in os.environ}


def save(result: Result, file: Path) -> None:
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")


def load(files: Iterable[Path]) -> list[Result]:
    return [Result(**json.loads(line)) for file in files for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def tidy(work: Path) -> None:
    """At the very end only: see servers.py for why nothing is deleted between runs."""
    shutil.rmtree(work, ignore_errors=True)
