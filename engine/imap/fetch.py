"""Message data of the EXAMINEd folder, streamed: metadata, headers, bodies, digests (RFC 3501 §6.4.8, §7.4.2).

Must not: change anything (BODY.PEEK only), hold more than one small body, parse a message.
Always: UID sets ascend; the next UID FETCH is on its way before the last one is read out; a literal is capped before it is read;
what was not asked for (unsolicited flag updates, repeated messages, UIDs out of range) is passed over; a body cut short is a
ConnectionBroken, never a short body. A stream of responses has the connection for itself until it is read to its end; one that is left
early is read out (metadata, headers, digests) or ends the connection (bodies, which may be large).
"""
from __future__ import annotations

import contextlib
import hashlib
import re
import tempfile
from array import array
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import IO

from engine.errors import EngineError, MessageRefused
from engine.imap.channel import Channel, Tagged, Untagged
from engine.imap.session import Session
from engine.wire import encoder
from engine.wire.decoder import LONG_LINE_CAP, REPLY_CAP, Value, decode, number, pairs, split_untagged

HARD_CAP = 2 << 30            # octets of one body when the caller states no cap
HEADER_CAP = 8 << 20          # octets of one header block
CHUNK = 64 * 1024
SLOWEST = 4096                # octets a second: a body that comes slower breaks the connection
MAX_BATCH = 10_000            # UIDs of one command where the provider states no limit
_SPOOL_MEMORY = 1 << 20       # a body whose UID comes after it waits on disk beyond this
_HEADER_BATCH = 200           # messages per FETCH where the answers are small
_SETS_AHEAD = 2

# The order of items is the server's choice (RFC 3501 §7.4.2), their case too.
_METADATA = re.compile(
    rb'\* \d+ FETCH \((?:UID (\d{1,10})|RFC822\.SIZE (\d{1,20})|FLAGS \(([^()"]*)\)|INTERNALDATE "([^"\\]*)"| )+\)\Z', re.IGNORECASE)
_UID_ONLY = re.compile(rb"\* \d+ FETCH \(UID (\d{1,10})\)\Z", re.IGNORECASE)
_BODY_LAST = re.compile(rb"BODY\[(?:HEADER)?\] ~?\{(\d{1,20})\+?\}\Z", re.IGNORECASE)


def _usual(section: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"\* \d+ FETCH \(UID (\d{1,10}) BODY\[" + section + rb"\] \{(\d{1,20})\}\Z", re.IGNORECASE)


_WHOLE, _HEADER = _usual(b""), _usual(b"HEADER")


@dataclass(frozen=True, slots=True)
class Metadata:
    r"""`size` is RFC822.SIZE, a hint (Exchange guesses). `flags` without \Recent. `internal_date` as on the wire, "" when not told."""

    uid: int
    size: int
    flags: tuple[str, ...]
    internal_date: str


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


@dataclass(slots=True)
class _Fetch:
    """One UID FETCH in flight; `waiting` are the UIDs that it has not answered."""

    tag: bytes
    waiting: set[int] = field(default_factory=set)


@lru_cache(maxsize=4096)
def _flags(text: bytes) -> tuple[str, ...]:
    return tuple(word.decode("latin-1") for word in text.split() if word.lower() != b"\\recent")


def _items(parts: Sequence[bytes]) -> dict[bytes, Value]:
    """The items of a FETCH response by name; doubled parentheses are Tencent's (facts, engine §5.2)."""
    values = decode(parts)
    inner: Value = values[0] if values else None
    while isinstance(inner, list) and len(inner) == 1 and isinstance(inner[0], list):
        inner = inner[0]
    return pairs(inner)


# -- metadata --------------------------------------------------------------------------------------------------------------------


class _Seen:
    """Which UIDs were handed out, 4 octets each. In order, as servers answer, it is an append."""

    def __init__(self) -> None:
        self._uids = array("I")

    def first_time(self, uid: int) -> bool:
        uids = self._uids
        if not uids or uid > uids[-1]:
            uids.append(uid)
            return True
        at = bisect_left(uids, uid)
        if uids[at] == uid:
            return False
        insort(uids, uid)
        return True


def fetch_metadata(session: Session, first_uid: int, last_uid: int | None) -> Iterator[Metadata]:
    """Size, flags and date of every message from `first_uid` to `last_uid` (None: to the end), as the server orders them.
    Answers outside the range are dropped: `500:*` names the last message even if its UID is lower (RFC 3501 §6.4.8)."""
    seen = _Seen()
    command = b"UID FETCH %s (UID RFC822.SIZE FLAGS INTERNALDATE)" % encoder.uid_range(first_uid, last_uid)
    for line, parts in _lines(session, command, _METADATA):
        if line is not None:
            uid_text, size_text, flags, date = line.groups()
            one = Metadata(int(uid_text or 0), int(size_text or 0), _flags(flags or b""), (date or b"").decode("latin-1"))
            told = size_text is not None
        else:
            items = _items(parts)
            one = _metadata_of(items)
            told = b"RFC822.SIZE" in items
        # Without a size it is a flag update that nobody asked for, not our answer.
        if told and one.uid >= first_uid and (last_uid is None or one.uid <= last_uid) and seen.first_time(one.uid):
            yield one


def _metadata_of(items: dict[bytes, Value]) -> Metadata:
    flags, date = items.get(b"FLAGS"), items.get(b"INTERNALDATE")
    words = b" ".join(word for word in flags if isinstance(word, bytes)) if isinstance(flags, list) else b""
    uid = number(items.get(b"UID")) or 0
    return Metadata(uid if uid <= encoder.MAX_UID else 0, number(items.get(b"RFC822.SIZE")) or 0, _flags(words),
                    date.decode("latin-1") if isinstance(date, bytes) else "")


def fetch_uids(session: Session, first_uid: int, last_uid: int | None) -> Iterator[int]:
    """UIDs that exist from `first_uid` to `last_uid` (None: to the end). No SEARCH: it is wrong at Tencent and Alibaba."""
    seen = _Seen()
    for line, parts in _lines(session, b"UID FETCH %s (UID)" % encoder.uid_range(first_uid, last_uid), _UID_ONLY):
        uid = int(line[1]) if line is not None else number(_items(parts).get(b"UID")) or 0
        if first_uid <= uid <= (last_uid or encoder.MAX_UID) and seen.first_time(uid):
            yield uid


def _lines(session: Session, command: bytes, pattern: re.Pattern[bytes]) -> Iterator[tuple[re.Match[bytes] | None, list[bytes]]]:
    """FETCH responses of one command: the match where the line has the usual form, else its parts. Raises what a NO means."""
    channel = session.channel
    channel.must_be_free()
    tag = channel.send(command)
    channel.owner = "a list of messages"
    stream = channel.stream
    stream.limit(channel.timeouts.command)
    try:
        while True:
            line = stream.read_line(LONG_LINE_CAP)
            match = pattern.match(line)
            if match is not None:
                yield match, []
                continue
            if not line:
                continue
            response = channel.understand(line)
            if isinstance(response, Tagged):
                if response.tag == tag:
                    break
            elif isinstance(response, Untagged) and response.kind == b"FETCH":
                yield None, response.parts
    except GeneratorExit:
        with contextlib.suppress(EngineError):  # the connection is closed then, and whoever uses it next is told
            while channel.answered(tag) is None:
                channel.read()
        raise
    finally:
        channel.owner = None
    tagged = channel.answered(tag)
    if tagged is not None and tagged.status != b"OK":
        raise channel.refusal(tagged, "fetch")


# -- bodies ----------------------------------------------------------------------------------------------------------------------


def fetch_bodies(session: Session, batches: Iterable[Sequence[int]], *, ahead: int = 2, largest: int = HARD_CAP) -> Iterator[Body]:
    """The bodies of the batches' UIDs, in the order of the answers; `ahead` batches are in flight at once. A literal longer than `largest`
    octets is a ProtocolError. UIDs that the server does not answer yield nothing.

    A batch that is refused does not stop those already in flight: after the last of them MessageRefused (or Throttled, Refused) is raised
    with the refused batches' unanswered UIDs in `.uids`; UIDs of batches that were never taken from `batches` are not in it."""
    return _Bodies(session, _WHOLE, largest, ahead).run(batches)


def fetch_headers(session: Session, uids: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """(UID, header block) of each message that is there."""
    batches = _batched(sorted(uids), _HEADER_BATCH)
    bodies = _Bodies(session, _HEADER, HEADER_CAP, _SETS_AHEAD)
    for body in bodies.run(batches, read_out=True):
        yield body.uid, body.read()


def fetch_digests(session: Session, uids: Sequence[int], *, largest: int = HARD_CAP) -> Iterator[tuple[int, str]]:
    """(UID, hex SHA-256 of the whole message) of each message that is there; nothing is held in memory."""
    batches = _batched(sorted(uids), _HEADER_BATCH)
    bodies = _Bodies(session, _WHOLE, largest, _SETS_AHEAD)
    for body in bodies.run(batches, read_out=True):
        digest = hashlib.sha256()
        for chunk in body.chunks(256 * 1024):
            digest.update(chunk)
        yield body.uid, digest.hexdigest()


def _batched(uids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for at in range(0, len(uids), size):
        yield uids[at : at + size]


class _Bodies:
    """The stream of bodies over several UID FETCHes in flight."""

    def __init__(self, session: Session, usual: re.Pattern[bytes], largest: int, ahead: int) -> None:
        self._channel = session.channel
        self._usual = usual
        self._answer = b"BODY[HEADER]" if usual is _HEADER else b"BODY[]"
        self._item = self._answer.replace(b"BODY", b"BODY.PEEK")
        self._command_bytes = session.command_bytes
        self._uids_per_fetch = session.limits.uids_per_fetch or MAX_BATCH
        self._largest = largest
        self._ahead = max(1, ahead)
        self._flying: deque[_Fetch] = deque()
        self._given: Body | None = None
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
            for part in _batched(sorted(batch), self._uids_per_fetch):
                for uid_set in encoder.uid_sets(part, self._command_bytes):
                    tag = self._channel.send(b"UID FETCH %s (UID %s)" % (uid_set, self._item))
                    self._flying.append(_Fetch(tag, _written_out(uid_set)))

    def _next(self) -> Body | None:
        """The next body; None when a command was finished (or something else was read)."""
        channel = self._channel
        line = channel.stream.read_line(LONG_LINE_CAP)
        match = self._usual.match(line)
        if match is not None:
            return self._streamed(int(match[1]), self._capped(match[2]))
        if not line:
            return None
        split = split_untagged(line) if line.startswith(b"* ") else None
        if split is not None and split[1] == b"FETCH":
            return self._unusual(split[2])
        response = channel.understand(line)
        if isinstance(response, Tagged):
            self._command_ended(response)
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
            if uid in fetch.waiting:
                fetch.waiting.discard(uid)
                return True
        return False

    def _end_of_response(self) -> list[bytes]:
        """Reads what follows the body's literal up to the end of the response."""
        line = self._channel.stream.read_line(LONG_LINE_CAP)
        return [line] if line == b")" else self._channel.rest_of([line], REPLY_CAP)

    def _unusual(self, text: bytes) -> Body | None:
        """A FETCH response in another form: other order or items, lower case, NIL, quoted, doubled parentheses, no body at all."""
        parts = [text]
        while (announced := _BODY_LAST.search(parts[-1])) is None and parts[-1].endswith(b"}"):
            before = len(parts)
            self._one_literal(parts)
            if len(parts) == before:
                break
        if announced is None:
            items = _items(parts)
            uid, value = number(items.get(b"UID")) or 0, items.get(self._answer)
            if self._answer not in items or not self._expected(uid):
                return None
            held = value if isinstance(value, bytes) else b""  # NIL: the server has no octets for it
            return Body(uid, len(held), None, held)
        length = self._capped(announced[1])
        if not parts[-1][announced.start() :].upper().startswith(self._answer):
            raise self._channel.misbehaved("another part of a message than was asked for")
        # What stands before the body, with the value left open: closed here so that it can be decoded.
        head = [*parts[:-1], parts[-1][: announced.start()] + self._answer + b" NIL" + b")" * 8]
        uid = number(_items(head).get(b"UID")) or 0
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
        uid = number(_items(rest).get(b"UID")) or 0
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
            return
        unanswered = sorted(ended.waiting)
        error = self._channel.refusal(tagged, "fetch", unanswered)
        if not unanswered and isinstance(error, MessageRefused):
            return  # NO [EXPUNGEISSUED] and the like, after every message was given
        self._refused += unanswered
        if self._error is None or (isinstance(self._error, MessageRefused) and not isinstance(error, MessageRefused)):
            self._error = error


def _written_out(uid_set: bytes) -> set[int]:
    found: set[int] = set()
    for piece in uid_set.split(b","):
        first, _, last = piece.partition(b":")
        found.update(range(int(first), int(last or first) + 1))
    return found
