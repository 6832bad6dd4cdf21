"""COMPRESS=DEFLATE with a real Dovecot: there and back, and inside a relay's tunnel."""
from __future__ import annotations

import random
from base64 import encodebytes
from pathlib import Path

import pytest

from engine.causes import Side
from engine.endpoint import RelayRoute, Route, Secret
from engine.imap.append import Appender, Outgoing
from engine.imap.fetch import fetch_bodies, fetch_metadata
from engine.imap.session import Session
from tests.integration.relay.lab import TOKEN, Settings, Upstream, running_relay
from tests.support.certificates import authority
from tests.support.dovecot import LOOPBACK, Dovecot, Sample, account, read_back, seed

DATE = "17-Jul-2026 02:44:25 -0700"
SEED = 4978
BODIES = [b"Subject: %d\r\n\r\n" % n + encodebytes(random.Random(SEED + n).randbytes(size)).replace(b"\n", b"\r\n")
          for n, size in enumerate((0, 10, 5_000, 300_000, 4_000_000))]


def test_mail_passes_compressed_both_ways(source_server: Dovecot, destination_server: Dovecot, fresh_user: str) -> None:
    seed(source_server, fresh_user, [Sample(content) for content in BODIES])
    source = Session.open(account(source_server, fresh_user), LOOPBACK, side=Side.SOURCE)
    target = Session.open(account(destination_server, fresh_user), LOOPBACK, side=Side.DESTINATION)
    try:
        assert source.compress()
        assert target.compress()
        assert not source.compress(), "once only"
        source.examine("INBOX")
        uids = [one.uid for one in fetch_metadata(source, 1, None)]
        appender = Appender(target)
        for body in fetch_bodies(source, [uids]):
            [result] = appender.wait(appender.send("INBOX", [Outgoing(body.uid, (), DATE, body.length, body.chunks(50_000))]))
            assert result.error is None
        octets = sum(map(len, BODIES))
        assert octets * 0.7 < source.bytes_in < octets * 0.85
        assert octets * 0.7 < target.bytes_out < octets * 0.85
    finally:
        source.logout()
        target.logout()
    assert sorted(m.content for m in read_back(destination_server, fresh_user)["INBOX"]) == sorted(BODIES), f"seed {SEED}"


def test_compressed_inside_a_relays_tunnel(source_server: Dovecot, fresh_user: str, tmp_path: Path) -> None:
    seed(source_server, fresh_user, [Sample(content) for content in BODIES])
    assert source_server.ports is not None
    upstream = Upstream("old", source_server.ports.imaps, host="localhost", allowed='127.0.0.0/8", "::1/128')
    with running_relay(tmp_path, Settings([upstream])) as relay:
        route = Route(relay=RelayRoute("localhost", relay.port, Secret(TOKEN), ca_pem=authority().pem))
        session = Session.open(account(source_server, fresh_user), route, side=Side.SOURCE)
        try:
            assert session.compress()
            session.examine("INBOX")
            assert [body.read() for body in fetch_bodies(session, [list(range(1, len(BODIES) + 1))])] == BODIES, f"seed {SEED}"
            assert session.channel.stream.tls_facts() is not None
        finally:
            session.logout()


@pytest.mark.parametrize("side", list(Side))
def test_every_verb_after_the_switch(source_server: Dovecot, fresh_user: str, side: Side) -> None:
    session = Session.open(account(source_server, fresh_user), LOOPBACK, side=side)
    assert session.compress()
    session.create("a")
    assert session.survey().statuses["a"].messages == 0
    session.unselect()
    session.noop()
    session.logout()
