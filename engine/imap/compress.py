"""COMPRESS=DEFLATE (RFC 4978): a transport that deflates what is sent and inflates what comes, and when it pays.

Must not: hold more than a window of what was sent, or inflate more than it is asked for (a bomb costs its octets on the wire only).
Always: each `send` ends in a sync flush, so that the peer can read all of it (RFC 4978 §3); octets that the transport below does not take
at once go out before anything else does; `wire_in` and `wire_out` count what is on the wire.
"""
from __future__ import annotations

import contextlib
import ssl
import zlib

from engine.net.stream import Transport

INFLATE_CAP = 256 * 1024     # octets that one `recv` gives at most
_READ = 64 * 1024            # compressed octets read at once
_LEVEL = 1                   # measured on mail (two thirds base64): 39 MB/s and 0.70 of the size; level 6 has 22 MB/s and 0.67
_RAW = -15                   # raw deflate, the largest window (RFC 4978 §4)

# Below this a link is the bottleneck and not deflate: a third is saved, so break-even is near 7 MB/s where the server deflates (level 6
# is usual) and 12 MB/s where we do; half of the former leaves room for a machine that has other work. On a local link COMPRESS cost
# mbsync nine tenths of its speed; a short round trip tells such a link, whatever else made it slow.
PAYS_BELOW = 3_500_000.0     # octets per second
_LOCAL = 0.005               # seconds of round trip


def pays(*, octets_per_second: float, rtt: float) -> bool:
    """Whether compression will make this link quicker: its measured rate and the quickest round trip in seconds."""
    return octets_per_second < PAYS_BELOW and rtt >= _LOCAL


class Deflated:
    """Same exceptions as the transport below (a non-blocking socket, or TLS). `already` are octets that were read past the answer to
    COMPRESS: they are compressed."""

    def __init__(self, inner: Transport, *, already: bytes = b"") -> None:
        self.inner = inner
        self.wire_in = 0
        self.wire_out = 0
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW)
        self._inflate = zlib.decompressobj(_RAW)
        self._unread = already
        self._more = bool(already)  # the inflater may have output without new input
        self._unsent = b""

    def recv(self, size: int, /) -> bytes:
        """Up to `size` octets, INFLATE_CAP at most; b"" at the end. OSError when what comes is not deflated."""
        most = min(size, INFLATE_CAP)
        while True:
            if self._more:
                data = self._inflated(most)
                if data:
                    return data
            if self._inflate.eof:
                return b""
            compressed = self._received()
            if not compressed:
                return b""
            self.wire_in += len(compressed)
            self._unread, self._more = compressed, True

    def _inflated(self, most: int) -> bytes:
        try:
            data = self._inflate.decompress(self._unread, most)
        except zlib.error:
            raise OSError(0, "compressed octets are damaged") from None
        self._unread = self._inflate.unconsumed_tail
        self._more = bool(self._unread) or len(data) == most
        return data

    def _received(self) -> bytes:
        """Compressed octets from below. What is still to be sent goes first: its answer may be what is waited for."""
        try:
            self._flush()
        except (BlockingIOError, ssl.SSLWantWriteError):
            try:
                return self.inner.recv(_READ)
            except (BlockingIOError, ssl.SSLWantReadError):
                raise ssl.SSLWantWriteError(ssl.SSL_ERROR_WANT_WRITE, "the connection is full and silent") from None
        return self.inner.recv(_READ)

    def _flush(self) -> None:
        while self._unsent:
            sent = self.inner.send(self._unsent)
            self.wire_out += sent
            self._unsent = self._unsent[sent:]

    def send(self, data: bytes | memoryview, /) -> int:
        """Takes all of `data`, unless an earlier piece has not gone out yet: then it raises as the transport below does."""
        self._flush()
        self._unsent = self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._flush()  # what is left is kept; the next send or recv pushes it out first
        return len(data)

    def fileno(self) -> int:
        return self.inner.fileno()

    def close(self) -> None:
        self.inner.close()
