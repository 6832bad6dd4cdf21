"""Several FETCHes in flight on one connection, bodies and lists mixed: who asked for what, what was answered, what was refused.

Owns the order in which answers are read, and the bodies. What is in flight: flights.py; lists of metadata: message_lists.py; servers that
give bodies by sequence number only: by_number.py; bodies in another form than the usual: forms.py.
Must not: set a flag (BODY.PEEK only), send SEARCH, parse a message, hold more than one small body, decide what is asked next (its user
does).
Always: a literal is capped before it is read; what nobody waits for (unsolicited, repeated, another UID) is read past, within a bound; a
body cut short is a ConnectionBroken, never a short body. The pipe has the connection for itself until it is `close`d; with anything
still in flight that ends the connection, because it may be large.
"""
from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING

from engine.errors import MessageRefused
from engine.imap import metadata
from engine.imap.bodies import HARD_CAP, SLOWEST, SMALL, Body
from engine.imap.by_number import ByNumber
from engine.imap.channel import Tagged, Untagged
from engine.imap.flights import LISTS, UNASKED_RESPONSES, Asks, Ended, Flight, Flights
from engine.imap.message_lists import Listing, MessageLists
from engine.imap.session import Session
from engine.wire.decoder import LONG_LINE_CAP, Value, split_untagged

if TYPE_CHECKING:
    from engine.imap.forms import Forms

__all__ = ["UNASKED_RESPONSES", "Ended", "FetchPipe", "Listing", "Section"]

MAX_BATCH = 10_000            # UIDs of one command where the provider states no limit
_OWNER = "a stream of messages"


class Section(Enum):
    WHOLE = b"BODY[]"
    HEADER = b"BODY[HEADER]"


@cache
def _usual(section: Section) -> re.Pattern[bytes]:
    return re.compile(rb"\* \d+ FETCH \(UID (\d{1,10}) " + re.escape(section.value) + rb" \{(\d{1,20})\}\Z", re.IGNORECASE)


class FetchPipe:
    """`largest`: octets of a body where `ask_bodies` does not say."""

    def __init__(self, session: Session, section: Section = Section.WHOLE, largest: int = HARD_CAP) -> None:
        self._channel = session.channel
        self._stream = session.channel.stream
        self._section = section
        self._pattern = _usual(section)
        self._uids_per_fetch = session.limits.uids_per_fetch or MAX_BATCH
        self._largest = largest
        self._flights = Flights(session, section.value.replace(b"BODY", b"BODY.PEEK"))
        self._flying = self._flights.queue  # looked into for every message
        self._by_number = ByNumber(session, self._flights)
        self._lists = MessageLists(session, self._flights, self._by_number)
        self._listing = self._lists.queue
        self._given: Body | None = None
        self._forms: Forms | None = None
        self._channel.must_be_free()
        self._channel.owner = _OWNER

    # -- asking ----------------------------------------------------------------------------------------------------------------

    @property
    def commands(self) -> int:
        """FETCHes in flight."""
        return len(self._flying)

    @property
    def octets(self) -> int:
        """Of the bodies in flight, as announced."""
        return self._flights.octets

    @property
    def settled(self) -> bool:
        """False while it shows whether this server gives bodies by UID at all: what is asked now would overtake what was asked before."""
        return not any(flight.otherwise for flight in self._flying)

    @property
    def lists(self) -> int:
        """Lists in flight."""
        return len(self._listing)

    @property
    def under_way(self) -> int:
        """The UID of the message that is being given, or is the next to be; 0: none, or the server is not at a body."""
        if self._given is not None:
            return self._given.uid
        first = self._flying[0] if self._flying else None
        return min(first.waiting, default=0) if first is not None and first.asks in (Asks.BODIES, Asks.BY_NUMBER) else 0

    def ask_bodies(self, uids: Sequence[int], *, octets: int = 0, largest: int | None = None, alone: bool = False) -> None:
        """Bodies of these messages, `octets` together as announced, none longer than `largest`. `alone`: where nothing at all comes, it is
        asked for by sequence number too."""
        cap = self._largest if largest is None else largest
        if self._by_number.known:
            uids, octets = self._by_number.ask_known(uids, octets, cap, alone), 0
        asks = Asks.NUMBERS if self._channel.bodies_by_number else Asks.BODIES
        for at in range(0, len(uids), self._uids_per_fetch):
            self._flights.ask(asks, uids[at : at + self._uids_per_fetch], octets, cap, alone)
            octets = 0  # counted once

    def ask_list(self, first: int, last: int | None, *, by_number: bool = False, with_size: bool = True) -> None:
        """Metadata of the messages with UIDs (or sequence numbers) from `first` to `last` (None: to the end)."""
        self._lists.ask(first, last, by_number=by_number, with_size=with_size)

    # -- reading ---------------------------------------------------------------------------------------------------------------

    def next(self) -> Body | Listing | Ended:
        """What comes next, once a FETCH is in flight. The body given before is read past. Raises ConnectionBroken, ProtocolError."""
        if self._given is not None:
            self.end_body()
        read_line = self._stream.read_line
        usual = self._pattern.match
        while True:
            line = read_line(LONG_LINE_CAP)
            match = usual(line)
            if match is not None:
                body = self._body(int(match[1]), int(match[2]))
                if body is not None:
                    return body
            elif not line:
                self._flights.pass_over()
            elif not (self._listing and self._lists.take(line)):
                event = self._other(line)
                if event is not None:
                    return event

    def close(self) -> None:
        """Gives the connection back; with something in flight, or a body half read, it is ended instead."""
        self._channel.owner = None
        if self._flying or self._given is not None:
            self._stream.close()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Lends the connection to other commands; nothing may be in flight."""
        assert not self._flying and self._given is None
        self._channel.owner = None
        yield
        self._channel.must_be_free()
        self._channel.owner = _OWNER

    def read_out(self) -> None:
        """Passes over everything still in flight."""
        while self._flying:
            self.next()

    def end_body(self) -> None:
        """Past what was not taken of the body that was given out, and past the rest of its response. ProtocolError when that does not
        follow: the literal was not as long as announced, and what was taken for the body is not it."""
        body = self._given
        if body is not None:
            body.drain()
            self._end_of_response()
            self._given = None

    def _end_of_response(self) -> list[bytes]:
        line = self._stream.read_line(LONG_LINE_CAP)
        if line == b")":
            return [line]
        return self._other_forms().rest(line)

    def _other(self, line: bytes) -> Body | Listing | Ended | None:
        """A line that neither begins a body in the usual form nor is of a list."""
        split = split_untagged(line) if line.startswith(b"* ") else None
        if split is not None and split[1] == b"FETCH":
            return self._unusual(split[0] or 0, split[2])
        response = self._channel.understand(line)
        if isinstance(response, Tagged):
            return self._command_ended(response)
        if isinstance(response, Untagged) and response.kind in (b"EXPUNGE", b"VANISHED"):
            self._by_number.moved()
        self._flights.pass_over()
        return None

    def _command_ended(self, tagged: Tagged) -> Listing | Ended | None:
        ended = self._flights.answered(tagged.tag)
        if ended is None:
            return None
        error = None if tagged.status == b"OK" else self._channel.refusal(tagged, "fetch", sorted(ended.waiting))
        if ended.asks in LISTS:
            return self._lists.ended(ended, error)
        if error is None:
            return self._by_number.go_on(ended)
        if not ended.waiting and isinstance(error, MessageRefused):
            error = None  # NO [EXPUNGEISSUED] and the like, after every message was given
        return ended.ended(error)

    # -- bodies ----------------------------------------------------------------------------------------------------------------

    def _waits_for(self, uid: int) -> Flight | None:
        """The command that waits for this body. None: unsolicited, or answered already."""
        for flight in self._flying:
            if uid in flight.waiting and flight.asks is not Asks.NUMBERS:
                return flight
        return None

    def _capped(self, length: int, flight: Flight | None) -> None:
        cap = flight.cap if flight is not None else max((one.cap for one in self._flying if one.asks not in LISTS), default=self._largest)
        if length > cap:
            raise self._channel.misbehaved(f"a message of {length} octets, more than the {cap} it may have")
        self._stream.limit(self._channel.timeouts.command + length / SLOWEST)

    def _body(self, uid: int, length: int) -> Body | None:
        """The body whose literal begins now; one that nobody waits for is read past."""
        flying = self._flying
        flight = flying[0] if flying and uid in flying[0].waiting and flying[0].asks is not Asks.NUMBERS else self._waits_for(uid)
        self._capped(length, flight)
        if flight is None:
            Body(uid, length, self._channel).drain()
            self._end_of_response()
            self._flights.pass_over()
            return None
        if length > SMALL:
            self._given = Body(uid, length, self._channel)
            flight.waiting.discard(uid)
            return self._given
        held = self._stream.read_exact(length)
        self._end_of_response()
        flight.waiting.discard(uid)
        return Body(uid, length, None, held)

    # -- bodies in another form ------------------------------------------------------------------------------------------------

    def _other_forms(self) -> Forms:
        if self._forms is None:
            from engine.imap.forms import Forms  # few servers need it, and its expressions take a millisecond to compile

            self._forms = Forms(self._channel, self._section.value)
        return self._forms

    def _unusual(self, sequence: int, text: bytes) -> Body | None:
        forms, parts = self._forms or self._other_forms(), [text]
        announced = forms.announced(parts)
        if announced is not None:
            uid, length = announced
            return self._body(uid, length) if uid else self._uid_comes_last(forms, length)
        uid, held, items = forms.without_literal(parts)
        if held is not None:
            return self._awaited(Body(uid, len(held), None, held))
        self._numbered_or_listed(uid, sequence, items)
        return None

    def _uid_comes_last(self, forms: Forms, length: int) -> Body | None:
        """The server tells the UID after the body: the octets wait, on disk if they are many."""
        self._capped(length, None)
        body = Body(0, length, self._channel)
        body = body.spooled() if length > SMALL else Body(0, length, None, body.read())
        body.uid = forms.uid_behind(self._end_of_response())
        return self._awaited(body)

    def _awaited(self, body: Body) -> Body | None:
        """A body that is off the wire already, if somebody waits for it."""
        flight = self._waits_for(body.uid)
        if flight is None:
            self._flights.pass_over()
            return None
        flight.waiting.discard(body.uid)
        return body

    def _numbered_or_listed(self, uid: int, sequence: int, items: dict[bytes, Value]) -> None:
        if self._by_number.heard(uid, sequence):
            return
        one = metadata.of_items(items) if self._listing else None
        if one is not None:
            self._lists.put(sequence, one)
        else:
            self._flights.pass_over()
