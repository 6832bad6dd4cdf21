"""One relay for the tests that do not change it, with servers behind it that count."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.relay.lab import (
    EXPIRED_TOKEN,
    FAR_TOKEN,
    OTHER_TOKEN,
    Counting,
    RelayProcess,
    Settings,
    Speaking,
    Tls,
    Upstream,
    running_relay,
    sha,
)


@dataclass
class Site:
    """`bait` must never be reached by a refused request; `echo` speaks TLS; `plain` speaks first and no TLS."""

    relay: RelayProcess
    bait: Counting
    echo: Tls
    plain: Speaking


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Counting() as bait, Tls() as echo, Speaking() as plain:
        assert isinstance(echo, Tls) and isinstance(plain, Speaking)
        closed = Counting()
        closed.close()
        clients = (f'[[clients]]\nid = "worker-2"\ntoken_sha256 = "{sha(OTHER_TOKEN)}"\nupstreams = ["plain"]\n'
                   f'[[clients]]\nid = "worker-3"\ntoken_sha256 = "{sha(EXPIRED_TOKEN)}"\nupstreams = ["bait"]\nexpires = 2020-01-01\n'
                   f'[[clients]]\nid = "worker-4"\ntoken_sha256 = "{sha(FAR_TOKEN)}"\nupstreams = ["bait"]\nsources = ["192.0.2.0/24"]\n')
        settings = Settings([
            Upstream("bait", bait.port), Upstream("echo", echo.port, extra='server_name = "localhost"\n'),
            Upstream("plain", plain.port), Upstream("by-name", echo.port, host="localhost", allowed='127.0.0.0/8", "::1/128'),
            Upstream("shut", echo.port, host="127.0.0.2", allowed=""), Upstream("metadata", 993, host="169.254.169.254", allowed=""),
            Upstream("gone", closed.port), Upstream("starttls", 143, host="127.0.0.1"),
            Upstream("nowhere", 993, host="no-such-host.invalid"),
        ], clients=clients, limits={"preface_seconds": 2, "hello_seconds": 2, "max_unauthenticated_per_address": 40})
        with running_relay(Path(tmp_path_factory.mktemp("relay")), settings) as relay:
            yield Site(relay, bait, echo, plain)
