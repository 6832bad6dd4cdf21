"""Reading messages: whatever form the answers have, octets come whole or not at all, and every UID is accounted for."""
from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from engine.causes import Cause, Side
from engine.errors import ConnectionBroken, EngineError, MessageRefused, ProtocolError, Throttled
from engine.imap.fetch import Metadata, fetch_bodies, fetch_digests, fetch_headers, fetch_metadata, fetch_uids
from engine.imap.session import Session
from tests.support.provider_simulator import PROFILES, BodyFault, ProviderSimulator, message
from tests.unit.imap.scripted import LOOPBACK, QUICK, Peer, Scripted

Talk = Callable[[Peer], None]
DATE = "17-Jul-2026 02:44:25 -0700"


def answering(*responses: bytes, status: bytes = b"OK done") -> Talk:
    """After login: answers the one FETCH with these lines."""
    def talk(peer: Peer) -> None:
        peer.greet()
        tag = peer.expect(b"UID FETCH")
        peer.send(*(b"* " + response + b"\r\n" for response in responses), tag, b" ", status, b"\r\n")
        peer.answer(b"NOOP")
    return talk


@contextmanager
def examined(profile: str = "dovecot", count: int = 0) -> Iterator[tuple[ProviderSimulator, Session]]:
    """A simulated provider with `count` messages in INBOX, EXAMINEd."""
    with ProviderSimulator(profile) as server:
        server.account()["INBOX"].put(*(message(f"number {n}") for n in range(count)))
        session = Session.open(server.login_for(), LOOPBACK, side=Side.SOURCE, timeouts=QUICK)
        try:
            session.examine("INBOX")
            yield server, session
        finally:
            session.close()
        assert not server.source_changes()


# -- metadata --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [
    b'1 FETCH (UID 5 RFC822.SIZE 77 FLAGS (\\Seen $Label1) INTERNALDATE "' + DATE.encode() + b'")',
    b'1 FETCH (FLAGS (\\Recent \\Seen $Label1) INTERNALDATE "' + DATE.encode() + b'" RFC822.SIZE 77 UID 5)',
    b'1 fetch (uid 5 rfc822.size 77 flags (\\Seen $Label1) internaldate "' + DATE.encode() + b'")',
    b'1 FETCH ((UID 5 RFC822.SIZE 77 FLAGS (\\Seen $Label1) INTERNALDATE "' + DATE.encode() + b'"))',
    b'1 FETCH (UID 5 RFC822.SIZE 77 FLAGS (\\Seen $Label1) INTERNALDATE {26}\r\n' + DATE.encode() + b")",
    b'1 FETCH (UID 5 MODSEQ (12) RFC822.SIZE 77 FLAGS (\\Seen $Label1) INTERNALDATE "' + DATE.encode() + b'"))',
])
def test_metadata_in_every_order_and_form(line: bytes) -> None:
    with Scripted(answering(line)) as server, server.session() as session:
        assert list(fetch_metadata(session, 5, 5)) == [Metadata(5, 77, ("\\Seen", "$Label1"), DATE)]
        session.noop()


def test_missing_values_are_told_as_missing() -> None:
    lines = (b"1 FETCH (UID 1 RFC822.SIZE 7 FLAGS () INTERNALDATE NIL)", b"2 FETCH (UID 2 RFC822.SIZE NIL FLAGS NIL)")
    with Scripted(answering(*lines)) as server, server.session() as session:
        assert list(fetch_metadata(session, 1, None)) == [Metadata(1, 7, (), ""), Metadata(2, 0, (), "")]


def test_what_was_not_asked_for_is_passed_over() -> None:
    lines = (b"1 FETCH (FLAGS (\\Seen))", b"4 EXISTS", b"9 FETCH (UID 400 RFC822.SIZE 1 FLAGS () INTERNALDATE NIL)",
             b"2 FETCH (UID 501 RFC822.SIZE 1 FLAGS () INTERNALDATE NIL)", b"1 FETCH (UID 501 FLAGS (\\Seen))",
             b"2 FETCH (UID 501 RFC822.SIZE 1 FLAGS () INTERNALDATE NIL)", b"3 FETCH (UID 500 RFC822.SIZE 1 FLAGS () INTERNALDATE NIL)",
             b"3 FETCH (UID 9999999999 RFC822.SIZE 1 FLAGS () INTERNALDATE NIL)", b"OK still here", b"2 EXPUNGE")
    with Scripted(answering(*lines)) as server, server.session() as session:
        assert [m.uid for m in fetch_metadata(session, 500, None)] == [501, 500]


def test_uids_alone() -> None:
    lines = (b"1 FETCH (UID 3)", b"2 FETCH (FLAGS () UID 5)", b"2 FETCH (UID 5)", b"3 FETCH (UID 99)", b"3 FETCH (FLAGS ())")
    with Scripted(answering(*lines)) as server, server.session() as session:
        assert list(fetch_uids(session, 1, 50)) == [3, 5]


def test_a_list_left_early_leaves_the_connection_in_step() -> None:
    lines = [b"%d FETCH (UID %d RFC822.SIZE 1 FLAGS () INTERNALDATE NIL)" % (n, n) for n in range(1, 500)]
    with Scripted(answering(*lines)) as server, server.session() as session:
        for one in fetch_metadata(session, 1, None):
            assert one.uid == 1
            break
        session.noop()


@pytest.mark.parametrize(("status", "kind"), [
    (b"NO some messages could not be read", MessageRefused), (b"BAD UID parameters!", EngineError), (b"NO [THROTTLED] x", Throttled)])
def test_a_refused_list(status: bytes, kind: type[EngineError]) -> None:
    with Scripted(answering(status=status)) as server, server.session() as session:
        with pytest.raises(kind):
            list(fetch_metadata(session, 1, None))
        session.noop()


def test_nothing_else_is_sent_while_a_list_is_being_read() -> None:
    lines = [b"%d FETCH (UID %d RFC822.SIZE 1 FLAGS () INTERNALDATE NIL)" % (n, n) for n in range(1, 9)]
    with Scripted(answering(*lines)) as server, server.session() as session:
        listing = fetch_metadata(session, 1, None)
        next(listing)
        with pytest.raises(AssertionError):
            session.noop()
        list(listing)


# -- bodies ----------------------------------------------------------------------------------------------------------------------

WHOLE = b"Subject: a\r\n\r\nb)\r\n* 1 FETCH (UID 9 BODY[] {3}\r\n"  # octets that look like protocol


def literal(octets: bytes) -> bytes:
    return b"{%d}\r\n" % len(octets) + octets


@pytest.mark.parametrize("line", [
    b"1 FETCH (UID 5 BODY[] " + literal(WHOLE) + b")",
    b"1 FETCH (BODY[] " + literal(WHOLE) + b" UID 5)",
    b"1 fetch (uid 5 body[] " + literal(WHOLE) + b")",
    b"1 FETCH (FLAGS (\\Seen UID) UID 5 BODY[] " + literal(WHOLE) + b" FLAGS (\\Seen))",
    b"1 FETCH ((UID 5 BODY[] " + literal(WHOLE) + b"))",
    b"1 FETCH (X-NAME " + literal(b"BODY[] {3}") + b" UID 5 BODY[] " + literal(WHOLE) + b" Y " + literal(b"z") + b")",
    b"1 FETCH (UID 5 BODY[] ~" + literal(WHOLE) + b")",
])
def test_a_body_in_every_order_and_form(line: bytes) -> None:
    with Scripted(answering(line)) as server, server.session() as session:
        assert [(b.uid, b.length, b.read()) for b in fetch_bodies(session, [[5]])] == [(5, len(WHOLE), WHOLE)]
        session.noop()


@pytest.mark.parametrize(("value", "octets"), [(b"NIL", b""), (b'""', b""), (b"{0}\r\n", b""), (b'"a \\"b\\\\"', b'a "b\\')])
def test_a_body_that_is_no_literal(value: bytes, octets: bytes) -> None:
    with Scripted(answering(b"1 FETCH (UID 5 BODY[] " + value + b")")) as server, server.session() as session:
        assert [(b.uid, b.length, b.read()) for b in fetch_bodies(session, [[5]])] == [(5, len(octets), octets)]


def test_a_large_body_whose_uid_comes_last_waits_on_disk() -> None:
    big = bytes(range(256)) * 12_000
    with Scripted(answering(b"1 FETCH (BODY[] " + literal(big) + b" UID 5)")) as server, server.session() as session:
        assert [(body.streamed, body.read()) for body in fetch_bodies(session, [[5]])] == [(False, big)]


def test_answers_that_nobody_waits_for_are_read_past() -> None:
    lines = [b"1 FETCH (UID 5 BODY[] " + literal(b"five") + b")", b"1 FETCH (UID 5 BODY[] " + literal(b"again") + b")",
             b"2 FETCH (UID 77 BODY[] " + literal(b"stranger") + b")", b"2 FETCH (BODY[] " + literal(b"no uid at all") + b")",
             b"3 FETCH (FLAGS (\\Seen))", b"3 FETCH (UID 6 FLAGS (\\Seen))", b"OK fine", b"3 FETCH (UID 6 BODY[] " + literal(b"six") + b")"]
    with Scripted(answering(*lines)) as server, server.session() as session:
        assert [(b.uid, b.read()) for b in fetch_bodies(session, [[5, 6]])] == [(5, b"five"), (6, b"six")]
        session.noop()


def test_a_body_not_taken_or_half_taken_is_read_past() -> None:
    lines = [b"%d FETCH (UID %d BODY[] " % (n, n) + literal(b"x" * 1000 + b"%d" % n) + b")" for n in range(1, 5)]
    with Scripted(answering(*lines)) as server, server.session() as session:
        got = {}
        for body in fetch_bodies(session, [[1, 2, 3, 4]]):
            if body.uid == 2:
                got[2] = next(body.chunks(10))
            elif body.uid == 4:
                got[4] = body.read()
        assert got == {2: b"x" * 10, 4: b"x" * 1000 + b"4"}
        session.noop()


def test_the_next_fetch_is_on_its_way_before_the_last_is_answered() -> None:
    def talk(peer: Peer) -> None:
        peer.greet()
        tags = [peer.expect(b"UID FETCH 1:2 "), peer.expect(b"UID FETCH 3:4 ")]
        peer.send(b"* 1 FETCH (UID 1 BODY[] {1}\r\na)\r\n* 2 FETCH (UID 2 BODY[] {1}\r\nb)\r\n" + tags[0] + b" OK\r\n")
        tags.append(peer.expect(b"UID FETCH 5 "))
        peer.send(b"* 3 FETCH (UID 3 BODY[] {1}\r\nc)\r\n" + tags[1] + b" OK\r\n"
                  b"* 5 FETCH (UID 5 BODY[] {1}\r\ne)\r\n" + tags[2] + b" OK\r\n")

    with Scripted(talk) as server, server.session() as session:
        assert [(b.uid, b.read()) for b in fetch_bodies(session, [[2, 1], [4, 3], [5]])] == [(1, b"a"), (2, b"b"), (3, b"c"), (5, b"e")]


def test_a_refused_batch_names_its_unanswered_uids_and_spares_those_in_flight() -> None:
    taken: list[int] = []

    def batches() -> Iterator[list[int]]:
        for first in (1, 3, 5, 7):
            taken.append(first)
            yield [first, first + 1]

    def talk(peer: Peer) -> None:
        peer.greet()
        tags = [peer.expect(b"UID FETCH"), peer.expect(b"UID FETCH")]
        peer.send(b"* 1 FETCH (UID 1 BODY[] {1}\r\na)\r\n" + tags[0] + b" NO [SERVERBUG] message 2 is damaged\r\n"
                  b"* 3 FETCH (UID 3 BODY[] {1}\r\nc)\r\n* 4 FETCH (UID 4 BODY[] {1}\r\nd)\r\n" + tags[1] + b" OK\r\n")
        peer.answer(b"NOOP")

    with Scripted(talk) as server, server.session() as session:
        got = []
        with pytest.raises(MessageRefused) as caught:
            for body in fetch_bodies(session, batches()):
                got.append((body.uid, body.read()))
        assert got == [(1, b"a"), (3, b"c"), (4, b"d")]
        assert (caught.value.uids, taken) == ((2,), [1, 3])
        assert "damaged" in caught.value.server_text
        session.noop()


def test_a_no_after_every_message_was_given_is_none() -> None:
    with Scripted(answering(b"1 FETCH (UID 5 BODY[] {1}\r\na)", status=b"NO [EXPUNGEISSUED] some are gone")) as server, \
         server.session() as session:
        assert [b.read() for b in fetch_bodies(session, [[5]])] == [b"a"]


@pytest.mark.parametrize(("text", "kind", "cause"), [
    (b"NO Request is throttled. Suggested Backoff Time: 5000 milliseconds", Throttled, Cause.THROTTLED),
    (b"BAD UID parameters!", EngineError, None), (b"NO cannot read message", MessageRefused, Cause.X_ITEM)])
def test_what_a_refusal_of_bodies_means(text: bytes, kind: type[EngineError], cause: Cause | None) -> None:
    with Scripted(answering(status=text)) as server, server.session() as session:
        with pytest.raises(kind) as caught:
            list(fetch_bodies(session, [[5, 6]]))
        assert caught.value.uids == (5, 6)
        assert cause is None or caught.value.cause is cause


@pytest.mark.parametrize("announced", [b"{1500000000}", b"{2001}", b"{99999999999999999999}"])
def test_a_literal_over_the_cap_is_refused_before_it_is_read(announced: bytes) -> None:
    with Scripted(answering(b"1 FETCH (UID 5 BODY[] " + announced)) as server, server.session() as session:
        tracemalloc.start()
        with pytest.raises(ProtocolError):
            list(fetch_bodies(session, [[5]], largest=2000))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
        tracemalloc.stop()
        with pytest.raises(ConnectionBroken):
            session.noop()


@pytest.mark.parametrize("cut", [0, 1, 700_000])
def test_a_body_cut_short_is_never_a_short_body(cut: int) -> None:
    def talk(peer: Peer) -> None:
        peer.greet()
        peer.expect(b"UID FETCH")
        peer.send(b"* 1 FETCH (UID 5 BODY[] {1000000}\r\n" + b"x" * cut)
        peer.conn.close()

    for take in ("read", "chunks"):
        with Scripted(talk) as server, server.session() as session, pytest.raises(ConnectionBroken):
            for body in fetch_bodies(session, [[5]]):
                octets = body.read() if take == "read" else b"".join(body.chunks())
                pytest.fail(f"{len(octets)} octets were passed on as a message")


def test_bye_between_bodies() -> None:
    with Scripted(answering(b"1 FETCH (UID 5 BODY[] {1}\r\na)", b"BYE Connection closed. 14")) as server, server.session() as session:
        got = []
        with pytest.raises(ConnectionBroken):
            for body in fetch_bodies(session, [[5, 6]]):
                got.append(body.read())
        assert got == [b"a"]


def test_bodies_left_early_end_the_connection() -> None:
    lines = [b"%d FETCH (UID %d BODY[] {1}\r\na)" % (n, n) for n in range(1, 5)]
    with Scripted(answering(*lines)) as server, server.session() as session:
        bodies = fetch_bodies(session, [[1, 2, 3, 4]])
        next(bodies)
        bodies.close()  # type: ignore[attr-defined]
        with pytest.raises(ConnectionBroken):
            session.noop()


def test_headers_left_early_leave_the_connection_in_step() -> None:
    lines = [b"%d FETCH (UID %d BODY[HEADER] {4}\r\na: b)" % (n, n) for n in range(1, 5)]
    with Scripted(answering(*lines)) as server, server.session() as session:
        for uid, header in fetch_headers(session, [1, 2, 3, 4]):
            assert (uid, header) == (1, b"a: b")
            break
        session.noop()


def test_a_large_body_is_streamed_in_bounded_memory() -> None:
    size = 150_000_000
    piece = bytes(1 << 20)

    def talk(peer: Peer) -> None:
        peer.greet()
        tag = peer.expect(b"UID FETCH")
        peer.send(b"* 1 FETCH (UID 5 BODY[] {%d}\r\n" % size)
        left = size
        while left:
            peer.send(piece[: min(left, len(piece))])
            left -= min(left, len(piece))
        peer.send(b")\r\n" + tag + b" OK\r\n")

    with Scripted(talk) as server, server.session() as session:
        tracemalloc.start()
        count, largest = 0, 0
        for body in fetch_bodies(session, [[5]]):
            for chunk in body.chunks(256 * 1024):
                count += len(chunk)
                largest = max(largest, len(chunk))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert count == size
    assert largest <= 256 * 1024
    assert peak < 8 << 20, f"{peak} octets at the peak"


# -- as the providers do it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_every_providers_messages(profile: str) -> None:
    with examined(profile, 30) as (server, session):
        stored = server.account()["INBOX"].messages
        listed = list(fetch_metadata(session, 1, None))
        assert [(m.uid, m.internal_date) for m in listed] == [(s.uid, s.internal_date) for s in stored]
        uids = list(fetch_uids(session, 1, None))
        assert uids == [s.uid for s in stored]
        got = {b.uid: b.read() for b in fetch_bodies(session, [uids[20:], uids[:20]])}
        if PROFILES[profile].header_only:
            assert all(octets and s.content.startswith(octets) for s in stored for octets in (got[s.uid],))
        else:
            assert got == {s.uid: s.content for s in stored}
            assert dict(fetch_digests(session, uids)) == {s.uid: hashlib.sha256(s.content).hexdigest() for s in stored}
        headers = dict(fetch_headers(session, uids))
        assert all(s.content.startswith(headers[s.uid]) for s in stored)
        assert server.count("UID SEARCH") == 0


def test_bodies_that_263_gives_only_by_number() -> None:
    with examined("m263", 3) as (server, session):
        stored = server.account()["INBOX"].messages
        got = {b.uid: b.read() for b in fetch_bodies(session, [[s.uid] for s in stored] + [[999]])}
        assert got == {s.uid: s.content for s in stored}
        assert server.count("FETCH") == 3
        assert list(fetch_bodies(session, [[999]])) == []


@pytest.mark.parametrize("fault", [BodyFault.MISSING, BodyFault.NIL, BodyFault.EMPTY, BodyFault.REFUSED, BodyFault.CUT, BodyFault.BOMB])
def test_one_message_that_is_not_served_properly(fault: BodyFault) -> None:
    with examined(count=3) as (server, session):
        stored = server.account()["INBOX"].messages
        stored[1].fault = fault
        got: dict[int, bytes] = {}
        error: EngineError | None = None
        try:
            for body in fetch_bodies(session, [[s.uid for s in stored]], largest=10_000):
                got[body.uid] = body.read()
        except EngineError as caught:
            error = caught
    bad = stored[1].uid
    good = {s.uid: s.content for s in stored if s.uid != bad}
    if fault is BodyFault.MISSING:
        assert (got, error) == (good, None)
    elif fault in (BodyFault.NIL, BodyFault.EMPTY):
        assert (got, error) == ({**good, bad: b""}, None)
    elif fault is BodyFault.REFUSED:
        assert isinstance(error, MessageRefused)
        assert (got, error.uids) == (good, (bad,))
    else:
        assert isinstance(error, ConnectionBroken if fault is BodyFault.CUT else ProtocolError)
        assert bad not in got
