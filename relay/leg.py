"""One side of a session: a protocol with its own buffer that first holds what comes, then passes it on.

Owns reading, back-pressure and the end of one connection. Always: at most one read buffer and one hold of HOLD_CAP octets per leg;
when the other side does not take its octets, this side is not read (L3); what was received before an end is passed on before it.
Never: asyncio streams (facts: relay 5, octets read ahead of a handshake), or a log of what passes through.
"""
from __future__ import annotations

import asyncio
from typing import cast

BUFFER = 65_536   # octets read at a time
HOLD_CAP = 65_536  # octets held before there is somewhere to pass them
WRITE_HIGH, WRITE_LOW = 65_536, 16_384  # asyncio's TLS would queue 512 KiB of its own accord


class Leg(asyncio.BufferedProtocol):
    """`ended` is set when nothing more will come, `lost` when the connection is gone; `broken` says that an error ended it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._buffer = memoryview(bytearray(BUFFER))
        self._transport: asyncio.Transport | None = None
        self._peer: Leg | None = None
        self._dropping = False
        self.paused = False
        self._news = asyncio.Event()
        self._abort_timer: asyncio.TimerHandle | None = None
        self.held = bytearray()
        self.received = 0
        self.heard_at = self._loop.time()
        self.stalled_at: float | None = None  # since when the peer of this leg takes nothing more
        self.ended = asyncio.Event()  # nothing more will come
        self.lost = asyncio.Event()   # the connection is gone
        self.broken = False

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH, low=WRITE_LOW)
        limit_reading = getattr(transport, "set_read_buffer_limits", None)  # the TLS transport's own queue, 256 KiB if left alone
        if limit_reading is not None:
            limit_reading(high=BUFFER, low=BUFFER // 4)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.heard_at = self._loop.time()
        if self._dropping:
            return
        self.received += nbytes
        octets = bytes(self._buffer[:nbytes])  # a copy: from 3.12 on transports keep what they are given
        if self._peer is not None:
            self._peer.write(octets)
            return
        self.held += octets
        self._news.set()
        if len(self.held) >= HOLD_CAP:
            self.pause()

    def eof_received(self) -> None:
        self._end()  # the transport then closes itself, after what is due to this side; the session sets the deadline

    def connection_lost(self, exc: Exception | None) -> None:
        self.broken = exc is not None
        self._end()
        self.lost.set()
        if self._abort_timer is not None:
            self._abort_timer.cancel()

    def pause_writing(self) -> None:
        self.stalled_at = self._loop.time()
        if self._peer is not None:
            self._peer.pause()

    def resume_writing(self) -> None:
        self.stalled_at = None
        if self._peer is not None:
            self._peer.resume()

    # what a session calls

    async def news(self) -> None:
        """Waits until more is held than at the last call, or nothing more will come."""
        await self._news.wait()
        self._news.clear()

    def write(self, octets: bytes | bytearray) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(octets)

    def pass_on_to(self, peer: Leg) -> None:
        """From now on every octet, the held ones first, goes to `peer`."""
        self._peer = peer
        held, self.held = self.held, bytearray()
        if held:
            peer.write(bytes(held))
        if peer.stalled_at is None:
            self.resume()
        else:
            self.pause()

    def drop(self) -> None:
        """From now on what comes is read and thrown away, so that an answer on its way out is not reset by unread octets."""
        self._dropping = True
        self.held = bytearray()
        self.resume()

    def resume(self) -> None:
        """Reads again, unless it is closing."""
        if self.paused and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self.paused = False

    def close(self, seconds: float) -> None:
        """Sends what is still due, for `seconds` at most, then ends the connection."""
        if self._transport is None or self.lost.is_set() or self._abort_timer is not None:
            return
        self._transport.close()
        self._abort_timer = self._loop.call_later(seconds, self.abort)

    def abort(self) -> None:
        """Ends the connection at once, if it has not ended yet (asyncio's transports fail on an abort after their end)."""
        if self._transport is not None and not self.lost.is_set():
            self._transport.abort()

    def pause(self) -> None:
        if not self.paused and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
            self.paused = True

    def _end(self) -> None:
        self.ended.set()
        self._news.set()
