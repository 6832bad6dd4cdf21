"""Message data of the EXAMINEd folder: metadata, UIDs, headers, bodies, digests (RFC 3501 §6.4.8, §7.4.2).

Must not: change anything (BODY.PEEK only), send SEARCH, hold more than one small body.
Always: UID sets ascend; what was not asked for (unsolicited flag updates, repeated messages, UIDs out of range) is passed over. A list
that is left before its end is read out, a stream of bodies ends the connection (bodies.py).
"""
from __future__ import annotations

import contextlib
import hashlib
import re
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from engine.errors import EngineError
from engine.imap.bodies import HARD_CAP, HEADER, WHOLE, Body, BodyStream, batched, items_of
from engine.imap.channel import Tagged, Untagged
from engine.imap.session import Session
from engine.wire import encoder
from engine.wire.decoder import LONG_LINE_CAP, Value, number

__all__ = ["Body", "Metadata", "fetch_bodies", "fetch_digests", "fetch_headers", "fetch_metadata", "fetch_uids"]

HEADER_CAP = 8 << 20          # octets of one header block
_HEADER_BATCH = 200           # messages per FETCH where the answers are small
_SETS_AHEAD = 2

# The order of items is the server's choice (RFC 3501 §7.4.2), their case too.
_METADATA = re.compile(
    rb'\* \d+ FETCH \((?:UID (\d{1,10})|RFC822\.SIZE (\d{1,20})|FLAGS \(([^()"]*)\)|INTERNALDATE "([^"\\]*)"| )+\)\Z', re.IGNORECASE)
_UID_ONLY = re.compile(rb"\* \d+ FETCH \(UID (\d{1,10})\)\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Metadata:
    r"""`size` is RFC822.SIZE, a hint (Exchange guesses). `flags` without \Recent. `internal_date` as on the wire, "" when not told."""

    uid: int
    size: int
    flags: tuple[str, ...]
    internal_date: str


@lru_cache(maxsize=4096)
def _flags(text: bytes) -> tuple[str, ...]:
    return tuple(word.decode("latin-1") for word in text.split() if word.lower() != b"\\recent")


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


def _range(session: Session, first_uid: int, last_uid: int | None) -> bytes:
    """Tencent refuses `*` as it refuses descending sets ("BAD UID parameters!"): there the end is the highest UID that can be."""
    if last_uid is None and session.family == "tencent":
        last_uid = encoder.MAX_UID
    return encoder.uid_range(first_uid, last_uid)


def fetch_metadata(session: Session, first_uid: int, last_uid: int | None) -> Iterator[Metadata]:
    """Size, flags and date of every message from `first_uid` to `last_uid` (None: to the end), as the server orders them.
    Answers outside the range are dropped: `500:*` names the last message even if its UID is lower (RFC 3501 §6.4.8)."""
    seen = _Seen()
    command = b"UID FETCH %s (UID RFC822.SIZE FLAGS INTERNALDATE)" % _range(session, first_uid, last_uid)
    for line, parts in _lines(session, command, _METADATA):
        if line is not None:
            uid_text, size_text, flags, date = line.groups()
            one = Metadata(int(uid_text or 0), int(size_text or 0), _flags(flags or b""), (date or b"").decode("latin-1"))
            told = size_text is not None
        else:
            items = items_of(parts)
            one = _metadata_of(items)
            told = b"RFC822.SIZE" in items
        # Without a size it is a flag update that nobody asked for, not our answer.
        if told and first_uid <= one.uid <= (last_uid or encoder.MAX_UID) and seen.first_time(one.uid):
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
    for line, parts in _lines(session, b"UID FETCH %s (UID)" % _range(session, first_uid, last_uid), _UID_ONLY):
        uid = int(line[1]) if line is not None else number(items_of(parts).get(b"UID")) or 0
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
    return BodyStream(session, WHOLE, largest, ahead).run(batches)


def fetch_headers(session: Session, uids: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """(UID, header block) of each message that is there."""
    batches = batched(sorted(uids), _HEADER_BATCH)
    bodies = BodyStream(session, HEADER, HEADER_CAP, _SETS_AHEAD)
    for body in bodies.run(batches, read_out=True):
        yield body.uid, body.read()


def fetch_digests(session: Session, uids: Sequence[int], *, largest: int = HARD_CAP) -> Iterator[tuple[int, str]]:
    """(UID, hex SHA-256 of the whole message) of each message that is there; nothing is held in memory."""
    batches = batched(sorted(uids), _HEADER_BATCH)
    bodies = BodyStream(session, WHOLE, largest, _SETS_AHEAD)
    for body in bodies.run(batches, read_out=True):
        digest = hashlib.sha256()
        for chunk in body.chunks(256 * 1024):
            digest.update(chunk)
        yield body.uid, digest.hexdigest()
