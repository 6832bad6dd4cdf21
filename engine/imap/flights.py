"""FETCHes in flight on one connection: what each asked for, what of it did not come yet, and how it ended.

Owns: sending them, their order, the octets that they announce, the time that the server has, how much that nobody waits for is read past.
Must not: read a response, decide what is asked.
"""
from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple

from engine.errors import EngineError
from engine.imap.bodies import HARD_CAP
from engine.imap.metadata import Metadata
from engine.imap.session import Session
from engine.wire import encoder

UNASKED_RESPONSES = 1_000_000  # that are read past on one connection before its server is taken for broken


class Asks(Enum):
    LIST = auto()        # UID FETCH … (UID RFC822.SIZE …)
    LIST_BY_NUMBER = auto()
    BODIES = auto()      # UID FETCH … BODY.PEEK[]
    NUMBERS = auto()     # UID FETCH … (UID), for the sequence numbers
    BY_NUMBER = auto()   # FETCH … BODY.PEEK[]


LISTS = (Asks.LIST, Asks.LIST_BY_NUMBER)


class Ended(NamedTuple):
    """A FETCH of bodies that ended. `unanswered` UIDs: nothing came for them, `error` says why if the server did. `gone`: it does not list
    them any more. `messages`, `octets`, `seconds`: what was asked for, and the time since."""

    unanswered: list[int]
    gone: list[int]
    error: EngineError | None
    messages: int
    octets: int
    seconds: float


class Flight:
    """One FETCH in flight. Bodies: `waiting` are the UIDs that it has not answered, `asked` how many there were. Lists: `first` to `last`
    are UIDs (sequence numbers with LIST_BY_NUMBER), `found` what came."""

    __slots__ = ("alone", "asked", "asks", "begun", "cap", "first", "found", "last", "numbers", "octets", "otherwise", "renumbered",
                 "tag", "waiting")

    def __init__(self, tag: bytes, asks: Asks, begun: float, waiting: set[int] | None = None, *, octets: int = 0,
                 cap: int = HARD_CAP, alone: bool = False, otherwise: bool = False, first: int = 0, last: int | None = None) -> None:
        self.tag = tag
        self.asks = asks
        self.begun = begun
        self.waiting = waiting or set()
        self.asked = len(self.waiting)
        self.octets = octets
        self.cap = cap
        self.alone = alone
        self.otherwise = otherwise             # in place of one by UID of which nothing was answered
        self.numbers: dict[int, int] = {}      # sequence number of each UID, from NUMBERS
        self.renumbered = False                # … which are others since
        self.first = first
        self.last = last
        self.found: dict[int, Metadata] = {}

    def ended(self, error: EngineError | None = None, gone: Iterable[int] = ()) -> Ended:
        return Ended(sorted(self.waiting), sorted(gone), error, self.asked, self.octets, time.monotonic() - self.begun)


class Flights:
    """`item` names a body in a command. `queue`: as they were asked. `octets`: of the bodies in flight, as announced."""

    def __init__(self, session: Session, item: bytes) -> None:
        self._channel = session.channel
        self._command_bytes = session.command_bytes
        self._item = item
        self.queue: deque[Flight] = deque()
        self.octets = 0
        self._unasked = 0

    def send(self, command: bytes) -> bytes:
        """Its tag. Raises Throttled while the server has us wait."""
        if not self.queue:
            self._channel.stream.limit(self._channel.timeouts.command)
        return self._channel.send(command)

    def ask(self, asks: Asks, wanted: Sequence[int], octets: int, cap: int, alone: bool, begun: float | None = None, *,
            otherwise: bool = False, uids: Mapping[int, int] | None = None) -> None:
        """Bodies, or sequence numbers, of the messages that these UIDs name, in as many commands as a server's longest line needs.
        `uids`: `wanted` are sequence numbers, and these their UIDs."""
        what = b"(UID)" if asks is Asks.NUMBERS else b"(UID %s)" % self._item
        verb = b"FETCH" if asks is Asks.BY_NUMBER else b"UID FETCH"
        for a_set in encoder.uid_sets(wanted, self._command_bytes):
            waiting = _written_out(a_set)
            if uids is not None:
                waiting = {uids[sequence] for sequence in waiting}
            tag = self.send(b"%s %s %s" % (verb, a_set, what))
            self.queue.append(Flight(tag, asks, begun or time.monotonic(), waiting, octets=octets, cap=cap, alone=alone,
                                     otherwise=otherwise))
            self.octets += octets
            octets = 0  # counted once

    def answered(self, tag: bytes) -> Flight | None:
        """Takes out what ended with this answer. None: it was no FETCH of ours."""
        ended = next((flight for flight in self.queue if flight.tag == tag), None)
        if ended is None:
            return None
        self._channel.answered(tag)
        self.queue.remove(ended)
        self._channel.stream.limit(self._channel.timeouts.command if self.queue else None)
        self.octets -= ended.octets
        return ended

    def pass_over(self) -> None:
        """One more response that nobody waits for."""
        self._unasked += 1
        if self._unasked > UNASKED_RESPONSES:
            raise self._channel.misbehaved("responses without end that nobody asked for")


def _written_out(uid_set: bytes) -> set[int]:
    """The numbers of a set that we wrote ourselves."""
    found: set[int] = set()
    for piece in uid_set.split(b","):
        first, _, last = piece.partition(b":")
        found.update(range(int(first), int(last or first) + 1))
    return found
