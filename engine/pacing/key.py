"""Whose pace it is: one account, at one provider, reached by one road.

Always: an account is named by a hash, so that no address stands in a shared store; what a server holds against us it holds against an
account or an address of ours, so both are in the key.
"""
from __future__ import annotations

from typing import NamedTuple

from engine.endpoint import Account, Route
from engine.net.preface import account_hash
from engine.providers.detect import by_host

DIRECT = "direct"


class PaceKey(NamedTuple):
    """`provider` is its key, or the host of a server that is nobody's; `account` 32 hex digits; `egress` "direct" or the relay's host."""

    provider: str
    account: str
    egress: str = DIRECT

    @classmethod
    def of(cls, account: Account, route: Route) -> PaceKey:
        host = account.endpoint.host
        named = account.endpoint.provider
        provider = named if named and named != "generic" else by_host(host) or host
        return cls(provider, account_hash(host, account.login), route.relay.host if route.relay else DIRECT)

    def __str__(self) -> str:
        return f"{self.provider}:{self.account}:{self.egress}"
