"""What goes wrong in one attempt: at the servers, on the way, on the disk, or because somebody comes in between. All of it is drawn, and
all of it ends with the attempt but for messages that are refused or spoilt for ever."""
from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from engine.progress import Stop
from tests.support.provider_simulator import Action, AppendRefusal, BodyFault, Fault
from tests.unit.simulation.people import WHILE_IT_RUNS, MailboxesInUse

SPOILT = (BodyFault.HEADER_ONLY, BodyFault.NIL, BodyFault.EMPTY, BodyFault.MISSING, BodyFault.REFUSED, BodyFault.CUT)


class DisturbedMailboxes(MailboxesInUse):
    """Mailboxes whose servers, connections and disk fail."""

    def __init__(self, seed: int | str, directory: Path, *, told: bool = False, source: str = "", destination: str = "") -> None:
        super().__init__(seed, directory, told=told, source=source, destination=destination)
        self.hopeless: set[bytes] = set()      # contents that the source never gives
        self.given_later: set[bytes] = set()   # … that it did not give at the first asking
        self.connects_refused = 0              # of the next connections
        self.stop: Stop | None = None          # of the attempt that runs
        self._planned: list[asyncio.TimerHandle] = []

    def may_be_set_aside(self, content: bytes) -> bool:
        if content in self.given_later and self.source.profile.size_guess:
            return True  # open: read short while an adoption compares, it is taken for altered where sizes are guesses
        if content in self.removed:
            return True  # a person removed what a run that died had stored: the next one, which reads it back, can only name it
        return content in self.hopeless or any(r.contains in content for r in self.destination.append_refusals)

    def draw_fault(self) -> None:
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
            "somebody": lambda: self._at_random(lambda: self.somebody(WHILE_IT_RUNS)),
            "somebody else": lambda: self._at_random(lambda: self.somebody(WHILE_IT_RUNS)),
        }
        name = rng.choice(sorted(draw))
        self.say("fault:", name, verb, "at", server.host)
        self.world.note("fault", name)
        draw[name]()

    def clear_faults(self) -> None:
        for planned in self._planned:
            planned.cancel()
        for server in (self.source, self.destination):
            server.faults.clear()
            server.cut_next = None
        self.disk.full_at = self.disk.lost_at = self.disk.die_at = None
        self.destination.account().quota = None
        self.connects_refused = 0

    def _skip(self) -> int:
        return self.rng.choice((0, 0, 1, 2, 5))

    def _throttle(self, status: bytes) -> bytes:
        return status + b"Request is throttled. Suggested Backoff Time: %d milliseconds" % self.rng.choice((50, 3000, 15000, 92415))

    def _refuse_for_ever(self) -> None:
        messages = [m for f in self.source_folders() for m in f.messages]
        if messages:
            content = self.rng.choice(messages).content
            self.destination.append_refusals.append(AppendRefusal(b"NO [CANNOT] This message is not taken", contains=content))

    def _spoil_a_body(self) -> None:
        messages = [m for f in self.source_folders() for m in f.messages]
        if messages:
            message = self.rng.choice(messages)
            message.fault = self.rng.choice(SPOILT)
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
        self._planned.append(self.world.loop.call_later(10 ** self.rng.uniform(-2, 1.3), act))
