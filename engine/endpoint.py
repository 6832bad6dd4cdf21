"""Which mailbox, on which server, by which road, with which secret.

Owns the types that name an account; holds the mask of a secret next to the secret. Parses account URLs.
Never prints, pickles or serialises a secret.
"""
from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NoReturn
from urllib.parse import unquote, urlsplit


class Security(StrEnum):
    """How the connection is protected. PLAIN never comes from a person's choice in the portal."""

    TLS = "tls"
    STARTTLS = "starttls"
    PLAIN = "plain"


SCHEMES = {"imaps": (Security.TLS, 993), "imap": (Security.STARTTLS, 143), "imap+plain": (Security.PLAIN, 143)}


class Secret:
    """A password or code. Shown as ***; cannot be pickled, copied into JSON or formatted."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    __hash__ = None  # type: ignore[assignment]  # a hash would let a secret be looked up in a dict

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret does not leave the process")


@dataclass(frozen=True)
class Endpoint:
    """A mail server. `ca_pem` replaces the system's trust roots; `pinned_sha256` (hex of the certificate's SubjectPublicKeyInfo)
    is the audited exception for one endpoint whose certificate cannot be verified by name and chain."""

    host: str
    port: int
    security: Security = Security.TLS
    ca_pem: str | None = None
    pinned_sha256: str | None = None
    provider: str | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Account:
    """One mailbox: its server, the login name there, the secret."""

    endpoint: Endpoint
    login: str
    secret: Secret = field(repr=False, compare=False)


@dataclass(frozen=True)
class RelayRoute:
    """A relay that dials for us. `token` is `rt1.<client>.<43 characters>`."""

    host: str
    port: int
    token: Secret = field(repr=False, compare=False)
    ca_pem: str | None = None


@dataclass(frozen=True)
class Route:
    """How a server is reached: directly, or through a relay; and which networks, otherwise denied, are allowed.

    `allowed_networks` opens parts of the deny table of engine/net/addresses.py (a lab, an intranet server).
    """

    relay: RelayRoute | None = None
    allowed_networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()


class BadAddress(ValueError):
    """An account URL that cannot be understood; the text says which part and what to write instead."""


_HOST = re.compile(r"^(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*$")


def host_name(text: str) -> str:
    """A host name or address, lower-cased, IDN encoded. Raises BadAddress."""
    host = text.strip().rstrip(".").lower()
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        host = host.encode("idna").decode("ascii")
    except UnicodeError:
        raise BadAddress(f"host: {text!r} is not a host name") from None
    if not _HOST.match(host):
        raise BadAddress(f"host: {text!r} is not a host name")
    return host


def parse_account_url(url: str) -> tuple[Endpoint, str]:
    """`imaps://user%40dom@host:port` -> (endpoint, login). The URL must hold no secret. Raises BadAddress."""
    if any(ord(c) < 32 or ord(c) == 127 for c in url):  # urlsplit would drop them without a word
        raise BadAddress("address: it holds a control character")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise BadAddress(f"host: {url!r} is not an address; an IPv6 address stands in [brackets]") from None
    if parts.scheme not in SCHEMES:
        raise BadAddress(f"scheme: write {', '.join(s + '://' for s in SCHEMES)}, not {parts.scheme or url!r}")
    if parts.password is not None:
        raise BadAddress("password: a secret never goes into the address; use a password file, the environment or the prompt")
    if not parts.username:
        raise BadAddress("user: write imaps://user%40example.com@host (an @ inside the name is %40)")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise BadAddress("path: nothing may follow the host and port")
    try:
        port = parts.port
    except ValueError:
        raise BadAddress("port: a number from 1 to 65535") from None
    security, default_port = SCHEMES[parts.scheme]
    return Endpoint(host_name(parts.hostname or ""), port or default_port, security), login_name(unquote(parts.username))


def login_name(text: str) -> str:
    """A login name free of control characters (they would end the command line). Raises BadAddress."""
    if not text or any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise BadAddress("user: the login name is empty or holds a control character")
    return text
