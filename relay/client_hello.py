"""Reads the name out of a TLS ClientHello, and nothing else out of a tunnel.

Owns the rule that a tunnel begins with a TLS handshake (RFC 8446 §4.1.2, §5.1; RFC 6066 §3). Keeps no state, sends nothing, changes
no octet: the relay forwards the hello exactly as it came.
"""
from __future__ import annotations

from dataclasses import dataclass

HELLO_CAP = 16_384  # octets of handshake message; the largest seen with post-quantum shares are near 2 KiB
RECORD_CAP = 16_384
_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME, _HOST_NAME = 22, 1, 0, 0

UNRECOGNIZED_NAME = bytes((21, 3, 3, 0, 2, 2, 112))  # a fatal alert, RFC 6066 §3


class NotTls(Exception):
    """The first octets are no ClientHello. The text repeats none of them."""


@dataclass(frozen=True)
class ClientHello:
    server_name: str | None  # lower case


class _Short(Exception):
    """A field reaches beyond its frame."""


class _Cursor:
    """Reads length-prefixed fields of one frame."""

    def __init__(self, octets: bytes) -> None:
        self._octets, self._at = octets, 0

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._octets):
            raise _Short
        self._at, start = end, self._at
        return self._octets[start:end]

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def vector(self, width: int) -> _Cursor:
        return _Cursor(self.take(self.number(width)))

    def rest(self) -> bytes:
        return self.take(len(self._octets) - self._at)

    def at_end(self) -> bool:
        return self._at == len(self._octets)


def read_client_hello(octets: bytes | bytearray) -> ClientHello | None:
    """The hello that `octets` begin with; None while it is incomplete. Raises NotTls as soon as it cannot be one."""
    message = _handshake_message(octets)
    if message is None:
        return None
    try:
        return _parse(message)
    except _Short:
        raise NotTls("a field beyond its frame") from None


def _handshake_message(octets: bytes | bytearray) -> bytes | None:
    """The first handshake message, put together from its records (a hello may be split over several)."""
    message, at = bytearray(), 0
    while True:
        header = octets[at:at + 5]
        if (header[:1] and header[0] != _HANDSHAKE) or (header[1:2] and header[1] != 3):
            raise NotTls("no handshake record")
        if len(header) < 5:
            return None
        length = int.from_bytes(header[3:5], "big")
        if not 0 < length <= RECORD_CAP:
            raise NotTls("length of a record")
        message += octets[at + 5:at + 5 + length]
        if message and message[0] != _CLIENT_HELLO:
            raise NotTls("no ClientHello")
        if len(message) >= 4:
            wanted = int.from_bytes(message[1:4], "big")
            if wanted > HELLO_CAP:
                raise NotTls("length of the ClientHello")
            if len(message) >= 4 + wanted:
                return bytes(message[4:4 + wanted])
        at += 5 + length
        if at > len(octets):
            return None


def _parse(message: bytes) -> ClientHello:
    hello = _Cursor(message)
    if hello.number(1) != 3:
        raise NotTls("version")
    hello.take(1 + 32)  # minor version, random
    hello.vector(1)     # legacy session id
    hello.vector(2)     # cipher suites
    hello.vector(1)     # compression methods
    name: str | None = None
    seen: set[int] = set()
    extensions = hello.vector(2) if not hello.at_end() else _Cursor(b"")
    if not hello.at_end():
        raise NotTls("octets after the extensions")
    while not extensions.at_end():
        kind, body = extensions.number(2), extensions.vector(2)
        if kind in seen:
            raise NotTls("an extension twice")
        seen.add(kind)
        if kind == _SERVER_NAME:
            name = _server_name(body)
    return ClientHello(name)


def _server_name(body: _Cursor) -> str:
    names = body.vector(2)
    kind, octets = names.number(1), names.vector(2)
    if kind != _HOST_NAME or not names.at_end() or not body.at_end():
        raise NotTls("server_name")  # RFC 6066 §3: one host_name, no other kind is defined
    text = octets.rest()
    if not text or not all(33 <= octet <= 126 for octet in text):
        raise NotTls("server_name")
    return text.decode("ascii").lower()
