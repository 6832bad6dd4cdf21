"""How many sessions run, and how long a refused token waits.

Owns the counts by client, by upstream and in all, and the penalty of an address that showed wrong tokens. Opens and closes nothing.
Always: a place that was taken is given back exactly once; both tables are bounded.
"""
from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict

from relay.config import Client, Limits, Upstream
from relay.preface import Answer

PENALTY_STEPS = (0.3, 2.0, 4.0, 8.0, 15.0)  # seconds; after Dovecot's 2-4-8-15 (facts: relay 4, "brute force")
PENALTY_MEMORY = 120.0  # seconds after the last failure until it is forgotten
PENALTY_ADDRESSES = 10_000


def neighbourhood(address: str) -> str:
    """What counts as one source: an IPv4 address, or the /64 of an IPv6 one (its user owns all of it)."""
    literal = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(literal, ipaddress.IPv4Address):
        return str(literal)
    if literal.ipv4_mapped is not None:
        return str(literal.ipv4_mapped)
    return str(ipaddress.IPv6Network((literal, 64), strict=False))


class Penalties:
    """Grows the delay of a source's refusals. A good token is never delayed: 256 bits are not guessed, and a worker may share
    its address with somebody who tries."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def fail(self, source: str, now: float) -> float:
        """Counts one failure; returns the seconds to wait before it is answered."""
        count, last = self._failures.pop(source, (0, now))
        if now - last > PENALTY_MEMORY:
            count = 0
        self._failures[source] = (count + 1, now)
        if len(self._failures) > PENALTY_ADDRESSES:
            self._failures.popitem(last=False)
        return PENALTY_STEPS[min(count, len(PENALTY_STEPS) - 1)]


class Places:
    """The sessions that run or are being dialled."""

    def __init__(self) -> None:
        self._clients: Counter[str] = Counter()
        self._upstreams: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._clients.total()

    def take(self, client: Client, upstream: Upstream, limits: Limits) -> Answer | None:
        """Takes a place, or says which cap is reached."""
        if len(self) >= limits.max_sessions:
            return Answer.SESSIONS
        if self._clients[client.id] >= client.max_connections:
            return Answer.CLIENT_CONNECTIONS
        if upstream.max_connections and self._upstreams[upstream.id] >= upstream.max_connections:
            return Answer.UPSTREAM_CONNECTIONS
        self._clients[client.id] += 1
        self._upstreams[upstream.id] += 1
        return None

    def give_back(self, client: Client, upstream: Upstream) -> None:
        for counts, name in ((self._clients, client.id), (self._upstreams, upstream.id)):
            counts[name] -= 1
            if counts[name] <= 0:
                del counts[name]
