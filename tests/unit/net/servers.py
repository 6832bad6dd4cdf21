"""Small real servers on 127.0.0.1 for the tests of dialling, TLS and the relay's preface."""
from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.endpoint import Route
from portal.demo.certificates import ServerCertificate

LOOPBACK = Route(allowed_networks=(ipaddress.IPv4Network("127.0.0.0/8"),))
Talk = Callable[[socket.socket], None]


def server_context(certificate: ServerCertificate, *, newest: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        context.load_cert_chain(*certificate.write(Path(directory)))
    if newest is not None:
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = newest
        context.set_ciphers("ALL:@SECLEVEL=0")
    return context


@contextmanager
def listening(talk: Talk) -> Iterator[tuple[int, list[int]]]:
    """Runs `talk` for each connection, in a thread; gives the port and a list that grows by one per connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    accepted: list[int] = []

    def one(conn: socket.socket) -> None:
        with contextlib.suppress(OSError), conn:
            conn.settimeout(10)
            talk(conn)

    def run() -> None:
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            accepted.append(1)
            threading.Thread(target=one, args=(conn,), daemon=True).start()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], accepted
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def pump(one: socket.socket, other: socket.socket) -> None:
    """Copies both ways until one side ends."""

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    back = threading.Thread(target=copy, args=(other, one), daemon=True)
    back.start()
    copy(one, other)
    back.join(5)


def read_until(conn: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        octet = conn.recv(1)
        if not octet:
            break
        data += octet
    return data
