"""A TCP proxy before a real server that takes capabilities away, or adds them, and sees to it that off means off.

    with CapabilityProxy("127.0.0.1", server.ports.imap, off={"UIDPLUS", "LITERAL+"}, add=["LITERAL-"]) as proxy:
        ... connect to proxy.host, proxy.port without TLS ...
    proxy.used["MULTIAPPEND"]    how often a client used what is on
    proxy.violations             what a client used although it is off (leaving the context raises AssertionError when there is any)

A server that only does not announce a thing goes on doing it (Dovecot and Cyrus send APPENDUID whatever they announce). Here the words
are taken out of every capability list, the server's traces of them out of its answers ([APPENDUID], [HIGHESTMODSEQ], special-use
attributes), and a client that uses one all the same is cut off and remembered. Messages pass untouched, in both directions. Where
COMPRESS is on, the proxy speaks it with the client itself, whatever the server can do.
"""
from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType

CHUNK = 65_536
LONGEST_LINE = 4 * 1024 * 1024
LITERAL_MINUS = 4096  # RFC 7888 §5
PATIENCE = 10.0
_LITERAL = re.compile(rb"(~?)\{(\d+)(\+?)\}\r?\n$")
_CAPABILITIES = re.compile(rb"(\* CAPABILITY|\[CAPABILITY) ([^\]\r\n]*)")
_USES = re.compile(rb" ?\\(?:all|archive|drafts|flagged|junk|sent|trash|important)\b", re.IGNORECASE)

# How a command line shows that a capability is used. Arguments of LOGIN and AUTHENTICATE are never looked at.
_SIGNS = {
    "UIDPLUS": re.compile(rb"^\S+ UID EXPUNGE ", re.IGNORECASE),
    "COMPRESS": re.compile(rb"^\S+ COMPRESS ", re.IGNORECASE),
    "CONDSTORE": re.compile(rb"^\S+ (?:(?:SELECT|EXAMINE) .*\(.*CONDSTORE|ENABLE .*CONDSTORE|(?:UID )?(?:FETCH|STORE|SEARCH) .*"
                            rb"(?:CHANGEDSINCE|UNCHANGEDSINCE|MODSEQ)|STATUS .*\(.*HIGHESTMODSEQ|LIST .*STATUS \(.*HIGHESTMODSEQ)",
                            re.IGNORECASE),
    "SPECIAL-USE": re.compile(rb"^\S+ (?:LIST .*(?:RETURN \(.*SPECIAL-USE|\(SPECIAL-USE)|CREATE .*\(USE )", re.IGNORECASE),
    "NAMESPACE": re.compile(rb"^\S+ NAMESPACE", re.IGNORECASE),
    "LIST-STATUS": re.compile(rb"^\S+ LIST .*RETURN \(.*STATUS \(", re.IGNORECASE),
    "ID": re.compile(rb"^\S+ ID[ (]", re.IGNORECASE),
    "APPENDLIMIT": re.compile(rb"^\S+ (?:STATUS .*\(.*APPENDLIMIT|LIST .*STATUS \(.*APPENDLIMIT)", re.IGNORECASE),
    "QUOTA": re.compile(rb"^\S+ GETQUOTA", re.IGNORECASE),
}
_APPEND = re.compile(rb"^\S+ APPEND (\{)?", re.IGNORECASE)
_SECRET = re.compile(rb"^\S+ (?:LOGIN|AUTHENTICATE) ", re.IGNORECASE)


class CapabilityProxy:
    """`off`: capabilities by name, without `=value`. `add`: words put into every list, also such that the server lacks; the proxy does
    nothing to honour them but for COMPRESS=DEFLATE."""

    def __init__(self, host: str, port: int, *, off: Iterable[str] = (), add: Iterable[str] = ()) -> None:
        self._target = (host, port)
        self.off, self._add = frozenset(off), tuple(word.encode() for word in add)
        self.host, self.port = "127.0.0.1", 0
        self.used: Counter[str] = Counter()
        self.violations: list[str] = []
        self._ready = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> CapabilityProxy:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="capability-proxy", daemon=True)
        self._thread.start()
        assert self._ready.wait(PATIENCE), "the proxy did not start"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)
        if kind is None:
            assert not self.violations, f"used although it is off: {self.violations}"

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connected, self.host, 0, limit=LONGEST_LINE)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                server_reader, server_writer = await asyncio.open_connection(*self._target, limit=LONGEST_LINE)
                await _Connection(self, reader, writer, server_reader, server_writer).relay()
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    # ---- what is changed

    def answer(self, line: bytes) -> bytes:
        """A line of the server as the client gets it; empty: not at all."""
        line = _CAPABILITIES.sub(self._words, line)
        if "UIDPLUS" in self.off:
            line = re.sub(rb"\[(?:APPENDUID|COPYUID) [^\]]*\] ?", b"", line)
            line = b"" if re.match(rb"\* OK \[UIDNOTSTICKY\]", line) else line
        if "CONDSTORE" in self.off and re.match(rb"\* OK \[(?:HIGHESTMODSEQ|NOMODSEQ)", line):
            return b""
        if "SPECIAL-USE" in self.off and re.match(rb"\* (?:LIST|LSUB|XLIST) ", line, re.IGNORECASE):
            attributes, bracket, rest = line.partition(b")")
            line = _USES.sub(b"", attributes).replace(b"( ", b"(") + bracket + rest
        return line

    def _words(self, found: re.Match[bytes]) -> bytes:
        off = {name.encode() for name in self.off} | ({b"QRESYNC"} if "CONDSTORE" in self.off else set())
        off |= {b"CREATE-SPECIAL-USE", b"XLIST"} if "SPECIAL-USE" in self.off else set()
        kept = [word for word in found[2].split() if word.upper().partition(b"=")[0] not in off and word not in self._add]
        return found[1] + b" " + b" ".join([*kept, *self._add])

    def judge(self, features: Iterable[str], line: bytes) -> bool:
        """Notes what a client's line uses. False: something that is off."""
        fine = True
        for feature in features:
            if feature in self.off:
                self.violations.append(f"{feature}: {line[:120].decode('utf-8', 'replace').strip()}")
                fine = False
            else:
                self.used[feature] += 1
        return fine


class _Connection:
    """One client. The command under way is known by its first line; literals are counted, not read."""

    def __init__(self, proxy: CapabilityProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter,
                 server_reader: asyncio.StreamReader, server_writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = _Octets(reader)
        self._writer = writer
        self._server = _Octets(server_reader)
        self._server_writer = server_writer
        self._deflate: Callable[[bytes], bytes] | None = None

    async def relay(self) -> None:
        answers = asyncio.create_task(self._from_server())
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await self._from_client()
            if self._server_writer.can_write_eof():
                with contextlib.suppress(OSError):
                    self._server_writer.write_eof()
            await asyncio.wait([answers], timeout=PATIENCE)  # what a dead client sent is done by the server all the same
        finally:
            answers.cancel()
            self._server_writer.close()

    async def _from_client(self) -> None:
        first, messages, beginning = b"", 0, True
        while line := await self._client.line():
            literal = _LITERAL.search(line)
            if beginning:
                first, messages = line, 0
            features = set() if not beginning or _SECRET.match(line) else \
                {name for name, sign in _SIGNS.items() if sign.search(line)}
            if literal:
                features |= self._literal(literal)
                append = _APPEND.match(first)
                named = beginning and append is not None and bool(append[1])  # the folder's name is the literal
                messages += append is not None and not named
                features |= {"MULTIAPPEND"} if messages == 2 else set()
            if not self._proxy.judge(features, line):
                self._writer.transport.abort()
                return
            if "COMPRESS" in features:
                await self._compress(line.split(None, 1)[0])
                continue
            self._server_writer.write(line)
            if literal:
                async for piece in self._client.exactly(int(literal[2])):
                    self._server_writer.write(piece)
                    await self._server_writer.drain()
            await self._server_writer.drain()
            beginning = literal is None

    def _literal(self, found: re.Match[bytes]) -> set[str]:
        """RFC 7888: LITERAL- allows what LITERAL+ does up to 4096 octets."""
        if not found[3]:
            return set()
        announced = {word.partition(b"=")[0] for word in self._proxy._add}
        minus = b"LITERAL-" in announced and "LITERAL-" not in self._proxy.off
        return {"LITERAL-" if minus and int(found[2]) <= LITERAL_MINUS else "LITERAL+"}

    async def _compress(self, tag: bytes) -> None:
        self._to_client(tag + b" OK DEFLATE active\r\n")
        packer = zlib.compressobj(wbits=-15)
        self._client.inflate = zlib.decompressobj(wbits=-15)
        self._deflate = lambda data: packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
        await self._writer.drain()

    def _to_client(self, data: bytes) -> None:
        if not self._writer.is_closing():  # a client that is gone stops neither side
            self._writer.write(self._deflate(data) if self._deflate else data)

    async def _from_server(self) -> None:
        inside = False  # within an answer, behind a literal
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while line := await self._server.line():
                literal = _LITERAL.search(line)
                self._to_client(line if inside else self._proxy.answer(line))
                if literal:
                    async for piece in self._server.exactly(int(literal[2])):
                        self._to_client(piece)
                        await self._drain()
                inside = literal is not None
                await self._drain()
        if self._writer.can_write_eof():
            with contextlib.suppress(OSError):
                self._writer.write_eof()

    async def _drain(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()


class _Octets:
    """Lines and counted octets of one direction, inflated from the moment when `inflate` is set."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._buffer = b""
        self.inflate: zlib._Decompress | None = None

    async def line(self) -> bytes:
        """Up to and with the next LF; empty at the end (a half line before it is dropped)."""
        pieces, there = [], self._buffer
        while (end := there.find(b"\n")) < 0:
            pieces.append(there)
            there = await self._more()
            if not there:
                return b""
        self._buffer = there[end + 1:]
        return b"".join([*pieces, there[:end + 1]])

    async def exactly(self, count: int) -> AsyncIterator[bytes]:
        """The next `count` octets, in pieces. Raises IncompleteReadError at an early end."""
        while count:
            there = self._buffer or await self._more()
            if not there:
                raise asyncio.IncompleteReadError(b"", count)
            yield there[:count]
            self._buffer, count = there[count:], max(0, count - len(there))

    async def _more(self) -> bytes:
        while data := await self._reader.read(CHUNK):
            if self.inflate is None:
                return data
            if plain := self.inflate.decompress(data):
                return plain
        return b""
