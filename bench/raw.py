"""The bound: how fast two sockets can be, with no state, no recovery and no proof. NOT a mover; never use it for mail that matters.

Each process pipelines all its FETCHes at once and streams the answers into pipelined MULTIAPPENDs with non-synchronising literals. With
several processes the messages are dealt out in slices. Ports and account come from the environment (`main`). Loopback only.
"""
from __future__ import annotations

import multiprocessing
import os
import re
import socket
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from portal.demo.imap import SmallImap

SLICES = 6            # for each process
BATCH = 200           # messages of one MULTIAPPEND, and its octets
BATCH_OCTETS = 8 << 20
_CHUNK = 1 << 18
_ROW = re.compile(rb'\* \d+ FETCH \(FLAGS \(([^)]*)\) INTERNALDATE ("[^"]*") BODY\[\] \{(\d+)\}\r\n\Z')


@dataclass(frozen=True)
class Side:
    port: int
    login: str
    secret: str

    def connect(self) -> socket.socket:
        """Sends LOGIN before the greeting is there: a bound owes nobody manners."""
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b'l LOGIN "%s" "%s"\r\n' % (self.login.encode(), self.secret.encode()))
        return connection

    def client(self) -> SmallImap:
        return SmallImap("127.0.0.1", self.port, self.login, self.secret)


@dataclass(frozen=True)
class Slice:
    """Messages `first` to `last` (by number) of a folder, as wire names."""

    source: bytes
    target: bytes
    first: int
    last: int


class _Sink:
    """The destination's connection: what is put goes out in large pieces, answers are drained in a thread."""

    def __init__(self, side: Side) -> None:
        self._connection = side.connect()
        self._out: list[bytes] = []
        self._gathered = 0
        self._open: bytes | None = None  # the folder of the APPEND under way
        self._messages = self._octets = 0
        self.refused: list[bytes] = []
        self._drain = threading.Thread(target=self._read)
        self._drain.start()

    def begin(self, folder: bytes, flags: bytes, date: bytes, size: int) -> None:
        if self._open is not None and (self._open != folder or self._messages >= BATCH or self._octets + size > BATCH_OCTETS):
            self.end()
        if self._open is None:
            self.put(b"a APPEND " + folder)
            self._open, self._messages, self._octets = folder, 0, 0
        self._messages, self._octets = self._messages + 1, self._octets + size
        self.put(b" (%s) %s {%d+}\r\n" % (flags, date, size))

    def end(self) -> None:
        if self._open is not None:
            self.put(b"\r\n")
            self._open = None

    def put(self, data: bytes) -> None:
        self._out.append(data)
        self._gathered += len(data)
        if self._gathered > _CHUNK:
            self._flush()

    def close(self) -> None:
        self.end()
        self.put(b"z LOGOUT\r\n")
        self._flush()
        self._drain.join()
        self._connection.close()

    def _flush(self) -> None:
        self._connection.sendall(b"".join(self._out))
        self._out, self._gathered = [], 0

    def _read(self) -> None:
        for line in self._connection.makefile("rb"):
            if line[:1] != b"*" and line[2:4] != b"OK":
                self.refused.append(line)


def pump(source: Side, destination: Side, slices: Sequence[Slice]) -> None:
    """Moves the slices over one pair of connections; ends the process with what was refused."""
    connection, sink = source.connect(), _Sink(destination)
    asked = b"".join(b"e EXAMINE %s\r\nf FETCH %d:%d (FLAGS INTERNALDATE BODY.PEEK[])\r\n" % (s.source, s.first, s.last) for s in slices)
    threading.Thread(target=connection.sendall, args=(asked + b"q LOGOUT\r\n",), daemon=True).start()
    answers = connection.makefile("rb", buffering=_CHUNK)
    left = iter(slices)
    target = b""
    for line in answers:
        row = _ROW.match(line)
        if row is not None:
            size = int(row[3])
            sink.begin(target, row[1].replace(b"\\Recent", b"").strip(), row[2], size)
            while size:
                chunk = answers.read(min(size, _CHUNK))
                size -= len(chunk)
                sink.put(chunk)
            answers.readline()
        elif line.startswith(b"e OK"):
            target = next(left).target
        elif line[:1] != b"*" and line[2:4] != b"OK":
            sys.exit(f"the source refused: {line!r}")
    sink.close()
    if sink.refused:
        sys.exit(f"the destination refused: {sink.refused[:3]!r}")


def deal(source: Side, destination: Side, processes: int) -> list[Slice]:
    """All messages, as about SLICES slices for each process; makes the destination's folders."""
    with source.client() as old, destination.client() as new:
        slices, counts = [], {}
        for name in old.folders():
            quoted = b'"' + name.replace("\\", "\\\\").replace('"', '\\"').encode() + b'"'
            target = b'"' + name.replace(old.delimiter, new.delimiter).replace("\\", "\\\\").replace('"', '\\"').encode() + b'"'
            new.create(name.replace(old.delimiter, new.delimiter))
            told = old.command(b"STATUS " + quoted + b" (MESSAGES)")
            counts[quoted, target] = int(told[-1].text.rsplit(b" ", 1)[1].rstrip(b")"))
        step = max(1, sum(counts.values()) // (processes * SLICES)) if processes > 1 else sys.maxsize
        for (quoted, target), count in counts.items():
            slices += [Slice(quoted, target, first, min(first + step - 1, count)) for first in range(1, count + 1, step)]
        return slices


def main(processes: int) -> None:
    """Account and ports from BENCH_LOGIN, BENCH_SECRET, BENCH_SOURCE_PORT and BENCH_DESTINATION_PORT."""
    login, secret = os.environ["BENCH_LOGIN"], os.environ["BENCH_SECRET"]
    source, destination = (Side(int(os.environ[f"BENCH_{name}_PORT"]), login, secret) for name in ("SOURCE", "DESTINATION"))
    slices = deal(source, destination, processes)
    if processes == 1:
        pump(source, destination, slices)
        return
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=pump, args=(source, destination, slices[at::processes])) for at in range(processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sys.exit(max(worker.exitcode or 0 for worker in workers))


if __name__ == "__main__":
    main(int(sys.argv[1]))
