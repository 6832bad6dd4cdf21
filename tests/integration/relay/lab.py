"""A real relay process on loopback, servers behind it that count what reaches them, and a client that says exactly what it is told.

The relay runs with an audit hook that writes down every name it looks up and every address it dials: what a test proves about
packets is taken from there and from the servers, not from the relay's own words.
"""
from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from engine.endpoint import Secret
from relay.tokens import token_sha256
from tests.support.certificates import authority

ROOT = Path(__file__).parents[3]
SECONDS = 20.0  # the longest wait of a test for something that should come at once


def made_up(client: str) -> str:
    """A token that is the same in every process of a test run (it names parametrised tests)."""
    return f"rt1.{client}." + b64encode(sha256(client.encode()).digest(), b"-_").decode().rstrip("=")


TOKEN, OTHER_TOKEN, EXPIRED_TOKEN, FAR_TOKEN = (made_up(f"worker-{number}") for number in (1, 2, 3, 4))
_sources = itertools.count(1)

_WATCHED = """
import os, resource, sys
files = int(sys.argv.pop(1))
if files:
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
trail = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
def hook(event, arguments):
    if event == "socket.getaddrinfo":
        os.write(trail, f"lookup {arguments[0]}\\n".encode())
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        os.write(trail, f"dial {arguments[1]}\\n".encode())
sys.addaudithook(hook)
from relay.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


def fresh_source() -> str:
    """A loopback address that no other test connects from, so that penalties and caps by address stay apart."""
    number = next(_sources) + os.getpid() % 200 * 256
    return f"127.1.{number // 250 % 250}.{number % 250 + 1}"


@dataclass
class Upstream:
    id: str
    port: int
    host: str = "127.0.0.1"
    allowed: str = "127.0.0.0/8"
    extra: str = ""


@dataclass
class Settings:
    """What a test varies of a configuration."""

    upstreams: list[Upstream]
    limits: dict[str, int] = field(default_factory=dict)
    clients: str = ""
    worker: str = ""
    port: int = 0
    plain_port: int = 0

    def toml(self) -> str:
        names = json.dumps([one.id for one in self.upstreams])
        rows = [f'[relay]\nlisten = ["127.0.0.1:{self.port}"]\nlisten_plaintext = ["127.0.0.1:{self.plain_port}"]\n'
                'certificate = "relay.pem"\nkey = "relay.key"\n[limits]',
                *[f"{name} = {value}" for name, value in self.limits.items()],
                f'[[clients]]\nid = "worker-1"\ntoken_sha256 = "{sha(TOKEN)}"\nupstreams = {names}\n{self.worker}', self.clients]
        for one in self.upstreams:
            rows.append(f'[[upstreams]]\nid = "{one.id}"\nhost = "{one.host}"\nport = {one.port}\n'
                        + (f'allowed_networks = ["{one.allowed}"]\n' if one.allowed else "") + one.extra)
        return "\n".join(rows) + "\n"


def sha(token: str) -> str:
    return token_sha256(Secret(token))


class RelayProcess:
    """`python -m relay serve`, watched. `events` are its log lines."""

    def __init__(self, folder: Path, settings: Settings, files: int = 0) -> None:
        self.folder, self.settings = folder, settings
        self.config, self.trail_file = folder / "relay.toml", folder / "trail"
        self.events: list[dict[str, Any]] = []
        self.raw: list[str] = []
        self._news = threading.Condition()
        authority().issue().write(folder, "relay")
        self.write(settings)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _WATCHED, str(files), str(self.trail_file), "serve", "--config", str(self.config)],
            cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        threading.Thread(target=self._listen, daemon=True).start()
        ready = self.event("ready")
        self.port, self.plain_port = (int(place.rpartition(":")[2]) for place in ready["listen"])

    def write(self, settings: Settings) -> None:
        self.config.write_text(settings.toml())
        self.config.chmod(0o600)

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.raw.append(line)
                with contextlib.suppress(ValueError):
                    self.events.append(json.loads(line))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def event(self, name: str, matches: Callable[[dict[str, Any]], bool] = lambda row: True) -> dict[str, Any]:
        """The first log line of that name that matches, now or soon."""
        def found() -> dict[str, Any] | None:
            return next((row for row in self.events if row["event"] == name and matches(row)), None)

        with self._news:
            if not self._news.wait_for(lambda: found() is not None or self.process.poll() is not None, SECONDS) or found() is None:
                raise AssertionError(f"no event {name}; log:\n{''.join(self.raw)}")
            row = found()
            assert row is not None
            return row

    def trail(self) -> list[str]:
        """Every lookup and dial so far."""
        return self.trail_file.read_text().splitlines() if self.trail_file.exists() else []

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        assert "Traceback" not in "".join(self.raw) and not [row for row in self.events if row["event"] == "internal-error"], self.raw


@contextlib.contextmanager
def running_relay(folder: Path, settings: Settings, *, files: int = 0) -> Iterator[RelayProcess]:
    """`files`: the hard limit of descriptors, 0 for the system's."""
    relay = RelayProcess(folder, settings, files)
    try:
        yield relay
    finally:
        relay.stop()


# the client


@dataclass
class Response:
    status: int
    headers: dict[str, str]

    @property
    def error(self) -> str:
        return self.headers.get("relay-error", "")


def open_tls(relay: RelayProcess, source: str | None = None) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", relay.port), SECONDS, source_address=(source or fresh_source(), 0))
    context = ssl.create_default_context(cadata=authority().pem)
    try:
        return context.wrap_socket(raw, server_hostname="localhost")
    except OSError:
        raw.close()
        raise


def open_plain(relay: RelayProcess, source: str | None = None) -> socket.socket:
    return socket.create_connection(("127.0.0.1", relay.plain_port), SECONDS, source_address=(source or fresh_source(), 0))


def preface(target: str, *headers: str, token: str | None = TOKEN) -> bytes:
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", *headers]
    if token is not None:
        lines.append(f"Proxy-Authorization: Bearer {token}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def read_response(sock: socket.socket) -> Response:
    octets = b""
    while not octets.endswith(b"\r\n\r\n"):
        part = sock.recv(1)
        if not part:
            raise AssertionError(f"the relay closed after {octets!r}")
        octets += part
    first, *lines = octets.decode("ascii").removesuffix("\r\n\r\n").split("\r\n")
    return Response(int(first.split(" ")[1]), {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)})


def rest_until_end(sock: socket.socket) -> bytes:
    """What still comes before the end; a reset is an end too."""
    octets = b""
    with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
        while part := sock.recv(65536):
            octets += part
    return octets


def ask(relay: RelayProcess, octets: bytes, source: str | None = None) -> Response:
    """One request on a connection of its own; checks that nothing but the head comes and the connection ends."""
    with open_tls(relay, source) as sock:
        sock.sendall(octets)
        response = read_response(sock)
        assert response.status == 200 or rest_until_end(sock) == b""
        return response


def tunnel(relay: RelayProcess, target: str, *headers: str, sni: str | None = "localhost", source: str | None = None) -> ssl.SSLSocket:
    """TLS with the upstream through a tunnel, over the relay's plaintext listener (TLS inside TLS is the engine's to test)."""
    raw = open_plain(relay, source)
    try:
        raw.sendall(preface(target, *headers))
        response = read_response(raw)
        assert response.status == 200, response
        context = ssl.create_default_context(cadata=authority().pem)
        context.check_hostname = False  # the name is varied here on purpose
        return context.wrap_socket(raw, server_hostname=sni)
    except BaseException:
        raw.close()
        raise


# the servers behind the relay


class Counting:
    """A TCP listener: counts connections and keeps what comes. `serve` handles one connection."""

    def __init__(self) -> None:
        self.connections = 0
        self.received = bytearray()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self.listener.getsockname()[1]
        self._news = threading.Condition()
        self.closing = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with self._news:
                self.connections += 1
                self._news.notify_all()
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            self.serve(sock)

    def serve(self, sock: socket.socket) -> None:
        while part := sock.recv(65536):
            self.received += part

    def wait_for(self, connections: int) -> None:
        with self._news:
            assert self._news.wait_for(lambda: self.connections >= connections, SECONDS), self.connections

    def close(self) -> None:
        self.closing.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Speaking(Counting):
    """Speaks before it is spoken to, as a mail server on a plaintext port does."""

    def serve(self, sock: socket.socket) -> None:
        sock.sendall(b"* OK hello in plaintext\r\n")
        super().serve(sock)


class Tls(Counting):
    """A TLS server: echoes, or after `FLOOD` sends that many octets and closes."""

    def serve(self, sock: socket.socket) -> None:
        with server_context().wrap_socket(sock, server_side=True) as tls:
            while part := tls.recv(65536):
                if part.startswith(b"FLOOD "):
                    self.flood(tls, int(part.split()[1]))
                    return
                tls.sendall(part)

    @staticmethod
    def flood(tls: ssl.SSLSocket, octets: int) -> None:
        block = bytes(range(256)) * 256
        while octets > 0:
            tls.sendall(block[:min(octets, len(block))])
            octets -= len(block)


@cache
def server_context() -> ssl.SSLContext:
    with tempfile.TemporaryDirectory() as folder:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority().issue().write(Path(folder)))
    return context


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Waits for something that only another process can make true and tells nobody."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
