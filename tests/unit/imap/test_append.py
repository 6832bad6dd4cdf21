"""Appending: the octets on the wire under each method, what a refusal costs, and that nothing is half sent in silence."""
from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator

import pytest

from engine.causes import Cause, Side
from engine.errors import ConnectionBroken, EngineError, LeaseLost, MessageRefused, Refused, Throttled
from engine.imap.append import Appended, Appender, AppendMethod, Outgoing
from engine.imap.session import Session
from tests.support.provider_simulator import PROFILES, AppendRefusal, ProviderSimulator, with_capabilities
from tests.unit.imap.scripted import LOOPBACK, QUICK, Peer, Scripted

Talk = Callable[[Peer], None]
DATE = "17-Jul-2026 02:44:25 -0700"
UIDPLUS = b"IMAP4rev1 UIDPLUS"


def after_login(talk: Talk) -> Talk:
    def whole(peer: Peer) -> None:
        peer.greet()
        talk(peer)
    return whole


def outgoing(uid: int, content: bytes = b"Subject: x\r\n\r\ny\r\n", *flags: str, date: str = DATE) -> Outgoing:
    return Outgoing(uid, flags, date, len(content), content)


def uids(results: list[Appended]) -> list[int | None]:
    assert all(r.error is None for r in results), results
    return [r.target_uid for r in results]


@pytest.mark.parametrize(("offered", "method", "batch"), [
    (b"LITERAL+ MULTIAPPEND", AppendMethod.MULTIAPPEND, 128), (b"MULTIAPPEND", AppendMethod.MULTIAPPEND, 128),
    (b"LITERAL+", AppendMethod.LITERAL_PLUS, 1), (b"LITERAL-", AppendMethod.LITERAL_MINUS, 1), (b"X", AppendMethod.PLAIN, 1)])
def test_the_best_on_offer(offered: bytes, method: AppendMethod, batch: int) -> None:
    with Scripted(Peer.greet, capabilities=UIDPLUS + b" " + offered) as server, server.session(Side.DESTINATION) as session:
        appender = Appender(session)
        assert (appender.method, appender.max_batch) == (method, batch)


def test_a_batch_in_one_command() -> None:
    def talk(peer: Peer) -> None:
        tag = peer.expect(b'APPEND "a b" (\\Seen $x) "' + DATE.encode() + b'" {3+}')
        assert peer.octets(3) == b"one"
        assert peer.line() == b" () {4+}"
        assert peer.octets(4) == b"tw\r\n"
        assert peer.line() == b""
        peer.send(b"* 2 EXISTS\r\n" + tag + b" OK [APPENDUID 7 11:12] stored\r\n")

    with Scripted(after_login(talk), capabilities=UIDPLUS + b" LITERAL+ MULTIAPPEND") as server, \
         server.session(Side.DESTINATION) as session:
        appender = Appender(session)
        pending = appender.send("a b", [outgoing(1, b"one", "\\Seen", "\\Recent", "$x"), outgoing(2, b"tw\r\n", date="")])
        assert appender.outstanding() == 7
        assert appender.wait(pending) == [Appended(1, 11, None, 7), Appended(2, 12, None, 7)]
        assert appender.outstanding() == 0


def test_commands_follow_each_other_without_waiting_for_answers() -> None:
    """Given LITERAL+, when three batches are sent, then all of them are there before the first is answered."""
    def talk(peer: Peer) -> None:
        tags = []
        for octets in (b"one", b"two", b"three"):
            tags.append(peer.expect(b'APPEND "a" () "' + DATE.encode() + b'" {%d+}' % len(octets)))
            assert peer.octets(len(octets)) == octets
            assert peer.line() == b""
        for number, tag in enumerate(tags):
            peer.send(tag + b" OK [APPENDUID 7 %d] stored\r\n" % (20 + number))

    with Scripted(after_login(talk), capabilities=UIDPLUS + b" LITERAL+") as server, server.session(Side.DESTINATION) as session:
        appender = Appender(session)
        first = appender.send("a", [outgoing(1, b"one"), outgoing(2, b"two")])
        second = appender.send("a", [outgoing(3, b"three")])
        assert appender.outstanding() == 11
        assert uids(appender.wait(second)) == [22]
        assert uids(appender.wait(first)) == [20, 21]


def test_plain_append_waits_for_the_servers_word_before_each_literal() -> None:
    def talk(peer: Peer) -> None:
        for octets in (b"one", b"two"):
            tag = peer.expect(b'APPEND "a" () "' + DATE.encode() + b'" {3}')
            peer.send(b"* OK unasked\r\n+ go on\r\n")
            assert peer.octets(3) == octets
            assert peer.line() == b""
            peer.send(tag + b" OK [APPENDUID 7 5] stored\r\n")

    with Scripted(after_login(talk), capabilities=UIDPLUS) as server, server.session(Side.DESTINATION) as session:
        appender = Appender(session)
        assert uids(appender.wait(appender.send("a", [outgoing(1, b"one"), outgoing(2, b"two")]))) == [5, 5]


def test_literal_minus_asks_only_for_the_long_ones() -> None:
    def talk(peer: Peer) -> None:
        tag = peer.expect(b'APPEND "a" () "' + DATE.encode() + b'" {4096+}')
        peer.octets(4096)
        peer.line()
        second = peer.expect(b'APPEND "a" () "' + DATE.encode() + b'" {4097}')
        peer.send(tag + b" OK [APPENDUID 7 1] stored\r\n+ go on\r\n")
        peer.octets(4097)
        peer.line()
        peer.send(second + b" OK [APPENDUID 7 2] stored\r\n")

    with Scripted(after_login(talk), capabilities=UIDPLUS + b" LITERAL-") as server, server.session(Side.DESTINATION) as session:
        appender = Appender(session)
        assert uids(appender.wait(appender.send("a", [outgoing(1, b"x" * 4096), outgoing(2, b"y" * 4097)]))) == [1, 2]


@pytest.mark.parametrize("capabilities", [UIDPLUS, UIDPLUS + b" MULTIAPPEND"])
def test_a_refused_literal_leaves_the_connection_in_step(capabilities: bytes) -> None:
    def talk(peer: Peer) -> None:
        peer.answer(b"APPEND", status=b"NO [TOOBIG] too large")
        tag = peer.expect(b"APPEND")
        peer.send(b"+ \r\n")
        assert peer.octets(3) == b"two"
        assert peer.line() == b""
        peer.send(tag + b" OK [APPENDUID 7 9] stored\r\n")
        peer.answer(b"NOOP")

    with Scripted(after_login(talk), capabilities=capabilities) as server, server.session(Side.DESTINATION) as session:
        appender = Appender(session)
        [refused] = appender.wait(appender.send("a", [outgoing(1, b"one")]))
        assert isinstance(refused.error, MessageRefused)
        assert (refused.error.cause, refused.error.uids) == (Cause.DESTINATION_REFUSED, (1,))
        assert uids(appender.wait(appender.send("a", [outgoing(2, b"two")]))) == [9]
        session.noop()
    assert b"one" not in server.heard


@pytest.mark.parametrize("offered", [b" LITERAL+ MULTIAPPEND", b" LITERAL+", b" LITERAL-", b""])
def test_what_is_to_be_asked_for_is_whatever_the_server_offers(offered: bytes) -> None:
    def talk(peer: Peer) -> None:
        line = peer.line()
        assert line.endswith(b"{3}"), line
        peer.send(b"+ \r\n")
        peer.octets(3)
        assert peer.line() == b""
        peer.send(line.split(b" ")[0] + b" OK [APPENDUID 7 9] done\r\n")

    with Scripted(after_login(talk), capabilities=UIDPLUS + offered) as server, server.session(Side.DESTINATION) as session:
        appender = Appender(session)
        assert uids(appender.wait(appender.send("a", [outgoing(1, b"one")], ask_first=True))) == [9]


def test_a_multiappend_refused_in_the_middle_sends_no_further_literal() -> None:
    def talk(peer: Peer) -> None:
        tag = peer.expect(b"APPEND")
        peer.send(b"+ \r\n")
        peer.octets(3)
        peer.line()
        peer.send(tag + b" NO [LIMIT] enough\r\n")
        peer.answer(b"NOOP")

    with Scripted(after_login(talk), capabilities=UIDPLUS + b" MULTIAPPEND") as server, server.session(Side.DESTINATION) as session:
        appender = Appender(session)
        results = appender.wait(appender.send("a", [outgoing(1, b"one"), outgoing(2, b"two"), outgoing(3, b"six")]))
        assert [r.uid for r in results] == [1, 2, 3]
        assert results[0].error is not None
        assert results[0].error is results[1].error is results[2].error
        session.noop()
    assert b"two" not in server.heard


@pytest.mark.parametrize(("flag", "date"), [
    ("\\Unheard", DATE), ("[Gmail]", DATE), ("k" * 65, DATE), ("\\Seen", "31-Feb-2026 00:00:00 +0000"),
    ("\\Seen", "01-Jan-0000 00:00:00 +0000"),
    ("\\Seen", "01-Jan-2026 00:00:60 +0000"), ("\\Seen", "01-Jan-2026 00:00:00 +9959")])
def test_before_unusual_flags_and_dates_the_server_is_asked_so_that_it_never_takes_a_message_for_commands(flag: str, date: str) -> None:
    """Dovecot 2.3 answers BAD to such arguments and reads on in the literal: the message's lines would be executed."""
    def talk(peer: Peer) -> None:
        def take(status: bytes) -> None:
            line = peer.line()
            assert line.endswith(b"{3+}")
            peer.octets(3)
            peer.line()
            peer.send(line.split(b" ")[0] + b" " + status + b"\r\n")

        take(b"OK [APPENDUID 7 1]")
        tag = peer.expect(b'APPEND "a"')
        peer.send(tag + b" BAD no such flag\r\n")
        take(b"OK [APPENDUID 7 2]")
        peer.answer(b"NOOP")

    with Scripted(after_login(talk), capabilities=UIDPLUS + b" LITERAL+ MULTIAPPEND") as server, \
         server.session(Side.DESTINATION) as session:
        appender = Appender(session)
        batch = [outgoing(1, b"one"), outgoing(2, b"x1 DELETE a\r\n", flag, date=date), outgoing(3, b"six")]
        results = appender.wait(appender.send("a", batch))
        assert [(r.target_uid, r.error is None) for r in results] == [(1, True), (None, False), (2, True)]
        session.noop()
    assert b"DELETE" not in server.heard


# -- what is not sent at all -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["LITERAL+ MULTIAPPEND", "LITERAL+", "LITERAL-", ""])
def test_one_message_that_cannot_be_written_costs_that_message_only(method: str) -> None:
    bad = [outgoing(2, b"x", "a b"), outgoing(3, b"x", "(bad)"), outgoing(4, b"x", date="yesterday"), outgoing(5, b"x", "a\r\nB9 LOGOUT"),
           outgoing(6, b"x", date=DATE + '"\r\n'), Outgoing(7, (), DATE, 5, b"four"), Outgoing(8, (), DATE, -1, b"")]
    profile = with_capabilities(PROFILES["dovecot"], f"IMAP4rev1 UIDPLUS {method}")
    with ProviderSimulator(profile) as server:
        session = Session.open(server.login_for(), LOOPBACK, side=Side.DESTINATION, timeouts=QUICK)
        appender = Appender(session)
        results = appender.wait(appender.send("INBOX", [outgoing(1, b"first\r\n", "[Gmail]", "a]"), *bad, outgoing(9, b"last\r\n")]))
        session.noop()
        session.close()
        stored = server.account()["INBOX"].messages
        assert [m.content for m in stored] == [b"first\r\n", b"last\r\n"]
        assert "[Gmail]" in stored[0].flags
        assert [r.uid for r in results] == list(range(1, 10))
        assert [r.error is None for r in results] == [True, *[False] * len(bad), True]
        assert all(isinstance(r.error, MessageRefused) for r in results[1:-1])
        assert server.count("LOGOUT") == 0


@pytest.mark.parametrize("folder", ["a\r\nB9 LOGOUT", "a\0", "归档"])
def test_a_folder_name_that_cannot_be_written_sends_nothing(folder: str) -> None:
    with Scripted(Peer.greet, capabilities=UIDPLUS + b" LITERAL+") as server, server.session(Side.DESTINATION) as session:
        before = server.heard
        appender = Appender(session)
        [result] = appender.wait(appender.send(folder, [outgoing(1)]))
        assert isinstance(result.error, Refused)
        assert server.heard == before


def test_what_the_server_says_it_will_not_take_does_not_travel() -> None:
    with Scripted(Peer.greet, capabilities=UIDPLUS + b" LITERAL+ APPENDLIMIT=100") as server, server.session(Side.DESTINATION) as session:
        before = server.heard
        appender = Appender(session)
        [result] = appender.wait(appender.send("INBOX", [outgoing(1, b"x" * 101)]))
        assert result.error is not None
        assert result.error.cause is Cause.DESTINATION_REFUSED
        assert "100" in result.error.detail
        assert server.heard == before


def test_a_message_without_octets_goes_alone() -> None:
    """In MULTIAPPEND an empty literal takes back the whole command (RFC 3502 §3)."""
    def talk(peer: Peer) -> None:
        for status in (b"OK [APPENDUID 7 1]", b"NO empty", b"OK [APPENDUID 7 2]"):
            tag, line = b"", peer.line()
            tag = line.split(b" ")[0]
            announced = re.search(rb"\{(\d+)\+\}$", line)
            assert announced
            peer.octets(int(announced[1]))
            assert peer.line() == b""
            peer.send(tag + b" " + status + b"\r\n")

    with Scripted(after_login(talk), capabilities=UIDPLUS + b" LITERAL+ MULTIAPPEND") as server, \
         server.session(Side.DESTINATION) as session:
        appender = Appender(session)
        results = appender.wait(appender.send("a", [outgoing(1, b"x"), outgoing(2, b""), outgoing(3, b"y")]))
        assert [(r.uid, r.target_uid, r.error is None) for r in results] == [(1, 1, True), (2, None, False), (3, 2, True)]


# -- content that streams ----------------------------------------------------------------------------------------------------------


def pieces(*parts: bytes | BaseException) -> Iterator[bytes]:
    for part in parts:
        if isinstance(part, BaseException):
            raise part
        yield part


def test_streamed_content() -> None:
    with ProviderSimulator("dovecot") as server:
        session = Session.open(server.login_for(), LOOPBACK, side=Side.DESTINATION, timeouts=QUICK)
        appender = Appender(session)
        octets = b"Subject: x\r\n\r\n" + bytes(300_000)
        parts = [octets[at : at + 60_000] for at in range(0, len(octets), 60_000)]
        assert uids(appender.wait(appender.send("INBOX", [Outgoing(1, (), DATE, len(octets), pieces(*parts))]))) == [1]
        session.close()
        assert server.account()["INBOX"].messages[0].content == octets


@pytest.mark.parametrize(("content", "kind"), [
    ((b"half",), ConnectionBroken), ((b"more than was said",), ConnectionBroken),
    ((b"half", ValueError("the reader")), ConnectionBroken),
    ((b"half", ConnectionBroken(Cause.DNS_CONNECT, side=Side.SOURCE, detail="source gone")), ConnectionBroken),
    ((b"half", MessageRefused(Cause.X_ITEM)), ConnectionBroken), ((b"half", LeaseLost("other")), LeaseLost),
])
def test_content_that_does_not_come_as_announced_ends_the_connection(content: tuple[bytes | BaseException, ...],
                                                                     kind: type[Exception]) -> None:
    with ProviderSimulator("dovecot") as server:
        session = Session.open(server.login_for(), LOOPBACK, side=Side.DESTINATION, timeouts=QUICK)
        with pytest.raises(kind) as caught:
            Appender(session).send("INBOX", [Outgoing(1, (), DATE, 8, pieces(*content))])
        if isinstance(content[-1], EngineError) and isinstance(caught.value, EngineError):
            assert caught.value.side is content[-1].side
        with pytest.raises(ConnectionBroken):
            session.noop()
        server.wait_until(lambda s: s.open_now == 0)
        assert server.account()["INBOX"].messages == []


# -- answers -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "expected"), [
    (b"[APPENDUID 7 11,13,12] ok", [11, 13, 12]), (b"[appenduid 7 11:13] ok", [11, 12, 13]), (b"[APPENDUID 7 13:11] ok", [11, 12, 13]),
    (b"[APPENDUID 7 11:12] ok", [None] * 3), (b"[APPENDUID 7 1:4294967295] ok", [None] * 3), (b"[APPENDUID 7] ok", [None] * 3),
    (b"[APPENDUID x 11:13] ok", [None] * 3), (b"[APPENDUID 7 a] ok", [None] * 3), (b"ok", [None] * 3),
    (b"[APPENDUID 7 4294967295:4294967297] ok", [None] * 3),
])
def test_where_the_messages_went(answer: bytes, expected: list[int | None]) -> None:
    def talk(peer: Peer) -> None:
        tag = peer.expect(b"APPEND")
        for _ in range(3):
            peer.octets(1)
            peer.line()
        peer.send(tag + b" OK " + answer + b"\r\n")

    with Scripted(after_login(talk), capabilities=UIDPLUS + b" LITERAL+ MULTIAPPEND") as server, \
         server.session(Side.DESTINATION) as session:
        appender = Appender(session)
        results = appender.wait(appender.send("a", [outgoing(n, b"x") for n in (1, 2, 3)]))
        assert uids(results) == expected
        assert {r.target_uidvalidity for r in results} == ({7} if expected[0] else {None})


@pytest.mark.parametrize(("status", "kind", "cause"), [
    (b"NO [OVERQUOTA] full", Refused, Cause.DESTINATION_QUOTA),
    (b"NO [TRYCREATE] no such folder", Refused, Cause.X_FOLDER),
    (b"NO [TOOBIG] no", MessageRefused, Cause.DESTINATION_REFUSED),
    (b"NO Message contains NUL characters", MessageRefused, Cause.DESTINATION_REFUSED),
    (b"BAD Command Argument Error. 11", MessageRefused, None),
    (b"NO Request is throttled. Suggested Backoff Time: 1500 milliseconds", Throttled, Cause.DESTINATION_BUSY),
    (b"NO words that nobody knows", MessageRefused, Cause.DESTINATION_REFUSED),
])
def test_what_a_refusal_means(status: bytes, kind: type[EngineError], cause: Cause | None) -> None:
    def talk(peer: Peer) -> None:
        tag = peer.expect(b"APPEND")
        peer.octets(1)
        peer.line()
        peer.send(tag + b" " + status + b"\r\n")

    with Scripted(after_login(talk), capabilities=UIDPLUS + b" LITERAL+") as server, server.session(Side.DESTINATION) as session:
        [result] = Appender(session).wait(Appender(session).send("a", [outgoing(1, b"x")]))
    assert isinstance(result.error, kind)
    assert cause is None or result.error.cause is cause
    assert result.error.side is Side.DESTINATION
    assert result.error.retry_after == (1.5 if b"Backoff" in status else result.error.retry_after)


def test_a_pause_that_is_asked_for_in_an_answer_nobody_waits_for_is_heard_before_the_next_batch() -> None:
    def talk(peer: Peer) -> None:
        tags = []
        for _ in range(2):
            tags.append(peer.expect(b"APPEND"))
            peer.octets(1)
            peer.line()
        peer.send(tags[0] + b" OK [APPENDUID 7 1] stored\r\n" + tags[1] + b" NO Suggested Backoff Time: 1500 milliseconds\r\n")

    with Scripted(after_login(talk), capabilities=UIDPLUS + b" LITERAL+") as server, server.session(Side.DESTINATION) as session:
        appender = Appender(session)
        first, second = (appender.send("a", [outgoing(n, b"x")]) for n in (1, 2))
        assert uids(appender.wait(first)) == [1]
        assert session.channel.stream.has_line and session.channel.take_throttle() is None
        appender.hear()
        notice = session.channel.take_throttle()
        assert notice is not None and notice.retry_after == 1.5
        assert isinstance(appender.wait(second)[0].error, Throttled)


def test_one_refused_message_takes_its_multiappend_with_it_and_nothing_is_stored() -> None:
    with ProviderSimulator("dovecot") as server:
        server.append_refusals.append(AppendRefusal(b"NO [CANNOT] bad message", contains=b"poison"))
        session = Session.open(server.login_for(), LOOPBACK, side=Side.DESTINATION, timeouts=QUICK)
        appender = Appender(session)
        results = appender.wait(appender.send("INBOX", [outgoing(1), outgoing(2, b"poison"), outgoing(3)]))
        assert len({id(r.error) for r in results}) == 1
        assert server.account()["INBOX"].messages == []
        again = [appender.wait(appender.send("INBOX", [one]))[0] for one in (outgoing(1), outgoing(2, b"poison"), outgoing(3))]
        session.close()
    assert [r.error is None for r in again] == [True, False, True]


def test_an_answer_that_is_lost_is_no_answer() -> None:
    def talk(peer: Peer) -> None:
        peer.expect(b"APPEND")
        peer.octets(1)
        peer.line()
        peer.conn.close()

    with Scripted(after_login(talk), capabilities=UIDPLUS + b" LITERAL+") as server, server.session(Side.DESTINATION) as session:
        appender = Appender(session)
        pending = appender.send("a", [outgoing(1, b"x")])
        with pytest.raises(ConnectionBroken):
            appender.wait(pending)


def test_other_commands_may_run_while_appends_are_unanswered() -> None:
    def talk(peer: Peer) -> None:
        tag = peer.expect(b"APPEND")
        peer.octets(1)
        peer.line()
        noop = peer.expect(b"NOOP")
        peer.send(tag + b" OK [APPENDUID 7 3] stored\r\n" + noop + b" OK\r\n")

    with Scripted(after_login(talk), capabilities=UIDPLUS + b" LITERAL+") as server, server.session(Side.DESTINATION) as session:
        appender = Appender(session)
        pending = appender.send("a", [outgoing(1, b"x")])
        session.noop()
        assert uids(appender.wait(pending)) == [3]


def test_a_server_that_talks_more_than_it_reads_does_not_hang_us() -> None:
    """Given a destination that writes megabytes of unasked lines while we send a large message, then both get through."""
    size = 6_000_000

    def talk(peer: Peer) -> None:
        tag = peer.expect(b"APPEND")
        noise = threading.Thread(target=peer.send, args=(b"* 5 EXISTS\r\n" * 150_000,))
        noise.start()
        noise.join(5)  # it does not read before it has said everything
        peer.octets(size)
        peer.line()
        peer.send(tag + b" OK [APPENDUID 7 3] stored\r\n")

    with Scripted(after_login(talk), capabilities=UIDPLUS + b" LITERAL+") as server, server.session(Side.DESTINATION) as session:
        appender = Appender(session)
        assert uids(appender.wait(appender.send("a", [outgoing(1, bytes(size))]))) == [3]
