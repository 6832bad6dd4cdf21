"""A server that says what a test tells it to, octet by octet, and records what it hears.

    def talk(peer):
        peer.greet()                       # * OK, then answers CAPABILITY, LOGIN and ID until the client is logged in
        tag = peer.expect(b"EXAMINE")
        peer.send(b"* 3 exists\\r\\n" + tag + b" OK done\\r\\n")

    with Scripted(talk) as server, server.session() as session: ...
    assert server.heard == b"..."

What goes wrong inside `talk` fails the test when the `with` block ends.
"""
from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from engine.causes import Side
from engine.endpoint import Account, Endpoint, Route, Secret, Security
from engine.imap.session import Session, Timeouts

LOOPBACK = Route(allowed_networks=(ipaddress.IPv4Network("127.0.0.0/8"),))
QUICK = Timeouts(connect=5, greeting=5, login=5, command=5, idle=5)
SECRET = "s3cret-Ω"
PLAIN_CAPABILITIES = b"IMAP4rev1"


class Peer:
    """The server's end of one connection."""

    def __init__(self, conn: socket.socket, capabilities: bytes, greeting: bytes) -> None:
        self.conn = conn
        self.heard = bytearray()
        self.capabilities = capabilities
        self.greeting = greeting

    def send(self, *parts: bytes) -> None:
        self.conn.sendall(b"".join(parts))

    def line(self) -> bytes:
        """The next command line without its line end; EOFError when the client is gone."""
        line = bytearray()
        while not line.endswith(b"\r\n"):
            octet = self.conn.recv(1)
            if not octet:
                raise EOFError
            line += octet
        self.heard += line
        return bytes(line[:-2])

    def octets(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = self.conn.recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        self.heard += data
        return bytes(data)

    def expect(self, start: bytes) -> bytes:
        """The tag of the next command, which has to begin so."""
        tag, _, command = self.line().partition(b" ")
        assert command.startswith(start), f"{command!r} instead of {start!r}"
        return tag

    def answer(self, start: bytes, *untagged: bytes, status: bytes = b"OK done") -> bytes:
        """Expects a command and answers it."""
        tag = self.expect(start)
        self.send(*(b"* " + line + b"\r\n" for line in untagged), tag, b" ", status, b"\r\n")
        return tag

    def greet(self) -> None:
        """Greeting, capabilities, LOGIN (literals are taken), ID."""
        self.send(b"* " + self.greeting + b"\r\n")
        self.answer(b"CAPABILITY", b"CAPABILITY " + self.capabilities)
        self.log_in()

    def log_in(self) -> None:
        line = self.line()
        tag = line.split(b" ")[0]
        assert line.split(b" ")[1] == b"LOGIN", line
        while announced := re.search(rb"\{(\d+)(\+?)\}$", line):
            if not announced[2]:
                self.send(b"+ go on\r\n")
            self.octets(int(announced[1]))
            line = self.line()
        self.send(b"* CAPABILITY " + self.capabilities + b"\r\n" + tag + b" OK in\r\n")
        if b" ID" in b" " + self.capabilities or b"Coremail" in self.greeting:
            self.answer(b"ID (", b'ID ("name" "x")')


class Scripted:
    """Serves one connection after the other with `talk`."""

    def __init__(self, talk: Callable[[Peer], None], *, capabilities: bytes = PLAIN_CAPABILITIES, greeting: bytes = b"OK ready") -> None:
        self._talk = talk
        self._capabilities = capabilities
        self._greeting = greeting
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._failure: BaseException | None = None
        self.port: int = self._listener.getsockname()[1]
        self.peers: list[Peer] = []

    @property
    def heard(self) -> bytes:
        """Everything that was read from the client on all connections."""
        return b"".join(bytes(peer.heard) for peer in self.peers)

    def account(self, *, login: str = "li@corp.example", secret: str = SECRET, provider: str | None = None,
                security: Security = Security.PLAIN) -> Account:
        return Account(Endpoint("127.0.0.1", self.port, security, provider=provider), login, Secret(secret))

    def open(self, side: Side = Side.SOURCE, timeouts: Timeouts = QUICK, **account: str) -> Session:
        return Session.open(self.account(**account), LOOPBACK, side=side, timeouts=timeouts)  # type: ignore[arg-type]

    @contextmanager
    def session(self, side: Side = Side.SOURCE, timeouts: Timeouts = QUICK) -> Iterator[Session]:
        session = self.open(side, timeouts)
        try:
            yield session
        finally:
            session.close()

    def _serve(self) -> None:
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            conn.settimeout(10)
            peer = Peer(conn, self._capabilities, self._greeting)
            self.peers.append(peer)
            try:
                self._talk(peer)
                with contextlib.suppress(OSError, TimeoutError):
                    while data := conn.recv(65536):  # whatever else the client says is heard too
                        peer.heard += data
            except (EOFError, OSError):
                pass
            except BaseException as error:  # told to the test on exit
                self._failure = error
            finally:
                conn.close()

    def __enter__(self) -> Scripted:
        self._thread = threading.Thread(target=self._serve, name="scripted", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in self.peers:
            with contextlib.suppress(OSError):
                peer.conn.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        if error is None and self._failure is not None:
            raise self._failure
