"""It is not an open relay: a corpus of probes, after which no name was looked up, nothing was dialled and nobody was reached."""
from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.integration.relay.lab import (
    TOKEN,
    Counting,
    RelayProcess,
    Settings,
    Upstream,
    ask,
    fresh_source,
    open_tls,
    preface,
    read_response,
    rest_until_end,
    running_relay,
)

HOSTS = ["127.0.0.1", "localhost", "0.0.0.0", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001",
         "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::1]", "[fe80::1]", "[fe80::1%lo]",
         "169.254.169.254", "100.100.100.200", "metadata.google.internal", "[fd00:ec2::254]", "10.0.0.1", "192.168.0.1", "172.16.0.1",
         "example.com", "smtp.example.com", "localhost.", "127.0.0.1.", "user@localhost", "user:pass@127.0.0.1", "localhost\x00.example",
         "localhost#", "localhost?", "localhost/", "\xfcmlaut.example", "xn--mlaut-jva.example", "a b", "*", "", "..", "%6cocalhost",
         "127.0.0.1:1", "localhost\t", "LOCALHOST", "１２７.0.0.1".encode().decode("latin-1"), "ⓛocalhost".encode().decode("latin-1")]


def probes(bait: Counting, own: int) -> list[bytes]:
    """Requests that must all be refused. The bait's own port is tried under every name that may lead to it."""
    found = [preface(f"{host}:{port}", token=None) for host in HOSTS for port in (bait.port, 25, 993, own)]
    found += [f"{verb} http://127.0.0.1:{bait.port}/ HTTP/1.1\r\nHost: 127.0.0.1:{bait.port}\r\n".encode() + b"\r\n"
              for verb in ("GET", "POST", "HEAD", "OPTIONS", "TRACE", "PRI", "connect")]
    found += [f"CONNECT {form} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for form in (
        f"http://127.0.0.1:{bait.port}", f"//127.0.0.1:{bait.port}", "127.0.0.1", "127.0.0.1:", ":993", f"127.0.0.1:{bait.port}/",
        f"127.0.0.1:0{bait.port}", f"127.0.0.1:{bait.port + 65536}", f"127.0.0.1:-{bait.port}", "*")]
    found += [b"\x05\x01\x00", b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", b"EHLO x\r\n\r\n", b"a1 LOGIN x y\r\n\r\n"]
    return found


def with_token(probe: bytes) -> bytes:
    return probe[:-2] + f"Proxy-Authorization: Bearer {TOKEN}\r\n\r\n".encode() if probe.endswith(b"\r\n\r\n") else probe


def refused(relay: RelayProcess, probe: bytes) -> int:
    """The status of the refusal; checks that only a refusal comes back."""
    with open_tls(relay, fresh_source()) as sock:
        sock.sendall(probe)
        if not probe.endswith(b"\r\n\r\n"):
            sock.sendall(b"\r\n\r\n")
        status = read_response(sock).status
        assert rest_until_end(sock) == b""
        return status


def test_no_packet_leaves_for_any_probe_with_or_without_a_token(tmp_path: Path) -> None:
    with Counting() as bait:
        # given a relay whose one upstream has the bait's name, but another port
        settings = Settings([Upstream("listed", 993, host="listed.example", allowed="")], limits={"preface_seconds": 5})
        with running_relay(tmp_path, settings) as relay, ThreadPoolExecutor(16) as pool:
            corpus = probes(bait, relay.port)
            assert len(corpus) > 200
            # when every probe is sent without a token, with a wrong one, and with a good one
            unproved = list(pool.map(lambda probe: refused(relay, probe), corpus))
            proved = list(pool.map(lambda probe: refused(relay, with_token(probe)), corpus))
            # then all are refused, and the process has looked nothing up and dialled nothing
            assert set(unproved) == {400, 407} and set(proved) == {400, 403}
            assert relay.trail() == [] and bait.connections == 0


def test_one_lookup_and_one_dial_for_what_is_listed(tmp_path: Path) -> None:
    """The control: the trail of the test above would show a lookup and a dial."""
    with Counting() as server:
        settings = Settings([Upstream("listed", server.port, host="localhost", allowed='127.0.0.0/8", "::1/128')])
        with running_relay(tmp_path, settings) as relay:
            assert ask(relay, preface(f"localhost:{server.port}")).status == 200
            server.wait_for(1)
            lookups = [line for line in relay.trail() if line.startswith("lookup")]
            dials = [line for line in relay.trail() if line.startswith("dial")]
            assert lookups == ["lookup localhost"] and f"dial ('127.0.0.1', {server.port})" in dials


def test_hostile_sessions_before_a_token_reach_nobody(tmp_path: Path) -> None:
    """Nothing is dialled before the proof: a thousand sessions that name the listed upstream, cut at every stage."""
    with Counting() as server:
        settings = Settings([Upstream("listed", server.port)], limits={"preface_seconds": 1, "max_unauthenticated_per_address": 500})
        with running_relay(tmp_path, settings) as relay:
            whole, source = preface(server.target, token=TOKEN[:-4] + "AAAA"), fresh_source()
            for number in range(1000):
                with socket.create_connection(("127.0.0.1", relay.plain_port), 5, source_address=(source, 0)) as sock:
                    sock.sendall(whole[:number % (len(whole) + 1)])
            assert relay.trail() == [] and server.connections == 0
            assert ask(relay, preface(server.target)).status == 200  # and it still serves


def test_a_name_that_leads_to_the_relay_itself_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = Settings([Upstream("loop", port), Upstream("loop-by-name", port, host="localhost", allowed='127.0.0.0/8", "::1/128')],
                        port=port)
    with running_relay(tmp_path, settings) as relay:
        for target in (f"127.0.0.1:{port}", f"localhost:{port}"):
            response = ask(relay, preface(target))
            assert (response.status, response.error) == (403, "own-address")
        assert not [line for line in relay.trail() if line.startswith("dial")]


def test_one_denied_address_among_the_answers_refuses_them_all(tmp_path: Path) -> None:
    """`localhost` has at least 127.0.0.1 here; the upstream opens ::1 alone."""
    with Counting() as server:
        settings = Settings([Upstream("mixed", server.port, host="localhost", allowed="::1/128")])
        with running_relay(tmp_path, settings) as relay:
            response = ask(relay, preface(f"localhost:{server.port}"))
            assert (response.status, response.error) == (403, "address-refused")
            assert not [line for line in relay.trail() if line.startswith("dial")] and server.connections == 0
