"""Outgoing connections: the name is resolved once, every answer is vetted, the vetted one is dialled, each step has a deadline."""
from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from engine.causes import Cause
from engine.endpoint import Account, Endpoint, RelayRoute, Route, Secret
from engine.errors import ConnectionBroken, EngineError, Refused, Throttled
from engine.net import dial as dialling
from engine.net import preface
from engine.net.dial import dial, pacing_key, resolve
from engine.net.stream import Stream
from tests.support.certificates import authority, stranger
from tests.unit.net.servers import LOOPBACK, listening, pump, read_until, server_context

TOKEN = Secret("rt1.worker." + "A" * 43)


def answers(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Lets the resolver answer with these addresses; gives the list of names that were asked."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (a, port, 0, 0)) if ":" in a else
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]

    monkeypatch.setattr(dialling.socket, "getaddrinfo", getaddrinfo)
    return asked


def test_a_name_is_resolved_once_and_the_vetted_address_is_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(lambda conn: conn.sendall(b"hello\r\n")) as (port, _):
        asked = answers(monkeypatch, "127.0.0.1")
        steps: list[str] = []
        stream = Stream(dial("mail.example", port, LOOPBACK, timeout=5, on_resolved=lambda: steps.append("resolved")))
        assert stream.read_line(10) == b"hello"
        assert (asked, steps) == (["mail.example"], ["resolved"])
        stream.close()


@pytest.mark.parametrize("bad", ["127.0.0.1", "10.0.0.5", "169.254.169.254", "::ffff:127.0.0.1", "64:ff9b::7f00:1"])
def test_one_internal_answer_among_public_ones_refuses_them_all(monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    with listening(lambda conn: None) as (port, accepted):
        answers(monkeypatch, "8.8.8.8", bad)
        with pytest.raises(EngineError) as caught:
            dial("mail.example", port, Route(), timeout=5)
        assert caught.value.cause is Cause.ADDRESS_REFUSED
        assert not accepted, "no packet left"


def test_the_next_address_is_tried_when_the_first_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(lambda conn: conn.sendall(b"second\r\n")) as (port, _):
        answers(monkeypatch, "127.0.0.2", "127.0.0.1")
        stream = Stream(dial("mail.example", port, LOOPBACK, timeout=5))
        assert stream.read_line(10) == b"second"
        stream.close()


def test_a_port_where_nobody_listens() -> None:
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    with pytest.raises(ConnectionBroken) as caught:
        dial("127.0.0.1", port, LOOPBACK, timeout=5)
    assert caught.value.cause is Cause.DNS_CONNECT
    assert "refused" in caught.value.detail


@pytest.mark.parametrize(("number", "kind"), [(socket.EAI_NONAME, Refused), (socket.EAI_AGAIN, ConnectionBroken)])
def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch, number: int, kind: type[EngineError]) -> None:
    def getaddrinfo(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(number, "no")

    monkeypatch.setattr(dialling.socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(kind) as caught:
        dial("nowhere.example", 993, Route(), timeout=5)
    assert caught.value.cause is Cause.DNS_CONNECT


def test_a_resolver_that_does_not_answer_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(dialling.socket, "getaddrinfo", lambda *_, **__: release.wait(10) and [])
    started = time.monotonic()
    with pytest.raises(ConnectionBroken) as caught:
        resolve("slow.example", 993, Route(), timeout=0.1)
    release.set()
    assert caught.value.cause is Cause.DNS_CONNECT
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("host", ["", "a" * 300, "a..b", "\u2603" * 80])
def test_names_that_are_no_names(host: str) -> None:
    with pytest.raises(EngineError) as caught:
        resolve(host, 993, Route(), timeout=5)
    assert caught.value.cause in (Cause.DNS_CONNECT, Cause.ADDRESS_REFUSED)


# -- through a relay -------------------------------------------------------------------------------------------------------------


def relay(answer: bytes, *, then: int | None = None, seen: list[bytes] | None = None):  # type: ignore[no-untyped-def]
    """A relay that reads the preface, answers, and carries on to `then`."""
    context = server_context(authority().issue())

    def talk(conn: socket.socket) -> None:
        with context.wrap_socket(conn, server_side=True) as secure:
            request = read_until(secure, b"\r\n\r\n")
            if seen is not None:
                seen.append(request)
            if then is not None:
                with socket.create_connection(("127.0.0.1", then)) as far:
                    secure.sendall(answer)
                    pump(secure, far)
            else:
                secure.sendall(answer)

    return talk


def through(port: int) -> Route:
    return Route(relay=RelayRoute("localhost", port, TOKEN, ca_pem=authority().pem))


def test_octets_of_the_far_server_follow_the_relays_answer() -> None:
    seen: list[bytes] = []

    def echo(conn: socket.socket) -> None:
        conn.sendall(b"* OK far\r\n")
        while octets := conn.recv(100):  # until the other side is done: whoever hangs up first may take with it what is under way
            conn.sendall(octets)

    with listening(echo) as (far, _), \
         listening(relay(b"HTTP/1.1 200 OK\r\nRelay-Mode: tunnel\r\n\r\n", then=far, seen=seen)) as (port, _):
        account = Account(Endpoint("imap.263.net", 993), "li@corp.example", Secret("x"))
        stream = Stream(dial("imap.263.net", 993, through(port), timeout=5, account=pacing_key(account)))
        assert stream.read_line(100) == b"* OK far"
        stream.write(b"ping\r\n")
        assert stream.read_line(100) == b"ping"
        stream.close()
    lines = seen[0].split(b"\r\n")
    assert lines[0] == b"CONNECT imap.263.net:993 HTTP/1.1"
    assert b"Proxy-Authorization: Bearer " + TOKEN.reveal().encode() in lines
    assert b"Relay-Mode: tunnel" in lines
    assert b"li@corp.example" not in seen[0], "the relay's pacing key is not the login"
    assert b"Relay-Account: " + pacing_key(account).encode() in lines


@pytest.mark.parametrize(("answer", "kind", "cause"), [
    (b"HTTP/1.1 407 x\r\nRelay-Error: token\r\n\r\n", Refused, Cause.RELAY_REFUSED),
    (b"HTTP/1.1 403 x\r\nRelay-Error: not-listed\r\n\r\n", Refused, Cause.RELAY_REFUSED),
    (b"HTTP/1.1 403 x\r\nRelay-Error: address-refused\r\n\r\n", Refused, Cause.ADDRESS_REFUSED),
    (b"HTTP/1.1 400 x\r\n\r\n", Refused, Cause.RELAY_REFUSED),
    (b"HTTP/1.1 429 x\r\nRetry-After: 90\r\n\r\n", Throttled, Cause.THROTTLED),
    (b"HTTP/1.1 502 x\r\nRelay-Error: refused\r\n\r\n", ConnectionBroken, Cause.DNS_CONNECT),
    (b"HTTP/1.1 502 x\r\nRelay-Error: tls-verify\r\n\r\n", Refused, Cause.TLS),
    (b"HTTP/1.1 503 x\r\n\r\n", ConnectionBroken, Cause.RELAY_UNREACHABLE),
    (b"HTTP/1.1 504 x\r\nRelay-Error: dial-timeout\r\n\r\n", ConnectionBroken, Cause.DNS_CONNECT),
    (b"SSH-2.0-OpenSSH\r\n\r\n", Refused, Cause.RELAY_REFUSED),
    (b"X" * 9000, Refused, Cause.RELAY_REFUSED),
    (b"HTTP/1.1 20", ConnectionBroken, Cause.RELAY_UNREACHABLE),
])
def test_what_a_relay_refuses(answer: bytes, kind: type[EngineError], cause: Cause) -> None:
    with listening(relay(answer)) as (port, _), pytest.raises(kind) as caught:
        dial("imap.263.net", 993, through(port), timeout=5)
    assert caught.value.cause is cause
    if b"Relay-Error: " in answer:
        assert answer.split(b"Relay-Error: ")[1].split(b"\r")[0].decode() in caught.value.detail
    if b"Retry-After" in answer:
        assert caught.value.retry_after == 90
    assert TOKEN.reveal() not in repr(caught.value) + caught.value.detail


def test_no_token_goes_to_a_relay_that_is_not_believed() -> None:
    heard: list[bytes] = []
    context = server_context(stranger().issue())

    def talk(conn: socket.socket) -> None:
        with context.wrap_socket(conn, server_side=True) as secure:
            heard.append(secure.recv(1000))

    with listening(talk) as (port, _), pytest.raises(ConnectionBroken) as caught:
        dial("imap.263.net", 993, through(port), timeout=5)
    assert caught.value.cause is Cause.RELAY_UNREACHABLE
    assert not heard


def test_a_relay_that_is_not_there() -> None:
    with pytest.raises(ConnectionBroken) as caught:
        dial("imap.263.net", 993, through(1), timeout=5)
    assert caught.value.cause is Cause.RELAY_UNREACHABLE


@pytest.mark.parametrize(("host", "token", "account"), [
    ("a\r\nb", "t", ""), ("a b", "t", ""), ("a", "t\r\nX: y", ""), ("a", "t", "x\r\ny"), ("a", "", ""), ("a", "t", "li@corp.example")])
def test_nothing_but_plain_words_becomes_part_of_the_preface(host: str, token: str, account: str) -> None:
    with pytest.raises(Refused):
        preface.request(host, 993, Secret(token), account=account)
    assert preface.request("2001:db8::1", 993, TOKEN).startswith(b"CONNECT [2001:db8::1]:993 HTTP/1.1\r\n")
