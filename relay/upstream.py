"""From a listed upstream to a connected socket: one lookup, every address vetted, a vetted one dialled, the peer compared.

Only upstreams of the configuration come here, after their client has proved itself. Sends no octet. Always: a socket that is not
handed over is closed; every wait has a deadline.
"""
from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import threading
from collections.abc import Sequence

from engine.errors import EngineError
from engine.net.addresses import vet
from relay.config import Upstream, is_address
from relay.preface import Answer

LOOKUPS = 16  # at a time; each is a thread that the resolver may hold for its own timeout
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}  # a dead peer is found within 60 s (facts: relay 4)

Target = tuple[socket.AddressFamily, str]  # family, address literal


class DialFailed(Exception):
    """No connection; `answer` is what the client is told, the text is for the log."""

    def __init__(self, answer: Answer, detail: str) -> None:
        super().__init__(detail)
        self.answer = answer
        self.detail = detail


class Resolver:
    """getaddrinfo with a deadline. Threads are daemons: a resolver that hangs never holds the process at its end."""

    def __init__(self) -> None:
        self._running = asyncio.Semaphore(LOOKUPS)

    async def addresses(self, upstream: Upstream, seconds: float) -> list[Target]:
        """Every address of the upstream, in the system's order. Raises DialFailed."""
        if is_address(upstream.host):
            family = socket.AF_INET6 if ":" in upstream.host else socket.AF_INET
            return [(family, upstream.host)]
        try:
            async with asyncio.timeout(seconds):
                await self._running.acquire()  # released by the thread's end, not by ours: it outlives a timeout
                found = await self._look_up(upstream)
        except TimeoutError:
            raise DialFailed(Answer.DNS_TIMEOUT, "no answer in time") from None
        except OSError as error:
            raise DialFailed(Answer.DNS, type(error).__name__) from None
        if not found:
            raise DialFailed(Answer.DNS, "no address")
        return found

    def _look_up(self, upstream: Upstream) -> asyncio.Future[list[Target]]:
        loop = asyncio.get_running_loop()
        result: asyncio.Future[list[Target]] = loop.create_future()

        def settle(found: list[Target], error: OSError | None) -> None:
            self._running.release()
            if result.done():
                return
            if error is not None:
                result.set_exception(error)
            else:
                result.set_result(found)

        def work() -> None:
            found: list[Target] = []
            failure: OSError | None = None
            try:
                for family, _, _, _, address in socket.getaddrinfo(upstream.host, upstream.port, type=socket.SOCK_STREAM):
                    if family in (socket.AF_INET, socket.AF_INET6) and (family, str(address[0])) not in found:
                        found.append((family, str(address[0])))
            except (OSError, UnicodeError) as error:
                failure = error if isinstance(error, OSError) else OSError("name")
            try:
                loop.call_soon_threadsafe(settle, found, failure)
            except RuntimeError:  # the loop is closed; nobody waits any more
                return

        threading.Thread(target=work, name="lookup", daemon=True).start()
        return result


def vet_all(upstream: Upstream, targets: Sequence[Target], own_ports: frozenset[int]) -> None:
    """One address that must not be dialled refuses them all: a mixed answer is an attack or a mistake. Raises DialFailed."""
    for _, address in targets:
        try:
            vet(address, upstream.allowed_networks)
        except EngineError:
            raise DialFailed(Answer.ADDRESS_REFUSED, address) from None
        if upstream.port in own_ports and is_local(address):
            raise DialFailed(Answer.OWN_ADDRESS, address)


def is_local(address: str) -> bool:
    """Whether the address is one of this host: only such an address can be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


async def dial(targets: Sequence[Target], port: int, seconds: float) -> tuple[socket.socket, str]:
    """A connected, non-blocking socket and the address it leads to; the addresses are tried in turn within `seconds`.
    They must have been vetted. Raises DialFailed."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    failure = DialFailed(Answer.UNREACHABLE, "no address")
    for index, (family, address) in enumerate(targets):
        share = max((deadline - loop.time()) / (len(targets) - index), 0.001)
        try:
            async with asyncio.timeout(share):
                return await _connect(family, address, port), address
        except TimeoutError:
            failure = DialFailed(Answer.DIAL_TIMEOUT, address)
        except OSError as error:
            answer = Answer.REFUSED if error.errno == errno.ECONNREFUSED else Answer.UNREACHABLE
            failure = DialFailed(answer, f"{address} {errno.errorcode.get(error.errno or 0, 'error')}")
    raise failure


async def _connect(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
        peer, peer_port = sock.getpeername()[:2]
        if (ipaddress.ip_address(peer), peer_port) != (ipaddress.ip_address(address), port):
            raise DialFailed(Answer.PEER_MISMATCH, address)
    except BaseException:
        sock.close()
        raise
    return sock


def watch_peer(sock: socket.socket, stall_seconds: int) -> None:
    """Keepalive finds a dead peer on a quiet connection, the user timeout one that acknowledges nothing. The latter also ends a
    peer that keeps its window shut, so it is longer than a stall may last: the session ends that one and says why."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in (*KEEPALIVE.items(), ("TCP_USER_TIMEOUT", (stall_seconds + 30) * 1000)):
        option = getattr(socket, name, None)  # not every system has each of them
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
