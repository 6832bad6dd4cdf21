"""Name and dial, at their faults: a resolver that hangs, a host that does not answer, an address that is not the one dialled."""
from __future__ import annotations

import asyncio
import socket
import threading
import time
from pathlib import Path

import pytest

from relay.config import Upstream
from relay.preface import Answer
from relay.upstream import LOOKUPS, DialFailed, Resolver, dial, is_local
from tests.integration.relay.lab import Counting, Settings, ask, preface, running_relay
from tests.integration.relay.lab import Upstream as Listed


def test_a_host_that_does_not_answer_is_given_up_in_time(tmp_path: Path) -> None:
    # given a listener whose queue is full: the kernel drops further SYNs
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for one in fillers:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        settings = Settings([Listed("full", port)], limits={"dial_seconds": 1})
        with running_relay(tmp_path, settings) as relay:
            began = time.monotonic()
            response = ask(relay, preface(f"127.0.0.1:{port}"))
            assert (response.status, response.error) == (504, "dial-timeout") and 0.9 < time.monotonic() - began < 5
        for one in fillers:
            one.close()


def test_the_next_vetted_address_is_tried_when_one_refuses() -> None:
    async def scenario(port: int) -> str:
        sock, address = await dial([(socket.AF_INET, "127.0.0.77"), (socket.AF_INET, "127.0.0.1")], port, 5)
        sock.close()
        return address

    with Counting() as server:
        assert asyncio.run(scenario(server.port)) == "127.0.0.1"


def test_a_peer_that_is_not_the_address_dialled_is_dropped() -> None:
    """Linux connects 0.0.0.0 to 127.0.0.1: the one case on a single machine where the peer is another than was asked for."""
    with Counting() as server:
        with pytest.raises(DialFailed) as caught:
            asyncio.run(dial([(socket.AF_INET, "0.0.0.0")], server.port, 5))
        assert caught.value.answer is Answer.PEER_MISMATCH
        assert server.received == b""


def test_a_resolver_that_hangs_costs_its_callers_their_deadline_and_a_bounded_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        release.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    async def scenario() -> list[BaseException | object]:
        resolver = Resolver()
        wanted = Upstream("slow", "slow.example", 993)
        return await asyncio.gather(*(resolver.addresses(wanted, 0.5) for _ in range(3 * LOOKUPS)), return_exceptions=True)

    monkeypatch.setattr(socket, "getaddrinfo", hang)  # the fault itself: nothing on one machine makes the real one hang
    began = time.monotonic()
    threads = threading.active_count()
    try:
        outcomes = asyncio.run(scenario())
        assert time.monotonic() - began < 5 and threading.active_count() - threads <= LOOKUPS
    finally:
        release.set()
    assert len(outcomes) == 3 * LOOKUPS
    assert all(isinstance(one, DialFailed) and one.answer is Answer.DNS_TIMEOUT for one in outcomes)


def test_own_addresses_are_known_from_others() -> None:
    assert is_local("127.0.0.1") and is_local("127.9.9.9")
    assert not is_local("192.0.2.1") and not is_local("2001:db8::1")
