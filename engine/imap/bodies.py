"""One message's octets as they come: on the wire, in memory, or waiting on disk.

Must not: parse a message, know a command. Always: octets can be taken once; a body cut short is a ConnectionBroken, never a short body.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from engine.imap.channel import Channel

HARD_CAP = 2 << 30            # octets of one body when the caller states no cap
CHUNK = 64 * 1024
SMALL = 64 * 1024             # a body up to this is read in one piece
_SPOOL_MEMORY = 1 << 20
SLOWEST = 4096                # octets a second: a body that comes slower breaks the connection


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
            if self._left == len(self._held):
                self._left = 0
                return self._held
            return b"".join(self.chunks(HARD_CAP))
        left, self._left = self._left, 0
        return self._stream.read_exact(left)

    def spooled(self) -> Body:
        """The same message taken off the wire, on disk beyond a megabyte."""
        import tempfile  # rarely needed, and slow to load

        # Closed when the body is forgotten: the file has no name.
        spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_SPOOL_MEMORY)  # noqa: SIM115  # its Body closes it
        for piece in self.chunks(256 * 1024):
            spool.write(piece)
        spool.seek(0)
        return Body(self.uid, self.length, None, spool=spool)

    def drain(self) -> None:
        """Reads past what was not taken."""
        if self._stream is not None:
            while self._left:
                self._take(256 * 1024)
        self._left = 0
