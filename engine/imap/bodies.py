"""The stream of bodies that several UID FETCHes in flight bring: who asked for what, what was answered, what was refused.

Must not: hold more than one small body, parse a message, set a flag (BODY.PEEK only).
Always: the next command is on its way before the last one is read out; a literal is capped before it is read; a body that nobody waits
for is read past; a body cut short is a ConnectionBroken, never a short body. The stream has the connection for itself until it is read
to its end; left early it is read out (`read_out`) or ends the connection, because what is in flight may be large.
"""
from __future__ import annotations

import contextlib
import re
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import IO

from engine.errors import EngineError, MessageRefused
from engine.imap.channel import Channel, Tagged, Untagged
from engine.imap.session import Session
from engine.wire import encoder
from engine.wire.decoder import LONG_LINE_CAP, REPLY_CAP, Value, decode, number, pairs, split_untagged

HARD_CAP = 2 << 30            # octets of one body when the caller states no cap
CHUNK = 64 * 1024
SLOWEST = 4096                # octets a second: a body that comes slower breaks the connection
MAX_BATCH = 10_000            # UIDs of one command where the provider states no limit
_SPOOL_MEMORY = 1 << 20       # a body whose UID comes after it waits on disk beyond this

_BODY_LAST = re.compile(rb"BODY\[(?:HEADER)?\] ~?\{(\d{1,20})\+?\}\Z", re.IGNORECASE)


def _usual(section: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"\* \d+ FETCH \(UID (\d{1,10}) BODY\[" + section + rb"\] \{(\d{1,20})\}\Z", re.IGNORECASE)


WHOLE, HEADER = _usual(b""), _usual(b"HEADER")


class Body:
    """One message's octets, readable once, before the next body is asked for. `length` is what the literal announced."""

    __slots__ = ("_held", "_left", "_spool", "_stream", "length", "uid")

    def __init__(self, uid: int, length: int, channel: Channel | None, held: bytes = b"", spool: IO[bytes] | None = None) -> None:
        self.uid = uid
        self.length = length
        self._left = length
        self._stream = channel.stream if channel is not None else None
        self._held = held
        self._spool = spool

    @property
    def streamed(self) -> bool:
        """Its octets are still on the wire."""
        return self._stream is not None

    def chunks(self, limit: int = CHUNK) -> Iterator[bytes]:
        """Pieces of at most `limit` octets. ConnectionBroken when the connection ends before the last."""
        while self._left:
            yield self._take(limit)

    def _take(self, limit: int) -> bytes:
        count = min(limit, self._left)
        if self._stream is not None:
            piece = self._stream.read_some(count)
        elif self._spool is not None:
            piece = self._spool.read(count)
        else:
            piece = self._held[self.length - self._left :][:count]
        self._left -= len(piece)
        return piece

    def read(self) -> bytes:
        """All that is left, in memory: for bodies whose `length` the caller has looked at."""
        if self._stream is None:
            return b"".join(self.chunks(HARD_CAP))
        left, self._left = self._left, 0
        return self._stream.read_exact(left)

    def drain(self) -> None:
        """Reads past what was not taken."""
        if self._stream is not None:
            while self._left:
                self._take(256 * 1024)
        self._left = 0


class _Asks(Enum):
    BODIES = auto()      # UID FETCH … BODY.PEEK[]
    NUMBERS = auto()     # UID FETCH … (UID), for the sequence numbers
    BY_NUMBER = auto()   # FETCH … BODY.PEEK[]


@dataclass(slots=True)
class _Fetch:
    """One FETCH in flight; `waiting` are the UIDs that it has not answered, `asked` how many there were."""

    tag: bytes
    asks: _Asks
    waiting: set[int]
    asked: int
    numbers: dict[int, int] = field(default_factory=dict)  # sequence number of each UID, from NUMBERS


def items_of(parts: Sequence[bytes]) -> dict[bytes, Value]:
    """The items of a FETCH response by name; doubled parentheses are Tencent's (facts, engine §5.2)."""
    values = decode(parts)
    inner: Value = values[0] if values else None
    while isinstance(inner, list) and len(inner) == 1 and isinstance(inner[0], list):
        inner = inner[0]
    return pairs(inner)


def batched(uids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for at in range(0, len(uids), size):
        yield uids[at : at + size]


class BodyStream:
    """The stream of bodies over several UID FETCHes in flight."""

    def __init__(self, session: Session, usual: re.Pattern[bytes], largest: int, ahead: int) -> None:
        self._channel = session.channel
        self._pattern = usual
        self._answer = b"BODY[HEADER]" if usual is HEADER else b"BODY[]"
        self._item = self._answer.replace(b"BODY", b"BODY.PEEK")
        self._command_bytes = session.command_bytes
        self._uids_per_fetch = session.limits.uids_per_fetch or MAX_BATCH
        self._largest = largest
        self._ahead = max(1, ahead)
        self._flying: deque[_Fetch] = deque()
        self._given: Body | None = None
        self._uid_fetch_works = False
        self._error: EngineError | None = None
        self._refused: list[int] = []

    def run(self, batches: Iterable[Sequence[int]], *, read_out: bool = False) -> Iterator[Body]:
        channel = self._channel
        channel.must_be_free()
        source = iter(batches)
        channel.owner = "a stream of messages"
        finished = False
        try:
            self._fill(source)
            while self._flying:
                self._given = self._next()
                if self._given is not None:
                    yield self._given
                    self._end_of_body()
                self._fill(source)
            finished = True
        except GeneratorExit:
            if read_out:
                with contextlib.suppress(EngineError):  # the connection is closed then, and whoever uses it next is told
                    self._read_out()
                    finished = True
            raise
        finally:
            channel.owner = None
            if not finished:
                channel.stream.close()
        if self._error is not None:
            self._error.uids = tuple(sorted(self._refused))
            raise self._error

    def _end_of_body(self) -> None:
        """Past what was not taken of the body that was given out, and past the rest of its response."""
        body, self._given = self._given, None
        if body is not None:
            body.drain()
            if body.streamed:
                self._end_of_response()

    def _read_out(self) -> None:
        """Passes over everything still in flight."""
        self._end_of_body()
        while self._flying:
            self._given = self._next()
            self._end_of_body()

    def _fill(self, source: Iterator[Sequence[int]]) -> None:
        """Keeps `ahead` commands in flight while there are batches and nothing was refused."""
        while len(self._flying) < self._ahead and self._error is None:
            batch = next(source, None)
            if batch is None:
                return
            asks = _Asks.NUMBERS if self._channel.bodies_by_number else _Asks.BODIES
            for part in batched(sorted(batch), self._uids_per_fetch):
                for uid_set in encoder.uid_sets(part, self._command_bytes):
                    self._ask(asks, uid_set, _written_out(uid_set))

    def _ask(self, asks: _Asks, uid_set: bytes, waiting: set[int]) -> None:
        what = b"(UID)" if asks is _Asks.NUMBERS else b"(UID %s)" % self._item
        verb = b"FETCH" if asks is _Asks.BY_NUMBER else b"UID FETCH"
        self._flying.append(_Fetch(self._channel.send(b"%s %s %s" % (verb, uid_set, what)), asks, waiting, len(waiting)))

    def _next(self) -> Body | None:
        """The next body; None when a command was finished (or something else was read)."""
        channel = self._channel
        line = channel.stream.read_line(LONG_LINE_CAP)
        match = self._pattern.match(line)
        if match is not None:
            return self._streamed(int(match[1]), self._capped(match[2]))
        if not line:
            return None
        split = split_untagged(line) if line.startswith(b"* ") else None
        if split is not None and split[1] == b"FETCH":
            return self._unusual(split[0] or 0, split[2])
        response = channel.understand(line)
        if isinstance(response, Tagged):
            self._command_ended(response)
        elif isinstance(response, Untagged) and response.kind in (b"EXPUNGE", b"VANISHED"):
            for fetch in self._flying:
                fetch.numbers.clear()  # they have moved
        return None

    def _capped(self, digits: bytes) -> int:
        length = int(digits)
        if length > self._largest:
            raise self._channel.misbehaved(f"a message of {length} octets, more than the {self._largest} it may have")
        self._channel.stream.limit(self._channel.timeouts.command + length / SLOWEST)
        return length

    def _expected(self, uid: int) -> bool:
        """Takes the UID off the command that waits for it. False: unsolicited, or answered already."""
        for fetch in self._flying:
            if uid in fetch.waiting and fetch.asks is not _Asks.NUMBERS:
                fetch.waiting.discard(uid)
                return True
        return False

    def _end_of_response(self) -> list[bytes]:
        """Reads what follows the body's literal up to the end of the response."""
        line = self._channel.stream.read_line(LONG_LINE_CAP)
        return [line] if line == b")" else self._channel.rest_of([line], REPLY_CAP)

    def _unusual(self, sequence: int, text: bytes) -> Body | None:
        """A FETCH response in another form: other order or items, lower case, NIL, quoted, doubled parentheses, no body at all."""
        parts = [text]
        while (announced := _BODY_LAST.search(parts[-1])) is None and parts[-1].endswith(b"}"):
            before = len(parts)
            self._one_literal(parts)
            if len(parts) == before:
                break
        if announced is None:
            items = items_of(parts)
            uid, value = number(items.get(b"UID")) or 0, items.get(self._answer)
            if self._answer not in items:
                for fetch in self._flying:
                    if fetch.asks is _Asks.NUMBERS and uid in fetch.waiting:
                        fetch.numbers[uid] = sequence
                return None
            if not self._expected(uid):
                return None
            held = value if isinstance(value, bytes) else b""  # NIL: the server has no octets for it
            return Body(uid, len(held), None, held)
        length = self._capped(announced[1])
        if not parts[-1][announced.start() :].upper().startswith(self._answer):
            raise self._channel.misbehaved("another part of a message than was asked for")
        # What stands before the body, with the value left open: closed here so that it can be decoded.
        head = [*parts[:-1], parts[-1][: announced.start()] + self._answer + b" NIL" + b")" * 8]
        uid = number(items_of(head).get(b"UID")) or 0
        return self._streamed(uid, length) if uid else self._uid_comes_last(length)

    def _streamed(self, uid: int, length: int) -> Body | None:
        """The body whose literal begins now; one that nobody waits for is read past."""
        body = Body(uid, length, self._channel)
        if self._expected(uid):
            return body
        body.drain()
        self._end_of_response()
        return None

    def _one_literal(self, parts: list[bytes]) -> None:
        """Reads one literal that is not the body, and the line after it."""
        match = re.search(rb"\{(\d{1,20})\+?\}\Z", parts[-1])
        if match is None:
            return
        length = int(match[1])
        if length + sum(map(len, parts)) > REPLY_CAP:
            raise self._channel.misbehaved("a reply is larger than it may be")
        parts.append(self._channel.stream.read_exact(length))
        parts.append(self._channel.stream.read_line(LONG_LINE_CAP))

    def _uid_comes_last(self, length: int) -> Body | None:
        """The server tells the UID after the body: the octets wait, on disk if they are many."""
        # Closed when the body is forgotten: the file has no name.
        spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_SPOOL_MEMORY)  # noqa: SIM115
        body = Body(0, length, self._channel)
        for chunk in body.chunks(256 * 1024):
            spool.write(chunk)
        rest = self._end_of_response()
        rest[0] = b"(" + rest[0]
        uid = number(items_of(rest).get(b"UID")) or 0
        if not self._expected(uid):
            spool.close()
            return None
        spool.seek(0)
        return Body(uid, length, None, spool=spool)

    def _command_ended(self, tagged: Tagged) -> None:
        ended = next((fetch for fetch in self._flying if fetch.tag == tagged.tag), None)
        if ended is None:
            return
        self._channel.answered(tagged.tag)
        self._channel.stream.limit(self._channel.timeouts.command)
        self._flying.remove(ended)
        if tagged.status == b"OK":
            self._ask_by_number(ended)
            return
        unanswered = sorted(ended.waiting)
        error = self._channel.refusal(tagged, "fetch", unanswered)
        if not unanswered and isinstance(error, MessageRefused):
            return  # NO [EXPUNGEISSUED] and the like, after every message was given
        self._refused += unanswered
        if self._error is None or (isinstance(self._error, MessageRefused) and not isinstance(error, MessageRefused)):
            self._error = error

    def _ask_by_number(self, ended: _Fetch) -> None:
        """263 may answer UID FETCH with OK and no body at all, and give the bodies by sequence number (facts, engine §5.2): a command of
        which nothing was answered is asked again that way. The answers name the UID, so a number that moved does no harm."""
        if ended.asks is _Asks.NUMBERS:
            numbers = sorted(number for number in ended.numbers.values() if number)
            for sequence_set in encoder.uid_sets(numbers, self._command_bytes):
                self._ask(_Asks.BY_NUMBER, sequence_set, set(ended.numbers))
        elif ended.asks is _Asks.BY_NUMBER:
            self._channel.bodies_by_number = self._channel.bodies_by_number or len(ended.waiting) < ended.asked
        elif len(ended.waiting) == ended.asked and not self._uid_fetch_works:
            for uid_set in encoder.uid_sets(sorted(ended.waiting), self._command_bytes):
                self._ask(_Asks.NUMBERS, uid_set, set(ended.waiting))
        else:
            self._uid_fetch_works = True


def _written_out(uid_set: bytes) -> set[int]:
    found: set[int] = set()
    for piece in uid_set.split(b","):
        first, _, last = piece.partition(b":")
        found.update(range(int(first), int(last or first) + 1))
    return found
