"""Every status code, on real sockets: what is asked, what is answered, and what reached anybody else."""
from __future__ import annotations

import base64
import socket
import time
from collections.abc import Callable

import pytest

from tests.integration.relay.conftest import Site
from tests.integration.relay.lab import (
    EXPIRED_TOKEN,
    FAR_TOKEN,
    OTHER_TOKEN,
    TOKEN,
    RelayProcess,
    ask,
    fresh_source,
    open_plain,
    open_tls,
    preface,
    read_response,
    rest_until_end,
)

WRONG = TOKEN[:-1] + ("A" if TOKEN[-1] != "A" else "B")


def basic(user: str, token: str) -> str:
    return "Proxy-Authorization: Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()


@pytest.mark.parametrize(("target", "headers", "token", "status", "error"), [
    ("BAIT", (), None, 407, "token"),
    ("BAIT", (), WRONG, 407, "token"),
    ("BAIT", (), "x", 407, "token"),
    ("BAIT", (), EXPIRED_TOKEN, 407, "token"),
    ("BAIT", (), FAR_TOKEN, 407, "token"),
    ("BAIT", (basic("worker-1", WRONG),), None, 407, "token"),
    ("BAIT", (basic("worker-2", TOKEN),), None, 407, "token"),
    ("BAIT", ("Relay-Mode: imap",), None, 407, "token"),
    ("BAIT", ("Relay-Mode: imap",), TOKEN, 501, "mode-not-built"),
    ("BAIT", ("Relay-Mode: pop3",), TOKEN, 501, "mode-not-built"),
    ("BAIT", ("Relay-Mode: smtp",), TOKEN, 400, "mode"),
    ("BAIT", ("Relay-TTL: 0",), TOKEN, 403, "ttl"),
    ("BAIT", ("Relay-TTL: many",), TOKEN, 400, "malformed"),
    ("BAIT", ("Host: again",), TOKEN, 400, "malformed"),
    ("BAIT", (), OTHER_TOKEN, 403, "not-allowed"),
    ("not-listed.example:993", (), TOKEN, 403, "not-allowed"),
    ("127.0.0.1:25", (), TOKEN, 403, "not-allowed"),
    ("SHUT", (), TOKEN, 403, "address-refused"),
    ("169.254.169.254:993", (), TOKEN, 403, "address-refused"),
    ("127.0.0.1:143", (), TOKEN, 403, "plain-port"),
    ("GONE", (), TOKEN, 502, "refused"),
    ("no-such-host.invalid:993", (), TOKEN, 502, "dns"),
])
def test_refusals(site: Site, target: str, headers: tuple[str, ...], token: str | None, status: int, error: str) -> None:
    ports = {"BAIT": site.bait.target, "SHUT": f"127.0.0.2:{site.echo.port}",
             "GONE": f"127.0.0.1:{site.relay.settings.upstreams[6].port}"}
    response = ask(site.relay, preface(ports.get(target, target), *headers, token=token))
    assert (response.status, response.error) == (status, error)
    assert response.headers["content-length"] == "0" and response.headers["connection"] == "close"
    assert site.bait.connections == 0


@pytest.mark.parametrize("header", [f"Proxy-Authorization: Bearer {TOKEN}", basic("worker-1", TOKEN)])
def test_both_forms_of_the_token_are_accepted(site: Site, header: str) -> None:
    response = ask(site.relay, preface(site.echo.target, header, token=None))
    assert response.status == 200 and response.headers == {"relay-mode": "tunnel", "relay-upstream": "ip=127.0.0.1"}


def test_a_failed_proof_takes_at_least_300_ms_and_looks_the_same_whatever_was_wrong(site: Site) -> None:
    seen = set()
    for token in (None, WRONG, "rt1.nobody." + "A" * 43, EXPIRED_TOKEN, FAR_TOKEN):
        source, began = fresh_source(), time.monotonic()
        with open_tls(site.relay, source) as sock:
            sock.sendall(preface(site.bait.target, token=token))
            response = read_response(sock)
            assert time.monotonic() - began >= 0.3
            seen.add((response.status, tuple(sorted(response.headers.items())), rest_until_end(sock)))
        row = site.relay.event("refused", lambda row, source=source: row["source"] == source)
        assert row["reason"] == "token" and row["detail"] in (
            "missing", "wrong-token", "unknown-client", "expired", "source-network") and "client" not in row
    assert len(seen) == 1


def test_the_second_failure_of_an_address_waits_longer_but_a_good_token_from_there_does_not(site: Site) -> None:
    source = fresh_source()
    assert ask(site.relay, preface(site.bait.target, token=WRONG), source).status == 407
    began = time.monotonic()
    with open_tls(site.relay, source) as slow:
        slow.sendall(preface(site.bait.target, token=WRONG))
        assert ask(site.relay, preface(site.echo.target), source).status == 200
        assert time.monotonic() - began < 1.5
        assert read_response(slow).status == 407
    assert time.monotonic() - began >= 2.0


@pytest.mark.parametrize("connect", [open_tls, open_plain])
def test_a_preface_over_8_kib_is_refused_and_the_answer_arrives_although_more_was_sent(
        site: Site, connect: Callable[[RelayProcess], socket.socket]) -> None:
    with connect(site.relay) as sock:
        sock.sendall(b"CONNECT a.example:993 HTTP/1.1\r\nHost: a.example:993\r\nX-Long: " + b"x" * 1_000_000)
        response = read_response(sock)
        assert (response.status, response.error) == (400, "too-large")
    padded = preface(site.echo.target, "X-Long: " + "x" * 6000)
    assert len(padded) < 8192 and ask(site.relay, padded).status == 200


def test_a_preface_that_comes_octet_by_octet_in_time_is_good_and_a_slow_one_is_cut(site: Site) -> None:
    with open_tls(site.relay) as sock:
        for octet in preface(site.echo.target):
            sock.sendall(bytes((octet,)))
        assert read_response(sock).status == 200
    began = time.monotonic()
    with open_tls(site.relay) as sock:
        sock.sendall(b"CONNECT a.example:993 HTTP/1.1\r\nHost: a.ex")
        response = read_response(sock)
        assert (response.status, response.error) == (400, "timeout") and 1.9 <= time.monotonic() - began < 6


def test_no_token_ever_stands_in_the_log(site: Site) -> None:
    ask(site.relay, preface(site.bait.target, token=WRONG))
    ask(site.relay, preface(TOKEN.lower() + ":993"))
    ask(site.relay, preface("a.example:993", f"X: {TOKEN}", "Host: b"))
    text = "".join(site.relay.raw)
    for token in (TOKEN, WRONG, OTHER_TOKEN, EXPIRED_TOKEN, FAR_TOKEN):
        assert token.rpartition(".")[2] not in text
