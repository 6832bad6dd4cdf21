"""A TCP proxy before a real server that makes APPEND late: the answer late, or the command itself.

    with SlowAppendProxy("127.0.0.1", port, answer_late=1.5) as proxy:     # stored at once, the client learns of it later
    with SlowAppendProxy("127.0.0.1", port, deliver_late=1.5) as proxy:    # stored later, also when the client is dead by then
        ... connect to proxy.host, proxy.port without TLS (APPEND has to be visible) ...
        proxy.wait_for_appends(3); proxy.cut()

Octets are never changed or reordered. With `deliver_late`, what the client sent before it died is delivered in full, as the socket
buffers of a slow server would: the zombie APPENDs of facts: reliability, finding 1.
"""
from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from types import TracebackType

APPEND = re.compile(rb"(?im)^[^\s]+ APPEND ")
CHUNK = 65_536
PATIENCE = 10.0


class SlowAppendProxy:
    """`answer_late`, `deliver_late`: seconds, from the moment when a chunk with an APPEND passes. Other traffic is not held up
    except by the order of octets."""

    def __init__(self, host: str, port: int, *, answer_late: float = 0.0, deliver_late: float = 0.0) -> None:
        self._target = (host, port)
        self.answer_late, self.deliver_late = answer_late, deliver_late
        self.host, self.port = "127.0.0.1", 0
        self.appends_seen = 0        # APPEND commands that came from the client
        self.appends_delivered = 0   # … and were passed on to the server
        self.open_to_server = 0
        self._changed = threading.Condition()
        self._ready = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> SlowAppendProxy:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="slow-append-proxy", daemon=True)
        self._thread.start()
        if not self._ready.wait(PATIENCE):
            raise AssertionError("the proxy did not start")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)

    def wait_for_appends(self, number: int, *, delivered: bool = False) -> None:
        with self._changed:
            done = self._changed.wait_for(lambda: (self.appends_delivered if delivered else self.appends_seen) >= number, PATIENCE)
        assert done, f"{self.appends_seen} APPENDs seen, {self.appends_delivered} delivered"

    def wait_until_quiet(self) -> None:
        """Returns when everything has been delivered and no connection to the server is left."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.open_to_server == 0, PATIENCE + self.deliver_late + self.answer_late)

    def cut(self) -> None:
        """Drops the clients, as when the mover is killed; what they sent is still delivered."""
        self._loop.call_soon_threadsafe(lambda: [writer.transport.abort() for writer in list(self._clients)])

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connected, self.host, 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _note(self, *, seen: int = 0, delivered: int = 0, opened: int = 0) -> None:
        with self._changed:
            self.appends_seen += seen
            self.appends_delivered += delivered
            self.open_to_server += opened
            self._changed.notify_all()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._clients.add(writer)
        self._note(opened=1)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._relay(reader, writer)
        finally:
            writer.transport.abort()
            self._clients.discard(writer)
            self._tasks.discard(task)
            self._note(opened=-1)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        up: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=256)
        down: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=256)
        hold_answers_until = 0.0

        async def from_client() -> None:
            nonlocal hold_answers_until
            tail = b""
            while data := await self._read(reader):
                # A command word may straddle two chunks: the last line so far is looked at again with the next one.
                appends = len(APPEND.findall(tail + data)) - len(APPEND.findall(tail))
                tail = (tail + data).rpartition(b"\n")[2][-200:]
                if appends:
                    self._note(seen=appends)
                    hold_answers_until = self._loop.time() + self.answer_late
                await up.put((self._loop.time() + (self.deliver_late if appends else 0.0), data))
            await up.put((0.0, b""))

        async def from_server() -> None:
            while data := await self._read(server_reader):
                await down.put((hold_answers_until, data))
            await down.put((0.0, b""))

        pumps = [asyncio.create_task(part) for part in (from_client(), from_server(), self._deliver(down, writer, count=False))]
        try:
            await self._deliver(up, server_writer, count=True)
            await asyncio.wait([pumps[2]], timeout=PATIENCE)  # the server's last answers
        finally:
            for pump in pumps:
                pump.cancel()
            server_writer.close()

    async def _deliver(self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, *, count: bool) -> None:
        tail = b""
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            if not data:
                if writer.can_write_eof():
                    with contextlib.suppress(OSError):
                        writer.write_eof()
                return
            with contextlib.suppress(ConnectionError):  # a client that is gone stops neither side
                if not writer.is_closing():
                    writer.write(data)
                await writer.drain()
            if count:
                appends = len(APPEND.findall(tail + data)) - len(APPEND.findall(tail))
                tail = (tail + data).rpartition(b"\n")[2][-200:]
                if appends:
                    self._note(delivered=appends)

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.read(CHUNK)
        except ConnectionError:
            return b""
