"""The proxy delays APPEND without losing or changing anything, and delivers what a dead client had sent."""
from __future__ import annotations

import time

from tests.support.provider_simulator import ProviderSimulator
from tests.support.slow_append_proxy import SlowAppendProxy
from tests.unit.simulator.raw_client import RawClient


def test_the_answer_comes_late_and_other_commands_do_not() -> None:
    with ProviderSimulator("dovecot") as server, SlowAppendProxy(server.host, server.port, answer_late=0.5) as proxy, \
            RawClient(server, port=proxy.port) as client:
        begun = time.monotonic()
        client.login()
        assert time.monotonic() - begun < 0.4
        begun = time.monotonic()
        client.send(b"x APPEND INBOX {1+}\r\nz\r\n")
        server.wait_until(lambda s: len(s.account()["INBOX"].messages) == 1)
        assert time.monotonic() - begun < 0.4
        assert client.until_tag(b"x")[1].startswith(b"OK [APPENDUID")
        assert time.monotonic() - begun >= 0.5


def test_what_a_killed_client_had_sent_is_delivered_later() -> None:
    with ProviderSimulator("dovecot") as server, SlowAppendProxy(server.host, server.port, deliver_late=0.5) as proxy:
        client = RawClient(server, port=proxy.port)
        client.login()
        client.send(b"".join(b"t%d APPEND INBOX {5+}\r\nx\r\n\r\n\r\n" % n for n in range(5)))
        proxy.wait_for_appends(5)
        proxy.cut()
        client.close()
        assert server.account()["INBOX"].messages == []
        proxy.wait_until_quiet()
        server.wait_until(lambda s: len(s.account()["INBOX"].messages) == 5)
