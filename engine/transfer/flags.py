"""The flags of a folder's messages as they were last carried over, coded small: what a later pass compares the source's flags with.

Owns: the form of `FlagChunk.data`, reading chunks back in UID order, and what has to change at the destination. A chunk names every
message that it covers, so it also tells which source UIDs a run of the ledger stands for after some of them were deleted at the source.

The form: zlib over one line of JSON (the distinct flag sets) and, for each message, the distance from the UID before it and the number
of its flag set, as variable-length integers of seven bits a byte. Ordinary mail takes about one octet a message.
Always: a later chunk overrides an earlier one; one chunk is unpacked at a time, plus the few that overlap it.
"""
from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from engine.ledger import FlagChunk

CHUNK_MESSAGES = 4096
OVERLAPS_BEFORE_REWRITE = 64  # chunks that override others, before all are written anew
_LARGEST = 4 << 20            # octets of one unpacked chunk: what we wrote is far below

Flags = tuple[str, ...]


class BadChunk(ValueError):
    """A chunk that this program did not write, or a damaged one."""


def pack(messages: Iterable[tuple[int, Flags]]) -> FlagChunk:
    """One chunk of (UID, flags) in ascending UIDs, at least one."""
    numbers: dict[Flags, int] = {}
    coded = bytearray()
    first = previous = 0
    for uid, flags in messages:
        if not previous:
            first = uid
        _put(coded, uid - previous)
        _put(coded, numbers.setdefault(flags, len(numbers)))
        previous = uid
    head = json.dumps(list(numbers), separators=(",", ":")).encode("ascii")
    return FlagChunk(first, previous, zlib.compress(head + b"\n" + coded, 1))


def pack_all(messages: Iterable[tuple[int, Flags]]) -> list[FlagChunk]:
    """Chunks of CHUNK_MESSAGES each."""
    chunks, some = [], []
    for message in messages:
        some.append(message)
        if len(some) == CHUNK_MESSAGES:
            chunks.append(pack(some))
            some = []
    return [*chunks, pack(some)] if some else chunks


def unpack(data: bytes) -> Iterator[tuple[int, Flags]]:
    """(UID, flags) in ascending UIDs. Raises BadChunk."""
    try:
        unpacker = zlib.decompressobj()
        plain = unpacker.decompress(data, _LARGEST)
        if unpacker.unconsumed_tail or not unpacker.eof:
            raise BadChunk("a chunk of flags is too large or cut short")
        head, _, coded = plain.partition(b"\n")
        sets = [tuple(map(str, flags)) for flags in json.loads(head)]
        yield from _messages(coded, sets)
    except (zlib.error, ValueError, IndexError, TypeError) as error:
        raise BadChunk(f"a chunk of flags cannot be read: {error}") from None


def _messages(coded: bytes, sets: list[Flags]) -> Iterator[tuple[int, Flags]]:
    uid, at, end = 0, 0, len(coded)
    while at < end:
        value = coded[at]
        at += 1
        if value > 127:
            value, at = _rest(coded, at, value & 127)
        uid += value
        value = coded[at]
        at += 1
        if value > 127:
            value, at = _rest(coded, at, value & 127)
        yield uid, sets[value]


def _put(coded: bytearray, value: int) -> None:
    while value > 127:
        coded.append(value & 127 | 128)
        value >>= 7
    coded.append(value)


def _rest(coded: bytes, at: int, value: int) -> tuple[int, int]:
    shift = 7
    while True:
        octet = coded[at]
        at += 1
        value |= (octet & 127) << shift
        if octet < 128:
            return value, at
        shift += 7
        if shift > 35:
            raise BadChunk("a number of a chunk of flags has no end")


class StoredFlags:
    """The chunks of one folder, packed as they are (about an octet a message)."""

    def __init__(self, chunks: Iterable[FlagChunk]) -> None:
        self._chunks = sorted(chunks, key=lambda c: (c.first_uid, c.id))
        reached, self.overlaps = 0, 0
        for chunk in self._chunks:
            self.overlaps += chunk.first_uid <= reached
            reached = max(reached, chunk.last_uid)

    def __iter__(self) -> Iterator[tuple[int, Flags]]:
        """Every message once, in ascending UIDs, with what the latest chunk says."""
        return self.between(0, 1 << 33)

    def between(self, first: int, last: int) -> Iterator[tuple[int, Flags]]:
        """Messages with first <= UID <= last."""
        group: list[FlagChunk] = []
        reached = 0
        for chunk in self._chunks:
            if chunk.last_uid < first or chunk.first_uid > last:
                continue
            if group and chunk.first_uid > reached:
                yield from _merged(group, first, last)
                group = []
            group.append(chunk)
            reached = max(reached, chunk.last_uid)
        yield from _merged(group, first, last)

    def uids(self, first: int, last: int) -> Iterator[int]:
        """The messages that were known between these UIDs, also those that are gone at the source since."""
        return (uid for uid, _ in self.between(first, last))


def _merged(group: Sequence[FlagChunk], first: int, last: int) -> Iterator[tuple[int, Flags]]:
    if len(group) == 1:
        yield from ((uid, flags) for uid, flags in unpack(group[0].data) if first <= uid <= last)
        return
    found: dict[int, Flags] = {}
    for chunk in sorted(group, key=lambda c: c.id):
        found.update(unpack(chunk.data))
    yield from ((uid, found[uid]) for uid in sorted(found) if first <= uid <= last)


class Change(NamedTuple):
    """What happened to one message's flags at the source since they were carried over: `now`, and how they differ from before."""

    uid: int
    now: Flags
    add: frozenset[str]
    remove: frozenset[str]


def change(uid: int, before: Flags, now: Flags) -> Change | None:
    r"""None: nothing that a mail program would see. Letter case does not matter (RFC 3501 §2.3.2), \Recent is the server's own."""
    if before == now:
        return None
    old, new = ({flag.lower(): flag for flag in flags if flag.lower() != "\\recent"} for flags in (before, now))
    add = frozenset(new[key] for key in new.keys() - old.keys())
    remove = frozenset(old[key] for key in old.keys() - new.keys())
    return Change(uid, now, add, remove) if add or remove else None
