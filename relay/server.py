"""The listeners, those who have not proved themselves yet, reload and drain.

Owns accepting: each connection is counted before its TLS handshake, so that a flood of half-done ones costs a bounded number of
sockets and drops the oldest of them, never a session. Always: a configuration is taken as a whole or not at all.
"""
from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections import Counter
from pathlib import Path

from relay.admission import Penalties, Places, neighbourhood
from relay.config import BadConfig, Listen, Problem, RelayConfig, authority
from relay.config_file import load_config
from relay.journal import Journal
from relay.leg import Leg
from relay.process import enough_files
from relay.session import CUT_SECONDS, Ending, Session
from relay.upstream import Resolver, watch_peer

BACKLOG = 256
ACCEPT_PAUSE = 0.1  # seconds, when the system has no descriptor left
TLS_SHUTDOWN_SECONDS = 30.0  # Leg.close sets the deadlines; this only keeps asyncio's from being shorter
_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def tls_context(config: RelayConfig) -> ssl.SSLContext | None:
    """The listeners' TLS: 1.2 or newer, HTTP/1.1. Raises BadConfig if certificate and key do not load together."""
    if config.certificate is None or config.key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(config.certificate, config.key, password=lambda: "")  # never ask at the terminal
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise BadConfig([Problem(str(config.path), "relay.certificate", f"证书与私钥不能一起使用：{why}",
                                 f"certificate and key cannot be used together: {why}",
                                 "PEM certificate chain and its unencrypted PEM key")]) from None
    return context


class Relay:
    """A running relay. Implements relay.session.House."""

    def __init__(self, config: RelayConfig, journal: Journal) -> None:
        self.config = config
        self.journal = journal
        self.places = Places()
        self.penalties = Penalties()
        self.resolver = Resolver()
        self.draining = False
        self.own_ports: frozenset[int] = frozenset()
        self._context = tls_context(config)
        self._listeners: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._unproved: dict[asyncio.Task[None], str] = {}  # in order of arrival
        self._unproved_by_source: Counter[str] = Counter()
        self._sessions: dict[Session, asyncio.Task[None]] = {}

    def open(self) -> list[str]:
        """Listens; returns the addresses. Raises BadConfig when one cannot be had."""
        enough_files(self.config)
        for listen in self.config.listen:
            try:
                self._listeners.append(_listening(listen))
            except OSError as error:
                self._close_listeners()
                key = "relay.listen" if listen.tls else "relay.listen_plaintext"
                problem = Problem(str(self.config.path), key, f"不能监听 {listen}：{error.strerror}",
                                  f"cannot listen on {listen}: {error.strerror}", "an address and port of this host that are free")
                raise BadConfig([problem]) from None
        places = [listener.getsockname()[:2] for listener in self._listeners]
        self.own_ports = frozenset(port for _, port in places)
        for listener, listen in zip(self._listeners, self.config.listen, strict=True):
            self._accepting.append(asyncio.get_running_loop().create_task(self._accept(listener, listen.tls)))
        return [authority(host, port) for host, port in places]

    # accepting

    async def _accept(self, listener: socket.socket, tls: bool) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in _SCARCE:
                    self._drop_oldest()
                    await asyncio.sleep(ACCEPT_PAUSE)
                continue
            self._admit(sock, str(address[0]), tls)
            await asyncio.sleep(0)  # sock_accept returns at once while the queue is full; the sessions want their turn

    def _admit(self, sock: socket.socket, source: str, tls: bool) -> None:
        limits = self.config.limits
        if self._unproved_by_source[neighbourhood(source)] >= limits.max_unauthenticated_per_address:
            sock.close()
            return
        if len(self._unproved) >= limits.max_unauthenticated:
            self._drop_oldest()
        task = asyncio.get_running_loop().create_task(self._serve(sock, source, self._context if tls else None))
        self._unproved[task] = neighbourhood(source)
        self._unproved_by_source[neighbourhood(source)] += 1
        task.add_done_callback(self._no_longer_unproved)

    def _drop_oldest(self) -> None:
        oldest = next(iter(self._unproved), None)
        if oldest is not None:
            self._no_longer_unproved(oldest)
            oldest.cancel()

    def _no_longer_unproved(self, task: asyncio.Task[None]) -> None:
        source = self._unproved.pop(task, None)
        if source is not None:
            self._unproved_by_source[source] -= 1
            if self._unproved_by_source[source] <= 0:
                del self._unproved_by_source[source]

    async def _serve(self, sock: socket.socket, source: str, context: ssl.SSLContext | None) -> None:
        loop, limits = asyncio.get_running_loop(), self.config.limits
        try:
            watch_peer(sock, limits.stall_seconds)
            sock.setblocking(False)
            _, leg = await loop.connect_accepted_socket(
                Leg, sock, ssl=context, ssl_handshake_timeout=limits.handshake_seconds if context else None,
                ssl_shutdown_timeout=TLS_SHUTDOWN_SECONDS if context else None)
        except OSError:  # no TLS, a cut handshake, a reset: nobody has said anything yet that could be answered
            sock.close()
            return
        session = Session(self, leg, source)
        task = asyncio.current_task()
        assert task is not None
        self._sessions[session] = task
        try:
            await session.run()
        finally:
            del self._sessions[session]

    def proved(self, session: Session) -> None:
        self._no_longer_unproved(self._sessions[session])

    # reload and drain

    def reload(self) -> None:
        """Reads the file again. A bad one is refused and the old one stays; sessions that it no longer allows end."""
        try:
            config = self._reloadable(self.config.path)
            context = tls_context(config)
            enough_files(config)
        except BadConfig as bad:
            self.journal.event("reload-refused", problems=[str(problem) for problem in bad.problems])
            return
        self.config, self._context = config, context
        self.journal.log_format = config.log_format
        ended = [session for session in self._sessions if not session.allowed_by(config)]
        for session in ended:
            session.end(Ending.REVOKED)
        self.journal.event("reload", clients=len(config.clients), upstreams=len(config.upstreams), revoked=len(ended))

    def _reloadable(self, path: Path) -> RelayConfig:
        config = load_config(path)
        if config.listen != self.config.listen:
            raise BadConfig([Problem(str(path), "relay.listen", "监听地址变了，要重启才行", "has changed, which needs a restart",
                                     "the listeners as they were, or a restart")])
        return config

    async def drain(self, cut: asyncio.Event) -> None:
        """Accepts nothing more; running sessions go on until they end, `drain_seconds` are over, or `cut` is set."""
        self.draining = True
        for task in self._accepting:
            task.cancel()
        self._close_listeners()
        self.journal.event("draining", sessions=len(self.places), seconds=self.config.limits.drain_seconds)
        for task in [task for task in self._unproved if task not in self._sessions.values()]:
            task.cancel()  # still in the TLS handshake
        cutting = asyncio.get_running_loop().create_task(cut.wait())
        running: set[asyncio.Task[None]] = set(self._sessions.values())
        deadline = asyncio.get_running_loop().time() + self.config.limits.drain_seconds
        while running and not cut.is_set() and asyncio.get_running_loop().time() < deadline:
            waiting: set[asyncio.Future[object]] = {*running, cutting}  # type: ignore[arg-type]
            await asyncio.wait(waiting, timeout=deadline - asyncio.get_running_loop().time(),
                               return_when=asyncio.FIRST_COMPLETED)
            running = {task for task in running if not task.done()}
        cutting.cancel()
        for session in list(self._sessions):
            session.end(Ending.DRAINED)
        if running:
            _, left = await asyncio.wait(running, timeout=2 * CUT_SECONDS)
            for task in left:
                task.cancel()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()


def _listening(listen: Listen) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in listen.host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind((listen.host, listen.port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
