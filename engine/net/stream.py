"""Octets in and out of one connection, with deadlines: our own read buffer over a non-blocking transport.

Owns: buffering, waiting, byte counters, the switch to TLS, closing.
Must not: know a protocol beyond "lines end in LF".
Always: one thread uses it (`close` alone may come from another, and wakes it); every wait ends (the rolling idle limit is refreshed by
real octets only, and a budget set by `limit()` bounds the sum of waits: Tencent keeps sockets open in silence, facts, engine §5.2); while
a write waits, what the peer says meanwhile is read, so two full buffers never wait for each other; at a switch to TLS nothing may be
buffered (RFC 9051 §11.1, CVE-2021-38371); a lost or silent peer is a ConnectionBroken and leaves the stream closed; one that hung up while
we wrote is told by the next read, after what it said before (its BYE says why; what it gave is not thrown away).
"""
from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from engine.causes import Cause, Side, at_destination
from engine.errors import ConnectionBroken, EngineError, ProtocolError, Refused

CHUNK = 256 * 1024
SILENT = "the server did not answer in time"  # in a ConnectionBroken
_READ_WHILE_WRITING = 4 * 1024 * 1024
_JOIN_BELOW = 64 * 1024


class Transport(Protocol):
    """A non-blocking socket, or TLS over one (which may itself be carried by TLS)."""

    def recv(self, size: int, /) -> bytes: ...

    def send(self, data: bytes | memoryview, /) -> int: ...

    def fileno(self) -> int: ...

    def close(self) -> None: ...


class Layer(Transport, Protocol):
    """A transport over another that puts other octets on the wire (compression): it counts them."""

    inner: Transport
    wire_in: int
    wire_out: int


class Stream:
    """`idle` is the longest silence in seconds."""

    def __init__(self, transport: Transport, *, side: Side = Side.SOURCE, idle: float = 120.0) -> None:
        self._transport = transport
        self._layer: Layer | None = None
        self._buffer = b""
        self._position = 0
        self._poll = select.poll()
        self._lock = threading.RLock()  # held around each use of the transport: `close` may come from another thread
        self._budget: float | None = None
        self._deaf = False  # the peer takes no more: the next read tells, once what it said before was read
        self.side = side
        self.idle = idle
        self.bytes_in = 0  # octets of the wire (of TLS: what it carries)
        self.bytes_out = 0
        self.waited = 0.0  # seconds, for the peer
        self.closed = False

    def lay_over(self, make: Callable[[Transport, bytes], Layer]) -> None:
        """Everything from now on goes through the layer; `make` gets the transport and what was read from it and not yet taken."""
        assert self._layer is None
        with self._lock:
            layer = make(self._transport, self._buffer[self._position :])
            layer.wire_in, layer.wire_out = self.bytes_in, self.bytes_out
            self._transport = self._layer = layer
            self._buffer, self._position = b"", 0

    def _count(self, came: int = 0, went: int = 0) -> None:
        if self._layer is None:
            self.bytes_in += came
            self.bytes_out += went
        else:
            self.bytes_in, self.bytes_out = self._layer.wire_in, self._layer.wire_out

    # -- deadlines -------------------------------------------------------------------------------------------------------------

    def limit(self, seconds: float | None) -> None:
        """Bounds the sum of all waits from now on, until the next call; None lifts the bound (the idle limit stays)."""
        self._budget = seconds

    def broken(self, detail: str, cause: Cause = Cause.DNS_CONNECT) -> ConnectionBroken:
        """Closes, and gives the exception to raise."""
        self.close()
        return ConnectionBroken(at_destination(cause) if self.side is Side.DESTINATION else cause, side=self.side, detail=detail)

    def _wait(self, events: int, silent_since: float) -> None:
        """Until the socket is ready; ConnectionBroken when the peer has been silent too long or the budget is spent."""
        started = time.monotonic()
        left = self.idle - (started - silent_since)
        if self._budget is not None:
            left = min(left, self._budget)
        if left <= 0:
            raise self.broken(SILENT)
        descriptor = self._transport.fileno()
        if descriptor < 0:
            raise self.broken("the connection is closed")
        self._poll.register(descriptor, events)
        ready = self._poll.poll(left * 1000)
        waited = time.monotonic() - started
        self.waited += waited
        if self._budget is not None:
            self._budget -= waited
        if not ready:
            raise self.broken(SILENT)

    # -- reading ---------------------------------------------------------------------------------------------------------------

    @property
    def buffered(self) -> int:
        """Octets read from the peer and not yet taken."""
        return len(self._buffer) - self._position

    @property
    def has_line(self) -> bool:
        """Whether the next line was read from the peer, whole."""
        return self._buffer.find(b"\n", self._position) >= 0

    def _receive(self, size: int) -> bytes:
        """At least one octet from the transport."""
        with self._lock:
            return self._receive_locked(size)

    def _receive_locked(self, size: int) -> bytes:
        since = time.monotonic()
        while True:
            if self.closed:
                raise self.broken("the connection is closed")
            try:
                data = self._transport.recv(size)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._wait(select.POLLIN, since)
                continue
            except ssl.SSLWantWriteError:
                self._wait(select.POLLIN | select.POLLOUT, since)
                continue
            except OSError as error:
                raise self.broken(f"reading failed: {_reason(error)}") from None
            if not data:
                raise self.broken("the server closed the connection")
            self._count(came=len(data))
            return data

    def read_line(self, cap: int) -> bytes:
        """Up to and without LF or CRLF. ProtocolError (and the stream closed) when the line is longer than `cap` octets."""
        end = self._buffer.find(b"\n", self._position)
        if end >= 0:
            line = self._buffer[self._position : end]
            self._position = end + 1
        else:
            pieces = [self._buffer[self._position :]]
            length = len(pieces[0])
            while True:
                self._buffer, self._position = b"", 0
                if length > cap:
                    break
                data = self._receive(CHUNK)
                end = data.find(b"\n")
                if end >= 0:
                    pieces.append(data[:end])
                    self._buffer, self._position = data, end + 1
                    break
                pieces.append(data)
                length += len(data)
            line = b"".join(pieces)
        if len(line) > cap + 1:
            self.close()
            raise ProtocolError(Cause.X_STATE, side=self.side, detail=f"a line longer than {cap} octets")
        return line[:-1] if line.endswith(b"\r") else line

    def matching(self, pattern: re.Pattern[bytes]) -> Iterator[re.Match[bytes]]:
        """Takes the lines at the head of what is buffered for as long as `pattern` matches them; a match ends with its line's LF and holds
        no other. Nothing is read from the peer: when it ends, `read_line` has the next line, whatever it is."""
        match = pattern.match
        while (found := match(self._buffer, self._position)) is not None:
            self._position = found.end()
            yield found

    def read_exact(self, count: int) -> bytes:
        """Exactly `count` octets, held in memory: the caller has capped it."""
        start, end = self._position, self._position + count
        if end <= len(self._buffer):
            self._position = end
            return self._buffer[start:end]
        pieces = [self._buffer[start:]]
        left = count - len(pieces[0])
        self._buffer, self._position = b"", 0
        while left > 0:
            data = self._receive(CHUNK)
            if len(data) > left:
                self._buffer, self._position = data, left
                data = data[:left]
            pieces.append(data)
            left -= len(data)
        return b"".join(pieces)

    def read_some(self, limit: int) -> bytes:
        """From one octet up to `limit`, whatever is there first."""
        if self._position >= len(self._buffer):
            return self._receive(min(limit, CHUNK))
        start = self._position
        self._position = min(len(self._buffer), start + limit)
        return self._buffer[start : self._position]

    def take(self, count: int) -> bytes:
        """Up to `count` octets, and none beyond them taken from the transport: for what must leave the rest to another reader."""
        if self.buffered:
            return self.read_some(count)
        return self._receive(count)

    def readable(self) -> bool:
        """True when something can be read without waiting."""
        if self.buffered:
            return True
        if self.closed:
            return False
        try:
            data = self._transport.recv(CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError as error:
            raise self.broken(f"reading failed: {_reason(error)}") from None
        if not data:
            raise self.broken("the server closed the connection")
        self._count(came=len(data))
        self._buffer, self._position = data, 0
        return True

    def readable_within(self, seconds: float) -> bool:
        """True as soon as something can be read without waiting; False when nothing came in that time, which ends nothing. Raises
        ConnectionBroken when the peer hung up."""
        deadline = time.monotonic() + seconds
        while not self.readable():
            started = time.monotonic()
            descriptor = self._transport.fileno()
            if descriptor < 0 or started >= deadline:
                return False
            self._poll.register(descriptor, select.POLLIN)
            self._poll.poll((deadline - started) * 1000)
            self.waited += time.monotonic() - started
        return True

    # -- writing ---------------------------------------------------------------------------------------------------------------

    def write(self, *parts: bytes | memoryview) -> None:
        """All parts, in order. Small ones go out together; a large one is not copied."""
        small: list[bytes | memoryview] = []
        for part in parts:
            if len(part) >= _JOIN_BELOW:
                if small:
                    self._send(b"".join(small))
                    small = []
                self._send(part)
            else:
                small.append(part)
        if small:
            self._send(small[0] if len(small) == 1 else b"".join(small))

    def _send(self, data: bytes | memoryview) -> None:
        with self._lock:
            self._send_locked(memoryview(data))

    def _send_locked(self, view: memoryview) -> None:
        since = time.monotonic()
        while view and not self._deaf:
            if self.closed:
                raise self.broken("the connection is closed")
            try:
                # TLS has to be offered the same octets again after "want write", so a piece is cut only where one was taken.
                sent = self._transport.send(view[:CHUNK])
            except (BlockingIOError, ssl.SSLWantWriteError):
                since = self._wait_to_write(since)
                continue
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN, since)
                continue
            except OSError as error:
                self._hung_up(f"writing failed: {_reason(error)}")
                return
            if sent:
                since = time.monotonic()
                self._count(went=sent)
                view = view[sent:]

    def _wait_to_write(self, since: float) -> float:
        """Waits until the peer takes more, reading what it says meanwhile. Returns the time of its last sign of life."""
        may_read = self.buffered < _READ_WHILE_WRITING
        self._wait(select.POLLOUT | (select.POLLIN if may_read else 0), since)
        if not may_read:
            return since
        try:
            data = self._transport.recv(CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return since
        except OSError as error:
            self._hung_up(f"reading failed: {_reason(error)}")
            return since
        if not data:
            self._hung_up("the server closed the connection")
            return since
        self._keep(data)
        return time.monotonic()

    def _keep(self, data: bytes) -> None:
        self._count(came=len(data))
        self._buffer, self._position = self._buffer[self._position :] + data, 0

    def _hung_up(self, detail: str) -> None:
        """The peer takes no more: told by the next read, after what it said before; at once when it said nothing."""
        with contextlib.suppress(OSError):
            self._keep(self._transport.recv(CHUNK))
        if not self.buffered:
            raise self.broken(detail)
        self._deaf = True

    # -- TLS and the end ---------------------------------------------------------------------------------------------------------

    def start_tls(self, context: ssl.SSLContext, host: str, check: Callable[[bytes], None] | None = None) -> None:
        """Switches to TLS. `check` gets the peer's certificate (DER) after the handshake and before any octet of ours; it raises to
        refuse. Octets of the clear text left in the buffer mean that somebody wrote into the connection: abort."""
        from engine.net import tls

        assert self._layer is None
        if self.buffered:
            self.close()
            raise Refused(Cause.TLS, side=self.side, detail="the server sent clear text after it agreed to start TLS")
        try:
            wrapped = tls.wrap(self._transport, context, host)
        except (OSError, ValueError) as error:
            raise tls.failure(error, self) from None
        self._transport = wrapped
        since = time.monotonic()
        while True:
            try:
                with self._lock:
                    wrapped.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN, since)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT, since)
            except (OSError, ValueError) as error:
                raise tls.failure(error, self) from None
        if check is not None:
            try:
                check(wrapped.getpeercert(True) or b"")
            except EngineError:
                self.close()
                raise

    def tls_facts(self) -> tuple[str, bytes] | None:
        """(protocol version, peer certificate as DER), None without TLS."""
        from engine.net import tls

        transport = self._transport if self._layer is None else self._layer.inner
        if isinstance(transport, ssl.SSLSocket | tls.TlsOverTransport):
            return transport.version() or "", transport.getpeercert(True) or b""
        return None

    def release(self) -> Transport:
        """Hands the transport to somebody else; nothing may be buffered. The stream is closed, the transport is not."""
        assert not self.buffered and not self.closed and self._layer is None
        self.closed = True  # for this stream only
        return self._transport

    def close(self) -> None:
        """At once, without a farewell; safe to call again, and from another thread: who waits there gets ConnectionBroken."""
        if self.closed:
            return
        self.closed = True
        with contextlib.suppress(OSError, ValueError):
            # The socket itself, past TLS, which would forget its keys: whoever waits on it wakes up.
            waker = socket.socket(fileno=os.dup(self._transport.fileno()))
            with waker:
                waker.shutdown(socket.SHUT_RDWR)
        with self._lock, contextlib.suppress(OSError):
            self._transport.close()


def _reason(error: OSError) -> str:
    """Short text without addresses or paths."""
    if isinstance(error, ssl.SSLError):
        return error.reason or "TLS error"
    return error.strerror or type(error).__name__


def keep_alive(sock: socket.socket) -> None:
    """No delay for small commands, and the kernel notices a dead peer within about 90 s (facts, relay §4 "half-open peers")."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
