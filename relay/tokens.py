"""Tokens: how one is made, and whether one that was shown is good.

A token is `rt1.<client-id>.<43 base64url characters>`, 256 random bits, so a plain SHA-256 is all that is stored of it. Comparison
takes the same time for every outcome; why one was refused is for the log only, never for the client.
"""
from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from engine.endpoint import Secret
from relay.config import Client, RelayConfig

TOKEN = re.compile(r"rt1\.([a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?)\.[A-Za-z0-9_-]{43}")
_NOBODY = hashlib.sha256(secrets.token_bytes(32)).hexdigest()  # compared with when there is no such client


class Denied(StrEnum):
    """Why a token was refused."""

    MISSING = "missing"
    UNKNOWN_CLIENT = "unknown-client"
    WRONG_TOKEN = "wrong-token"  # a word for the log
    EXPIRED = "expired"
    SOURCE = "source-network"


@dataclass(frozen=True)
class Grant:
    """A client that has proved itself, and by which of its tokens."""

    client: Client
    token_sha256: str = field(repr=False)


def new_token(client_id: str) -> Secret:
    token = f"rt1.{client_id}.{secrets.token_urlsafe(32)}"
    if not TOKEN.fullmatch(token):
        raise ValueError(f"{client_id!r} is not 1 to 32 lower-case letters, digits or inner hyphens")
    return Secret(token)


def token_sha256(token: Secret) -> str:
    return hashlib.sha256(token.reveal().encode()).hexdigest()


def authenticate(config: RelayConfig, token: Secret | None, source: str, now: datetime) -> Grant | Denied:
    """Who shows this token from this address, if it is good now."""
    shown = token.reveal() if token is not None else ""
    form = TOKEN.fullmatch(shown)
    client = config.clients.get(form[1]) if form else None
    digest = hashlib.sha256(shown.encode()).hexdigest()
    matches = [hmac.compare_digest(digest, known) for known in (client.token_hashes if client else (_NOBODY,))]
    if token is None:
        return Denied.MISSING
    if client is None:
        return Denied.UNKNOWN_CLIENT
    if not any(matches):
        return Denied.WRONG_TOKEN
    if client.expires is not None and client.expires <= now:
        return Denied.EXPIRED
    if client.sources and not any(_inside(source, network) for network in client.sources):
        return Denied.SOURCE
    return Grant(client, digest)


def still_good(config: RelayConfig, grant: Grant) -> bool:
    """Whether a configuration read later still knows this token."""
    client = config.clients.get(grant.client.id)
    return client is not None and grant.token_sha256 in client.token_hashes


def _inside(source: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    address = ipaddress.ip_address(source.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address) in network
