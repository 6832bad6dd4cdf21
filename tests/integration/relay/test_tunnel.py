"""Inside the tunnel: only TLS for the listed name gets through, every octet unchanged, neither side able to fill the relay's memory."""
from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import ssl
from pathlib import Path

import psutil
import pytest

from tests.integration.relay.conftest import Site
from tests.integration.relay.lab import (
    SECONDS,
    Counting,
    RelayProcess,
    Settings,
    Speaking,
    Tls,
    Upstream,
    ask,
    eventually,
    fresh_source,
    open_plain,
    open_tls,
    preface,
    read_response,
    rest_until_end,
    running_relay,
    tunnel,
)
from tests.support.certificates import authority


def opened(relay: RelayProcess, target: str, name: str) -> socket.socket:
    """A tunnel with nothing sent in it yet; `name` finds its line in the log."""
    sock = open_plain(relay)
    sock.sendall(preface(target, f"Relay-Session: {name}"))
    assert read_response(sock).status == 200
    return sock


def ending(relay: RelayProcess, name: str) -> dict[str, object]:
    return relay.event("session", lambda row: row.get("peer_session") == name)


def test_octets_pass_both_ways_unchanged_and_are_counted(site: Site) -> None:
    data = os.urandom(3_000_000)
    with tunnel(site.relay, site.echo.target, "Relay-Session: echo-1", "Relay-Account: 0af3") as tls:
        back = bytearray()

        def read() -> None:
            while len(back) < len(data) and (part := tls.recv(65536)):
                back.extend(part)

        # one TLS object is used from one thread at a time: send a piece, read it back
        for at in range(0, len(data), 300_000):
            tls.sendall(data[at:at + 300_000])
            while len(back) < min(at + 300_000, len(data)):
                back.extend(tls.recv(65536))
        assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
    row = ending(site.relay, "echo-1")
    assert row["reason"] == "client-closed" and row["client"] == "worker-1" and row["upstream"] == "echo" and row["status"] == 200
    assert row["account"] == "0af3" and row["address"] == "127.0.0.1"
    assert 3_000_000 < int(str(row["bytes_up"])) < 3_200_000 and 3_000_000 < int(str(row["bytes_down"])) < 3_200_000


def test_the_hello_may_come_in_the_same_flight_as_the_preface(site: Site) -> None:
    context = ssl.create_default_context(cadata=authority().pem)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    with open_plain(site.relay) as sock:
        sock.sendall(preface(site.echo.target) + outgoing.read())
        assert read_response(sock).status == 200
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
                break
            sock.sendall(outgoing.read())
            incoming.write(sock.recv(65536))
        sock.sendall(outgoing.read())
        assert tls.getpeercert() is not None


@pytest.mark.parametrize(("listed", "sni"), [("bait", "other.example"), ("bait", "localhost"), ("echo", "other.example"), ("echo", None)])
def test_another_name_in_the_hello_gets_an_alert_and_reaches_nobody(site: Site, listed: str, sni: str | None) -> None:
    """`bait` is listed as an address (no name is right there), `echo` with the name localhost."""
    target, name = (site.bait.target if listed == "bait" else site.echo.target), f"sni-{listed}-{sni}"
    context = ssl.create_default_context(cadata=authority().pem)
    context.check_hostname = False
    with opened(site.relay, target, name) as sock, pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        context.wrap_socket(sock, server_hostname=sni)
    assert ending(site.relay, name)["reason"] == "sni-mismatch" and site.bait.received == b""


def client_hello(name: str | None) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    return out.read()


def test_an_upstream_listed_as_an_address_is_reached_without_a_name(site: Site) -> None:
    octets = client_hello(None)
    with opened(site.relay, site.bait.target, "no-sni") as sock:
        sock.sendall(octets)
        eventually(lambda: bytes(site.bait.received) == octets, "the hello arrives as it was sent")
    assert ending(site.relay, "no-sni")["reason"] == "client-closed"
    site.bait.received.clear()


@pytest.mark.parametrize("octets", [b"a1 LOGIN user canary\r\n", b"EHLO x\r\n", b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n",
                                    b"\x05\x01\x00"])
def test_anything_but_tls_ends_the_tunnel_and_not_an_octet_reaches_the_upstream(site: Site, octets: bytes) -> None:
    name = f"plain-{octets[:2].hex()}"
    with opened(site.relay, site.plain.target, name) as sock:
        sock.sendall(octets)
        assert rest_until_end(sock) == b""  # not even what the upstream said first
    assert ending(site.relay, name)["reason"] == "not-tls"
    assert site.plain.received == b"" and "canary" not in "".join(site.relay.raw)


def test_a_tunnel_without_a_hello_is_closed_in_time(site: Site) -> None:
    with opened(site.relay, site.plain.target, "silent") as sock:
        assert rest_until_end(sock) == b""
    row = ending(site.relay, "silent")
    assert row["reason"] == "hello-timeout" and 1.9 < float(str(row["seconds"])) < 8
    assert site.plain.received == b""


def test_what_the_upstream_sent_before_it_closed_arrives_at_a_slow_reader(site: Site) -> None:
    """When the upstream's end is seen, the last octets still wait in the relay behind a full socket."""
    with tunnel(site.relay, site.echo.target, "Relay-Session: flood-1") as tls:
        tls.sendall(b"FLOOD 12000000")
        watched = psutil.Process(site.relay.process.pid)
        eventually(lambda: watched.cpu_percent(0.3) < 5.0, "every buffer on the way is full")
        octets = 0
        while part := tls.recv(2048):
            octets += len(part)
        assert octets == 12_000_000
    assert ending(site.relay, "flood-1")["reason"] == "upstream-closed"


def test_a_client_that_leaves_during_the_tunnel_frees_the_upstream(site: Site) -> None:
    sock = opened(site.relay, site.plain.target, "leaves")
    sock.close()
    assert ending(site.relay, "leaves")["reason"] in ("client-closed", "client-lost")


def memory(relay: RelayProcess) -> int:
    return int(psutil.Process(relay.process.pid).memory_info().rss)


class InnerTls:
    """The upstream's TLS, carried by any socket: also by the relay's own TLS."""

    def __init__(self, carrier: socket.socket) -> None:
        self.carrier = carrier
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = ssl.create_default_context(cadata=authority().pem).wrap_bio(self._in, self._out, server_hostname="localhost")
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                carrier.sendall(self._out.read())
                self._in.write(carrier.recv(65536))
            else:
                carrier.sendall(self._out.read())
                return

    def sendall(self, octets: bytes) -> None:
        self._tls.write(octets)
        self.carrier.sendall(self._out.read())

    def recv(self) -> bytes:
        while True:
            try:
                return self._tls.read(65536)
            except ssl.SSLWantReadError:
                self._in.write(self.carrier.recv(65536))


def inner(relay: RelayProcess, target: str, *, tls: bool) -> InnerTls:
    carrier = open_tls(relay) if tls else open_plain(relay)
    carrier.sendall(preface(target))
    assert read_response(carrier).status == 200
    return InnerTls(carrier)


@pytest.mark.parametrize("tls", [True, False], ids=["tls-listener", "plain-listener"])
def test_a_hundred_stalled_readers_cost_bounded_memory_and_no_one_else(tmp_path: Path, tls: bool) -> None:
    with Tls() as server, contextlib.ExitStack() as stack:
        settings = Settings([Upstream("flood", server.port, extra='server_name = "localhost"\n')],
                            worker="max_connections = 200", limits={"stall_seconds": 60})
        relay = stack.enter_context(running_relay(tmp_path, settings))
        stack.enter_context(inner(relay, server.target, tls=tls).carrier)
        before = memory(relay)
        # given a hundred clients that asked for 100 MB each and read none of it
        readers = []
        for _ in range(100):
            readers.append(inner(relay, server.target, tls=tls))
            stack.enter_context(readers[-1].carrier)
            readers[-1].sendall(b"FLOOD 100000000")
        # when the relay has nothing more to do: every reader is full back to its upstream
        watched = psutil.Process(relay.process.pid)
        eventually(lambda: watched.cpu_percent(0.5) < 5.0, "the relay comes to rest")
        # then each costs its queues (64 KiB to write, 64 KiB to read, TLS's own), not what was asked for
        grown = memory(relay) - before
        print(f"{grown / 1e6:.1f} MB for 100 stalled readers")
        assert grown < 100 * 1_000_000, f"{grown / 1e6:.1f} MB for 100 stalled readers"
        # a working session next to them is served
        working = inner(relay, server.target, tls=tls)
        stack.enter_context(working.carrier)
        working.sendall(b"hello")
        assert working.recv() == b"hello"
        # and a stalled one goes on where it stopped
        octets = 0
        while octets < 3_000_000:
            octets += len(readers[0].recv())


def test_a_stalled_reader_is_ended_and_named(tmp_path: Path) -> None:
    with Tls() as server:
        settings = Settings([Upstream("flood", server.port, extra='server_name = "localhost"\n')], limits={"stall_seconds": 2})
        with running_relay(tmp_path, settings) as relay, tunnel(relay, server.target, "Relay-Session: stall") as tls:
            tls.sendall(b"FLOOD 100000000")
            row = ending(relay, "stall")
            assert row["reason"] == "client-stalled" and 1.9 < float(str(row["seconds"])) < 10


def test_an_upstream_that_reads_nothing_is_ended_and_named(tmp_path: Path) -> None:
    class Deaf(Counting):
        def serve(self, sock: socket.socket) -> None:
            self.closing.wait(SECONDS)

    with Deaf() as server:
        settings = Settings([Upstream("deaf", server.port)], limits={"stall_seconds": 2})
        with running_relay(tmp_path, settings) as relay, opened(relay, server.target, "deaf") as sock:
            sock.sendall(client_hello(None))
            with contextlib.suppress(OSError):
                while True:  # the relay takes what fits on the way and then no more
                    sock.sendall(bytes(65536))
            assert ending(relay, "deaf")["reason"] == "upstream-stalled"


def test_a_quiet_session_ends_when_it_was_idle_too_long(tmp_path: Path) -> None:
    with Tls() as server:
        settings = Settings([Upstream("echo", server.port, extra='server_name = "localhost"\n')], limits={"idle_seconds": 2})
        with running_relay(tmp_path, settings) as relay, tunnel(relay, server.target, "Relay-Session: quiet") as tls:
            assert rest_until_end(tls) == b""
            row = ending(relay, "quiet")
            assert row["reason"] == "idle" and 1.9 < float(str(row["seconds"])) < 8


def test_a_peer_that_speaks_first_is_held_back_until_the_hello(site: Site) -> None:
    with opened(site.relay, site.plain.target, "first") as sock:
        sock.settimeout(1.0)
        with pytest.raises(TimeoutError):
            sock.recv(1)


def test_source_addresses_and_upstreams_stand_in_the_log_once_a_session(site: Site) -> None:
    source = fresh_source()
    with tunnel(site.relay, site.echo.target, "Relay-Session: once", source=source):
        pass
    ending(site.relay, "once")
    assert [row["source"] for row in site.relay.events if row.get("peer_session") == "once"] == [source]
    assert isinstance(site.plain, Speaking) and ask(site.relay, preface(site.echo.target)).status == 200
