"""Whatever octets a server sends, a session ends in our own errors or in values, within its deadlines, and never in anything else."""
from __future__ import annotations

import socket
from collections.abc import Callable

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine.causes import Side
from engine.errors import EngineError
from engine.imap.append import Appender, Outgoing
from engine.imap.channel import Channel, Timeouts
from engine.imap.fetch import fetch_bodies, fetch_headers, fetch_metadata, fetch_uids
from engine.imap.session import Session
from engine.net.stream import Stream

TAG = b"<tag>"  # in the fuzzed octets: the tag of the command under way
VERBS: list[Callable[[Session], object]] = [
    Session.list_folders, Session.namespace_prefix, Session.quota, Session.noop, lambda s: s.status("a"),
    lambda s: s.statuses(["a", "b", "c"]),
    lambda s: s.examine("a"), lambda s: s.create("a"), lambda s: list(fetch_metadata(s, 1, None)), lambda s: list(fetch_uids(s, 1, 9)),
    lambda s: [b.read() for b in fetch_bodies(s, [[1, 2], [3]], largest=1000)], lambda s: list(fetch_headers(s, [1, 2])),
    lambda s: [list(b.chunks(3)) for b in fetch_bodies(s, [[1]], largest=1000)],
    lambda s: Appender(s).wait(Appender(s).send("a", [Outgoing(1, (), "", 3, b"abc"), Outgoing(2, ("x]",), "", 1, b"z")])),
    Session.survey,
]
WORDS = [
    b"* ", b"OK", b"NO", b"BAD", b"BYE", b"+ ", TAG, b" ", b"\r\n", b"\r\n", b"(", b")", b'"', b"{3}\r\nabc", b"{1500000000}\r\n",
    b"{0}\r\n", b"NIL", b"1 FETCH (", b"UID 1", b"UID 2", b"UID 3", b"BODY[] ", b"BODY[HEADER] ", b"RFC822.SIZE 7", b"FLAGS (\\Seen)",
    b'INTERNALDATE "x"', b"LIST ", b"STATUS ", b"XLIST ", b"MESSAGES 3 ", b"UIDVALIDITY 1", b"[UIDVALIDITY x]", b"[APPENDUID 1 1:9]",
    b"[THROTTLED]", b"QUOTA ", b"STORAGE 1 2", b"NAMESPACE ", b"1 EXISTS", b"1 EXPUNGE", b"4294967296", b"99999999999999999999", b"\\",
    b"\0", b"\xff", b"[", b"]", b"~",
]


def session_over(octets: bytes) -> tuple[Session, socket.socket]:
    """A logged-in session whose server has said all of this already, and hangs up."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    channel = Channel(Stream(ours, idle=2), side=Side.SOURCE, timeouts=Timeouts(command=2, idle=2))
    theirs.sendall(octets.replace(TAG, channel._prefix + b"1"))
    theirs.shutdown(socket.SHUT_WR)


    offered = frozenset({"IMAP4REV1", "NAMESPACE", "QUOTA", "LITERAL+", "MULTIAPPEND", "UIDPLUS", "XLIST"})
    return Session(channel, greeting="", capabilities=offered), theirs


def survive(verb: Callable[[Session], object], octets: bytes) -> None:
    session, server = session_over(octets)
    try:
        verb(session)
    except EngineError:
        pass
    finally:
        session.close()
        server.close()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(VERBS), st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=8)), max_size=40))
@example(VERBS[10], [b"* 1 FETCH (BODY[] {3}\r\nabc UID 1)\r\n", TAG, b" OK\r\n"])
@example(VERBS[6], [b"* x EXISTS\r\n* OK [UIDNEXT]\r\n", TAG, b" OK\r\n"])
def test_words_of_the_protocol_in_any_order(verb: Callable[[Session], object], words: list[bytes]) -> None:
    survive(verb, b"".join(words))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(VERBS), st.binary(max_size=200))
def test_any_octets(verb: Callable[[Session], object], octets: bytes) -> None:
    survive(verb, b"* " + octets + b"\r\n" + TAG + b" OK done\r\n")


GOOD: list[tuple[Callable[[Session], object], bytes]] = [
    (VERBS[0], b'* LIST (\\HasNoChildren \\Sent) "/" "Sent"\r\n* LIST () NIL {3}\r\na b\r\n'
               b'* LIST () "." INBOX ("X" (1))\r\n<tag> OK done\r\n'),
    (VERBS[1], b'* NAMESPACE (("INBOX." ".")("" "/")) NIL (("#shared/" "/"))\r\n<tag> OK done\r\n'),
    (VERBS[2], b'* QUOTAROOT INBOX "" "x"\r\n* QUOTA "" (STORAGE 10 512 MESSAGE 1 2)\r\n<tag> OK done\r\n'),
    (VERBS[4], b'* STATUS "a" (MESSAGES 3 UIDNEXT 4 UIDVALIDITY 5 SIZE 9)\r\n<tag> OK done\r\n'),
    (VERBS[6], b"* FLAGS (\\Seen)\r\n* 3 EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 9] x\r\n"
               b"* OK [PERMANENTFLAGS (\\Seen \\*)] x\r\n"
               b"<tag> OK [READ-ONLY] done\r\n"),
    (VERBS[8], b'* 1 FETCH (UID 1 RFC822.SIZE 7 FLAGS (\\Seen $x) INTERNALDATE "17-Jul-2026 02:44:25 -0700")\r\n'
               b'* 2 FETCH (FLAGS () INTERNALDATE NIL UID {1}\r\n2 RFC822.SIZE 8)\r\n<tag> OK done\r\n'),
    (VERBS[10], b"* 1 FETCH (UID 1 BODY[] {9}\r\na: b\r\n\r\nc)\r\n"
                b"* 2 FETCH (BODY[] {3}\r\nabc FLAGS (\\Seen) UID 2)\r\n<tag> OK done\r\n"),
    (VERBS[10], b'* 1 FETCH ((FLAGS () UID 1 BODY[] ~{3}\r\nabc X {2}\r\nyz))\r\n'
                b'* 2 FETCH (UID 2 BODY[] "abc")\r\n<tag> NO [LIMIT] done\r\n'),
    (VERBS[13], b"* 3 EXISTS\r\n<tag> OK [APPENDUID 7 3:4] done\r\n"),
]
CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 6), st.one_of(st.binary(max_size=3), st.sampled_from(WORDS))),
                   min_size=1, max_size=4)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(GOOD), CHANGES)
def test_good_answers_with_a_few_octets_changed(good: tuple[Callable[[Session], object], bytes],
                                                changes: list[tuple[float, int, bytes]]) -> None:
    verb, octets = good
    for where, gone, new in changes:
        at = int(where * len(octets))
        octets = octets[:at] + new + octets[at + gone :]
    survive(verb, octets)
