"""One client's connection from its first octet to its last: preface, token, list, address, dial, hello, tunnel.

Owns the order of the steps, which is the relay's whole security (facts: relay 0.3): no lookup before the token and the list, no
dial before every address is vetted, no octet to the upstream before the ClientHello. Never sees a mailbox's secret: mode tunnel
is TLS from end to end. Always: one line in the log at the end, and every place and socket given back.
"""
from __future__ import annotations

import asyncio
import itertools
import math
import socket
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from relay.admission import Penalties, Places, neighbourhood
from relay.client_hello import HELLO_CAP, UNRECOGNIZED_NAME, NotTls, read_client_hello
from relay.config import PLAIN_PORTS, RelayConfig, Upstream
from relay.journal import Journal
from relay.leg import Leg
from relay.preface import END, PREFACE_CAP, Answer, BadPreface, Request, acceptance, parse_request, refusal
from relay.tokens import Denied, Grant, authenticate, still_good
from relay.upstream import DialFailed, Resolver, dial, vet_all, watch_peer

LINGER_SECONDS = 0.25  # after a refusal: what the client still sends is read, so that a reset does not overtake the answer
FLUSH_SECONDS = 30.0   # for what is still due to one side when the other has ended
CUT_SECONDS = 1.0      # for the goodbye of a session that we end
T = TypeVar("T")
_numbers = itertools.count(1)


class Ending(StrEnum):
    """Why a session ended (docs/relay.md lists them all)."""

    CLIENT_CLOSED = "client-closed"
    UPSTREAM_CLOSED = "upstream-closed"
    CLIENT_LOST = "client-lost"
    UPSTREAM_LOST = "upstream-lost"
    IDLE = "idle"
    CLIENT_STALLED = "client-stalled"
    UPSTREAM_STALLED = "upstream-stalled"
    HELLO_TIMEOUT = "hello-timeout"
    NOT_TLS = "not-tls"
    SNI_MISMATCH = "sni-mismatch"
    REVOKED = "revoked"
    EXPIRED = "expired"
    DRAINED = "drained"


_BY_PEERS = frozenset({Ending.CLIENT_CLOSED, Ending.UPSTREAM_CLOSED, Ending.CLIENT_LOST, Ending.UPSTREAM_LOST})


class House(Protocol):
    """What a session needs of the relay it runs in."""

    config: RelayConfig
    journal: Journal
    places: Places
    penalties: Penalties
    resolver: Resolver
    draining: bool
    own_ports: frozenset[int]

    def proved(self, session: Session) -> None:
        """The session's token is good; it no longer counts among the unproved."""


class _Refused(Exception):
    """The preface is answered with a refusal. `why` is for the log."""

    def __init__(self, answer: Answer, why: str | None = None) -> None:
        super().__init__(answer.code)
        self.answer = answer
        self.why = why


class _Ended(Exception):
    """The session is over; why stands in its `ending`."""


@dataclass
class _Tunnel:
    """What is known once the preface is accepted."""

    grant: Grant
    request: Request
    upstream: Upstream
    address: str | None = None
    accepted: bool = False


class Session:
    """`source` is the address of the client's end of the connection."""

    def __init__(self, house: House, client: Leg, source: str) -> None:
        self._house = house
        self._client = client
        self._server: Leg | None = None
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[Ending] = self._loop.create_future()
        self._tunnel: _Tunnel | None = None
        self._grant: Grant | None = None
        self._began = self._loop.time()
        self.number = next(_numbers)
        self.source = source

    def end(self, ending: Ending) -> None:
        """Ends the session from outside, or notes why it ended; the first reason stays."""
        if not self._over.done():
            self._over.set_result(ending)

    def allowed_by(self, config: RelayConfig) -> bool:
        """Whether a configuration read later still allows what this session does."""
        if self._tunnel is None:
            return self._grant is None or still_good(config, self._grant)
        upstream, client_id = self._tunnel.upstream, self._tunnel.grant.client.id
        return still_good(config, self._tunnel.grant) and config.upstream_for(
            config.clients[client_id], upstream.host, upstream.port) is not None

    async def run(self) -> None:
        """Serves the connection to its end. Cancelled: the connection is cut."""
        watch = self._loop.create_task(self._watch(self._client, Ending.CLIENT_CLOSED, Ending.CLIENT_LOST))
        try:
            await self._serve()
        except _Refused as refused:
            await self._refuse(refused)
        except _Ended:
            self._log(None, None)
        finally:
            watch.cancel()
            self._client.abort()

    async def _serve(self) -> None:
        request = await self._read_request()
        grant = await self._prove(request)
        self._house.proved(self)
        upstream = self._choose(request, grant)
        full = self._house.places.take(grant.client, upstream, self._house.config.limits)
        if full is not None:
            raise _Refused(full)
        self._tunnel = _Tunnel(grant, request, upstream)
        try:
            await self._connect_and_carry(self._tunnel)
        finally:
            self._house.places.give_back(grant.client, upstream)

    # the steps before the dial

    async def _read_request(self) -> Request:
        try:
            head = await self._or_over(self._head(), self._house.config.limits.preface_seconds)
        except TimeoutError:
            raise _Refused(Answer.TIMEOUT) from None
        try:
            return parse_request(head)
        except BadPreface as bad:
            raise _Refused(Answer.MALFORMED, bad.why) from None

    async def _head(self) -> bytes:
        """The preface through its blank line; what follows stays held: it belongs to the tunnel."""
        while True:
            end = self._client.held.find(END)
            if end + len(END) > PREFACE_CAP or (end < 0 and len(self._client.held) >= PREFACE_CAP):
                raise _Refused(Answer.TOO_LARGE)
            if end >= 0:
                head = bytes(self._client.held[:end + len(END)])
                del self._client.held[:end + len(END)]
                self._client.received = len(self._client.held)  # what is counted are the tunnel's octets
                return head
            await self._client.news()

    async def _prove(self, request: Request) -> Grant:
        """Every failed proof looks the same from outside: one text, after a delay that grows with the failures of its source."""
        outcome = authenticate(self._house.config, request.token, self.source, datetime.now(UTC))
        if isinstance(outcome, Denied):
            delay = self._house.penalties.fail(neighbourhood(self.source), self._loop.time())
            await self._or_over(asyncio.sleep(delay), None)
            raise _Refused(Answer.TOKEN, outcome.value)
        self._grant = outcome
        return outcome

    def _choose(self, request: Request, grant: Grant) -> Upstream:
        if self._house.draining:
            raise _Refused(Answer.DRAINING)
        if request.mode != "tunnel":
            raise _Refused(Answer.MODE_NOT_BUILT if request.mode in ("imap", "pop3") else Answer.MODE)
        if request.ttl == 0:
            raise _Refused(Answer.TTL)
        upstream = self._house.config.upstream_for(grant.client, request.host, request.port)
        if upstream is None:
            raise _Refused(Answer.NOT_ALLOWED, f"{request.host}:{request.port}")
        if upstream.port in PLAIN_PORTS:
            raise _Refused(Answer.PLAIN_PORT)
        return upstream

    # the tunnel

    async def _connect_and_carry(self, tunnel: _Tunnel) -> None:
        limits = self._house.config.limits
        try:
            targets = await self._or_over(self._house.resolver.addresses(tunnel.upstream, limits.dial_seconds), None)
            vet_all(tunnel.upstream, targets, self._house.own_ports)
            sock, address = await self._or_over(dial(targets, tunnel.upstream.port, limits.dial_seconds), None)
        except DialFailed as failed:
            raise _Refused(failed.answer, failed.detail) from None
        tunnel.address = address
        self._server = server = await self._lay(sock)
        watch = self._loop.create_task(self._watch(server, Ending.UPSTREAM_CLOSED, Ending.UPSTREAM_LOST))
        try:
            self._client.write(acceptance(tunnel.request.mode, address))
            tunnel.accepted = True
            await self._check_hello(tunnel.upstream, limits.hello_seconds)
            self._client.pass_on_to(server)
            server.pass_on_to(self._client)
            await self._carry(server, tunnel.grant)
        finally:
            watch.cancel()
            await self._close(server)

    async def _lay(self, sock: socket.socket) -> Leg:
        try:
            watch_peer(sock, self._house.config.limits.stall_seconds)
            _, leg = await self._loop.create_connection(Leg, sock=sock)
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError):  # reset between the dial and now
                raise _Refused(Answer.UNREACHABLE, type(error).__name__) from None
            raise
        return leg

    async def _check_hello(self, upstream: Upstream, seconds: float) -> None:
        """Until this returns, nothing has gone to the upstream."""
        try:
            name = await self._or_over(self._server_name(), seconds)
        except TimeoutError:
            self.end(Ending.HELLO_TIMEOUT)
            raise _Ended from None
        except NotTls:
            self.end(Ending.NOT_TLS)
            raise _Ended from None
        if name != upstream.expected_sni:
            self._client.write(UNRECOGNIZED_NAME)
            self.end(Ending.SNI_MISMATCH)
            raise _Ended

    async def _server_name(self) -> str | None:
        while True:
            hello = read_client_hello(self._client.held)
            if hello is not None:
                return hello.server_name
            if len(self._client.held) > 2 * HELLO_CAP:  # records of an octet each
                raise NotTls("ClientHello in too many records")
            await self._client.news()

    async def _carry(self, server: Leg, grant: Grant) -> None:
        """The legs pass octets to each other; this only watches the clocks."""
        limits = self._house.config.limits
        while not self._over.done():
            now = self._loop.time()
            idle_left = max(self._client.heard_at, server.heard_at) + limits.idle_seconds - now
            expires = self._house.config.clients.get(grant.client.id, grant.client).expires
            expiry_left = (expires - datetime.now(UTC)).total_seconds() if expires else math.inf
            for leg, ending in ((self._client, Ending.CLIENT_STALLED), (server, Ending.UPSTREAM_STALLED)):
                if leg.stalled_at is not None and now - leg.stalled_at >= limits.stall_seconds:
                    self.end(ending)
            if expiry_left <= 0:
                self.end(Ending.EXPIRED)
            if idle_left <= 0:
                self.end(Ending.IDLE)
            pause = max(min(idle_left, expiry_left, limits.stall_seconds / 4), 0.01)
            await asyncio.wait({self._over}, timeout=pause)
        raise _Ended

    # waiting and ending

    async def _or_over(self, work: Coroutine[Any, Any, T], seconds: float | None) -> T:
        """The result of `work`. Raises TimeoutError after `seconds`, _Ended when the session is over first."""
        task = self._loop.create_task(work)
        either: set[asyncio.Future[Any]] = {task, self._over}
        try:
            await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise _Ended if self._over.done() else TimeoutError
        finally:
            task.cancel()

    async def _watch(self, leg: Leg, closed: Ending, lost: Ending) -> None:
        await leg.ended.wait()
        self.end(lost if leg.broken else closed)

    async def _close(self, server: Leg) -> None:
        """Ends both sides. What one side sent before its end still reaches the other; a session that we cut gets a moment."""
        ending = self._over.result() if self._over.done() else Ending.DRAINED
        seconds = FLUSH_SECONDS if ending in _BY_PEERS else CUT_SECONDS
        for leg in (self._client, server):
            leg.close(seconds)
        await self._client.lost.wait()
        await server.lost.wait()

    async def _refuse(self, refused: _Refused) -> None:
        self._client.drop()
        self._client.write(refusal(refused.answer))
        self._log(refused.answer, refused.why)
        await asyncio.wait({self._over}, timeout=LINGER_SECONDS)
        self._client.close(CUT_SECONDS)
        await self._client.lost.wait()

    def _log(self, answer: Answer | None, why: str | None) -> None:
        if answer is None and self._tunnel is None:
            return  # gone before it asked for anything: nothing to tell
        tunnel, server = self._tunnel, self._server
        ending = self._over.result().value if self._over.done() else None
        status = answer.status if answer else 200 if tunnel and tunnel.accepted else None
        self._house.journal.event(
            "session" if answer is None else "refused", session=self.number, source=self.source,
            client=self._grant.client.id if self._grant else None,
            upstream=tunnel.upstream.id if tunnel else None,
            peer_session=tunnel.request.session if tunnel else None,
            account=tunnel.request.account if tunnel else None,
            address=tunnel.address if tunnel else None,
            status=status,
            reason=answer.code if answer else ending, detail=why,
            bytes_up=self._client.received if answer is None else None,
            bytes_down=server.received if server and answer is None else None,
            seconds=round(self._loop.time() - self._began, 3))
