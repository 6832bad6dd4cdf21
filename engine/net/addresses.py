"""Which addresses may be dialled. Own table: Python's ipaddress is no filter against server-side request forgery.

Source: facts, relay §4 row "address table" and reliability finding 10 (NAT64 loopback, 6to4 and multicast count as global there).
Always: an address that wraps another (v4-mapped, NAT64, 6to4, Teredo) is judged by what it wraps as well as by itself; `allowed`
opens parts of the table except multicast, unspecified and broadcast, which are refused for everybody.
"""
from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TypeAlias

from engine.causes import Cause
from engine.errors import EngineError

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

EVERYWHERE: tuple[Network, ...] = (ipaddress.IPv4Network("0.0.0.0/0"), ipaddress.IPv6Network("::/0"))

_NEVER: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text) for text in ("0.0.0.0/32", "224.0.0.0/4", "255.255.255.255/32", "::/128", "ff00::/8")
)
_DENIED: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
        "::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16",
        "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
    )
)  # fmt: skip
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")


def _inside(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _wrapped(address: Address) -> list[ipaddress.IPv4Address]:
    """IPv4 addresses that this IPv6 address leads to."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [inner for inner in (address.ipv4_mapped, address.sixtofour) if inner is not None]
    if address.teredo is not None:
        found += address.teredo
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 0xFFFF):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found


def _refuse(address: str, why: str) -> EngineError:
    return EngineError(Cause.ADDRESS_REFUSED, detail=f"{address} is {why}")


def vet(address: str, allowed: Iterable[Network]) -> None:
    """Raises EngineError(ADDRESS_REFUSED) unless `address` (a literal, no name) may be dialled. A zone index is refused."""
    networks = tuple(allowed)
    try:
        literal = ipaddress.ip_address(address)
    except ValueError:
        raise _refuse(address, "no plain address") from None
    if isinstance(literal, ipaddress.IPv6Address) and literal.scope_id is not None and not _inside(literal, networks):
        raise _refuse(address, "a link-local address")
    faces: list[Address] = [literal, *_wrapped(literal)]
    if any(_inside(face, _NEVER) for face in faces):
        raise _refuse(address, "a multicast, broadcast or unspecified address")
    if isinstance(literal, ipaddress.IPv6Address) and literal.ipv4_mapped is not None:
        faces = faces[1:]  # ::ffff:a.b.c.d is a.b.c.d in other clothes; the kernel dials the latter
    for face in faces:
        if _inside(face, _DENIED) and not _inside(face, networks):
            raise _refuse(address, "an internal or special address, not allowed for this route")
