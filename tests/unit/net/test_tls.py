"""TLS towards real TLS servers: who is believed, what is left over, the pinned key, TLS inside TLS."""
from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from engine.causes import Cause
from engine.endpoint import Endpoint
from engine.errors import ConnectionBroken, Refused
from engine.net import tls
from engine.net.dial import connect, resolve
from engine.net.stream import Stream
from tests.support.certificates import authority, stranger
from tests.unit.net.servers import LOOPBACK, listening, pump, server_context


def spki(pem: str) -> str:
    key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def open_stream(port: int) -> Stream:
    sock = connect(resolve("127.0.0.1", port, LOOPBACK, timeout=5), timeout=5)
    return Stream(sock, idle=5)


def tls_echo(context: ssl.SSLContext):  # type: ignore[no-untyped-def]
    def talk(conn: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(conn, server_side=True) as secure:
            while data := secure.recv(65536):
                secure.sendall(data)
    return talk


def upgraded(port: int, endpoint: Endpoint) -> Stream:
    stream = open_stream(port)
    tls.upgrade(stream, endpoint)
    return stream


def test_a_server_with_the_right_name_and_chain() -> None:
    with listening(tls_echo(server_context(authority().issue()))) as (port, _):
        stream = upgraded(port, Endpoint("localhost", port, ca_pem=authority().pem))
        stream.write(b"hello\r\n" + bytes(1_000_000))
        assert stream.read_line(100) == b"hello"
        assert stream.read_exact(1_000_000) == bytes(1_000_000)
        facts = stream.tls_facts()
        assert facts is not None
        assert facts[0] in ("TLSv1.2", "TLSv1.3")
        stream.close()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("case", ["wrong name", "stranger", "system roots", "old version", "no TLS"])
def test_a_server_that_is_not_believed(case: str) -> None:
    issued = {"wrong name": authority().issue("mail.example"), "stranger": stranger().issue()}.get(case, authority().issue())
    talk = tls_echo(server_context(issued, newest=ssl.TLSVersion.TLSv1_1 if case == "old version" else None))
    with listening((lambda conn: conn.sendall(b"* OK hello\r\n")) if case == "no TLS" else talk) as (port, _):
        stream = open_stream(port)
        with pytest.raises(Refused) as caught:
            tls.upgrade(stream, Endpoint("localhost", port, ca_pem=None if case == "system roots" else authority().pem))
        assert caught.value.cause is Cause.TLS
        assert stream.closed
        assert stream.bytes_out == 0, "nothing was said to it"


def test_a_server_that_hangs_up_in_the_handshake_may_be_tried_again() -> None:
    with listening(lambda conn: conn.recv(10) and None) as (port, _):
        stream = open_stream(port)
        with pytest.raises(ConnectionBroken) as caught:
            tls.upgrade(stream, Endpoint("localhost", port, ca_pem=authority().pem))
        assert caught.value.cause is Cause.TLS


def test_the_pinned_key_stands_for_name_and_chain() -> None:
    issued = stranger().issue("mail.example")
    with listening(tls_echo(server_context(issued))) as (port, _):
        pin = spki(issued.certificate_pem)
        upgraded(port, Endpoint("localhost", port, pinned_sha256=pin.upper())).close()
        stream = open_stream(port)
        with pytest.raises(Refused) as caught:
            tls.upgrade(stream, Endpoint("localhost", port, pinned_sha256="0" * 64))
        assert caught.value.cause is Cause.TLS
        assert pin in caught.value.detail, "the person who decides about an exception sees the key that was found"
        assert stream.closed


@pytest.mark.parametrize("data", [b"", b"\x30", b"\x30\x82", b"\x30\x84\xff\xff\xff\xff", bytes(100), b"\x30\x05\x30\x03\xa0\x01\x02"])
def test_a_broken_certificate_has_no_key(data: bytes) -> None:
    assert tls.spki_sha256(data) == ""


def test_unreadable_roots_are_refused_before_anything_is_sent() -> None:
    with pytest.raises(Refused) as caught:
        tls.client_context(Endpoint("localhost", 993, ca_pem="no certificate"))
    assert caught.value.cause is Cause.TLS


def test_clear_text_left_over_at_the_switch_is_an_attack() -> None:
    with listening(lambda conn: conn.sendall(b"OK begin\r\n* PREAUTH injected\r\n") or (conn.recv(1) and None)) as (port, _):
        stream = open_stream(port)
        assert stream.read_line(100) == b"OK begin"
        with pytest.raises(Refused) as caught:
            tls.upgrade(stream, Endpoint("localhost", port, ca_pem=authority().pem))
        assert caught.value.cause is Cause.TLS
        assert (stream.closed, stream.bytes_out) == (True, 0)


def test_tls_inside_tls() -> None:
    """Given a TLS server that carries everything on to another TLS server, then both are verified and octets pass both ways."""
    outer, inner = server_context(authority().issue("relay.example", "localhost")), server_context(authority().issue("mail.example"))
    with listening(tls_echo(inner)) as (far_port, _):
        def carry(conn: socket.socket) -> None:
            with outer.wrap_socket(conn, server_side=True) as secure, socket.create_connection(("127.0.0.1", far_port)) as far:
                pump(secure, far)

        with listening(carry) as (port, _):
            stream = upgraded(port, Endpoint("localhost", port, ca_pem=authority().pem))
            tls.upgrade(stream, Endpoint("mail.example", 993, ca_pem=authority().pem))
            payload = bytes(range(256)) * 8000
            stream.write(payload, b"\r\n")
            assert stream.read_exact(len(payload)) == payload
            assert stream.read_line(10) == b""
            stream.close()

            stream = upgraded(port, Endpoint("localhost", port, ca_pem=authority().pem))
            with pytest.raises(Refused) as caught:
                tls.upgrade(stream, Endpoint("localhost", 993, ca_pem=authority().pem))
            assert caught.value.cause is Cause.TLS


def test_connections_of_one_endpoint_share_a_context_and_no_others_do() -> None:
    """Reading the roots costs more than a handshake; but what is trusted for one server is trusted for no other."""
    one = Endpoint("localhost", 993, ca_pem=authority().pem)
    assert tls.client_context(one) is tls.client_context(Endpoint("localhost", 993, ca_pem=authority().pem))
    for other in (replace(one, host="elsewhere"), replace(one, port=143), replace(one, ca_pem=None), replace(one, pinned_sha256="0" * 64)):
        assert tls.client_context(other) is not tls.client_context(one)
    assert tls.client_context(replace(one, pinned_sha256="0" * 64)).verify_mode is ssl.CERT_NONE
    assert tls.client_context(one).verify_mode is ssl.CERT_REQUIRED
