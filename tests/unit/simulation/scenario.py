"""One seed is one story: two mailboxes (mailboxes.py), some attempts to move one into the other with faults (faults.py), deaths and people
(people.py) in between, and in the end attempts without, after which the invariants must hold (invariants.py).

    SIM_SEEDS=3000 .venv/bin/python -m pytest -q tests/unit/simulation     a soak
    .venv/bin/python -m tests.unit.simulation 4711                         one seed, told line by line
"""
from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from engine.causes import Cause, Side
from engine.endpoint import Account, Endpoint, Route, Secret, Security
from engine.errors import ConnectionBroken, LeaseLost
from engine.ledger import FolderRow, Intent, Run, SetAsideRow
from engine.net.dial import dial
from engine.progress import Progress, Stop
from engine.report.copy import CopyOutcome, CopyReport
from engine.transfer.copier import copy_mailbox
from engine.transfer.recover import Clock
from tests.unit.simulation.disk import Ledger
from tests.unit.simulation.faults import DisturbedMailboxes
from tests.unit.simulation.instead import instead_of
from tests.unit.simulation.network import SimulatedServer, Transport
from tests.unit.simulation.people import BETWEEN_RUNS, QUIET_SECONDS
from tests.unit.simulation.world import Killed, World

PACKAGES = ("engine.", "tests.support.simulator", "tests.support.provider_simulator")
FINAL_TRIES = 12
MOST_STALL = 50.0             # seconds that a dead client's commands may lie unexecuted
MOST_STALL_NO_UIDPLUS = 1.2   # … where a surplus copy cannot be removed: less than the settling (recover.SETTLE_SECONDS)

# Batches so small that a mailbox of thirty messages fills windows and queues; read by name, because constants move between modules.
SMALL = {"RANGE_MESSAGES": 9, "FIRST_RANGE": 3, "BATCH_MESSAGES": 4, "BATCH_BYTES": 4000, "STREAM_OVER": 5000, "STREAM_BUFFER": 2000,
         "QUEUE_BYTES": 9000, "WINDOW_BYTES": 9000, "WINDOW_STREAMED": 20000, "RESOLVE_MESSAGES": 5, "MULTIAPPEND_BATCH": 3,
         "_STATUS_AT_ONCE": 2, "_FOLDERS_AT_ONCE": 2, "_HEADER_BATCH": 5}


@dataclass
class Attempt:
    """How one run of the mover ended: "killed", "lease lost", or the report's outcome."""

    ended: str
    report: CopyReport | None = None


class FolderInLedger(NamedTuple):
    row: FolderRow
    runs: list[Run]
    set_aside: list[SetAsideRow]
    intents: list[Intent]


class Sink:
    """Whoever watches a run."""

    def __init__(self, world: World) -> None:
        self._world = world

    def progress(self, at: Progress) -> None:
        self._world.step()
        assert at.moved >= 0 and at.set_aside >= 0, at

    def server_line(self, side: Side, cause: Cause, text: str) -> None:
        self._world.step()


class Story(DisturbedMailboxes):
    def __init__(self, seed: int | str, directory: Path, *, told: bool = False, source: str = "", destination: str = "") -> None:
        super().__init__(seed, directory, told=told, source=source, destination=destination)
        self.attempts: list[Attempt] = []
        self.world.on_kill.append(self._process_is_gone)

    # -- from its beginning to its end

    def run(self) -> None:
        self.enter()
        try:
            self.say(self.source.profile.key, "->", self.capabilities, f"{self.connections} connections, small={self.small}",
                     {f.name: len(f.messages) for f in self.source_folders()})
            for _ in range(self.rng.choice((1, 2, 2, 3, 4))):
                self._disturbed_attempt()
            self.finish()
        finally:
            self.leave()

    def enter(self) -> None:
        """From here the engine's modules are in this world; `leave` ends that."""
        self._within = contextlib.ExitStack()
        self._within.enter_context(instead_of(self.world, PACKAGES, {dial: self._dial}))
        self._within.enter_context(small_batches(self.small))

    def leave(self) -> None:
        self._within.close()
        self.world.close()
        for part in (self.source.happened, self.destination.happened, self.disk.happened):
            self.happened.update(part)

    def finish(self) -> None:
        """Attempts without faults, until one comes to its end; once more when all late work is done; and once more, which must find
        nothing to do."""
        self._to_the_end()
        self.world.pass_time(QUIET_SECONDS)
        self._to_the_end()
        self._to_the_end()
        appended = self.destination.count("APPEND")
        self.last = self._to_the_end(retry_set_aside=False)
        assert self.destination.count("APPEND") == appended, "a run that had nothing to do appended something"
        self.in_ledger = self.read_ledger()

    def _disturbed_attempt(self) -> None:
        """One attempt with faults, and what happens until the next. Each attempt has its own chance, so that another order of the
        mover's steps in one does not change what the next one meets."""
        rng = self.rng = random.Random(f"{self.seed} attempt {len(self.attempts)}")
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            self.draw_fault()
        most = MOST_STALL if self.uidplus else MOST_STALL_NO_UIDPLUS
        for server in (self.source, self.destination):
            server.manners.stall_when_alone = rng.choice((0.0, 0.3, 1.0, most / 4, most / 2, most))
        way = rng.random()
        kill_at = int(10 ** rng.uniform(1.5, 3.1)) if way < 0.35 else None
        if 0.35 <= way < 0.55:
            self.disk.die_at = (int(10 ** rng.uniform(0, 1.7)), rng.choice(("before", "after")))
        attempt = self.copy(kill_at=kill_at, retry_set_aside=rng.random() < 0.2)
        if attempt.ended == "killed" and kill_at is not None:
            self.happened["killed at a step"] += 1
        self.clear_faults()
        self.world.pass_time(self._wait_after(attempt))
        for _ in range(rng.choice((0, 0, 1, 2))):
            self.somebody(BETWEEN_RUNS)

    def _wait_after(self, attempt: Attempt) -> float:
        asked = attempt.report.retry_after if attempt.report else None
        return (asked or 0.0) + self.rng.choice((0.001, 0.05, 0.5, 2.0, 30.0))

    def _to_the_end(self, *, retry_set_aside: bool = True) -> CopyReport:
        for _ in range(FINAL_TRIES):
            attempt = self.copy(retry_set_aside=retry_set_aside)
            assert attempt.report is not None, attempt
            if attempt.report.outcome in (CopyOutcome.COMPLETE, CopyOutcome.PARTIAL):
                return attempt.report
            self.world.pass_time((attempt.report.retry_after or 0.0) + 1.0)
        raise AssertionError(f"no end after {FINAL_TRIES} attempts without faults: {attempt.report}")

    # -- the mover

    def copy(self, *, kill_at: int | None = None, retry_set_aside: bool = False) -> Attempt:
        """One process that moves, until it ends or dies at this step."""
        world = self.world
        clock = Clock(wall=world.wall, monotonic=world.monotonic, sleep=world.sleep)
        self.stop = Stop()

        def process() -> CopyReport:
            ledger = self.disk.open()
            opened.append(ledger)
            return copy_mailbox(self.account_at(self.source), self.account_at(self.destination), ledger=ledger,
                                connections=self.connections, progress=Sink(world), stop=self.stop, retry_set_aside=retry_set_aside,
                                clock=clock)

        opened: list[Ledger] = []
        try:
            report = world.run_process(process, kill_at=kill_at)
            attempt = Attempt(report.outcome.value, report)
            if report.outcome is not CopyOutcome.PAUSED:  # what was asked for is the caller's to remember until the next run
                self.source.back_off_until = self.destination.back_off_until = -1.0
        except Killed:
            attempt = Attempt("killed")
        except LeaseLost:
            attempt = Attempt("lease lost")
            self.source.back_off_until = self.destination.back_off_until = -1.0  # the other worker's affair now
        finally:
            for ledger in opened:
                ledger.close()
            for link in self.source.links + self.destination.links:
                link.transport.close()
            self.source.links.clear()
            self.destination.links.clear()
        self.happened[f"ended {attempt.ended}"] += 1
        self.say("==", attempt.ended, f"{world.steps} steps", attempt.report and attempt.report.totals(),
                 attempt.report and (attempt.report.cause, attempt.report.server_text, attempt.report.detail, attempt.report.retry_after))
        self.attempts.append(attempt)
        world.note(attempt.ended, attempt.report and attempt.report.totals())
        return attempt

    def account_at(self, server: SimulatedServer) -> Account:
        box = server.account()
        return Account(Endpoint(f"{server.host}.example", 143, Security.PLAIN), box.login, Secret(box.secret))

    def read_ledger(self) -> list[FolderInLedger]:
        def process() -> list[FolderInLedger]:
            ledger = self.disk.open()
            rows = [FolderInLedger(row, ledger.runs(row.id), ledger.set_aside(row.id), ledger.intents(row.id)) for row in ledger.folders()]
            ledger.close()
            return rows

        return self.world.run_process(process)

    def _process_is_gone(self) -> None:
        """The kernel closes what a dead process had open; what it was told of waits dies with it."""
        for server in (self.source, self.destination):
            server.back_off_until = -1.0
            for link in server.links:
                link.transport.close()

    def _dial(self, host: str, port: int, route: Route, *, timeout: float, side: Side = Side.SOURCE, account: str = "",
              on_resolved: Callable[[], None] | None = None) -> Transport:
        self.world.step()
        if on_resolved is not None:
            on_resolved()
        server = self.source if host == "source.example" else self.destination
        self.world.sleep(server.manners.latency * 2)
        if self.connects_refused:
            self.connects_refused -= 1
            self.happened["no connection"] += 1
            raise ConnectionBroken(Cause.DNS_CONNECT, side=side, detail="no connection: refused")
        return server.connect()


@contextlib.contextmanager
def small_batches(wanted: bool) -> Iterator[None]:
    changed = []
    for name, module in list(sys.modules.items()):
        if wanted and name.startswith(("engine.transfer", "engine.imap")):
            for constant, value in SMALL.items():
                if isinstance(getattr(module, constant, None), int):
                    changed.append((module, constant, getattr(module, constant)))
                    setattr(module, constant, value)
    try:
        yield
    finally:
        for module, constant, value in changed:
            setattr(module, constant, value)
