"""Several FETCHes in flight on one connection, bodies and lists mixed: who asked for what, what was answered, what was refused.

Must not: set a flag (BODY.PEEK only), send SEARCH, parse a message, hold more than one small body, decide what is asked next (its user
does).
Always: a literal is capped before it is read; what nobody waits for (unsolicited, repeated, another UID) is read past, within a bound; a
body cut short is a ConnectionBroken, never a short body. The pipe has the connection for itself until it is `close`d; with anything
still in flight that ends the connection, because it may be large.
"""
from __future__ import annotations

import contextlib
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from engine.errors import EngineError, MessageRefused, ProtocolError
from engine.imap import metadata
from engine.imap.bodies import HARD_CAP, SLOWEST, SMALL, Body
from engine.imap.channel import Tagged, Untagged
from engine.imap.metadata import Metadata, items_of
from engine.imap.session import Session
from engine.wire import encoder
from engine.wire.decoder import LONG_LINE_CAP, REPLY_CAP, Value, number, split_untagged

MAX_BATCH = 10_000            # UIDs of one command where the provider states no limit
UNASKED_RESPONSES = 1_000_000  # that one pipe reads past before it takes the server for broken
LIST_SURPLUS = 100_000        # messages of one list beyond what the folder counts
_OWNER = "a stream of messages"
_NUMBERS_KEPT = 20_000        # sequence numbers remembered where UID FETCH lists nothing

# Some servers answer BODY[] as RFC822, or echo BODY.PEEK[].
_BODY_LAST = re.compile(rb"(BODY(?:\.PEEK)?\[(?:HEADER)?\]|RFC822(?:\.HEADER)?) ~?\{(\d{1,20})\+?\}\Z", re.IGNORECASE)
_STRING = re.compile(rb"(?:\]|RFC822(?:\.HEADER)?) (?:\"|NIL\b)", re.IGNORECASE)  # nstring (RFC 3501 §9): no atom is a body
# What may stand behind a body's literal: more items, and the response's end.
_REST = re.compile(rb"(?: [A-Z][A-Z0-9.\[\]<>-]* .*)?(?:\)+ *|(?<=[^)])\{\d+\+?\})\Z", re.IGNORECASE)
_NAMES = {b"BODY[]": (b"BODY[]", b"RFC822", b"BODY.PEEK[]"), b"BODY[HEADER]": (b"BODY[HEADER]", b"RFC822.HEADER", b"BODY.PEEK[HEADER]")}


def _usual(section: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"\* \d+ FETCH \(UID (\d{1,10}) BODY\[" + section + rb"\] \{(\d{1,20})\}\Z", re.IGNORECASE)


class Section(Enum):
    WHOLE = b"BODY[]"
    HEADER = b"BODY[HEADER]"


_USUAL = {Section.WHOLE: _usual(b""), Section.HEADER: _usual(b"HEADER")}


class _Asks(Enum):
    LIST = auto()        # UID FETCH … (UID RFC822.SIZE …)
    LIST_BY_NUMBER = auto()
    BODIES = auto()      # UID FETCH … BODY.PEEK[]
    NUMBERS = auto()     # UID FETCH … (UID), for the sequence numbers
    BY_NUMBER = auto()   # FETCH … BODY.PEEK[]


_LISTS = (_Asks.LIST, _Asks.LIST_BY_NUMBER)


@dataclass(slots=True)
class _Flight:
    """One FETCH in flight. Bodies: `waiting` are the UIDs that it has not answered, `asked` how many there were. Lists: `first` to `last`
    are UIDs (sequence numbers with LIST_BY_NUMBER), `found` what came."""

    tag: bytes
    asks: _Asks
    begun: float
    octets: int = 0
    cap: int = HARD_CAP
    waiting: set[int] = field(default_factory=set)
    asked: int = 0
    alone: bool = False
    otherwise: bool = False  # in place of one by UID of which nothing was answered
    numbers: dict[int, int] = field(default_factory=dict)  # sequence number of each UID, from NUMBERS
    first: int = 0
    last: int | None = None
    found: dict[int, Metadata] = field(default_factory=dict)


class Listing(NamedTuple):
    """A list that ended: `found` within what was asked, in the server's order, each UID once. `error`: refused, after these."""

    first: int
    last: int | None
    by_number: bool
    found: list[Metadata]
    error: EngineError | None


class Ended(NamedTuple):
    """A FETCH of bodies that ended. `unanswered` UIDs: nothing came for them, `error` says why if the server did. `gone`: it does not list
    them any more. `messages`, `octets`, `seconds`: what was asked for, and the time since."""

    unanswered: list[int]
    gone: list[int]
    error: EngineError | None
    messages: int
    octets: int
    seconds: float


class FetchPipe:
    """`largest`: octets of a body where `ask_bodies` does not say."""

    def __init__(self, session: Session, section: Section = Section.WHOLE, largest: int = HARD_CAP) -> None:
        self._channel = session.channel
        self._stream = session.channel.stream
        self._pattern = _USUAL[section]
        self._names = _NAMES[section.value]
        self._item = section.value.replace(b"BODY", b"BODY.PEEK")
        self._command_bytes = session.command_bytes
        self._uids_per_fetch = session.limits.uids_per_fetch or MAX_BATCH
        self._tencent = session.family == "tencent"
        self._largest = largest
        self._flying: deque[_Flight] = deque()
        self._lists: deque[_Flight] = deque()
        self._given: Body | None = None
        self._uid_fetch_works = False
        self._numbers: dict[int, int] = {}  # of listed messages, where they could only be listed by number
        self._unasked = 0
        self.octets = 0        # of the bodies in flight, as announced
        self._channel.must_be_free()
        self._channel.owner = _OWNER

    # -- asking ----------------------------------------------------------------------------------------------------------------

    @property
    def commands(self) -> int:
        """FETCHes in flight."""
        return len(self._flying)

    @property
    def settled(self) -> bool:
        """False while it shows whether this server gives bodies by UID at all: what is asked now would overtake what was asked before."""
        return not any(flight.otherwise for flight in self._flying)

    @property
    def lists(self) -> int:
        """Lists in flight."""
        return len(self._lists)

    @property
    def under_way(self) -> int:
        """The UID of the message that is being given, or is the next to be; 0: none, or the server is not at a body."""
        if self._given is not None:
            return self._given.uid
        first = self._flying[0] if self._flying else None
        return min(first.waiting, default=0) if first is not None and first.asks in (_Asks.BODIES, _Asks.BY_NUMBER) else 0

    def ask_bodies(self, uids: Sequence[int], *, octets: int = 0, largest: int | None = None, alone: bool = False) -> None:
        """Bodies of these messages, `octets` together as announced, none longer than `largest`. `alone`: where nothing at all comes, it is
        asked for by sequence number too."""
        cap = self._largest if largest is None else largest
        if self._numbers:
            numbers = {uid: self._numbers[uid] for uid in uids if uid in self._numbers}
            self._ask_numbers(numbers, octets, cap, alone)
            uids, octets = [uid for uid in uids if uid not in numbers], 0
        asks = _Asks.NUMBERS if self._channel.bodies_by_number else _Asks.BODIES
        for at in range(0, len(uids), self._uids_per_fetch):
            for uid_set in encoder.uid_sets(uids[at : at + self._uids_per_fetch], self._command_bytes):
                self._ask(asks, uid_set, written_out(uid_set), octets, cap, alone)
                octets = 0  # counted once

    def ask_list(self, first: int, last: int | None, *, by_number: bool = False, with_size: bool = True) -> None:
        """Metadata of the messages with UIDs (or sequence numbers) from `first` to `last` (None: to the end)."""
        flight = _Flight(b"", _Asks.LIST_BY_NUMBER if by_number else _Asks.LIST, time.monotonic(), first=first, last=last)
        if last is None and self._tencent:  # it refuses `*` as it refuses descending sets ("BAD UID parameters!")
            last = encoder.MAX_UID
        items = metadata.ITEMS if with_size else metadata.ITEMS_WITHOUT_SIZE
        verb = b"FETCH" if by_number else b"UID FETCH"
        flight.tag = self._send(b"%s %s %s" % (verb, encoder.uid_range(first, last), items))
        self._flying.append(flight)
        self._lists.append(flight)

    def _send(self, command: bytes) -> bytes:
        if not self._flying:
            self._stream.limit(self._channel.timeouts.command)
        return self._channel.send(command)

    def _ask(self, asks: _Asks, uid_set: bytes, waiting: set[int], octets: int, cap: int, alone: bool, begun: float | None = None) -> None:
        what = b"(UID)" if asks is _Asks.NUMBERS else b"(UID %s)" % self._item
        verb = b"FETCH" if asks is _Asks.BY_NUMBER else b"UID FETCH"
        tag = self._send(b"%s %s %s" % (verb, uid_set, what))
        self._flying.append(_Flight(tag, asks, begun or time.monotonic(), octets, cap, waiting, len(waiting), alone))
        self.octets += octets

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
                self._pass_over()
            elif not (self._lists and self._take_listed(line)):
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
        if not _REST.match(line):
            raise self._channel.misbehaved("a message that is not as long as its literal says")
        return self._channel.rest_of([line], REPLY_CAP)

    def _other(self, line: bytes) -> Body | Listing | Ended | None:
        split = split_untagged(line) if line.startswith(b"* ") else None
        if split is not None and split[1] == b"FETCH":
            return self._unusual(split[0] or 0, split[2])
        response = self._channel.understand(line)
        if isinstance(response, Tagged):
            return self._command_ended(response)
        if isinstance(response, Untagged) and response.kind in (b"EXPUNGE", b"VANISHED"):
            self._numbers.clear()
            for flight in self._flying:
                flight.numbers.clear()  # they have moved
        self._pass_over()
        return None

    def _pass_over(self) -> None:
        self._unasked += 1
        if self._unasked > UNASKED_RESPONSES:
            raise self._channel.misbehaved("responses without end that nobody asked for")

    # -- bodies ----------------------------------------------------------------------------------------------------------------

    def _waits_for(self, uid: int) -> _Flight | None:
        """The command that waits for this body. None: unsolicited, or answered already."""
        for flight in self._flying:
            if uid in flight.waiting and flight.asks is not _Asks.NUMBERS:
                return flight
        return None

    def _capped(self, length: int, flight: _Flight | None) -> None:
        cap = flight.cap if flight is not None else max((one.cap for one in self._flying if one.asks not in _LISTS), default=self._largest)
        if length > cap:
            raise self._channel.misbehaved(f"a message of {length} octets, more than the {cap} it may have")
        self._stream.limit(self._channel.timeouts.command + length / SLOWEST)

    def _body(self, uid: int, length: int) -> Body | None:
        """The body whose literal begins now; one that nobody waits for is read past."""
        flying = self._flying
        flight = flying[0] if flying and uid in flying[0].waiting and flying[0].asks is not _Asks.NUMBERS else self._waits_for(uid)
        self._capped(length, flight)
        if flight is None:
            Body(uid, length, self._channel).drain()
            self._end_of_response()
            self._pass_over()
            return None
        if length > SMALL:
            self._given = Body(uid, length, self._channel)
            flight.waiting.discard(uid)
            return self._given
        held = self._stream.read_exact(length)
        self._end_of_response()
        flight.waiting.discard(uid)
        return Body(uid, length, None, held)

    def _unusual(self, sequence: int, text: bytes) -> Body | None:
        """A FETCH response in another form: other order or items, lower case, NIL, quoted, doubled parentheses, no body at all."""
        parts = [text]
        while (announced := _BODY_LAST.search(parts[-1])) is None and parts[-1].endswith(b"}"):
            before = len(parts)
            self._one_literal(parts)
            if len(parts) == before:
                break
        if announced is None:
            return self._without_literal(sequence, parts)
        if announced[1].upper() not in self._names:
            raise self._channel.misbehaved("another part of a message than was asked for")
        # What stands before the body, with the value left open: closed here so that it can be decoded.
        uid = _uid_of(_items([*parts[:-1], parts[-1][: announced.start()] + b"BODY[] NIL" + b")" * 8]))
        return self._body(uid, int(announced[2])) if uid else self._uid_comes_last(int(announced[2]))

    def _without_literal(self, sequence: int, parts: list[bytes]) -> Body | None:
        items = _items(parts)
        uid = _uid_of(items)
        name = next((name for name in self._names if name in items), None)
        if name is not None and not _STRING.search(parts[0]):
            self._pass_over()
            return None
        if name is None:
            self._numbered_or_listed(uid, sequence, items)
            return None
        flight = self._waits_for(uid)
        if flight is None:
            self._pass_over()
            return None
        flight.waiting.discard(uid)
        value = items[name]
        held = value if isinstance(value, bytes) else b""  # NIL: the server has no octets for it
        return Body(uid, len(held), None, held)

    def _numbered_or_listed(self, uid: int, sequence: int, items: dict[bytes, Value]) -> None:
        for flight in self._flying:
            if flight.asks is _Asks.NUMBERS and uid in flight.waiting:
                flight.numbers[uid] = sequence
                return
        one = metadata.of_items(items) if self._lists else None
        if one is not None:
            self._put_listed(sequence, one)
        else:
            self._pass_over()

    def _one_literal(self, parts: list[bytes]) -> None:
        """Reads one literal that is not the body, and the line after it."""
        match = re.search(rb"\{(\d{1,20})\+?\}\Z", parts[-1])
        if match is None:
            return
        length = int(match[1])
        if length + sum(map(len, parts)) > REPLY_CAP:
            raise self._channel.misbehaved("a reply is larger than it may be")
        parts.append(self._stream.read_exact(length))
        parts.append(self._stream.read_line(LONG_LINE_CAP))

    def _uid_comes_last(self, length: int) -> Body | None:
        """The server tells the UID after the body: the octets wait, on disk if they are many."""
        self._capped(length, None)
        body = Body(0, length, self._channel).spooled()
        rest = self._end_of_response()
        rest[0] = b"(" + rest[0]
        uid = _uid_of(_items(rest))
        flight = self._waits_for(uid)
        if flight is None:
            self._pass_over()
            return None
        flight.waiting.discard(uid)
        body.uid = uid
        return body

    # -- lists -----------------------------------------------------------------------------------------------------------------

    def _take_listed(self, line: bytes) -> bool:
        """Whether this line was of a list, in the usual form."""
        told = metadata.of_line(line)
        if told is None:
            return False
        self._put_listed(*told)
        return True

    def _put_listed(self, sequence: int, one: Metadata) -> None:
        uid = one.uid
        for flight in self._lists:
            if flight.asks is _Asks.LIST_BY_NUMBER:
                if flight.first <= sequence <= (flight.last or encoder.MAX_UID) and 0 < uid <= encoder.MAX_UID:
                    flight.found.setdefault(uid, one)
                    self._numbers[uid] = sequence
                    return
            elif flight.first <= uid <= (flight.last or encoder.MAX_UID):
                if uid in flight.found:
                    break
                flight.found[uid] = one
                if len(flight.found) > LIST_SURPLUS:
                    raise self._channel.misbehaved("a list of messages has no end")
                return
        self._pass_over()

    # -- ends ------------------------------------------------------------------------------------------------------------------

    def _command_ended(self, tagged: Tagged) -> Listing | Ended | None:
        ended = next((flight for flight in self._flying if flight.tag == tagged.tag), None)
        if ended is None:
            return None
        self._channel.answered(tagged.tag)
        self._stream.limit(self._channel.timeouts.command)
        self._flying.remove(ended)
        if not self._flying:
            self._stream.limit(None)
        self.octets -= ended.octets
        error = None if tagged.status == b"OK" else self._channel.refusal(tagged, "fetch", sorted(ended.waiting))
        if ended.asks in _LISTS:
            self._lists.remove(ended)
            while len(self._numbers) > _NUMBERS_KEPT:
                del self._numbers[next(iter(self._numbers))]
            return Listing(ended.first, ended.last, ended.asks is _Asks.LIST_BY_NUMBER, list(ended.found.values()), error)
        if error is not None:
            if not ended.waiting and isinstance(error, MessageRefused):
                error = None  # NO [EXPUNGEISSUED] and the like, after every message was given
            return self._bodies_ended(ended, error)
        return self._ask_otherwise(ended)

    def _bodies_ended(self, ended: _Flight, error: EngineError | None = None, gone: Iterable[int] = ()) -> Ended:
        return Ended(sorted(ended.waiting), sorted(gone), error, ended.asked, ended.octets, time.monotonic() - ended.begun)

    def _ask_otherwise(self, ended: _Flight) -> Ended | None:
        """263 may answer UID FETCH with OK and no body at all, and give the bodies by sequence number (facts, engine §5.2): a command of
        which nothing was answered is asked again that way. The answers name the UID, so a number that moved does no harm."""
        nothing = len(ended.waiting) == ended.asked
        if ended.asks is _Asks.NUMBERS:
            numbers = {uid: sequence for uid, sequence in ended.numbers.items() if sequence}
            if numbers:
                self._ask_numbers(numbers, ended.octets, ended.cap, ended.alone, ended.begun, ended.otherwise)
            gone = ended.waiting - ended.numbers.keys() if ended.alone else set()
            ended.waiting -= numbers.keys() | gone
            return self._bodies_ended(ended, gone=gone) if ended.waiting or gone else None
        if ended.asks is _Asks.BY_NUMBER:
            self._channel.bodies_by_number = self._channel.bodies_by_number or not (nothing or ended.alone)
        elif nothing and ended.asked and (ended.alone or not self._uid_fetch_works):
            octets = ended.octets
            for uid_set in encoder.uid_sets(sorted(ended.waiting), self._command_bytes):
                self._ask(_Asks.NUMBERS, uid_set, written_out(uid_set), octets, ended.cap, ended.alone, ended.begun)
                self._flying[-1].otherwise = not ended.alone
                octets = 0
            return None
        else:
            self._uid_fetch_works = True
        return self._bodies_ended(ended)

    def _ask_numbers(self, numbers: dict[int, int], octets: int, cap: int, alone: bool, begun: float | None = None,
                     otherwise: bool = False) -> None:
        by_sequence = {sequence: uid for uid, sequence in numbers.items()}
        for sequence_set in encoder.uid_sets(sorted(by_sequence), self._command_bytes):
            self._ask(_Asks.BY_NUMBER, sequence_set, {by_sequence[n] for n in written_out(sequence_set)}, octets, cap, alone, begun)
            self._flying[-1].otherwise = otherwise
            octets = 0


def _items(parts: Sequence[bytes]) -> dict[bytes, Value]:
    """No items where the response is malformed: it was read whole, so the connection is in step, and its message counts as unanswered."""
    try:
        return items_of(parts)
    except ProtocolError:
        return {}


def _uid_of(items: dict[bytes, Value]) -> int:
    return number(items.get(b"UID")) or 0


def written_out(uid_set: bytes) -> set[int]:
    """The UIDs of a set that we wrote ourselves."""
    found: set[int] = set()
    for piece in uid_set.split(b","):
        first, _, last = piece.partition(b":")
        found.update(range(int(first), int(last or first) + 1))
    return found
