"""The engine's dialler, the relay and a real Dovecot, together: TLS to the relay, TLS to the server inside it, mail unchanged."""
from __future__ import annotations

import os
import socket
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.causes import Cause, Side
from engine.endpoint import RelayRoute, Route, Secret
from engine.errors import ConnectionBroken, EngineError, Refused, Throttled
from engine.imap.session import Session
from engine.net import tls
from engine.net.dial import dial
from engine.net.stream import Stream
from tests.integration.relay.lab import TOKEN, RelayProcess, Settings, Upstream, running_relay
from tests.support.certificates import authority, stranger
from tests.support.dovecot import PASSWORD, Dovecot, Sample, account, endpoint, seed


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory, dovecot_pair: object) -> Iterator[RelayProcess]:
    source: Dovecot = dovecot_pair.source  # type: ignore[attr-defined]
    assert source.ports is not None
    loopback = '127.0.0.0/8", "::1/128'
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dead = taken.getsockname()[1]
    settings = Settings([
        Upstream("old", source.ports.imaps, host="localhost", allowed=loopback),
        Upstream("capped", source.ports.imap, host="localhost", allowed=loopback, extra="max_connections = 1\n"),
        Upstream("dead", dead, host="localhost", allowed=loopback),
        Upstream("internal", 993, host="127.0.0.1", allowed=""),
    ])
    with running_relay(Path(tmp_path_factory.mktemp("relay")), settings) as running:
        yield running


def via(relay: RelayProcess, token: str = TOKEN, **changes: object) -> Route:
    route = RelayRoute("localhost", relay.port, Secret(token), ca_pem=authority().pem)
    return Route(relay=replace(route, **changes))  # type: ignore[arg-type]


def test_a_message_comes_through_octet_for_octet(relay: RelayProcess, source_server: Dovecot, fresh_user: str) -> None:
    # given a message of 3 MB that no compression or guess could restore
    content = b"Subject: big\r\n\r\n" + b"\r\n".join(b64encode(os.urandom(54)) for _ in range(40_000)) + b"\r\n"
    seed(source_server, fresh_user, [Sample(content)])
    server = endpoint(source_server)
    # when it is fetched through TLS inside the relay's TLS
    stream = Stream(dial(server.host, server.port, via(relay), timeout=15))
    try:
        tls.upgrade(stream, server)
        assert stream.read_line(10_000).startswith(b"* OK")
        stream.write(f'a LOGIN {fresh_user} "'.encode(), PASSWORD.encode(), b'"\r\nb EXAMINE INBOX\r\nc FETCH 1 BODY.PEEK[]\r\n')
        line = b""
        while b"{" not in line:
            line = stream.read_line(10_000)
        octets = stream.read_exact(int(line[line.index(b"{") + 1:line.index(b"}")]))
    finally:
        stream.close()
    # then it is the same, and the relay has counted it and seen none of it
    assert octets == content
    row = relay.event("session", lambda row: row.get("bytes_down", 0) > len(content))
    assert row["upstream"] == "old" and row["reason"] in ("client-closed", "client-lost")
    assert PASSWORD not in "".join(relay.raw) and fresh_user not in "".join(relay.raw)


def test_a_whole_session_runs_over_the_relay(relay: RelayProcess, source_server: Dovecot, fresh_user: str) -> None:
    seed(source_server, fresh_user, [Sample(b"Subject: a\r\n\r\nb\r\n", folder="归档")])
    session = Session.open(account(source_server, fresh_user), via(relay), side=Side.SOURCE)
    try:
        assert "归档" in [folder.display for folder in session.list_folders()]
    finally:
        session.close()
    row = relay.event("session", lambda row: row.get("account") is not None)
    assert fresh_user not in str(row["account"])


@pytest.mark.parametrize(("token", "host", "port", "cause", "detail"), [
    ("rt1.worker-1." + "A" * 43, "localhost", "old", Cause.RELAY_REFUSED, "407 token"),
    (TOKEN, "imap.elsewhere.example", "old", Cause.RELAY_REFUSED, "403 not-allowed"),
    (TOKEN, "127.0.0.1", "internal", Cause.ADDRESS_REFUSED, "403 address-refused"),
    (TOKEN, "localhost", "dead", Cause.DNS_CONNECT, "502 refused"),
])
def test_refusals_arrive_as_causes(relay: RelayProcess, token: str, host: str, port: str, cause: Cause, detail: str) -> None:
    number = next(one.port for one in relay.settings.upstreams if one.id == port)
    with pytest.raises(EngineError) as caught:
        dial(host, number, via(relay, token), timeout=15)
    assert caught.value.cause is cause and detail in caught.value.detail and token not in str(caught.value)


def test_a_full_relay_is_a_throttle_with_its_time(relay: RelayProcess) -> None:
    port = next(one.port for one in relay.settings.upstreams if one.id == "capped")
    first = dial("localhost", port, via(relay), timeout=15)
    try:
        with pytest.raises(Throttled) as caught:
            dial("localhost", port, via(relay), timeout=15)
        assert caught.value.retry_after == 10
    finally:
        first.close()


def test_a_relay_that_cannot_prove_itself_gets_no_token(relay: RelayProcess) -> None:
    """Had the engine sent its preface, the relay would have refused the unlisted server in its log."""
    with pytest.raises(ConnectionBroken) as caught:
        dial("localhost", 993, via(relay, ca_pem=stranger().pem), timeout=15)
    assert caught.value.cause is Cause.RELAY_UNREACHABLE
    with pytest.raises(Refused):
        dial("localhost", 994, via(relay), timeout=15)
    relay.event("refused", lambda row: row.get("detail") == "localhost:994")
    assert not [row for row in relay.events if row.get("detail") == "localhost:993"]


def test_a_server_with_another_certificate_is_refused_by_the_engine_not_hidden_by_the_relay(
        relay: RelayProcess, source_server: Dovecot, fresh_user: str) -> None:
    wrong = account(source_server, fresh_user)
    with pytest.raises(Refused) as caught:
        Session.open(replace(wrong, endpoint=replace(wrong.endpoint, ca_pem=stranger().pem)), via(relay), side=Side.SOURCE)
    assert caught.value.cause is Cause.TLS
