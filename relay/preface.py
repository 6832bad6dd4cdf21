"""The CONNECT preface: octets to a request, and the answers to it.

Parses and formats only; knows no socket. Strict: whatever two readers could understand differently is malformed (duplicate or
folded headers, bare LF, a body, a target in another form). Sources: facts relay 2c and 4; RFC 9110 §9.3.6, RFC 9112 §3.2.3, §5.1.
"""
from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from dataclasses import dataclass, field
from enum import Enum

from engine.endpoint import Secret

PREFACE_CAP = 8192  # octets, blank line included
HEADER_CAP = 32
END = b"\r\n\r\n"

_REQUEST_LINE = re.compile(rb"CONNECT ([!-~]+) HTTP/1\.1")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*((?:[!-~](?:[ -~\t]*[!-~])?)?)[ \t]*")
_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62}))*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_OPAQUE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MODE = re.compile(r"[a-z0-9]{1,16}")


class Answer(Enum):
    """Every refusal: status code and Relay-Error (docs/relay.md lists them all)."""

    MALFORMED = (400, "malformed")
    TOO_LARGE = (400, "too-large")
    TIMEOUT = (400, "timeout")
    MODE = (400, "mode")
    NOT_ALLOWED = (403, "not-allowed")
    ADDRESS_REFUSED = (403, "address-refused")
    OWN_ADDRESS = (403, "own-address")
    TTL = (403, "ttl")
    PLAIN_PORT = (403, "plain-port")
    TOKEN = (407, "token")
    CLIENT_CONNECTIONS = (429, "client-connections")
    UPSTREAM_CONNECTIONS = (429, "upstream-connections")
    SESSIONS = (429, "sessions")
    MODE_NOT_BUILT = (501, "mode-not-built")
    DNS = (502, "dns")
    REFUSED = (502, "refused")
    UNREACHABLE = (502, "unreachable")
    PEER_MISMATCH = (502, "peer-mismatch")
    DRAINING = (503, "draining")
    DNS_TIMEOUT = (504, "dns-timeout")
    DIAL_TIMEOUT = (504, "dial-timeout")

    def __init__(self, status: int, code: str) -> None:
        self.status = status
        self.code = code


PHRASES = {400: "Bad Request", 403: "Forbidden", 407: "Proxy Authentication Required", 429: "Too Many Requests",
           501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}
RETRY_AFTER = 10  # seconds; a slot is free when some session ends, which nobody can know


class BadPreface(Exception):
    """The request cannot be understood. The text says why without repeating any of it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True)
class Request:
    """A CONNECT request. `host` is lower case, an address in its canonical form without brackets."""

    host: str
    port: int
    token: Secret | None = field(repr=False)
    mode: str = "tunnel"
    ttl: int | None = None
    session: str | None = None
    account: str | None = None


def parse_request(head: bytes) -> Request:
    """`head` ends with the blank line. Raises BadPreface."""
    lines = head.removesuffix(END).split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(lines[0])
    if line is None:
        raise BadPreface("request line")
    target = line[1].decode("ascii")
    host, port = _target(target)
    headers = _headers(lines[1:])
    if headers.get("host", "").lower() not in (target.lower(), host):
        raise BadPreface("host header")
    if "content-length" in headers or "transfer-encoding" in headers:
        raise BadPreface("a body")
    mode = headers.get("relay-mode", "tunnel").lower()
    if not _MODE.fullmatch(mode):
        raise BadPreface("relay-mode")
    ttl = headers.get("relay-ttl")
    if ttl is not None and not re.fullmatch(r"[0-9]{1,2}", ttl):
        raise BadPreface("relay-ttl")
    for name in ("relay-session", "relay-account"):
        if name in headers and not _OPAQUE.fullmatch(headers[name]):
            raise BadPreface(name)
    return Request(host, port, _token(headers.get("proxy-authorization", "")), mode, None if ttl is None else int(ttl),
                   headers.get("relay-session"), headers.get("relay-account"))


def _headers(lines: list[bytes]) -> dict[str, str]:
    if len(lines) > HEADER_CAP:
        raise BadPreface("too many headers")
    headers: dict[str, str] = {}
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:  # folded, bare CR or LF, NUL, 8-bit, no colon, blank before the colon
            raise BadPreface("header line")
        name = match[1].decode("ascii").lower()
        if name in headers:
            raise BadPreface("duplicate header")
        headers[name] = match[2].decode("ascii")
    return headers


def _target(text: str) -> tuple[str, int]:
    """host:port, [IPv6]:port; nothing else: no scheme, user, path, zone id, trailing dot or 8-bit name."""
    host, _, port = text.rpartition(":")
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise BadPreface("port")
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1] if "%" not in host else "")), int(port)
        except ValueError:
            raise BadPreface("address") from None
    if not _NAME.fullmatch(host):
        raise BadPreface("host")
    last = host.rpartition(".")[2].lower()
    if last.isdigit() or last.startswith("0x"):  # an address in whatever notation: only the canonical one
        try:
            return str(ipaddress.IPv4Address(host)), int(port)
        except ValueError:
            raise BadPreface("address") from None
    return host.lower(), int(port)


def _token(value: str) -> Secret | None:
    """The token of `Bearer <token>`, or of `Basic` with the client's id as user; None if there is none of that form."""
    scheme, _, rest = value.partition(" ")
    rest = rest.strip(" ")
    if scheme.lower() == "bearer" and rest:
        return Secret(rest)
    if scheme.lower() != "basic":
        return None
    try:
        user, _, token = base64.b64decode(rest, validate=True).decode("ascii").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return Secret(token) if token.startswith(f"rt1.{user}.") else None


def refusal(answer: Answer) -> bytes:
    """The answer as octets: no body, connection closed."""
    lines = [f"HTTP/1.1 {answer.status} {PHRASES[answer.status]}", f"Relay-Error: {answer.code}"]
    if answer.status == 407:
        lines.append('Proxy-Authenticate: Bearer realm="relay", Basic realm="relay"')  # RFC 9110 §11.7.1 demands one
    if answer.status == 429:
        lines.append(f"Retry-After: {RETRY_AFTER}")
    lines += ["Content-Length: 0", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("ascii")


def acceptance(mode: str, address: str) -> bytes:
    """RFC 9110 §9.3.6: a 2xx to CONNECT has no Content-Length; the tunnel begins after the blank line."""
    return f"HTTP/1.1 200 OK\r\nRelay-Mode: {mode}\r\nRelay-Upstream: ip={address}\r\n\r\n".encode("ascii")
