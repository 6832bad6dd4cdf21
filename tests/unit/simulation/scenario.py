"""One seed is one story: two mailboxes, some attempts to move one into the other with faults, deaths and people in between, and in the
end attempts without, after which the invariants must hold (invariants.py).

    SIM_SEEDS=3000 .venv/bin/python -m pytest -q tests/unit/simulation     a soak
    .venv/bin/python -m tests.unit.simulation 4711                         one seed, told line by line
"""
from __future__ import annotations

import contextlib
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.causes import Cause, Side
from engine.endpoint import Account, Endpoint, Route, Secret, Security
from engine.errors import ConnectionBroken, LeaseLost
from engine.net.dial import dial
from engine.progress import Progress, Stop
from engine.report import CopyOutcome, CopyReport
from engine.transfer.copier import copy_mailbox
from engine.transfer.recover import Clock
from tests.support.provider_simulator import PROFILES, Action, AppendRefusal, BodyFault, Fault, Message, with_capabilities
from tests.support.simulator_mail import Folder
from tests.support.simulator_profiles import Profile
from tests.unit.simulation.disk import Disk
from tests.unit.simulation.network import Manners, SimulatedServer, Transport
from tests.unit.simulation.world import Killed, World

PACKAGES = ("engine.", "tests.support.simulator", "tests.support.provider_simulator")
FINAL_TRIES = 12
QUIET_SECONDS = 70.0          # after which nothing of a dead client is executed any more
MOST_STALL = 50.0             # seconds that a dead client's commands may lie unexecuted
MOST_STALL_NO_UIDPLUS = 1.2   # … where a surplus copy cannot be removed: less than the settling (recover.SETTLE_SECONDS)

# Batches so small that a mailbox of thirty messages fills windows and queues; read by name, because constants move between modules.
SMALL = {"RANGE_MESSAGES": 9, "FIRST_RANGE": 3, "BATCH_MESSAGES": 4, "BATCH_BYTES": 4000, "STREAM_OVER": 5000, "STREAM_BUFFER": 2000,
         "QUEUE_BYTES": 9000, "WINDOW_BYTES": 9000, "WINDOW_STREAMED": 20000, "RESOLVE_MESSAGES": 5, "MULTIAPPEND_BATCH": 3,
         "_STATUS_AT_ONCE": 2, "_FOLDERS_AT_ONCE": 2, "_HEADER_BATCH": 5}
DESTINATIONS = (
    "IMAP4rev1 UIDPLUS", "IMAP4rev1 UIDPLUS LITERAL+", "IMAP4rev1 UIDPLUS MULTIAPPEND LITERAL+", "IMAP4rev1 UIDPLUS MULTIAPPEND",
    "IMAP4rev1 UIDPLUS LITERAL-", "IMAP4rev1", "IMAP4rev1 LITERAL+", "IMAP4rev1 MULTIAPPEND LITERAL+",
)
SOURCES = ("plain", "dovecot", "qq", "netease", "gmail", "exchange", "aliqiye", "m263", "sina")
FLAGS = ((), ("\\Seen",), ("\\Seen", "\\Flagged"), ("\\Answered",), ("\\Draft",))
NAMES = ("Projects", "Archive 2019", "&Xn9USpCuTvY-", "Sent", "Trash", "a&AOk-", "Deleted Items")


def profile_of(capabilities: str) -> Profile:
    plain = PROFILES["plain"]
    return with_capabilities(plain, *capabilities.split(), without=tuple(plain.after.split()))


@dataclass
class Attempt:
    """How one run of the mover ended: "killed", "lease lost", or the report's outcome."""

    ended: str
    report: CopyReport | None = None


@dataclass
class Ever:
    """What a source folder ever held, by content; flags and dates that each content ever had."""

    contents: Counter[bytes] = field(default_factory=Counter)
    flags: dict[bytes, set[tuple[str, ...]]] = field(default_factory=dict)
    dates: dict[bytes, set[str]] = field(default_factory=dict)

    def add(self, message: Message) -> None:
        self.contents[message.content] += 1
        self.saw(message)

    def saw(self, message: Message) -> None:
        self.flags.setdefault(message.content, set()).add(tuple(sorted(message.flags)))
        self.dates.setdefault(message.content, set()).add(message.internal_date)


class _Sink:
    def __init__(self, world: World) -> None:
        self._world = world

    def progress(self, at: Progress) -> None:
        self._world.step()
        assert at.moved >= 0 and at.set_aside >= 0, at

    def server_line(self, side: Side, cause: Cause, text: str) -> None:
        self._world.step()


class Story:
    def __init__(self, seed: int | str, directory: Path, *, told: bool = False, source: str = "", destination: str = "") -> None:
        self.seed = seed
        self.world = World(seed)
        self.rng = random.Random(f"{seed} mail")
        self.told = told
        self.happened: Counter[str] = Counter()
        self.attempts: list[Attempt] = []
        self.touched: set[str] = set()       # what people and failures did that loosens an invariant
        self.ever: dict[str, Ever] = {}      # by source folder
        self.own: dict[str, Counter[bytes]] = {}       # the destination's own mail when it began, by folder
        self.removed: Counter[bytes] = Counter()       # copies that a person removed at the destination
        self.refused: set[bytes] = set()               # contents that the destination refuses for ever
        self.hopeless: set[bytes] = set()              # contents that the source never gives
        self.given_later: set[bytes] = set()           # … that it did not give at the first asking
        self.serial = 0
        self.stop: Stop | None = None
        self.planned: list[Any] = []
        rng = self.rng
        self.source = SimulatedServer(self.world, "source", Side.SOURCE, source or rng.choice(SOURCES))
        self.capabilities = destination or rng.choice(DESTINATIONS)
        self.destination = SimulatedServer(self.world, "destination", Side.DESTINATION, profile_of(self.capabilities))
        self.uidplus = "UIDPLUS" in self.capabilities
        self.disk = Disk(self.world, directory / f"ledger-{seed}")
        self.connections = rng.choice((1, 1, 2, 3))
        self.small = rng.random() < 0.7
        self.source.pairs = self.destination.pairs = self.connections
        for server in (self.source, self.destination):
            server.manners = Manners(rng.choice((0.0005, 0.005, 0.05, 0.2)), rng.choice((0.0, 0.0, 0.002)),
                                     rng.choice((0.0, 0.1, 0.4, 0.4)) if server is self.destination else 0.0)
        self.world.on_kill.append(self._process_is_gone)
        self._fill()

    def say(self, *words: object) -> None:
        if self.told:
            print(f"{self.world.loop.now:10.3f}", *words)  # one seed, told

    # -- mail -------------------------------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        box, rng = self.source.account(), self.rng
        for name in rng.sample(NAMES, rng.choice((0, 1, 1, 2, 3))):
            if name not in box.folders:
                self.source.add_folder(name)
        for folder in list(box.folders.values()):
            if folder.selectable and (folder.name == "INBOX" or rng.random() < 0.5):
                for _ in range(rng.choice((0, 1, 3, 8, 8, 20, 30))):
                    self.arrives(folder)
        there = self.destination.account()
        for name in rng.sample(("INBOX", "Projects", "Sent", "Trash"), rng.choice((0, 1, 2))):
            folder = there.folders.get(name) or self.destination.add_folder(name)
            here = box.folders.get(name)
            for message in rng.sample(here.messages, min(len(here.messages), rng.choice((0, 1, 3)))) if here else ():
                folder.add(Message(message.content, message.flags, message.internal_date))
            for _ in range(rng.choice((0, 1, 4))):
                folder.add(Message(self._content("own"), (), self._date()))
        self.own = {f.name: Counter(m.content for m in f.messages) for f in there.folders.values()}

    def _content(self, what: str = "mail") -> bytes:
        self.serial += 1
        size = self.rng.choice((20, 60, 200, 900, 1500, 1500, 7000 if self.small else 900))
        head = b"Message-ID: <%d@%s>\r\nSubject: %d\r\n\r\n" % (self.serial, what.encode(), self.serial)
        return head + (b"line %d\r\n" % self.serial) * (1 + size // 10)

    def _date(self) -> str:
        rng = self.rng
        day, month = rng.randint(1, 28), rng.choice(("Jan", "Feb", "Nov"))
        return f"{day:2d}-{month}-2023 {rng.randint(0, 23):02d}:13:{rng.randint(0, 59):02d} +0800"

    def arrives(self, folder: Folder) -> None:
        rng = self.rng
        if folder.messages and rng.random() < 0.1:
            twin = rng.choice(folder.messages)
            new = Message(twin.content, rng.choice(FLAGS), rng.choice((twin.internal_date, self._date())))
        elif folder.messages and rng.random() < 0.05:  # another message of the same header and size
            other = rng.choice(folder.messages).content
            new = Message(other[:-3] + b"%d\r\n" % rng.randint(0, 9), rng.choice(FLAGS), self._date())
        else:
            new = Message(self._content(), rng.choice(FLAGS), self._date())
        folder.add(new)
        self.ever.setdefault(folder.name, Ever()).add(new)

    def source_folders(self) -> list[Folder]:
        return [f for f in self.source.account().folders.values() if f.selectable]

    def destination_folders(self) -> list[Folder]:
        return list(self.destination.account().folders.values())

    # -- people ---------------------------------------------------------------------------------------------------------------------

    def mail_arrives(self) -> None:
        for _ in range(self.rng.choice((1, 1, 4))):
            self.arrives(self.rng.choice(self.source_folders()))

    def flags_change(self) -> None:
        folder = self.rng.choice(self.source_folders())
        if folder.messages:
            message = self.rng.choice(folder.messages)
            message.flags = self.rng.choice(FLAGS)
            self.ever[folder.name].saw(message)

    def mail_is_deleted(self) -> None:
        folder = self.rng.choice(self.source_folders())
        if folder.messages:
            folder.messages.remove(self.rng.choice(folder.messages))
            self.touched.add("deleted at the source")

    def source_uidvalidity_changes(self) -> None:
        if self.source.profile.uidvalidity is None:
            self._rebuilt(self.source, self.rng.choice(self.source_folders()))

    def destination_uidvalidity_changes(self) -> None:
        self._rebuilt(self.destination, self.rng.choice(self.destination_folders()))
        self.touched.add("destination rebuilt")

    def _rebuilt(self, server: SimulatedServer, folder: Folder) -> None:
        """No session may live through it (RFC 3501 §2.3.1.1 lets UIDs change between sessions only)."""
        server.disconnect_all()
        server._validity += 1
        folder.uidvalidity = server._validity
        folder.uidnext = 1
        for message in folder.messages:
            message.uid = folder.uidnext
            folder.uidnext += folder.uid_step
        self.touched.add("rebuilt")

    def _one_of_users(self, folders: list[Folder]) -> Folder | None:
        chosen = [f for f in folders if f.name != "INBOX"]
        return self.rng.choice(chosen) if chosen else None

    def source_folder_is_renamed(self) -> None:
        folder = self._one_of_users(self.source_folders())
        if folder and self.source.profile.uidvalidity is None:
            del self.source.account().folders[folder.name]
            self.ever[f"Renamed {self.serial}"] = self.ever.get(folder.name, Ever())
            folder.name = f"Renamed {self.serial}"
            folder.attributes = ()
            self.source.account().folders[folder.name] = folder
            self.serial += 1

    def source_folder_is_deleted(self) -> None:
        folder = self._one_of_users(self.source_folders())
        if folder:
            del self.source.account().folders[folder.name]

    def destination_folder_is_deleted(self) -> None:
        folder = self._one_of_users(self.destination_folders())
        if folder:
            del self.destination.account().folders[folder.name]
            self.own.pop(folder.name, None)
            self.touched.add("destination folder gone")

    def destination_folder_is_renamed(self) -> None:
        folder = self._one_of_users(self.destination_folders())
        if folder:
            box = self.destination.account()
            del box.folders[folder.name]
            self.own.pop(folder.name, None)
            folder.name = f"Moved by me {self.serial}"
            box.folders[folder.name] = folder
            self.own[folder.name] = Counter(m.content for m in folder.messages)
            self.serial += 1
            self.touched.add("destination folder gone")

    def a_copy_is_removed(self) -> None:
        folders = [f for f in self.destination_folders() if f.messages]
        if folders:
            folder = self.rng.choice(folders)
            message = self.rng.choice(folder.messages)
            folder.messages.remove(message)
            self.removed[message.content] += 1
            self.touched.add("copy removed")

    def quota_is_reached(self) -> None:
        box = self.destination.account()
        box.quota = box.used() + self.rng.choice((0, 1000, 4000))

    def ledger_is_lost(self) -> None:
        self.world.pass_time(QUIET_SECONDS)  # a ledger that is lost takes its watches with it
        self.disk.lose()
        self.touched.add("ledger lost")

    PEOPLE = ("mail_arrives", "mail_arrives", "flags_change", "mail_is_deleted", "source_uidvalidity_changes",
              "destination_uidvalidity_changes", "source_folder_is_renamed", "source_folder_is_deleted", "destination_folder_is_deleted",
              "destination_folder_is_renamed", "quota_is_reached")
    BETWEEN = ("mail_arrives", "flags_change", "mail_is_deleted", "a_copy_is_removed", "ledger_is_lost", "source_uidvalidity_changes",
               "destination_uidvalidity_changes", "source_folder_is_renamed", "source_folder_is_deleted",
               "destination_folder_is_renamed", "destination_folder_is_deleted")

    def somebody(self, names: tuple[str, ...]) -> None:
        name = self.rng.choice(names)
        self.say("--", name)
        self.world.note(name)
        self.happened[name] += 1
        getattr(self, name)()

    # -- faults ----------------------------------------------------------------------------------------------------------------------

    def _skip(self) -> int:
        return self.rng.choice((0, 0, 1, 2, 5))

    def _draw_fault(self) -> None:
        rng, here, there = self.rng, self.source, self.destination
        server = rng.choice((here, there))
        verbs = ("UID FETCH", "EXAMINE", "STATUS", "LIST", "LOGIN") if server is here else ("APPEND", "APPEND", "APPEND", "EXAMINE",
                                                                                            "STATUS", "CREATE", "UID FETCH", "LOGIN")
        verb = rng.choice(verbs)
        draw: dict[str, Callable[[], object]] = {
            "close": lambda: server.faults.append(Fault(verb, Action.CLOSE, skip=self._skip())),
            "lost answer": lambda: server.faults.append(Fault(verb, Action.EXECUTE_THEN_CLOSE, skip=self._skip())),
            "cut literal": lambda: there.faults.append(Fault("APPEND", Action.CUT_LITERAL, skip=self._skip(), at=rng.choice((0, 1, 40)))),
            "cut answer": lambda: server.faults.append(Fault(verb, Action.CUT_ANSWER, skip=self._skip(), at=rng.choice((0, 3, 30, 500)))),
            "late append": lambda: there.faults.append(Fault("APPEND", Action.LATE, skip=self._skip(), seconds=rng.choice((0.3, 1.0)))),
            "hang": lambda: server.faults.append(Fault(verb, Action.HANG, skip=self._skip())),
            "cut anywhere": lambda: setattr(server, "cut_next", (rng.choice(("in", "out")), int(10 ** rng.uniform(0, 4.5)))),
            "throttled": lambda: server.faults.append(Fault(verb, Action.REPLY, skip=self._skip(), text=self._throttle(b"BAD "))),
            "throttled goodbye": lambda: server.faults.append(Fault(verb, Action.REPLY, skip=self._skip(), text=self._throttle(b"BYE "))),
            "throttle notice": lambda: server.faults.append(
                Fault(verb, Action.UNTAGGED, skip=self._skip(), text=self._throttle(b"* OK [THROTTLED] "))),
            "busy": lambda: server.faults.append(Fault(verb, Action.REPLY, skip=self._skip(), text=b"NO [INUSE] Mailbox is in use")),
            "refused append": lambda: there.faults.append(Fault("APPEND", Action.REPLY, skip=self._skip(), text=b"NO not this one")),
            "refused for ever": self._refuse_for_ever,
            "body fault": self._spoil_a_body,
            "disk full": lambda: self._disk_fails("full_at"),
            "lease lost": lambda: self._disk_fails("lost_at"),
            "stop asked": lambda: self._at_random(lambda: self.stop.ask() if self.stop else None),
            "no connection": lambda: setattr(self, "connects_refused", rng.choice((1, 2))),
            "somebody": lambda: self._at_random(lambda: self.somebody(self.PEOPLE)),
            "somebody else": lambda: self._at_random(lambda: self.somebody(self.PEOPLE)),
        }
        name = rng.choice(sorted(draw))
        self.say("fault:", name, verb, "at", server.host)
        self.world.note("fault", name)
        draw[name]()

    connects_refused = 0

    def _throttle(self, status: bytes) -> bytes:
        return status + b"Request is throttled. Suggested Backoff Time: %d milliseconds" % self.rng.choice((50, 3000, 15000, 92415))

    def _refuse_for_ever(self) -> None:
        messages = [m for f in self.source_folders() for m in f.messages]
        if messages:
            content = self.rng.choice(messages).content
            self.refused.add(content)
            self.destination.append_refusals.append(AppendRefusal(b"NO [CANNOT] This message is not taken", contains=content))

    def _spoil_a_body(self) -> None:
        messages = [m for f in self.source_folders() for m in f.messages]
        if messages:
            message = self.rng.choice(messages)
            message.fault = self.rng.choice((BodyFault.HEADER_ONLY, BodyFault.NIL, BodyFault.EMPTY, BodyFault.MISSING, BodyFault.REFUSED,
                                             BodyFault.CUT))
            message.fault_times = self.rng.choice((1, 1, 2, None))
            if message.fault is BodyFault.HEADER_ONLY and self.source.profile.size_guess:
                message.fault = BodyFault.MISSING  # where sizes are guesses, a small message without its body cannot be told
            self.happened[f"body {message.fault.value}"] += 1
            if message.fault_times is None:
                self.hopeless.add(message.content)
            else:
                self.given_later.add(message.content)

    def _disk_fails(self, how: str) -> None:
        setattr(self.disk, how, self.rng.choice((1, 2, 3, 5, 9, 17)))
        self.disk.full_for = self.rng.choice((1, 3, 1000))

    def _at_random(self, act: Callable[[], object]) -> None:
        self.planned.append(self.world.loop.call_later(10 ** self.rng.uniform(-2, 1.3), act))

    def clear_faults(self) -> None:
        for planned in self.planned:
            planned.cancel()
        for server in (self.source, self.destination):
            server.faults.clear()
            server.cut_next = None
        self.disk.full_at = self.disk.lost_at = self.disk.die_at = None
        self.destination.account().quota = None
        self.connects_refused = 0

    # -- the mover -----------------------------------------------------------------------------------------------------------------

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

    def _account(self, server: SimulatedServer) -> Account:
        box = server.account()
        return Account(Endpoint(f"{server.host}.example", 143, Security.PLAIN), box.login, Secret(box.secret))

    def copy(self, *, kill_at: int | None = None, retry_set_aside: bool = False) -> Attempt:
        world = self.world
        clock = Clock(wall=world.wall, monotonic=world.monotonic, sleep=world.sleep)
        self.stop = Stop()

        def process() -> CopyReport:
            ledger = self.disk.open()
            opened.append(ledger)
            return copy_mailbox(self._account(self.source), self._account(self.destination), ledger=ledger, connections=self.connections,
                                progress=_Sink(world), stop=self.stop, retry_set_aside=retry_set_aside, clock=clock)

        opened: list[Any] = []
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

    def _disturbed(self) -> None:
        """One attempt with faults, and what happens until the next. Each attempt has its own chance, so that another order of the
        mover's steps in one does not change what the next one meets."""
        rng = self.rng = random.Random(f"{self.seed} attempt {len(self.attempts)}")
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            self._draw_fault()
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
            self.somebody(self.BETWEEN)

    def _wait_after(self, attempt: Attempt) -> float:
        asked = attempt.report.retry_after if attempt.report else None
        return (asked or 0.0) + self.rng.choice((0.001, 0.05, 0.5, 2.0, 30.0))

    def enter(self) -> None:
        """From here the engine's modules are in this world; `leave` ends that."""
        self._within = contextlib.ExitStack()
        self._within.enter_context(self.world.instead_of(PACKAGES, {dial: self._dial}))
        self._within.enter_context(small_batches(self.small))

    def leave(self) -> None:
        self._within.close()
        self.world.close()
        for part in (self.source.happened, self.destination.happened, self.disk.happened):
            self.happened.update(part)

    def run(self) -> None:
        self.enter()
        try:
            self.say(self.source.profile.key, "->", self.capabilities, f"{self.connections} connections, small={self.small}",
                     {f.name: len(f.messages) for f in self.source_folders()})
            for _ in range(self.rng.choice((1, 2, 2, 3, 4))):
                self._disturbed()
            self.finish()
        finally:
            self.leave()

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
        self.disk_rows = self.world.run_process(self._read_ledger)

    def may_be_set_aside(self, content: bytes) -> bool:
        if content in self.given_later and self.source.profile.size_guess:
            return True  # open: read short while an adoption compares, it is taken for altered where sizes are guesses
        return content in self.hopeless or any(r.contains in content for r in self.destination.append_refusals)

    def _read_ledger(self) -> list[tuple[Any, list[Any], list[Any], list[Any]]]:
        ledger = self.disk.open()
        rows = [(row, ledger.runs(row.id), ledger.set_aside(row.id), ledger.intents(row.id)) for row in ledger.folders()]
        ledger.close()
        return rows

    def _to_the_end(self, *, retry_set_aside: bool = True) -> CopyReport:
        for _ in range(FINAL_TRIES):
            attempt = self.copy(retry_set_aside=retry_set_aside)
            assert attempt.report is not None, attempt
            if attempt.report.outcome in (CopyOutcome.COMPLETE, CopyOutcome.PARTIAL):
                return attempt.report
            self.world.pass_time((attempt.report.retry_after or 0.0) + 1.0)
        raise AssertionError(f"no end after {FINAL_TRIES} attempts without faults: {attempt.report}")


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
