"""The ClientHello reader, against hellos that OpenSSL really makes, cut and bent in every place."""
from __future__ import annotations

import random
import ssl

import pytest

from relay.client_hello import NotTls, read_client_hello


def hello(name: str | None, maximum: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = maximum
    out = ssl.MemoryBIO()
    session = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return out.read()


def in_records(octets: bytes, size: int) -> bytes:
    """The same handshake message in records of `size` octets (RFC 8446 §5.1 allows that)."""
    message = octets[5:]
    parts = [message[at:at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in parts)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_name_is_read_in_lower_case(version: ssl.TLSVersion) -> None:
    found = read_client_hello(hello("IMAP.example.COM", version))
    assert found is not None and found.server_name == "imap.example.com"


def test_a_hello_for_an_address_carries_no_name() -> None:
    found = read_client_hello(hello("127.0.0.1"))
    assert found is not None and found.server_name is None


def test_every_true_prefix_asks_for_more() -> None:
    whole = hello("imap.example.com")
    assert all(read_client_hello(whole[:count]) is None for count in range(len(whole)))
    assert read_client_hello(whole + b"what the client sent early") is not None


@pytest.mark.parametrize("size", [1, 3, 4, 5, 100, 511])
def test_a_hello_split_over_records_is_put_together(size: int) -> None:
    split = in_records(hello("imap.example.com"), size)
    found = read_client_hello(split)
    assert found is not None and found.server_name == "imap.example.com"
    assert read_client_hello(split[:-1]) is None


@pytest.mark.parametrize("octets", [
    b"a1 LOGIN user secret\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"SSH-2.0-x\r\n",
    b"\x80\x2e\x01\x00\x02",                          # SSL 2's form of a hello
    b"\x17\x03\x03\x00\x10" + bytes(16),              # application data first
    b"\x15\x03\x03\x00\x02\x02\x28",                  # an alert
    b"\x16\x02\x01\x00\x10",                          # no such version
    b"\x16\x03\x01\x00\x00",                          # an empty record
    b"\x16\x03\x01\x40\x01",                          # longer than a record may be
    b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",          # a ServerHello
    b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",          # announces 16 MiB
    b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03",      # a hello of one octet
])
def test_what_is_no_hello_is_refused_at_once(octets: bytes) -> None:
    with pytest.raises(NotTls):
        read_client_hello(octets)


def test_two_names_or_the_extension_twice_are_refused() -> None:
    whole = bytearray(hello("aa.example"))
    entry = b"\x00\x00\x0aaa.example"
    at = whole.index(entry)
    assert whole[at - 6:at - 4] == b"\x00\x00"  # extension 0
    two = bytes(whole).replace(b"\x00\x0d" + entry, b"\x00\x1a" + entry + b"\x00\x00\x0abb.example")  # list longer than its frame
    with pytest.raises(NotTls):
        read_client_hello(two[:len(whole)])
    other = whole.index(b"\x00\x17\x00\x00")  # extended master secret, empty: becomes a second, empty server_name
    whole[other:other + 2] = b"\x00\x00"
    with pytest.raises(NotTls):
        read_client_hello(bytes(whole))


def test_bent_hellos_never_raise_anything_else() -> None:
    seed = random.randrange(2**32)
    chance, whole = random.Random(seed), hello("imap.example.com")
    for _ in range(5000):
        bent = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            bent[chance.randrange(len(bent))] = chance.randrange(256)
        try:
            found = read_client_hello(bent[:chance.randrange(len(bent) + 1)])
        except NotTls:
            continue
        assert found is None or found.server_name is None or found.server_name.isascii(), f"seed {seed}"
