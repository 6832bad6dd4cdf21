"""Bodies by sequence number, where UID FETCH gives none: 263 may answer it with OK and nothing (facts, engine §5.2).

A FETCH of which nothing was answered is asked again: UID FETCH … (UID) for the sequence numbers, then FETCH … BODY.PEEK[] by these. The
answers name the UID, so a number that moved does no harm. Where messages could only be listed by number, the lists have told the numbers.

Must not: read a response. Always: once UID FETCH has given one body, only what is asked for alone is asked for by number, too.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.imap.flights import Asks, Ended, Flight, Flights
from engine.imap.session import Session

_NUMBERS_KEPT = 20_000        # sequence numbers remembered where UID FETCH lists nothing


class ByNumber:
    """`known`: sequence numbers by UID, of messages that could only be listed by number."""

    def __init__(self, session: Session, flights: Flights) -> None:
        self._channel = session.channel
        self._flights = flights
        self._uid_fetch_works = False
        self.known: dict[int, int] = {}

    def ask_known(self, uids: Sequence[int], octets: int, cap: int, alone: bool) -> Sequence[int]:
        """Asks for the bodies whose numbers the lists have told. Returns the other UIDs."""
        numbers = {uid: self.known[uid] for uid in uids if uid in self.known}
        self._ask(numbers, octets, cap, alone)
        return [uid for uid in uids if uid not in numbers]

    def heard(self, uid: int, sequence: int) -> bool:
        """Whether this number was asked for."""
        for flight in self._flights.queue:
            if flight.asks is Asks.NUMBERS and uid in flight.waiting:
                flight.numbers[uid] = sequence
                return True
        return False

    def moved(self) -> None:
        """A message was removed: those behind it have other numbers now."""
        self.known.clear()
        for flight in self._flights.queue:
            flight.numbers.clear()
            flight.renumbered = True

    def forget_the_oldest(self) -> None:
        while len(self.known) > _NUMBERS_KEPT:
            del self.known[next(iter(self.known))]

    def go_on(self, ended: Flight) -> Ended | None:
        """After a FETCH for bodies, or for their numbers, that was answered OK: its end; None where it goes on by number."""
        if ended.asks is Asks.NUMBERS:
            return self._numbers_came(ended)
        nothing = len(ended.waiting) == ended.asked
        if ended.asks is Asks.BY_NUMBER:
            self._channel.bodies_by_number = self._channel.bodies_by_number or not (nothing or ended.alone)
        elif nothing and ended.asked and (ended.alone or not self._uid_fetch_works):
            self._flights.ask(Asks.NUMBERS, sorted(ended.waiting), ended.octets, ended.cap, ended.alone, ended.begun,
                              otherwise=not ended.alone)
            return None
        else:
            self._uid_fetch_works = True
        return ended.ended()

    def _numbers_came(self, ended: Flight) -> Ended | None:
        numbers = {uid: sequence for uid, sequence in ended.numbers.items() if sequence}
        self._ask(numbers, ended.octets, ended.cap, ended.alone, ended.begun, otherwise=ended.otherwise)
        gone = ended.waiting - ended.numbers.keys() if ended.alone and not ended.renumbered else set()
        ended.waiting -= numbers.keys() | gone
        return ended.ended(gone=gone) if ended.waiting or gone else None

    def _ask(self, numbers: Mapping[int, int], octets: int, cap: int, alone: bool, begun: float | None = None, *,
             otherwise: bool = False) -> None:
        by_sequence = {sequence: uid for uid, sequence in numbers.items()}
        self._flights.ask(Asks.BY_NUMBER, sorted(by_sequence), octets, cap, alone, begun, otherwise=otherwise, uids=by_sequence)
