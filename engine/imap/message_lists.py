"""Lists of metadata in flight among bodies: asked for, taken line by line, ended.

Must not: decide what is listed next, or what becomes of a list that was refused (its user does).
Always: each UID once, in the server's order, and none that was not asked for (`500:*` names the last message even if its UID is lower, RFC
3501 §6.4.8).
"""
from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

from engine.errors import EngineError
from engine.imap import metadata
from engine.imap.by_number import ByNumber
from engine.imap.flights import Asks, Flight, Flights
from engine.imap.metadata import Metadata
from engine.imap.session import Session
from engine.wire import encoder

LIST_SURPLUS = 100_000        # messages of one list beyond what the folder counts


class Listing(NamedTuple):
    """A list that ended: `found` within what was asked, in the server's order, each UID once. `error`: refused, after these."""

    first: int
    last: int | None
    by_number: bool
    found: list[Metadata]
    error: EngineError | None


class MessageLists:
    """`queue`: as they were asked."""

    def __init__(self, session: Session, flights: Flights, by_number: ByNumber) -> None:
        self._channel = session.channel
        self._tencent = session.family == "tencent"
        self._flights = flights
        self._by_number = by_number
        self.queue: deque[Flight] = deque()

    def ask(self, first: int, last: int | None, *, by_number: bool, with_size: bool) -> None:
        flight = Flight(b"", Asks.LIST_BY_NUMBER if by_number else Asks.LIST, time.monotonic(), first=first, last=last)
        if last is None and self._tencent:  # it refuses `*` as it refuses descending sets ("BAD UID parameters!")
            last = encoder.MAX_UID
        items = metadata.ITEMS if with_size else metadata.ITEMS_WITHOUT_SIZE
        verb = b"FETCH" if by_number else b"UID FETCH"
        flight.tag = self._flights.send(b"%s %s %s" % (verb, encoder.uid_range(first, last), items))
        self._flights.queue.append(flight)
        self.queue.append(flight)

    def take(self, line: bytes) -> bool:
        """Whether this line was of a list, in the usual form."""
        told = metadata.of_line(line)
        if told is None:
            return False
        self.put(*told)
        return True

    def put(self, sequence: int, one: Metadata) -> None:
        """To the first list that asked for it; one that none did, or that came before, is passed over."""
        uid = one.uid
        for flight in self.queue:
            if flight.asks is Asks.LIST_BY_NUMBER:
                if flight.first <= sequence <= (flight.last or encoder.MAX_UID) and 0 < uid <= encoder.MAX_UID:
                    flight.found.setdefault(uid, one)
                    self._by_number.known[uid] = sequence
                    return
            elif flight.first <= uid <= (flight.last or encoder.MAX_UID):
                found = flight.found
                if uid in found:
                    break
                found[uid] = one
                if len(found) > LIST_SURPLUS:
                    raise self._channel.misbehaved("a list of messages has no end")
                return
        self._flights.pass_over()

    def ended(self, flight: Flight, error: EngineError | None) -> Listing:
        self.queue.remove(flight)
        self._by_number.forget_the_oldest()
        return Listing(flight.first, flight.last, flight.asks is Asks.LIST_BY_NUMBER, list(flight.found.values()), error)
