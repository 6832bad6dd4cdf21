"""Lines and octets over a real socket pair: caps, deadlines, the end of the peer, close from another thread."""
from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from engine.causes import Cause, Side
from engine.errors import ConnectionBroken, ProtocolError
from engine.net.stream import Stream

Pair = tuple[Stream, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = Stream(ours, idle=5.0)
    yield stream, theirs
    stream.close()
    theirs.close()


def test_lines_end_in_lf_or_crlf_and_come_in_pieces(pair: Pair) -> None:
    stream, peer = pair
    peer.sendall(b"one\r\ntwo\nthr")
    assert stream.read_line(100) == b"one"
    assert stream.read_line(100) == b"two"
    peer.sendall(b"ee\r\n\r\nrest")
    assert stream.read_line(100) == b"three"
    assert stream.read_line(100) == b""
    assert stream.buffered == 4
    assert stream.read_exact(4) == b"rest"
    assert stream.bytes_in == len(b"one\r\ntwo\nthree\r\n\r\nrest")


@pytest.mark.parametrize("end", [b"", b"\r\n"])
def test_a_line_over_its_cap_is_refused_before_it_is_all_read(pair: Pair, end: bytes) -> None:
    stream, peer = pair
    peer.sendall(b"x" * 5000 + end)
    with pytest.raises(ProtocolError):
        stream.read_line(4096)
    assert stream.closed


def test_a_line_of_exactly_the_cap_passes(pair: Pair) -> None:
    stream, peer = pair
    peer.sendall(b"x" * 4096 + b"\r\n")
    assert len(stream.read_line(4096)) == 4096


def test_exact_counts_across_many_pieces(pair: Pair) -> None:
    stream, peer = pair
    data = bytes(range(256)) * 4096
    thread = threading.Thread(target=peer.sendall, args=(b"head\r\n" + data + b"tail\r\n",))
    thread.start()
    assert stream.read_line(100) == b"head"
    got = stream.read_some(1000) + stream.read_exact(500_000)
    while len(got) < len(data):
        piece = stream.read_some(min(65536, len(data) - len(got)))
        assert 0 < len(piece) <= 65536
        got += piece
    assert got == data
    assert stream.read_line(100) == b"tail"
    thread.join()


def test_a_closed_peer_is_a_broken_connection(pair: Pair) -> None:
    stream, peer = pair
    peer.sendall(b"half a li")
    peer.close()
    with pytest.raises(ConnectionBroken):
        stream.read_line(100)
    assert stream.closed
    with pytest.raises(ConnectionBroken):
        stream.write(b"x")


def test_a_peer_that_resets_while_we_write_is_a_broken_connection(pair: Pair) -> None:
    stream, peer = pair
    peer.close()
    with pytest.raises(ConnectionBroken):
        for _ in range(100):
            stream.write(b"x" * 100_000)


def test_silence_has_a_limit(pair: Pair) -> None:
    stream, _ = pair
    stream.idle = 0.05
    with pytest.raises(ConnectionBroken, match="in time"):
        stream.read_line(100)


def test_octets_that_trickle_do_not_outlast_the_budget(pair: Pair) -> None:
    stream, peer = pair
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(0.01):
            try:
                peer.sendall(b"x")
            except OSError:
                return

    thread = threading.Thread(target=trickle)
    thread.start()
    stream.limit(0.2)
    started = time.monotonic()
    with pytest.raises(ConnectionBroken):
        stream.read_line(1 << 20)
    assert time.monotonic() - started < 3
    stop.set()
    thread.join()


def test_two_full_buffers_do_not_wait_for_each_other(pair: Pair) -> None:
    """Given a server that answers before it reads on, when more is written than both buffers hold, then nobody hangs."""
    stream, peer = pair
    size, seen = 3_000_000, []

    def echo() -> None:
        left = size
        while left:
            data = peer.recv(65536)
            peer.sendall(data)  # blocks unless the other side reads
            left -= len(data)
        seen.append(True)

    thread = threading.Thread(target=echo)
    thread.start()
    payload = bytes(size)
    stream.write(payload)
    assert stream.read_exact(size) == payload
    thread.join(5)
    assert seen


def test_a_peer_that_never_reads_has_a_limit_too(pair: Pair) -> None:
    stream, _ = pair
    stream.idle = 0.1
    with pytest.raises(ConnectionBroken):
        stream.write(bytes(20_000_000))


def test_close_from_another_thread_wakes_the_reader(pair: Pair) -> None:
    stream, _ = pair
    caught: list[BaseException] = []
    reading = threading.Event()

    def read() -> None:
        reading.set()
        try:
            stream.read_line(100)
        except ConnectionBroken as error:
            caught.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    reading.wait()
    stream.close()
    thread.join(2)
    assert caught


def test_parts_are_written_in_order_and_counted(pair: Pair) -> None:
    stream, peer = pair
    stream.write(b"a", b"b" * 100_000, b"c", memoryview(b"d"))
    got = b""
    while len(got) < 100_003:
        got += peer.recv(65536)
    assert got == b"a" + b"b" * 100_000 + b"cd"
    assert stream.bytes_out == 100_003


def test_at_the_destination_a_lost_connection_has_the_destinations_name() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = Stream(ours, side=Side.DESTINATION)
    theirs.close()
    with pytest.raises(ConnectionBroken) as caught:
        stream.read_line(10)
    assert (caught.value.cause, caught.value.side) == (Cause.DESTINATION_CONNECT, Side.DESTINATION)


def test_that_nothing_comes_in_time_ends_nothing(pair: Pair) -> None:
    stream, peer = pair
    begun = time.monotonic()
    assert not stream.readable_within(0.15)
    assert 0.14 <= time.monotonic() - begun < 3
    assert stream.waited >= 0.14, "it counts as waiting for the peer"
    assert not stream.readable_within(-1)
    later = threading.Timer(0.1, lambda: peer.sendall(b"+ go on\r\n"))
    later.start()
    assert stream.readable_within(5)
    assert stream.readable_within(0), "what was read is still there"
    assert stream.read_line(100) == b"+ go on"
    later.join()


def test_waiting_for_a_peer_that_hangs_up_tells_so(pair: Pair) -> None:
    stream, peer = pair
    threading.Timer(0.05, peer.close).start()
    with pytest.raises(ConnectionBroken):
        stream.readable_within(5)
    assert stream.closed
    begun = time.monotonic()
    assert not stream.readable_within(5)
    assert time.monotonic() - begun < 1
