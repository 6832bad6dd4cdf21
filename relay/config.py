"""What the relay is told: listeners, limits, clients, upstreams; and what is said when it is told wrongly.

Owns the meaning, defaults and bounds of every key; relay/config_file.py fills these types from the file. Once made, a
configuration never changes: a reload makes another one. Opens no socket, asks no DNS.
"""
from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PLAIN_PORTS = frozenset({110, 143})  # a tunnel carries TLS from its first octet (facts: relay 2c)


@dataclass(frozen=True)
class Problem:
    """One fault in a configuration. `write` is an example of what would be right."""

    file: str
    key: str
    zh: str
    en: str
    write: str

    def __str__(self) -> str:
        return f"{self.file}: {self.key}: {self.zh} / {self.en}; 请写 / write: {self.write}"


class BadConfig(Exception):
    """The file cannot be used; `problems` names every reason."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


@dataclass(frozen=True)
class Limit:
    """A number of the [limits] table: what it is when left out, and between which values it may lie."""

    default: int
    low: int
    high: int


LIMITS: Mapping[str, Limit] = {
    "max_sessions": Limit(500, 1, 20_000),
    "max_unauthenticated": Limit(256, 1, 20_000),
    "max_unauthenticated_per_address": Limit(64, 1, 20_000),
    "handshake_seconds": Limit(10, 1, 60),
    "preface_seconds": Limit(5, 1, 60),
    "dial_seconds": Limit(10, 1, 60),
    "hello_seconds": Limit(10, 1, 60),
    "idle_seconds": Limit(1800, 1, 86_400),  # RFC 9051 §5.4: not less than 30 minutes; RFC 2177: IDLE is renewed every 29
    "stall_seconds": Limit(300, 1, 3600),
    "drain_seconds": Limit(30, 0, 3600),
}


@dataclass(frozen=True)
class Limits:
    max_sessions: int = LIMITS["max_sessions"].default
    max_unauthenticated: int = LIMITS["max_unauthenticated"].default
    max_unauthenticated_per_address: int = LIMITS["max_unauthenticated_per_address"].default
    handshake_seconds: int = LIMITS["handshake_seconds"].default
    preface_seconds: int = LIMITS["preface_seconds"].default
    dial_seconds: int = LIMITS["dial_seconds"].default
    hello_seconds: int = LIMITS["hello_seconds"].default
    idle_seconds: int = LIMITS["idle_seconds"].default
    stall_seconds: int = LIMITS["stall_seconds"].default
    drain_seconds: int = LIMITS["drain_seconds"].default


@dataclass(frozen=True)
class Listen:
    """An address to listen on, always an IP literal; without TLS only a loopback one."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return authority(self.host, self.port)


@dataclass(frozen=True)
class Client:
    """Who may use the relay, and for what. `token_hashes`: SHA-256 (hex) of each token that is good; two while one is replaced."""

    id: str
    token_hashes: tuple[str, ...] = field(repr=False)
    upstreams: frozenset[str] = frozenset()
    expires: datetime | None = None
    sources: tuple[Network, ...] = ()
    max_connections: int = 32


@dataclass(frozen=True)
class Upstream:
    """A mail server that clients may name by exactly `host` and `port`. `allowed_networks` opens the deny table for it alone."""

    id: str
    host: str
    port: int
    allowed_networks: tuple[Network, ...] = ()
    server_name: str | None = None
    max_connections: int = 0  # 0: no cap of its own

    @property
    def expected_sni(self) -> str | None:
        """The name that a TLS ClientHello must carry; None: it must carry none (RFC 6066 §3 allows no address there)."""
        return self.server_name or (None if is_address(self.host) else self.host)


@dataclass(frozen=True)
class RelayConfig:
    path: Path
    listen: tuple[Listen, ...]
    certificate: Path | None
    key: Path | None
    log_format: str
    limits: Limits
    clients: Mapping[str, Client] = field(repr=False)
    upstreams: Mapping[str, Upstream] = field(repr=False)

    def upstream_for(self, client: Client, host: str, port: int) -> Upstream | None:
        """The upstream of that name and port, if this client may use it."""
        for name in client.upstreams:
            upstream = self.upstreams[name]
            if (upstream.host, upstream.port) == (host, port):
                return upstream
        return None


def authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def warnings(config: RelayConfig, now: datetime) -> list[Problem]:
    """What is allowed but will not work as somebody may expect."""
    found = []
    for client in config.clients.values():
        if client.expires is not None and client.expires <= now:
            found.append(Problem(str(config.path), f"clients.{client.id}.expires", "已过期，此客户端会被拒绝",
                                 "is past; this client is refused", "expires = 2030-01-01T00:00:00Z"))
    for upstream in config.upstreams.values():
        if upstream.port in PLAIN_PORTS:
            found.append(Problem(str(config.path), f"upstreams.{upstream.id}.port", "tunnel 模式不能用于明文/STARTTLS 端口",
                                 "mode tunnel is refused on a port that begins in plaintext", "port = 993"))
    return found
