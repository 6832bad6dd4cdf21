"""The CONNECT preface: a table of octets in, a request or a refusal out."""
from __future__ import annotations

import base64

import pytest

from relay.preface import HEADER_CAP, Answer, BadPreface, Request, acceptance, parse_request, refusal

TOKEN = "rt1.worker-1." + "A" * 43


def preface(target: str = "imap.example.com:993", *headers: str, host: str | None = None) -> bytes:
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target if host is None else host}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def understood(octets: bytes) -> Request:
    return parse_request(octets)


@pytest.mark.parametrize(("target", "host", "port"), [
    ("imap.example.com:993", "imap.example.com", 993),
    ("IMAP.Example.COM:993", "imap.example.com", 993),
    ("xn--fiq228c.example:1993", "xn--fiq228c.example", 1993),
    ("192.0.2.1:993", "192.0.2.1", 993),
    ("[2001:DB8::0:1]:993", "2001:db8::1", 993),
    ("localhost:65535", "localhost", 65535),
])
def test_targets(target: str, host: str, port: int) -> None:
    request = understood(preface(target))
    assert (request.host, request.port, request.mode, request.token) == (host, port, "tunnel", None)


def test_host_header_may_leave_the_port_out_but_not_name_another_host() -> None:
    assert understood(preface("imap.example.com:993", host="imap.example.com")).port == 993
    assert understood(preface("imap.example.com:993", host="IMAP.example.com:993")).port == 993
    for other in ("", "other.example.com:993", "imap.example.com:994"):
        with pytest.raises(BadPreface):
            parse_request(preface("imap.example.com:993", host=other))


def basic(text: str) -> str:
    return "Proxy-Authorization: Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("header", [f"Proxy-Authorization: Bearer {TOKEN}", f"proxy-authorization:bearer  {TOKEN} ",
                                    basic(f"worker-1:{TOKEN}")])
def test_bearer_and_basic_carry_the_same_token(header: str) -> None:
    token = understood(preface("a.example:993", header)).token
    assert token is not None and token.reveal() == TOKEN


@pytest.mark.parametrize("header", [
    "Proxy-Authorization: Bearer", "Proxy-Authorization: Digest x", "Proxy-Authorization: Basic %%%", "Proxy-Authorization: Basic w7w=",
    basic(f"worker-2:{TOKEN}"), basic("worker-1"), f"Authorization: Bearer {TOKEN}",
])
def test_anything_else_is_no_token(header: str) -> None:
    assert understood(preface("a.example:993", header)).token is None


def test_the_relays_own_headers() -> None:
    request = understood(preface("a.example:993", "Relay-Mode: IMAP", "Relay-TTL: 3", "Relay-Session: m-12.3", "Relay-Account: 0af3",
                                 "User-Agent: curl/8.0", "Proxy-Connection: Keep-Alive", "Relay-Features: deflate, pace"))
    assert (request.mode, request.ttl, request.session, request.account) == ("imap", 3, "m-12.3", "0af3")


@pytest.mark.parametrize("octets", [
    b"GET http://a.example:993/ HTTP/1.1\r\nHost: a.example:993\r\n\r\n",
    b"CONNECT http://a.example:993/ HTTP/1.1\r\nHost: a.example:993\r\n\r\n",
    b"CONNECT a.example:993 HTTP/1.0\r\nHost: a.example:993\r\n\r\n",
    b"CONNECT a.example:993 HTTP/2\r\nHost: a.example:993\r\n\r\n",
    b"connect a.example:993 HTTP/1.1\r\nHost: a.example:993\r\n\r\n",
    b"CONNECT  a.example:993 HTTP/1.1\r\nHost: a.example:993\r\n\r\n",
    b"CONNECT a.example:993\r\nHost: a.example:993\r\n\r\n",
    b"CONNECT a.example:993 HTTP/1.1\r\n\r\n",                                         # no Host
    b"\r\nCONNECT a.example:993 HTTP/1.1\r\nHost: a.example:993\r\n\r\n",
    b"CONNECT a.example:993 HTTP/1.1\nHost: a.example:993\r\n\r\n",                    # bare LF
    b"CONNECT a.example:993 HTTP/1.1\r\nHost: a.example:993\nX: y\r\n\r\n",
    b"CONNECT a.example:993 HTTP/1.1\r\nHost: a.example:993\rX: y\r\n\r\n",            # bare CR
    b"CONNECT a.example:993 HTTP/1.1\r\nHost: a.example:993\r\n X: folded\r\n\r\n",
    b"CONNECT a.example:993 HTTP/1.1\r\nHost : a.example:993\r\n\r\n",
    b"CONNECT a.example:993 HTTP/1.1\r\nHost: a.example:993\r\nnocolon\r\n\r\n",
    b"CONNECT a.example:993 HTTP/1.1\r\nHost: a.example:993\r\n: empty name\r\n\r\n",
    b"CONNECT a.example:993 HTTP/1.1\r\nHost: a.example:993\r\nX: a\x00b\r\n\r\n",
    b"CONNECT a.example:993 HTTP/1.1\r\nHost: a.example:993\r\nX: \xc3\xbc\r\n\r\n",
    b"CONNECT a.example:993 HTTP/1.1\r\nHost: a.example:993\r\nContent-Length: 0\r\n\r\n",
    b"CONNECT a.example:993 HTTP/1.1\r\nHost: a.example:993\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"CONNECT a.example:993 HTTP/1.1\r\nHost: a.example:993\r\nHOST: a.example:993\r\n\r\n",
    b"CONNECT a.example:993 HTTP/1.1\r\nHost: a.example:993\r\nProxy-Authorization: Bearer a\r\nproxy-authorization: Bearer b\r\n\r\n",
])
def test_malformed_requests(octets: bytes) -> None:
    with pytest.raises(BadPreface):
        parse_request(octets)


@pytest.mark.parametrize("target", [
    "user@a.example:993", "user:pw@a.example:993", "a.example.:993", "a.example", "a.example:", ":993", "a.example:0", "a.example:0993",
    "a.example:65536", "a.example:99x", "a.example:+993", "a..example:993", ".a.example:993", "-a.example:993", "b\xfccher.example:993",
    "a.example\x00:993", "a.example/x:993", "a.example?x:993", "[fe80::1%eth0]:993", "[fe80::1%25eth0]:993", "fe80::1:993", "[::1:993",
    "[127.0.0.1]:993", "2130706433:993", "0x7f000001:993", "0x7f.1:993", "0177.0.0.1:993", "127.1:993", "127.0.0.01:993", "127.0.0.1.:993",
    "*:993", "a.*:993", "a" * 64 + ".example:993", ("a." * 127) + "example:993", "//a.example:993", "%61.example:993",
])
def test_targets_in_any_other_form_are_malformed(target: str) -> None:
    with pytest.raises(BadPreface):
        parse_request(preface(target))


@pytest.mark.parametrize("header", ["Relay-TTL: -1", "Relay-TTL: 1000", "Relay-TTL: x", "Relay-Mode: a b", "Relay-Mode:",
                                    "Relay-Session: a b", "Relay-Session: " + "x" * 65, "Relay-Account: a@b"])
def test_malformed_relay_headers(header: str) -> None:
    with pytest.raises(BadPreface):
        parse_request(preface("a.example:993", header))


def test_the_number_of_headers_is_capped() -> None:
    parse_request(preface("a.example:993", *[f"X-{n}: y" for n in range(HEADER_CAP - 1)]))
    with pytest.raises(BadPreface):
        parse_request(preface("a.example:993", *[f"X-{n}: y" for n in range(HEADER_CAP)]))


def test_no_secret_shows_in_a_request_or_in_a_refusal_of_one() -> None:
    octets = preface("a.example:993", f"Proxy-Authorization: Bearer {TOKEN}")
    assert TOKEN not in repr(understood(octets)) and "AAAA" not in repr(understood(octets))
    with pytest.raises(BadPreface) as caught:
        parse_request(octets.replace(b"\r\n\r\n", b"\r\n" + TOKEN.encode() + b"\r\n\r\n"))
    assert "AAAA" not in str(caught.value)


@pytest.mark.parametrize("answer", list(Answer))
def test_refusals_have_no_body_and_close(answer: Answer) -> None:
    lines = refusal(answer).decode("ascii").split("\r\n")
    assert lines[0].split(" ", 2)[:2] == ["HTTP/1.1", str(answer.status)]
    assert f"Relay-Error: {answer.code}" in lines and "Connection: close" in lines and "Content-Length: 0" in lines
    assert lines[-2:] == ["", ""]
    assert any(line.startswith("Proxy-Authenticate:") for line in lines) == (answer.status == 407)
    assert any(line.startswith("Retry-After:") for line in lines) == (answer.status == 429)


def test_acceptance_announces_no_body() -> None:
    assert acceptance("tunnel", "192.0.2.1") == b"HTTP/1.1 200 OK\r\nRelay-Mode: tunnel\r\nRelay-Upstream: ip=192.0.2.1\r\n\r\n"
