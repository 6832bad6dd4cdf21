"""Floods and caps: what is bounded, who is dropped, and that those who proved themselves do not notice."""
from __future__ import annotations

import contextlib
import random
import socket
import struct
import time
from pathlib import Path

import pytest

from tests.integration.relay.lab import (
    OTHER_TOKEN,
    Counting,
    RelayProcess,
    Settings,
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
    sha,
    tunnel,
)

NAMED = 'server_name = "localhost"\n'


def test_a_slowloris_flood_drops_the_oldest_unproved_and_no_session(tmp_path: Path) -> None:
    with Tls() as server:
        settings = Settings([Upstream("echo", server.port, extra=NAMED)],
                            limits={"max_unauthenticated": 50, "preface_seconds": 60, "handshake_seconds": 60})
        with running_relay(tmp_path, settings) as relay, contextlib.ExitStack() as stack:
            running = stack.enter_context(tunnel(relay, server.target))
            # given 300 connections that say nothing: half before the TLS handshake, half in the preface
            silent = []
            for number in range(300):
                port = relay.port if number % 2 else relay.plain_port
                sock = socket.create_connection(("127.0.0.1", port), 10, source_address=(fresh_source(), 0))
                if not number % 2:
                    sock.sendall(b"CONNECT a")
                silent.append(stack.enter_context(sock))
            # then the oldest are closed,
            assert rest_until_end(silent[0]) == b"" and rest_until_end(silent[1]) == b""
            # the newest are not, the session goes on, and a newcomer is served at once
            silent[-1].setblocking(False)
            with contextlib.suppress(BlockingIOError):
                raise AssertionError(silent[-1].recv(1))
            running.sendall(b"still here")
            assert running.recv(100) == b"still here"
            began = time.monotonic()
            assert ask(relay, preface(server.target)).status == 200
            assert time.monotonic() - began < 3


def test_one_address_cannot_take_all_the_room(tmp_path: Path) -> None:
    with Tls() as server:
        settings = Settings([Upstream("echo", server.port)], limits={"max_unauthenticated_per_address": 5, "preface_seconds": 60})
        with running_relay(tmp_path, settings) as relay, contextlib.ExitStack() as stack:
            source = fresh_source()
            for _ in range(5):
                stack.enter_context(open_tls(relay, source))
            with socket.create_connection(("127.0.0.1", relay.port), 10, source_address=(source, 0)) as sixth:
                assert rest_until_end(sixth) == b""
            assert ask(relay, preface(server.target)).status == 200


def test_a_handshake_that_does_not_end_is_cut(tmp_path: Path) -> None:
    with Tls() as server:
        settings = Settings([Upstream("echo", server.port)], limits={"handshake_seconds": 1})
        with running_relay(tmp_path, settings) as relay:
            began = time.monotonic()
            with socket.create_connection(("127.0.0.1", relay.port), 10, source_address=(fresh_source(), 0)) as sock:
                sock.sendall(b"\x16\x03\x01")
                assert rest_until_end(sock) == b""
            assert 0.9 < time.monotonic() - began < 5


def test_the_caps_of_client_upstream_and_relay_answer_429_and_free_themselves(tmp_path: Path) -> None:
    with Tls() as one, Tls() as two:
        settings = Settings([Upstream("one", one.port, extra=NAMED), Upstream("two", two.port, extra=NAMED + "max_connections = 1\n")],
                            worker="max_connections = 2", limits={"max_sessions": 3},
                            clients=f'[[clients]]\nid = "worker-2"\ntoken_sha256 = "{sha(OTHER_TOKEN)}"\nupstreams = ["one", "two"]\n')
        with running_relay(tmp_path, settings) as relay, contextlib.ExitStack() as stack:
            def asked(target: str, token: str | None = None) -> tuple[int, str, str | None]:
                response = ask(relay, preface(target) if token is None else preface(target, token=token))
                return response.status, response.error, response.headers.get("retry-after")

            stack.enter_context(tunnel(relay, two.target))
            assert asked(two.target) == (429, "upstream-connections", "10")
            first = stack.enter_context(tunnel(relay, one.target))
            assert asked(one.target) == (429, "client-connections", "10")
            third = stack.enter_context(open_plain(relay))
            third.sendall(preface(one.target, token=OTHER_TOKEN))
            assert read_response(third).status == 200
            assert asked(one.target, OTHER_TOKEN) == (429, "sessions", "10")
            first.close()
            eventually(lambda: asked(one.target)[0] == 200, "the place is free again")
            assert one.connections <= 6 and two.connections == 1


def test_a_cap_beyond_the_systems_descriptors_is_refused_at_start(tmp_path: Path) -> None:
    with Tls() as server:
        settings = Settings([Upstream("echo", server.port)], limits={"max_sessions": 5000})
        with pytest.raises(AssertionError, match=r"limits\.max_sessions.*LimitNOFILE=10320"):
            RelayProcess(tmp_path, settings, files=1024)


def test_no_descriptor_is_lost_however_a_session_ends(tmp_path: Path) -> None:
    """The process has room for 20 sessions; 300 come and go in six ways, and the next is served."""
    with Tls() as server, Counting() as closed:
        closed.close()
        settings = Settings([Upstream("echo", server.port, extra=NAMED), Upstream("closed", closed.port)],
                            limits={"max_sessions": 20, "max_unauthenticated": 30, "max_unauthenticated_per_address": 30})
        with running_relay(tmp_path, settings, files=134) as relay:
            for number in range(300):
                way = number % 6
                if way == 0:
                    with tunnel(relay, server.target) as tls:
                        tls.sendall(b"x")
                        assert tls.recv(1) == b"x"
                    continue
                with open_tls(relay) if way == 1 else open_plain(relay) as sock:
                    if way == 1:
                        sock.sendall(preface("unlisted.example:993"))
                        assert read_response(sock).status == 403
                    elif way == 2:
                        sock.sendall(preface(closed.target))
                        assert read_response(sock).status == 502
                    elif way == 3:
                        sock.sendall(preface(server.target))  # and away before the answer
                    elif way == 4:
                        sock.sendall(preface(server.target))
                        assert read_response(sock).status == 200
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
                    else:
                        sock.sendall(b"CONN")
            eventually(lambda: ask(relay, preface(server.target)).status == 200, "it still serves")


def test_random_octets_at_every_stage_leave_it_standing(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    print(f"seed {seed}")
    with Tls() as server:
        settings = Settings([Upstream("echo", server.port, extra=NAMED)], limits={"preface_seconds": 1, "hello_seconds": 1})
        with running_relay(tmp_path, settings) as relay:
            for number in range(300):
                with open_plain(relay) if number % 3 else socket.create_connection(("127.0.0.1", relay.port), 10) as sock:
                    good = preface(server.target) + b"\x16\x03\x01" if number % 2 else b""
                    with contextlib.suppress(OSError):
                        sock.sendall(good + chance.randbytes(chance.randrange(1, 3000)))
            with tunnel(relay, server.target) as tls:
                tls.sendall(b"x")
                assert tls.recv(1) == b"x"
