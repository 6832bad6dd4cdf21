"""Lists and bodies on one connection: each answer goes to whoever asked for it, and what nobody asked for goes nowhere, within a bound."""
from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.errors import ProtocolError
from engine.imap import by_number, flights, message_lists
from engine.imap.bodies import Body
from engine.imap.pipe import Ended, FetchPipe, Listing
from tests.unit.imap.scripted import Peer, Scripted

Talk = Callable[[Peer], None]


def listed(sequence: int, uid: int) -> bytes:
    return b'* %d FETCH (UID %d RFC822.SIZE 4 FLAGS () INTERNALDATE "17-Jul-2026 02:44:25 -0700")\r\n' % (sequence, uid)


def body(sequence: int, uid: int, octets: bytes = b"mail") -> bytes:
    return b"* %d FETCH (UID %d BODY[] {%d}\r\n%b)\r\n" % (sequence, uid, len(octets), octets)


def done(tag: bytes) -> bytes:
    return tag + b" OK done\r\n"


def answering(*answers: tuple[bytes, bytes]) -> Talk:
    """After login: expects commands that begin so, and answers each with these octets and OK."""
    def talk(peer: Peer) -> None:
        peer.greet()
        for start, octets in answers:
            tag = peer.expect(start)
            peer.send(octets, done(tag))
    return talk


def events(pipe: FetchPipe) -> list[tuple[str, list[int]]]:
    """Everything until nothing is in flight: bodies by UID, lists by the UIDs that they found, ends by the UIDs without an answer."""
    told: list[tuple[str, list[int]]] = []
    while pipe.commands:
        event = pipe.next()
        if isinstance(event, Body):
            told.append(("body", [event.uid]))
        elif isinstance(event, Listing):
            told.append(("list", [one.uid for one in event.found]))
        else:
            told.append(("end", event.unanswered))
    return told


# -- who asked for what


def test_two_lists_and_bodies_between_them() -> None:
    def talk(peer: Peer) -> None:
        peer.greet()
        first, bodies = peer.expect(b"UID FETCH 1:2 (UID RFC822.SIZE"), peer.expect(b"UID FETCH 1,7 (UID BODY.PEEK[])")
        second = peer.expect(b"UID FETCH 3:* (UID RFC822.SIZE")
        peer.send(listed(3, 8), body(1, 1), listed(1, 1), listed(1, 1), done(first), listed(4, 9), done(second), body(2, 2), done(bodies))

    with Scripted(talk) as server, server.session() as session:
        pipe = FetchPipe(session)
        pipe.ask_list(1, 2)
        pipe.ask_bodies([1, 7], octets=8)
        pipe.ask_list(3, None)
        assert (pipe.commands, pipe.lists, pipe.octets, pipe.under_way) == (3, 2, 8, 0)
        assert events(pipe) == [("body", [1]), ("list", [1]), ("list", [8, 9]), ("end", [7])]
        assert (pipe.commands, pipe.lists, pipe.octets) == (0, 0, 0)
        pipe.close()
        assert not session.channel.stream.closed


def test_a_command_that_was_sent_before_is_answered_among_the_bodies() -> None:
    with Scripted(answering((b"NOOP", b""), (b"UID FETCH", body(1, 1)))) as server, server.session() as session:
        before = session.channel.send(b"NOOP")
        pipe = FetchPipe(session)
        pipe.ask_bodies([1])
        assert pipe.under_way == 1
        assert events(pipe) == [("body", [1]), ("end", [])]
        pipe.close()
        answered = session.channel.answered(before)
        assert answered is not None and answered.status == b"OK"


def test_a_list_to_the_end_names_no_star_where_stars_are_refused() -> None:
    with Scripted(answering((b"UID FETCH 5:4294967295 (", listed(1, 5)))) as server, server.session() as session:
        session.family = "tencent"
        pipe = FetchPipe(session)
        pipe.ask_list(5, None)
        event = pipe.next()
        assert isinstance(event, Listing)
        assert (event.first, event.last, [one.uid for one in event.found]) == (5, None, [5])
        pipe.close()


# -- by sequence number


def test_what_could_only_be_listed_by_number_is_asked_for_by_number() -> None:
    talk = answering((b"FETCH 1:3 (UID RFC", listed(1, 10) + listed(2, 20) + listed(3, 30)),
                     (b"FETCH 1,3 (UID BODY", body(1, 10) + body(3, 30)), (b"UID FETCH 40 (UID BODY", body(4, 40)))
    with Scripted(talk) as server, server.session() as session:
        pipe = FetchPipe(session)
        pipe.ask_list(1, 3, by_number=True)
        assert events(pipe) == [("list", [10, 20, 30])]
        pipe.ask_bodies([10, 30, 40], octets=12)
        assert (pipe.commands, pipe.octets) == (2, 12)
        assert sorted(events(pipe)) == [("body", [10]), ("body", [30]), ("body", [40]), ("end", []), ("end", [])]
        pipe.close()


def test_numbers_that_may_have_moved_are_forgotten() -> None:
    talk = answering((b"FETCH 1:2 (UID RFC", listed(1, 10) + listed(2, 20) + b"* 1 EXPUNGE\r\n"),
                     (b"UID FETCH 10,20 (UID BODY", body(1, 20)))
    with Scripted(talk) as server, server.session() as session:
        pipe = FetchPipe(session)
        pipe.ask_list(1, 2, by_number=True)
        events(pipe)
        pipe.ask_bodies([10, 20])
        assert events(pipe) == [("body", [20]), ("end", [10])]
        pipe.close()


def test_only_so_many_numbers_are_remembered_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_number, "_NUMBERS_KEPT", 2)
    talk = answering((b"FETCH 1:3 (UID RFC", listed(1, 10) + listed(2, 20) + listed(3, 30)), (b"FETCH 2:3 (", body(2, 20) + body(3, 30)),
                     (b"UID FETCH 10 (", body(1, 10)))
    with Scripted(talk) as server, server.session() as session:
        pipe = FetchPipe(session)
        pipe.ask_list(1, 3, by_number=True)
        events(pipe)
        pipe.ask_bodies([10, 20, 30])
        assert [uids for what, uids in events(pipe) if what == "body"] == [[20], [30], [10]]
        pipe.close()


def test_until_a_body_came_the_next_ones_wait_for_how_they_are_given() -> None:
    """263: OK, and no body; then the numbers; then the bodies by these."""
    talk = answering((b"UID FETCH 10,20 (UID BODY", b""), (b"UID FETCH 10,20 (UID)", b"* 1 FETCH (UID 10)\r\n* 2 FETCH (UID 20)\r\n"),
                     (b"FETCH 1:2 (UID BODY", body(1, 10) + body(2, 20)), (b"UID FETCH 30 (UID)", b"* 3 FETCH (UID 30)\r\n"),
                     (b"FETCH 3 (UID BODY", body(3, 30)))
    with Scripted(talk) as server, server.session() as session:
        pipe = FetchPipe(session)
        pipe.ask_bodies([10, 20], octets=8)
        assert pipe.settled
        event = pipe.next()
        assert isinstance(event, Body) and event.uid == 10
        assert (pipe.settled, pipe.octets, pipe.under_way) == (False, 8, 20)
        assert events(pipe) == [("body", [20]), ("end", [])]
        assert pipe.settled
        pipe.ask_bodies([30], octets=4)  # by number at once, now that it is known
        assert pipe.settled
        assert events(pipe) == [("body", [30]), ("end", [])]
        pipe.close()


def test_what_is_asked_alone_and_not_listed_any_more_is_gone() -> None:
    talk = answering((b"UID FETCH 10 (UID BODY", body(1, 10)), (b"UID FETCH 20 (UID BODY", b""), (b"UID FETCH 20 (UID)", b""))
    with Scripted(talk) as server, server.session() as session:
        pipe = FetchPipe(session)
        pipe.ask_bodies([10])
        events(pipe)
        pipe.ask_bodies([20], octets=4, alone=True)
        event = pipe.next()
        assert isinstance(event, Ended)
        assert (event.gone, event.unanswered, event.messages, event.octets, event.error) == ([20], [], 1, 4, None)
        pipe.close()


# -- bounds, and what is none of ours


def test_a_body_that_is_an_atom_is_no_body() -> None:
    talk = answering((b"UID FETCH 1:2 (", b"* 1 FETCH (UID 1 BODY[] TRUE)\r\n" + body(2, 2)))
    with Scripted(talk) as server, server.session() as session:
        pipe = FetchPipe(session)
        pipe.ask_bodies([1, 2])
        assert events(pipe) == [("body", [2]), ("end", [1])]
        pipe.close()


@pytest.mark.parametrize(("answer", "why"), [
    (b"* 1 FETCH (UID 1 BODY[HEADER] {4}\r\nmail)\r\n", "another part"),
    (b"* 1 FETCH (UID 1 X-NOTE {9999999}\r\n", "larger than it may be"),
    (b"* 1 FETCH (UID 1 BODY[] {4}\r\nmailbox)\r\n", "not as long as its literal says"),
])
def test_what_cannot_be_the_answer_ends_the_connection(answer: bytes, why: str) -> None:
    with Scripted(answering((b"UID FETCH", answer))) as server, server.session() as session:
        pipe = FetchPipe(session)
        pipe.ask_bodies([1])
        with pytest.raises(ProtocolError, match=why):
            pipe.next()
        assert session.channel.stream.closed


def test_a_list_that_has_no_end_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_lists, "LIST_SURPLUS", 5)
    talk = answering((b"UID FETCH 1:* (", b"".join(listed(n, n) for n in range(1, 8))))
    with Scripted(talk) as server, server.session() as session:
        pipe = FetchPipe(session)
        pipe.ask_list(1, None)
        with pytest.raises(ProtocolError, match=r"a list of messages has no end"):
            pipe.next()
        assert session.channel.stream.closed


@pytest.mark.parametrize(("surplus", "ends"), [(4, False), (5, True)])
@pytest.mark.parametrize("answer", [b"* 1 FETCH (FLAGS (\\Seen))\r\n", b"* OK still here\r\n", b"\r\n", body(9, 9), listed(9, 9)])
def test_so_much_that_nobody_asked_for_is_read_past_and_no_more(answer: bytes, surplus: int, ends: bool,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights, "UNASKED_RESPONSES", 4)
    with Scripted(answering((b"UID FETCH 1 (", answer * surplus + body(1, 1)))) as server, server.session() as session:
        pipe = FetchPipe(session)
        pipe.ask_bodies([1])
        if ends:
            with pytest.raises(ProtocolError, match=r"without end"):
                pipe.next()
        else:
            assert events(pipe) == [("body", [1]), ("end", [])]
            pipe.close()
        assert session.channel.stream.closed == ends
