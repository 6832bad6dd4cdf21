"""A path with latency, on one machine: relays TCP and delivers every octet half a round trip later (kernels without netem).

Must not wait for answers: what is read is stamped and delivered when its time has come, so pipelining works as on a real path. Always: at
most WINDOW octets per connection and direction are on their way; they count until they are delivered and acknowledged. A connection
costs what a TCP handshake does: the greeting comes two round trips after connect(). No loss, no jitter.
"""
from __future__ import annotations

import asyncio
import contextlib
import functools
import multiprocessing
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

WINDOW = 4 << 20  # octets


@dataclass(frozen=True)
class Path:
    """`one_way` seconds; `rate` octets a second in each direction, all connections together, 0 for no limit."""

    one_way: float
    rate: float = 0.0


class _Link:
    """One direction of the shared line: when it is free again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._free = 0.0

    def arrival(self, octets: int, now: float) -> float:
        if not self.path.rate:
            return now + self.path.one_way
        self._free = max(now, self._free) + octets / self.path.rate
        return self._free + self.path.one_way


class _End(asyncio.Protocol):
    """One socket. What it reads goes to `peer` after the delay."""

    def __init__(self, link: _Link, peer: _End | None = None) -> None:
        self._link = link
        self.peer = peer
        self._loop = asyncio.get_running_loop()
        self._due: deque[Callable[[], object]] = deque()
        self._last = 0.0       # when the last octet read so far will be delivered
        self._under_way = 0
        self._unread = 0       # delivered to a peer whose reader is slow: not acknowledged yet
        self._full = False     # our own reader is slow
        self._ended = False    # its end was delivered
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=1 << 20)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self._under_way += len(data)
        if self._under_way >= WINDOW:
            self.transport.pause_reading()
        self._at_its_time(len(data), lambda: self._deliver(data))

    def _at_its_time(self, octets: int, what: Callable[[], object]) -> None:
        self._last = max(self._last, self._link.arrival(octets, self._loop.time()))
        self._due.append(what)
        self._loop.call_at(self._last, lambda: self._due.popleft()())  # timers of one instant fire in any order; what is due does not

    def _deliver(self, data: bytes) -> None:
        peer = self.peer
        if peer is None or peer.transport.is_closing():
            return
        peer.transport.write(data)
        if peer._full:
            self._unread += len(data)
        else:
            self._loop.call_later(self._link.path.one_way, self._acknowledge, len(data))

    def _acknowledge(self, octets: int) -> None:
        before, self._under_way = self._under_way, self._under_way - octets
        if before >= WINDOW > self._under_way and not self.transport.is_closing():
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self.peer is not None:
            octets, self.peer._unread = self.peer._unread, 0
            self._loop.call_later(self._link.path.one_way, self.peer._acknowledge, octets)

    def eof_received(self) -> bool:
        self._at_its_time(0, self._finish)
        return True  # the other direction stays open

    def _finish(self) -> None:
        self._ended = True
        peer = self.peer
        if peer is None or peer.transport.is_closing():
            return
        if peer._ended:
            peer.transport.close()
            self.transport.close()
            return
        with contextlib.suppress(OSError):
            peer.transport.write_eof()

    def connection_lost(self, error: Exception | None) -> None:
        if self.peer is not None:
            self._at_its_time(0, self.peer.transport.close)


class _Client(_End):
    """The end towards the mover: reaches for the server when the handshake would have come through."""

    def __init__(self, up: _Link, down: _Link, port: int) -> None:
        super().__init__(up)
        self._down, self._port = down, port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.pause_reading()
        self._task = self._loop.create_task(self._reach())

    async def _reach(self) -> None:
        await asyncio.sleep(3 * self._link.path.one_way)
        try:
            _, server = await self._loop.create_connection(lambda: _End(self._down, self), "127.0.0.1", self._port)
        except OSError:
            self.transport.abort()
            return
        self.peer = server
        if self.transport.is_closing():
            server.transport.close()
        else:
            self.transport.resume_reading()


class Delay:
    """A relay to each of `ports` in a process of its own; `ports` are then those to connect to. A context manager."""

    def __init__(self, targets: tuple[int, ...], path: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_relay, args=(targets, path, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.ports: tuple[int, ...] = self._pipe.recv()
        self.pid = self._process.pid or 0

    def __enter__(self) -> Delay:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()


def _relay(targets: tuple[int, ...], path: Path, pipe: Connection) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        listening = []
        for target in targets:
            made = functools.partial(_Client, _Link(path), _Link(path), target)
            listening.append(await loop.create_server(made, "127.0.0.1", 0, backlog=256))
        pipe.send(tuple(server.sockets[0].getsockname()[1] for server in listening))
        with contextlib.suppress(EOFError):
            await loop.run_in_executor(None, pipe.recv)  # ends when whoever started us is gone

    asyncio.run(serve())


@dataclass(frozen=True)
class Check:
    """What the path really does, milliseconds: connect to greeting, one NOOP, fifty NOOPs in one flight."""

    greeting: float
    noop: float
    fifty: float

    def __str__(self) -> str:
        return f"greeting {self.greeting:.0f} ms, NOOP {self.noop:.0f} ms, fifty pipelined NOOPs {self.fifty:.0f} ms"


def check(port: int) -> Check:
    """Measured against an IMAP server behind `port`."""
    def milliseconds(since: float) -> float:
        return (time.perf_counter() - since) * 1000

    begun = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        answers = connection.makefile("rb")
        answers.readline()
        greeting = milliseconds(begun)
        flights = []
        for count in (1, 50):
            begun = time.perf_counter()
            connection.sendall(b"a NOOP\r\n" * count)
            for _ in range(count):
                answers.readline()
            flights.append(milliseconds(begun))
    return Check(greeting, *flights)
