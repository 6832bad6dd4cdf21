"""Message data of the EXAMINEd folder: metadata, UIDs, headers, bodies, digests (RFC 3501 §6.4.8, §7.4.2).

Must not: change anything (BODY.PEEK only), send SEARCH, hold more than one small body.
Always: UID sets ascend; what was not asked for (unsolicited flag updates, repeated messages, UIDs out of range) is passed over. A list
that is left before its end is read out, a stream of bodies ends the connection (pipe.py).
"""
from __future__ import annotations

import contextlib
import hashlib
import re
from array import array
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from engine.errors import EngineError, MessageRefused, ProtocolError
from engine.imap import metadata
from engine.imap.bodies import HARD_CAP, Body
from engine.imap.channel import Tagged, Untagged
from engine.imap.metadata import Metadata, items_of
from engine.imap.pipe import UNASKED_RESPONSES, Ended, FetchPipe, Section
from engine.imap.session import Session
from engine.wire import encoder
from engine.wire.decoder import LONG_LINE_CAP, Value, number

__all__ = ["Body", "Metadata", "fetch_bodies", "fetch_digests", "fetch_headers", "fetch_metadata", "fetch_uids"]

HEADER_CAP = 8 << 20          # octets of one header block
_HEADER_BATCH = 200           # messages per FETCH where the answers are small
_SETS_AHEAD = 2

T = TypeVar("T")

_UID_ONLY = re.compile(rb"\* \d+ FETCH \(UID (\d{1,10})\)\Z", re.IGNORECASE)


# -- lists -----------------------------------------------------------------------------------------------------------------------


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


def _range(session: Session, first_uid: int, last_uid: int | None) -> bytes:
    """Tencent refuses `*` as it refuses descending sets ("BAD UID parameters!"): there the end is the highest UID that can be."""
    if last_uid is None and session.family == "tencent":
        last_uid = encoder.MAX_UID
    return encoder.uid_range(first_uid, last_uid)


def fetch_metadata(session: Session, first_uid: int, last_uid: int | None) -> Iterator[Metadata]:
    """Size, flags and date of every message from `first_uid` to `last_uid` (None: to the end), as the server orders them.
    Answers outside the range are dropped: `500:*` names the last message even if its UID is lower (RFC 3501 §6.4.8)."""
    def usual(line: bytes) -> Metadata | None:
        told = metadata.of_line(line)
        return told[1] if told is not None else None

    seen, last = _Seen(), last_uid or encoder.MAX_UID
    for one in _answers(session, b"UID FETCH %s %s" % (_range(session, first_uid, last_uid), metadata.ITEMS), usual, metadata.of_items):
        if first_uid <= one.uid <= last and seen.first_time(one.uid):
            yield one


def fetch_uids(session: Session, first_uid: int, last_uid: int | None) -> Iterator[int]:
    """UIDs that exist from `first_uid` to `last_uid` (None: to the end). No SEARCH: it is wrong at Tencent and Alibaba."""
    def usual(line: bytes) -> int | None:
        match = _UID_ONLY.match(line)
        return int(match[1]) if match is not None else None

    seen, last = _Seen(), last_uid or encoder.MAX_UID
    command = b"UID FETCH %s (UID)" % _range(session, first_uid, last_uid)
    for uid in _answers(session, command, usual, lambda items: number(items.get(b"UID"))):
        if first_uid <= uid <= last and seen.first_time(uid):
            yield uid


def _answers(session: Session, command: bytes, usual: Callable[[bytes], T | None],
             unusual: Callable[[dict[bytes, Value]], T | None]) -> Iterator[T]:
    """What one command's FETCH responses say: `usual` reads a line of the usual form, `unusual` the items of any other. A malformed one
    is passed over. Raises what a NO means."""
    channel = session.channel
    channel.must_be_free()
    tag = channel.send(command)
    channel.owner = "a list of messages"
    stream = channel.stream
    stream.limit(channel.timeouts.command)
    unasked = 0
    try:
        while True:
            line = stream.read_line(LONG_LINE_CAP)
            told = usual(line)
            if told is None and line:
                response = channel.understand(line)
                if isinstance(response, Tagged):
                    if response.tag == tag:
                        break
                elif isinstance(response, Untagged) and response.kind == b"FETCH":
                    with contextlib.suppress(ProtocolError):  # it was read whole: the connection is in step
                        told = unusual(items_of(response.parts))
            if told is not None:
                yield told
            else:
                unasked += 1
                if unasked > UNASKED_RESPONSES:
                    raise channel.misbehaved("responses without end that nobody asked for")
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
    return _bodies(session, Section.WHOLE, largest, batches, ahead)


def fetch_headers(session: Session, uids: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """(UID, header block) of each message that is there."""
    for body in _bodies(session, Section.HEADER, HEADER_CAP, _batched(sorted(uids)), _SETS_AHEAD, read_out=True):
        yield body.uid, body.read()


def fetch_digests(session: Session, uids: Sequence[int], *, largest: int = HARD_CAP) -> Iterator[tuple[int, str]]:
    """(UID, hex SHA-256 of the whole message) of each message that is there; nothing is held in memory."""
    for body in _bodies(session, Section.WHOLE, largest, _batched(sorted(uids)), _SETS_AHEAD, read_out=True):
        digest = hashlib.sha256()
        for chunk in body.chunks(256 * 1024):
            digest.update(chunk)
        yield body.uid, digest.hexdigest()


def _batched(uids: Sequence[int]) -> Iterator[Sequence[int]]:
    for at in range(0, len(uids), _HEADER_BATCH):
        yield uids[at : at + _HEADER_BATCH]


def _bodies(session: Session, section: Section, largest: int, batches: Iterable[Sequence[int]], ahead: int, *,
            read_out: bool = False) -> Iterator[Body]:
    pipe = FetchPipe(session, section, largest)
    source = iter(batches)
    error: EngineError | None = None
    refused: list[int] = []
    try:
        while True:
            while error is None and pipe.commands < max(1, ahead) and (batch := next(source, None)) is not None:
                pipe.ask_bodies(batch)
            if not pipe.commands:
                break
            event = pipe.next()
            if isinstance(event, Body):
                yield event
            elif isinstance(event, Ended) and event.error is not None:
                refused += event.unanswered
                if error is None or (isinstance(error, MessageRefused) and not isinstance(event.error, MessageRefused)):
                    error = event.error
    except GeneratorExit:
        if read_out:
            with contextlib.suppress(EngineError):  # the connection is closed then, and whoever uses it next is told
                pipe.read_out()
        raise
    finally:
        pipe.close()
    if error is not None:
        error.uids = tuple(sorted(refused))
        raise error
