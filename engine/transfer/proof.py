"""What was appended, kept until the destination was read back: that each message is there, with its octets, date and flags.

Pure: no network, no ledger. Holds what was listed of each message, some 250 octets; the writer proves and forgets every PROVE_MESSAGES of
them.
"""
from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from engine.imap.fetch import Metadata
from engine.transfer.flags import Flags
from engine.transfer.matching import instant

PROVE_MESSAGES = 20_000


class Difference(NamedTuple):
    """How a message at the destination is unlike what was sent. `there` None: it is not there at all."""

    source_uid: int
    target_uid: int
    sent: Metadata
    there: Metadata | None
    octets: bool = False
    date: bool = False
    flags: bool = False


class Proof:
    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """All of it was proven, or is not there to be."""
        self._target_uids = array("Q")
        self._sent: list[Metadata] = []
        self.raw_headers: dict[int, tuple[int, bytes]] = {}  # destination UID -> source UID, digest of a header with octets over 127

    def __len__(self) -> int:
        return len(self._target_uids)

    @property
    def span(self) -> tuple[int, int]:
        """The lowest and the highest destination UID."""
        return min(self._target_uids), max(self._target_uids)

    def add(self, sent: Metadata, target_uid: int) -> None:
        """`sent`: with the source's UID; the rest as it was sent, its date "" where the destination sets it."""
        self._sent.append(sent)
        self._target_uids.append(target_uid)

    def note_header(self, source_uid: int, target_uid: int, content: bytes) -> None:
        """Cyrus's default (munge8bit) replaces each 8-bit octet of a header, and says OK; neither size nor flags nor date tell."""
        end = content.find(b"\r\n\r\n")
        header = content[:end + 4] if end >= 0 else content
        if not header.isascii():
            self.raw_headers[target_uid] = source_uid, hashlib.sha256(header).digest()

    def altered_headers(self, there: Iterable[tuple[int, bytes]]) -> list[tuple[int, int]]:
        """(source UID, destination UID) of those whose header block, as the destination gives it, is another."""
        return [(self.raw_headers[uid][0], uid) for uid, header in there
                if uid in self.raw_headers and hashlib.sha256(header).digest() != self.raw_headers[uid][1]]

    def unlike(self, there: Iterable[Metadata]) -> Iterator[Difference]:
        """What differs from the destination's answers; each message at most once, absent ones last."""
        order = sorted(range(len(self._target_uids)), key=self._target_uids.__getitem__)
        ordered = array("Q", map(self._target_uids.__getitem__, order))
        end, seen, following = len(order), bytearray(len(order)), 0
        for one in there:
            # They come in order, mostly, and as they were sent.
            at = following if following < end and ordered[following] == one.uid else bisect_left(ordered, one.uid)
            if at == end or ordered[at] != one.uid or seen[at]:
                continue
            seen[at], following = 1, at + 1
            sent = self._sent[order[at]]
            if one[1:] == sent[1:]:
                continue
            octets = one.size != sent.size
            date = bool(sent.internal_date) and instant(one.internal_date) != instant(sent.internal_date)
            flags = folded(one.flags) != folded(sent.flags)
            if octets or date or flags:
                yield Difference(sent.uid, one.uid, sent, one, octets, date, flags)
        for at, place in enumerate(order):
            if not seen[at]:
                yield Difference(self._sent[place].uid, ordered[at], self._sent[place], None)


@lru_cache(maxsize=1024)
def folded(flags: Flags) -> frozenset[str]:
    r"""Flags as a server compares them (RFC 3501 §2.3.2: letter case does not matter), without \Recent."""
    return frozenset(flag.lower() for flag in flags) - {"\\recent"}
