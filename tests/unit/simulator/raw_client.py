"""A client that sends exactly what it is told, for testing servers."""
from __future__ import annotations

import re
import socket
import ssl
from types import TracebackType

from tests.support.provider_simulator import ProviderSimulator


class RawClient:
    def __init__(self, server: ProviderSimulator, *, port: int | None = None) -> None:
        self.socket: socket.socket = socket.create_connection((server.host, port or server.port), timeout=10)
        self.ca = server.ca_pem
        if server.tls:
            self.start_tls()
        self.buffer = b""
        self.tags = 0
        self.greeting = self.line()

    def start_tls(self) -> None:
        context = ssl.create_default_context(cadata=self.ca)
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(self.buffer)
        self.buffer += data

    def line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            self._more()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            self._more()
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def until_tag(self, tag: bytes) -> tuple[list[bytes], bytes]:
        """(untagged responses with their literals, the tagged text)."""
        untagged = []
        while True:
            line = self.line()
            while found := re.search(rb"\{(\d+)\}$", line):
                line += b"\r\n" + self.exactly(int(found[1])) + self.line()
            if line.startswith(tag + b" "):
                return untagged, line[len(tag) + 1:]
            untagged.append(line)

    def command(self, text: bytes) -> tuple[list[bytes], bytes]:
        self.tags += 1
        tag = b"a%d" % self.tags
        self.send(tag + b" " + text + b"\r\n")
        return self.until_tag(tag)

    def login(self, login: bytes = b"user@example.com", secret: bytes = b"secret") -> bytes:
        return self.command(b'LOGIN "%s" "%s"' % (login, secret))[1]

    def append(self, folder: bytes, content: bytes, rest: bytes = b"") -> bytes:
        self.tags += 1
        tag = b"a%d" % self.tags
        self.send(tag + b" APPEND " + folder + rest + b" {%d+}\r\n" % len(content) + content + b"\r\n")
        return self.until_tag(tag)[1]

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
