"""COMPRESS=DEFLATE: what is on the wire, what a bomb costs, and when it pays."""
from __future__ import annotations

import random
import socket
import threading
import tracemalloc
import zlib
from collections.abc import Callable

import pytest

from engine.causes import Side
from engine.errors import EngineError, ProtocolError
from engine.imap.append import Appender, Outgoing
from engine.imap.compress import INFLATE_CAP, Deflated, pays
from engine.imap.fetch import fetch_bodies
from engine.net.stream import Stream
from tests.unit.imap.scripted import Peer, Scripted

OFFERED = b"IMAP4rev1 COMPRESS=DEFLATE UIDPLUS LITERAL+"


class Deflating:
    """The server's end of a compressed connection, for Peer.conn."""

    def __init__(self, conn: socket.socket, level: int = 6) -> None:
        self.conn = conn
        self.deflate = zlib.compressobj(level, zlib.DEFLATED, -15)
        self.inflate = zlib.decompressobj(-15)
        self.read = b""

    def packed(self, data: bytes) -> bytes:
        return self.deflate.compress(data) + self.deflate.flush(zlib.Z_SYNC_FLUSH)

    def sendall(self, data: bytes) -> None:
        self.conn.sendall(self.packed(data))

    def recv(self, size: int) -> bytes:
        while not self.read:
            data = self.conn.recv(65536)
            if not data:
                return b""
            self.read = self.inflate.decompress(data)
        taken, self.read = self.read[:size], self.read[size:]
        return taken

    def shutdown(self, how: int) -> None:
        self.conn.shutdown(how)

    def close(self) -> None:
        self.conn.close()


def compressed(talk: Callable[[Peer], None], *, early: bytes = b"") -> Callable[[Peer], None]:
    """Logs in, takes COMPRESS, and goes on deflated; `early` comes in the same piece as the answer, deflated."""
    def whole(peer: Peer) -> None:
        peer.greet()
        tag = peer.expect(b"COMPRESS DEFLATE")
        peer.conn, conn = Deflating(peer.conn), peer.conn  # type: ignore[assignment]
        conn.sendall(tag + b" OK active\r\n" + (peer.conn.packed(early) if early else b""))  # type: ignore[attr-defined]
        talk(peer)
    return whole


def test_commands_and_answers_pass_through_deflated() -> None:
    def talk(peer: Peer) -> None:
        peer.answer(b"NOOP")
        tag = peer.expect(b"UID FETCH")
        peer.send(b"* 1 FETCH (UID 1 BODY[] {1000000}\r\n", b"x" * 1_000_000, b")\r\n", tag, b" OK\r\n")

    with Scripted(compressed(talk), capabilities=OFFERED) as server, server.session() as session:
        assert session.compress()
        before = session.bytes_in
        session.noop()
        [body] = [body.read() for body in fetch_bodies(session, [[1]])]
        assert body == b"x" * 1_000_000
        assert 0 < session.bytes_in - before < 10_000, "octets of the wire are counted"
        assert session.bytes_out < 1000
    assert b"NOOP" in server.heard


def test_what_comes_with_the_answer_is_compressed_already() -> None:
    with Scripted(compressed(lambda peer: peer.answer(b"NOOP") and None, early=b"* 7 EXISTS\r\n* OK [ALERT] hi\r\n"),
                  capabilities=OFFERED) as server, server.session() as session:
        assert session.compress()
        session.noop()


@pytest.mark.parametrize("status", [b"NO [COMPRESSIONACTIVE] already", b"BAD what"])
def test_a_refusal_leaves_the_connection_as_it_was(status: bytes) -> None:
    def talk(peer: Peer) -> None:
        peer.greet()
        peer.answer(b"COMPRESS", status=status)
        peer.answer(b"NOOP")

    with Scripted(talk, capabilities=OFFERED) as server, server.session() as session:
        assert not session.compress()
        session.noop()
        assert not session.compress(), "and is not asked again"
    assert server.heard.count(b"COMPRESS DEFLATE") == 1


def test_what_is_not_offered_is_not_asked() -> None:
    with Scripted(Peer.greet) as server, server.session() as session:
        assert not session.compress()
    assert b"COMPRESS" not in server.heard


def test_messages_larger_than_every_buffer_go_out_whole() -> None:
    """Given a server that reads late, so that the kernel's buffers fill up, then what is kept goes out with what follows."""
    seed = 20261125
    content = random.Random(seed).randbytes(6_000_000)
    arrived: list[bytes] = []

    def talk(peer: Peer) -> None:
        tag = peer.expect(b'APPEND "a"')
        arrived.append(peer.octets(len(content)))
        peer.line()
        peer.send(tag + b" OK [APPENDUID 1 5] done\r\n")
        peer.answer(b"NOOP")

    with Scripted(compressed(talk), capabilities=OFFERED) as server, server.session(Side.DESTINATION) as session:
        assert session.compress()
        appender = Appender(session)
        [result] = appender.wait(appender.send("a", [Outgoing(1, (), "", len(content), content)]))
        assert result.error is None
        session.noop()
    assert arrived == [content], f"seed {seed}"


def test_a_bomb_is_a_line_too_long() -> None:
    """Given 20 MB of one letter in 20 kB, then the cap on a line holds."""
    def talk(peer: Peer) -> None:
        peer.expect(b"NOOP")
        peer.send(b"* OK " + b"a" * 20_000_000)

    with Scripted(compressed(talk), capabilities=OFFERED) as server, server.session() as session:
        assert session.compress()
        with pytest.raises(ProtocolError):
            session.noop()
        assert session.bytes_in < 30_000


def test_one_recv_never_inflates_more_than_its_bound() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.sendall(Deflating(theirs).packed(b"a" * 50_000_000))
    layer = Deflated(ours)
    total = 0
    tracemalloc.start()
    while total < 50_000_000:
        piece = layer.recv(10_000_000)
        assert 0 < len(piece) <= INFLATE_CAP
        total += len(piece)
    assert tracemalloc.get_traced_memory()[1] < 4 * INFLATE_CAP
    tracemalloc.stop()
    with pytest.raises(BlockingIOError):
        layer.recv(1)
    theirs.close()
    assert layer.recv(1) == b""
    assert layer.wire_in < 100_000
    ours.close()


@pytest.mark.parametrize("octets", [b"* OK not deflated at all\r\n" * 100, b"\xff" * 50, b"\x03\x00"])
def test_what_is_not_deflated_breaks_the_connection(octets: bytes) -> None:
    def talk(peer: Peer) -> None:
        peer.expect(b"NOOP")
        peer.conn.conn.sendall(octets)  # type: ignore[attr-defined]
        peer.conn.close()

    with Scripted(compressed(talk), capabilities=OFFERED) as server, server.session() as session:
        assert session.compress()
        with pytest.raises(EngineError):
            session.noop()
        assert session.channel.stream.closed


def test_any_cut_of_the_octets_inflates_to_the_same() -> None:
    seed = 4978
    chance = random.Random(seed)
    lines = [b"* %d FETCH (UID %d FLAGS (\\Seen))" % (n, chance.randrange(1 << 31)) for n in range(5000)]
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = Stream(ours, idle=5)
    octets = Deflating(theirs).packed(b"".join(line + b"\r\n" for line in lines))
    stream.lay_over(lambda transport, already: Deflated(transport, already=already))
    at = 0

    def send() -> None:
        nonlocal at
        while at < len(octets):
            size = chance.randrange(1, 2000)
            theirs.sendall(octets[at : at + size])
            at += size

    thread = threading.Thread(target=send)
    thread.start()
    found = [stream.read_line(1000) for _ in lines]
    thread.join()
    assert found == lines, f"seed {seed}"
    assert stream.bytes_in == len(octets)
    stream.close()
    theirs.close()


@pytest.mark.parametrize(("rate", "rtt", "worth"), [
    (100_000.0, 0.2, True), (3_000_000.0, 0.05, True), (10_000_000.0, 0.05, False), (100_000.0, 0.0002, False), (0.0, 0.05, True)])
def test_it_pays_where_the_link_is_slower_than_deflate(rate: float, rtt: float, worth: bool) -> None:
    assert pays(octets_per_second=rate, rtt=rtt) is worth
