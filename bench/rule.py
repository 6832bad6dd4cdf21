"""A mailbox that exists only as a rule: what message `uid` is follows from the number, so a million of them need no disk and no memory.

Pure arithmetic; knows no protocol. Always: the same rule gives the same octets, and no two messages are equal.
"""
from __future__ import annotations

import random
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

_LINE = 76
_POOL_LINES = 8192
_BEGUN = 1_400_000_000  # internal date of the first message; the rest follow every 97 seconds
_FLAGS = (b"\\Seen", b"\\Seen", b"\\Seen", b"", b"\\Seen \\Answered", b"\\Seen", b"\\Seen \\Flagged", b"$Forwarded \\Seen")
CHANGED_EVERY = 100     # after a change every hundredth message has other flags


@cache
def _pool() -> bytes:
    draw = random.Random("pool")
    letters = b"abcdefghijklmnopqrstuvwxyz     ABCDEFGHIJ0123456789"
    return b"".join(bytes(draw.choices(letters, k=_LINE)) + b"\r\n" for _ in range(_POOL_LINES))


@dataclass
class Rule:
    """`messages` of exactly `octets` each (256 at least), UIDs from 1 without gaps. `changed`: flags of every hundredth are others than at
    the beginning, and so many messages were added `since`."""

    messages: int
    octets: int
    changed: bool = False
    since: int = 0

    def change(self, added: int) -> None:
        """A day passes: new mail at the end, other flags on one message in a hundred."""
        self.since, self.changed = self.messages, True
        self.messages += added

    def size(self, uid: int) -> int:
        return self.octets

    def is_changed(self, uid: int) -> bool:
        """Changed since the beginning, or new since then."""
        return self.changed and (uid > self.since or uid % CHANGED_EVERY == 0)

    def flags(self, uid: int) -> bytes:
        usual = _FLAGS[uid * 2654435761 >> 7 & 7]
        if self.changed and uid <= self.since and uid % CHANGED_EVERY == 0:
            return b"\\Flagged" if b"\\Flagged" not in usual else b"\\Seen"
        return usual

    def date(self, uid: int) -> bytes:
        """As on the wire, in China's zone."""
        return time.strftime("%d-%b-%Y %H:%M:%S +0800", time.gmtime(_BEGUN + 97 * uid)).encode("ascii")

    def head(self, uid: int) -> bytes:
        return (b"Message-ID: <%d@rule.example>\r\nFrom: a%d@rule.example\r\nTo: b@rule.example\r\nSubject: =?utf-8?q?%d?=\r\n\r\n"
                % (uid, uid % 977, uid))

    def chunks(self, uid: int) -> Iterator[bytes]:
        """The message, at most about 640 KiB at a time."""
        head, pool = self.head(uid), _pool()
        at = uid % _POOL_LINES * (_LINE + 2)
        left = self.octets - len(head) - 2
        yield head
        while left > 0:
            piece = pool[at : at + left]
            at, left = 0, left - len(piece)
            yield piece if left or piece[-1:] != b"\r" else piece[:-1] + b"x"
        yield b"\r\n"

    def checksum(self) -> int:
        """Sum of `mark` over all messages: whatever the order, what a copy has to sum up to."""
        total = 0
        for uid in range(1, self.messages + 1):
            crc = 0
            for chunk in self.chunks(uid):
                crc = zlib.crc32(chunk, crc)
            total += mark(crc, self.flags(uid), self.date(uid))
        return total


def mark(crc: int, flags: bytes, date: bytes) -> int:
    """One number for a message: the CRC-32 of its octets, its flags in any order, and its date as written."""
    return zlib.crc32(date, zlib.crc32(b" ".join(sorted(flags.lower().split())), crc))
