"""TLS towards mail servers and relays: contexts that verify, the one audited exception, and TLS carried inside TLS.

Must not: lower verification for anything but one endpoint with a pinned key; share a context between endpoints.
Always: TLS 1.2 or newer (RFC 8996), chain and name verified (RFC 9525), or the pinned key compared before any octet of ours.
"""
from __future__ import annotations

import contextlib
import hashlib
import hmac
import socket
import ssl
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from engine.causes import Cause, Side
from engine.endpoint import Endpoint
from engine.errors import EngineError, Refused

if TYPE_CHECKING:
    from engine.net.stream import Stream, Transport

_ROOTS_SECONDS = 600.0  # the system's roots are read anew after this; reading them costs 30 ms, which every further pair would pay


def verifying_context(ca_pem: str | None = None) -> ssl.SSLContext:
    """Verifies chain and name against the system's roots, or against `ca_pem` alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_pem is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        context.load_verify_locations(cadata=ca_pem)
    return context


def client_context(endpoint: Endpoint) -> ssl.SSLContext:
    """For one endpoint, whose connections share it for a while. With a pinned key nothing is verified here: `pin_check(endpoint)` must run
    on the certificate. Raises Refused(TLS) when the endpoint's own roots cannot be read."""
    return _endpoint_context(endpoint, int(time.monotonic() // _ROOTS_SECONDS))


@lru_cache(maxsize=32)
def _endpoint_context(endpoint: Endpoint, _period: int) -> ssl.SSLContext:
    if endpoint.pinned_sha256 is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        return verifying_context(endpoint.ca_pem)
    except (ssl.SSLError, ValueError):
        raise Refused(Cause.TLS, detail="the certificate roots given for this server cannot be read") from None


def pin_check(endpoint: Endpoint, side: Side = Side.SOURCE) -> Callable[[bytes], None] | None:
    """Compares the server's public key with the endpoint's pin; None when there is no pin."""
    pin = endpoint.pinned_sha256
    if pin is None:
        return None

    def check(certificate: bytes) -> None:
        found = spki_sha256(certificate)
        if not found or not hmac.compare_digest(found.encode(), pin.lower().replace(":", "").encode()):
            raise Refused(Cause.TLS, side=side, detail=f"the server's key is {found}, not the pinned one")

    return check


def upgrade(stream: Stream, endpoint: Endpoint) -> None:
    """Switches `stream` to TLS as `endpoint` demands: verified by name and chain, or by its pin."""
    try:
        stream.start_tls(client_context(endpoint), endpoint.host, pin_check(endpoint, stream.side))
    except EngineError:
        stream.close()
        raise


def _der(data: bytes, at: int) -> tuple[int, int, int]:
    """(tag, first octet of the value, octet after it) of the DER element at `at` (X.690 §8.1)."""
    tag, length, start = data[at], data[at + 1], at + 2
    if length >= 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4:
            raise IndexError("length")
        length = int.from_bytes(data[start : start + count], "big")
        start += count
    if start + length > len(data):
        raise IndexError("element")
    return tag, start, start + length


def spki_sha256(certificate: bytes) -> str:
    """Hex SHA-256 of the SubjectPublicKeyInfo of a DER certificate (RFC 5280 §4.1, as RFC 7469 §2.4 pins it); "" if unreadable."""
    try:
        _, tbs, _ = _der(certificate, 0)
        _, field, _ = _der(certificate, tbs)
        tag, _, end = _der(certificate, field)
        if tag == 0xA0:  # version is optional; then serial, algorithm, issuer, validity, subject
            field = end
        for _ in range(5):
            _, _, field = _der(certificate, field)
        tag, _, end = _der(certificate, field)
        if tag != 0x30:
            return ""
    except IndexError:
        return ""
    return hashlib.sha256(certificate[field:end]).hexdigest()


def failure(error: OSError | ValueError, stream: Stream) -> EngineError:
    """The exception for a handshake that failed; closes the stream."""
    if isinstance(error, ssl.SSLCertVerificationError):
        stream.close()
        return Refused(Cause.TLS, side=stream.side, detail=f"the server's certificate is not accepted: {error.verify_message}")
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or not isinstance(error, ssl.SSLError):
        # Cut off in the middle: a filter or a busy server as likely as its TLS (facts, providers "transport").
        return stream.broken("the connection was cut during the TLS handshake", Cause.TLS)
    stream.close()
    return Refused(Cause.TLS, side=stream.side, detail=f"no TLS with this server: {error.reason or 'handshake failed'}")


def wrap(transport: Transport, context: ssl.SSLContext, host: str) -> ssl.SSLSocket | TlsOverTransport:
    """TLS over a plain socket is the ssl module's own; over TLS (a relay's) it is carried through memory."""
    if isinstance(transport, socket.socket) and not isinstance(transport, ssl.SSLSocket):
        return context.wrap_socket(transport, server_hostname=host, do_handshake_on_connect=False)
    return TlsOverTransport(transport, context, host)


class TlsOverTransport:
    """TLS whose records travel through another transport. Same exceptions as a non-blocking SSLSocket."""

    _RECORDS = 64 * 1024
    _BACKLOG = 256 * 1024

    def __init__(self, inner: Transport, context: ssl.SSLContext, host: str) -> None:
        self._inner = inner
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._unsent = b""

    def _flush(self) -> None:
        """Hands records to the inner transport; BlockingIOError or SSLWantWriteError when it takes no more."""
        while self._unsent or self._outgoing.pending:
            if not self._unsent:
                self._unsent = self._outgoing.read(self._RECORDS)
            try:
                sent = self._inner.send(self._unsent)
            except BlockingIOError:
                raise ssl.SSLWantWriteError(ssl.SSL_ERROR_WANT_WRITE, "the inner connection is full") from None
            self._unsent = self._unsent[sent:]

    def _fill(self) -> None:
        """Feeds what the inner transport has; SSLWantReadError when it has nothing."""
        try:
            records = self._inner.recv(self._RECORDS)
        except BlockingIOError:
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "the inner connection is silent") from None
        if records:
            self._incoming.write(records)
        else:
            self._incoming.write_eof()

    def do_handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
                continue
            self._flush()
            return

    def recv(self, size: int, /) -> bytes:
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                pass
            try:
                self._flush()
            except ssl.SSLWantWriteError:
                try:
                    self._fill()
                except ssl.SSLWantReadError:
                    raise ssl.SSLWantWriteError(ssl.SSL_ERROR_WANT_WRITE, "the inner connection is full and silent") from None
            else:
                self._fill()

    def send(self, data: bytes | memoryview, /) -> int:
        if len(self._unsent) + self._outgoing.pending > self._BACKLOG:
            self._flush()
        sent = self._tls.write(data)
        with contextlib.suppress(ssl.SSLWantWriteError):  # the records are kept; the next send or recv pushes them out first
            self._flush()
        return sent

    def fileno(self) -> int:
        return self._inner.fileno()

    def close(self) -> None:
        self._inner.close()

    def version(self) -> str | None:
        return self._tls.version()

    def getpeercert(self, binary_form: bool = True) -> bytes | None:
        return self._tls.getpeercert(True)
