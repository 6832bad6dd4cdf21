"""The one place where outgoing connections are made: resolve once, vet every answer, connect to a vetted one.

Must not: resolve a name twice, connect to an address that was not vetted, follow a redirect.
Always: one bad address among the answers refuses them all (DNS rebinding: facts, relay §4); the peer's address is compared after
the connect; each step has a deadline, the resolver too.
"""
from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from engine.causes import Cause, Side
from engine.endpoint import Account, RelayRoute, Route
from engine.errors import ConnectionBroken, EngineError, Refused
from engine.net import preface, tls
from engine.net.addresses import EVERYWHERE, vet
from engine.net.stream import Stream, Transport, keep_alive

PER_ADDRESS = 5.0  # seconds for one address while others are left (IPv6 that leads nowhere is common)


class Target(NamedTuple):
    """One vetted address. `sockaddr` is what the socket module wants."""

    family: socket.AddressFamily
    sockaddr: tuple[str, int] | tuple[str, int, int, int]

    @property
    def address(self) -> str:
        return self.sockaddr[0]


def resolve(host: str, port: int, route: Route, *, timeout: float, side: Side = Side.SOURCE) -> list[Target]:
    """Every address of `host`, all vetted. Raises ADDRESS_REFUSED if one of them is not allowed, DNS_CONNECT if there is none."""
    return _resolve(host, port, timeout, side, lambda address: vet(address, route.allowed_networks))


def _resolve(host: str, port: int, timeout: float, side: Side, check: Callable[[str], None]) -> list[Target]:
    answers: list[list[Target] | OSError] = []
    answered = threading.Event()

    def ask() -> None:
        try:
            told = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
            answers.append([Target(family, sockaddr) for family, _, _, _, sockaddr in told])  # type: ignore[arg-type]  # of AF_INET and AF_INET6
        except OSError as error:
            answers.append(error)
        except UnicodeError:
            answers.append(socket.gaierror(socket.EAI_NONAME, "not a host name"))
        answered.set()

    # getaddrinfo knows the hosts file and the system's resolvers but no deadline; a late answer of the thread goes nowhere.
    threading.Thread(target=ask, name="resolve", daemon=True).start()
    if not answered.wait(timeout):
        raise ConnectionBroken(Cause.DNS_CONNECT, side=side, detail=f"the name {host} was not resolved in time")
    found = answers[0]
    if isinstance(found, OSError):
        detail = f"the name {host} cannot be resolved"
        if isinstance(found, socket.gaierror) and found.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None)):
            raise Refused(Cause.DNS_CONNECT, side=side, detail=detail)
        raise ConnectionBroken(Cause.DNS_CONNECT, side=side, detail=detail)
    targets = list(dict.fromkeys(found))
    for target in targets:
        try:
            check(target.address)
        except EngineError as error:
            error.side = side
            raise
    if not targets:
        raise Refused(Cause.DNS_CONNECT, side=side, detail=f"the name {host} has no address")
    return targets


def connect(targets: list[Target], *, timeout: float, side: Side = Side.SOURCE) -> socket.socket:
    """A connected non-blocking socket to the first target that answers, tried in order within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    why = "no address"
    for index, target in enumerate(targets):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        last = index == len(targets) - 1
        try:
            return _connect_one(target, left if last else min(left, PER_ADDRESS))
        except OSError as error:
            why = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or type(error).__name__
    raise ConnectionBroken(Cause.DNS_CONNECT, side=side, detail=f"no connection: {why}")


def _connect_one(target: Target, timeout: float) -> socket.socket:
    sock = socket.socket(target.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect(target.sockaddr)
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        if not poll.poll(timeout * 1000):
            raise TimeoutError
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))
        if sock.getpeername()[0].split("%")[0] != target.address.split("%")[0]:
            raise OSError(0, "the peer has another address than was dialled")
        keep_alive(sock)
    except OSError:
        sock.close()
        raise
    return sock


def _to_relay(host: str, port: int, relay: RelayRoute, timeout: float, side: Side, account: str) -> Transport:
    """Through a relay: TLS to it, CONNECT, and from then on the octets are the far server's."""
    deadline = time.monotonic() + timeout

    def unreachable(detail: str) -> ConnectionBroken:
        return ConnectionBroken(Cause.RELAY_UNREACHABLE, side=side, detail=detail)

    try:
        # The relay is the operator's own machine and proves itself by its certificate: it may stand in a private network.
        targets = _resolve(relay.host, relay.port, timeout, side, lambda address: vet(address, EVERYWHERE))
        sock = connect(targets, timeout=max(0.1, deadline - time.monotonic()), side=side)
    except EngineError as error:
        raise unreachable(f"relay {relay.host}:{relay.port}: {error.detail}") from None
    stream = Stream(sock, side=side, idle=max(0.1, deadline - time.monotonic()))
    stream.limit(max(0.1, deadline - time.monotonic()))
    try:
        context = tls.verifying_context(relay.ca_pem)
        context.set_alpn_protocols(["http/1.1"])
        stream.start_tls(context, relay.host)
    except (EngineError, OSError, ValueError) as error:
        stream.close()
        raise unreachable(f"relay {relay.host}:{relay.port}: {getattr(error, 'detail', '') or 'its roots cannot be read'}") from None
    preface.connect_through(stream, host, port, relay.token, account=account)
    return stream.release()


def dial(host: str, port: int, route: Route, *, timeout: float, side: Side = Side.SOURCE, account: str = "",
         on_resolved: Callable[[], None] | None = None) -> Transport:
    """A non-blocking connection to `host`:`port`, directly or through the route's relay. `account` is the pacing key a relay is told
    (`pacing_key`), never a login. `on_resolved` is called between name and connect (through a relay: the relay resolves)."""
    if route.relay is not None:
        if on_resolved is not None:
            on_resolved()
        return _to_relay(host, port, route.relay, timeout, side, account)
    started = time.monotonic()
    targets = resolve(host, port, route, timeout=timeout, side=side)
    if on_resolved is not None:
        on_resolved()
    return connect(targets, timeout=max(0.1, timeout - (time.monotonic() - started)), side=side)


def pacing_key(account: Account) -> str:
    """What a relay is told about a mailbox: the same for the same mailbox, and not its name."""
    return preface.account_hash(account.endpoint.host, account.login)
