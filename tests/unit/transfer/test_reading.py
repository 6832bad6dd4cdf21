"""Reading one folder: what is asked for when, what is held, and what is taken for a whole message."""
from __future__ import annotations

import contextlib
import re
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from engine.causes import Side
from engine.imap.session import Session
from engine.ledger import Outcome, Run
from engine.transfer import handing, reading
from engine.transfer.complete import far_too_short, header_only
from engine.transfer.handing import Item, Ready
from engine.transfer.reading import Reader, Wanted
from engine.transfer.records import Accounted
from tests.support.provider_simulator import LOOPBACK, ProviderSimulator, message
from tests.unit.imap.scripted import Peer, Scripted

HEAD = b"Subject: x\r\nFrom: a@example.com\r\n"
MIXED = HEAD + b"Content-Type: multipart/mixed;\r\n boundary=\"=_b\"\r\n"
LONG = HEAD + b"X: ".ljust(1000 - len(HEAD) - 4, b"x") + b"\r\n\r\n"


@pytest.mark.parametrize(("content", "announced", "exact"), [
    (HEAD + b"\r\n", 500, True),
    (HEAD + b"\r\n\r\n\r\n", 500, True),
    (HEAD, 500, True),
    (HEAD + b"\r\n", len(HEAD) + 3, True),
    (HEAD.replace(b"\r\n", b"\n") + b"\n", 500, True),
    (MIXED + b"\r\nThis is a multi-part message.\r\n", 5000, True),
    (MIXED.replace(b'"', b"") + b"\r\n\r\n", 5000, True),
    (HEAD + b"\r\n", 500, False),
    (HEAD + b"\r\n", len(HEAD) + 2 + 65, False),
    (LONG, len(LONG) + 101, False),
    (b"\r\n", 500, True),
])
def test_a_header_without_its_body_is_noticed(content: bytes, announced: int, exact: bool) -> None:
    assert header_only(content, announced, exact=exact)


@pytest.mark.parametrize(("content", "announced", "exact"), [
    (HEAD + b"\r\n", len(HEAD) + 2, True),                                       # a draft without a body
    (HEAD, len(HEAD), True),                                                     # … and without the blank line
    (HEAD + b"\r\n", len(HEAD) + 2 + 64, False),                                 # where sizes are guessed
    (LONG, len(LONG) + 100, False),                                              # … the more, the larger they are
    (HEAD + b"\r\nX\r\n", 5000, True),
    (HEAD + b"\r\n\f\r\n", 5000, True),                                          # a form feed is a body
    (HEAD + b"\r\n", 10, True),                                                  # more than announced
    (HEAD + b"\r\n", 0, True),                                                   # the size is not known
    (b"", 0, True),
    (HEAD + b"\r\nhello\r\n", 5000, True),                                       # a body: a size that lies
    (HEAD.replace(b"\r\n", b"\n") + b"\nhello\n", len(HEAD) + 9, True),          # counted with CRLF, given with LF
    (b"\r\nno header at all", 5000, True),
    (MIXED + b"\r\n--=_b\r\n\r\npart\r\n--=_b--\r\n", 5000, True),
    (MIXED.replace(b'"', b"") + b"\r\n--=_b\r\n\r\npart\r\n--=_b--\r\n", 5000, True),
    (MIXED + b"\r\n", len(MIXED) + 2, True),                                     # a multipart draft without a part, whole
])
def test_a_message_without_a_body_is_no_alarm(content: bytes, announced: int, exact: bool) -> None:
    assert not header_only(content, announced, exact=exact)


@pytest.mark.parametrize(("octets", "announced", "short"), [
    (5000, 20_000, True), (4000, 10_000, True), (5000, 10_000, False), (0, 4097, True), (5000, 9999, False), (100, 4196, False),
    (100, 4197, True), (7, 7, False), (9, 0, False)])
def test_far_too_short_is_less_than_half_and_a_good_deal(octets: int, announced: int, short: bool) -> None:
    assert far_too_short(octets, announced) is short


# -- what is asked for when ------------------------------------------------------------------------------------------------------

META = b'* %d FETCH (UID %d RFC822.SIZE %d FLAGS () INTERNALDATE "14-Nov-2023 22:13:20 +0800")\r\n'


def range_of(line: bytes) -> range:
    found = re.search(rb"UID FETCH (\d+)(?::(\d+))? ", line)
    assert found is not None, line
    return range(int(found[1]), int(found[2] or found[1]) + 1)


def bodies(uids: range, octets: int) -> bytes:
    return b"".join(b"* %d FETCH (UID %d BODY[] {%d}\r\n" % (uid, uid, octets) + b"x" * octets + b")\r\n" for uid in uids)


def lists(uids: range, octets: int) -> bytes:
    return b"".join(META % (uid, uid, octets) for uid in uids)


@contextmanager
def reader_of(session: Session, count: int, accounted: Accounted | None = None, **wanted: object) -> Iterator[Reader]:
    reader = Reader(session, Wanted(1, 0, count + 1, count, accounted or Accounted((), ()), lambda uid: False,
                                    **wanted))  # type: ignore[arg-type]
    reader.start()
    try:
        yield reader
    finally:
        reader.abandon()


def uids_of(reader: Reader) -> list[int]:
    return [item.listed.meta.uid for item in reader.queue]


def answer_all(peer: Peer, octets: int) -> None:
    """Answers lists and bodies until the client leaves."""
    while True:
        tag, _, line = peer.line().partition(b" ")
        uids = range_of(line)
        if b"BODY.PEEK" in line:
            for uid in uids:
                peer.send(bodies(range(uid, uid + 1), octets))
        else:
            peer.send(lists(uids, octets))
        peer.send(tag + b" OK done\r\n")


def test_the_first_two_lists_leave_together_and_bodies_follow_the_first() -> None:
    asked: list[bytes] = []

    def talk(peer: Peer) -> None:
        peer.greet()
        first, second = peer.expect(b"UID FETCH 1:200 (UID RFC822.SIZE"), peer.expect(b"UID FETCH 201:600 (UID RFC822.SIZE")
        peer.send(lists(range(1, 201), 10) + first + b" OK done\r\n")
        line = peer.line()  # before the second list is answered
        asked.append(line)
        peer.send(lists(range(201, 601), 10) + second + b" OK done\r\n")
        peer.send(bodies(range_of(line), 10) + line.partition(b" ")[0] + b" OK done\r\n")
        answer_all(peer, 10)

    with Scripted(talk) as server, server.session() as session, reader_of(session, 5000) as reader:
        assert uids_of(reader) == list(range(1, 5001))
        assert b"BODY.PEEK[]" in asked[0]


def test_the_next_list_is_asked_for_while_bodies_stream() -> None:
    """Held back: the bodies of the second half of what is listed, until the list after it has been asked for."""
    order: list[bytes] = []

    def talk(peer: Peer) -> None:
        peer.greet()
        waiting: list[bytes] = []
        while True:
            line = peer.line()
            order.append(line)
            uids = range_of(line)
            tag = line.partition(b" ")[0]
            if b"BODY.PEEK" in line:
                if uids[0] > 1200 and not any(b"3001:5000 (UID RFC822" in one for one in order):
                    waiting.append(line)
                    continue
                peer.send(bodies(uids, 10) + tag + b" OK done\r\n")
            else:
                for late in waiting:
                    peer.send(bodies(range_of(late), 10) + late.partition(b" ")[0] + b" OK done\r\n")
                waiting.clear()
                peer.send(lists(uids, 10) + tag + b" OK done\r\n")

    with Scripted(talk) as server, server.session() as session, reader_of(session, 6000) as reader:
        assert uids_of(reader) == list(range(1, 6001))


@pytest.mark.parametrize("octets", [10, 600_000, handing.STREAM_OVER + 70_000])
def test_bodies_that_are_given_in_another_order_are_handed_on_as_they_were_asked_for(octets: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dovecot goes on with the newest FETCH whenever its output was blocked. A large message waits on disk."""
    monkeypatch.setattr(reading, "BATCH_MESSAGES", 2)
    monkeypatch.setattr(reading, "WINDOW_BYTES", 64 << 20)
    order: list[int] = []

    def talk(peer: Peer) -> None:
        peer.greet()
        line = peer.line()
        peer.send(lists(range_of(line), octets) + line.partition(b" ")[0] + b" OK done\r\n")
        asked = []
        with contextlib.suppress(TimeoutError):
            peer.conn.settimeout(0.3)
            while True:
                asked.append(peer.line())
        peer.conn.settimeout(10)
        for line in reversed(asked):
            order.extend(range_of(line))
            peer.send(bodies(range_of(line), octets) + line.partition(b" ")[0] + b" OK done\r\n")

    with Scripted(talk) as server, server.session() as session, reader_of(session, 9) as reader:
        taken = []
        for item in reader.queue:
            assert isinstance(item, Ready)
            content = item.outgoing.content if isinstance(item.outgoing.content, bytes) else b"".join(item.outgoing.content)
            assert len(content) == octets
            taken.append(item.listed.meta.uid)
    assert order != sorted(order)
    assert taken == list(range(1, 10))


def body(uid: int, octets: bytes = b"x" * 10) -> bytes:
    return b"* %d FETCH (UID %d BODY[] {%d}\r\n" % (uid, uid, len(octets)) + octets + b")\r\n"


def test_what_broke_the_connection_before_is_read_in_its_turn_with_nothing_else_in_flight() -> None:
    asked: list[bytes] = []

    def talk(peer: Peer) -> None:
        peer.greet()
        line = peer.line()
        peer.send(lists(range_of(line), 10) + line.partition(b" ")[0] + b" OK done\r\n")
        for _ in range(5):
            line = peer.line()
            asked.append(line.partition(b" ")[2])
            peer.conn.settimeout(0.1)
            with pytest.raises(TimeoutError):
                peer.line()  # nothing more while this is under way
            peer.conn.settimeout(10)
            peer.send(bodies(range_of(line), 10) + line.partition(b" ")[0] + b" OK done\r\n")

    with Scripted(talk) as server, server.session() as session, \
         reader_of(session, 10, breaks=lambda uid: 1 if uid in (3, 7) else 0) as reader:
        assert uids_of(reader) == list(range(1, 11))
    assert [line.split(b" ")[2] for line in asked] == [b"1:2", b"3", b"4:6", b"7", b"8:10"]


@pytest.mark.parametrize("first", [b"", b"* 3 FETCH (UID 3 BODY[] NIL)\r\n", body(3, b""), body(3, b"x" * 7)])
def test_what_is_asked_for_again_keeps_its_turn(first: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not given in its batch, given empty, or shorter than announced: those after it wait."""
    monkeypatch.setattr(reading, "BATCH_MESSAGES", 4)

    def talk(peer: Peer) -> None:
        peer.greet()
        line = peer.line()
        peer.send(lists(range_of(line), 10) + line.partition(b" ")[0] + b" OK done\r\n")
        one, two, three = peer.expect(b"UID FETCH 1:4 "), peer.expect(b"UID FETCH 5:8 "), peer.expect(b"UID FETCH 9 ")
        peer.send(body(1), body(2), first, body(4), one, b" OK done\r\n")
        again = peer.expect(b"UID FETCH 3 ")
        peer.send(bodies(range(5, 9), 10), two, b" OK done\r\n", body(9), three, b" OK done\r\n", body(3), again, b" OK done\r\n")

    with Scripted(talk) as server, server.session() as session, reader_of(session, 9) as reader:
        assert uids_of(reader) == list(range(1, 10))


def test_a_large_message_that_is_given_far_too_short_is_asked_for_again_and_keeps_its_turn() -> None:
    large, short = handing.STREAM_OVER * 3, handing.STREAM_OVER + 5

    def talk(peer: Peer) -> None:
        peer.greet()
        line = peer.line()
        peer.send(META % (1, 1, 10), META % (2, 2, large), META % (3, 3, 10), line.partition(b" ")[0] + b" OK done\r\n")
        one, two, three = peer.expect(b"UID FETCH 1 "), peer.expect(b"UID FETCH 2 "), peer.expect(b"UID FETCH 3 ")
        peer.send(body(1), one, b" OK done\r\n", body(2, b"x" * short), two, b" OK done\r\n", body(3), three, b" OK done\r\n")
        again = peer.expect(b"UID FETCH 2 ")
        peer.send(body(2, b"x" * large), again, b" OK done\r\n")

    with Scripted(talk) as server, server.session() as session, reader_of(session, 3) as reader:
        taken = []
        for item in reader.queue:
            assert isinstance(item, Ready)
            content = item.outgoing.content if isinstance(item.outgoing.content, bytes) else b"".join(item.outgoing.content)
            taken.append((item.listed.meta.uid, len(content)))
    assert taken == [(1, 10), (2, large), (3, 10)]


def test_what_is_not_given_alone_either_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused with its batch and by itself: the others go on, and it comes in parts after them."""
    monkeypatch.setattr(reading, "BATCH_MESSAGES", 4)

    def talk(peer: Peer) -> None:
        peer.greet()
        line = peer.line()
        peer.send(lists(range_of(line), 10) + line.partition(b" ")[0] + b" OK done\r\n")
        one, two = peer.expect(b"UID FETCH 1:4 "), peer.expect(b"UID FETCH 5:6 ")
        peer.send(body(1), body(2), body(4), one, b" NO [SERVERBUG] damaged\r\n")
        again = peer.expect(b"UID FETCH 3 ")
        peer.send(bodies(range(5, 7), 10), two, b" OK done\r\n", again, b" NO [SERVERBUG] damaged\r\n")
        line = peer.line()
        peer.send(b"* 3 FETCH (UID 3 BODY[]<0> {10}\r\n" + b"x" * 10 + b")\r\n" + line.partition(b" ")[0] + b" OK done\r\n")

    with Scripted(talk) as server, server.session() as session, reader_of(session, 6) as reader:
        assert uids_of(reader) == [1, 2, 4, 5, 6, 3]


@pytest.mark.parametrize(("octets", "commands"), [(10, reading.WINDOW_COMMANDS), (900_000, 11)])
def test_so_much_is_in_flight_and_no_more(octets: int, commands: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By count for small messages; by octets (8 MiB) for large ones: ten, and the list that goes with them."""
    monkeypatch.setattr(reading, "BATCH_MESSAGES", 25)

    def talk(peer: Peer) -> None:
        peer.greet()
        for _ in range(2):
            line = peer.line()
            peer.send(lists(range_of(line), octets) + line.partition(b" ")[0] + b" OK done\r\n")
        waiting = [peer.line() for _ in range(commands)]
        peer.conn.settimeout(0.2)
        with pytest.raises(TimeoutError):
            peer.line()
        peer.conn.settimeout(10)
        for line in waiting:
            peer.send((bodies if b"BODY" in line else lists)(range_of(line), octets) + line.partition(b" ")[0] + b" OK done\r\n")
        answer_all(peer, octets)

    with Scripted(talk) as server, server.session() as session, reader_of(session, 2250) as reader:
        taken = [item.listed.meta.uid for item, _ in zip(reader.queue, range(60), strict=False)]
    assert taken == list(range(1, 61))


def test_what_is_read_ahead_of_the_writer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing, "QUEUE_BYTES", 1 << 20)
    octets, count = 100_000, 400
    with Scripted(lambda peer: (peer.greet(), answer_all(peer, octets))[1]) as server, server.session() as session:
        tracemalloc.start()
        with reader_of(session, count) as reader:
            first = reader.queue.take()
            assert first is not None
            taken = 1
            while reader.queue.take() is not None:
                taken += 1
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert taken == count
    assert peak < 12 << 20, f"{peak} octets at the peak"


def test_a_folder_that_is_accounted_for_is_listed_in_bounded_memory() -> None:
    peaks = []
    for count in (10_000, 40_000):
        accounted = Accounted([Run(1, count, count, 1, Outcome.MOVED)], ())
        with Scripted(lambda peer: (peer.greet(), answer_all(peer, 10))[1]) as server, server.session() as session:
            tracemalloc.start()
            with reader_of(session, count, accounted) as reader:
                assert uids_of(reader) == []
                assert reader.seen == count
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + (2 << 20), f"{peaks} octets at the peak"


def test_a_reader_that_is_abandoned_in_the_middle_of_a_body_ends() -> None:
    half = threading.Event()

    def talk(peer: Peer) -> None:
        peer.greet()
        line = peer.line()
        peer.send(lists(range_of(line), 5_000_000) + line.partition(b" ")[0] + b" OK done\r\n")
        peer.line()
        peer.send(b"* 1 FETCH (UID 1 BODY[] {5000000}\r\n" + b"x" * 1_000_000)
        half.set()
        peer.line()

    with Scripted(talk) as server, server.session() as session, reader_of(session, 1) as reader:
        item = reader.queue.take()
        assert isinstance(item, Ready)
        assert item.stream is not None
        assert half.wait(10)
        assert reader.reading_uid == 1
        reader.abandon()
        assert session.channel.stream.closed


# -- the last days first ---------------------------------------------------------------------------------------------------------


def all_of(reader: Reader) -> list[Item]:
    return list(reader.queue)


def read_recent_first(order: list[str], since: float, take: Callable[[Reader], list[Item]] = all_of) -> list[int]:
    with ProviderSimulator("dovecot") as server:
        inbox = server.account()["INBOX"]
        for number, date in enumerate(order):
            inbox.put(message(str(number)), internal_date=date)
        session = Session.open(server.login_for(), LOOPBACK, side=Side.SOURCE)
        session.examine("INBOX")
        with reader_of(session, len(order), recent_since=since) as reader:
            items = take(reader)
            assert reader.seen == len(order)
        session.close()
        assert not server.source_changes()
    return [item.listed.meta.uid for item in items]


def test_the_last_days_come_first_and_each_part_in_order() -> None:
    old, new = "14-Nov-2023 22:13:20 +0800", "20-Nov-2026 08:00:00 +0800"
    since = 1_795_000_000.0  # 18 November 2026
    assert read_recent_first([old, new, old, new, "no date", new], since) == [2, 4, 6, 1, 3, 5]


def test_a_date_on_the_edge_is_recent_whatever_its_zone() -> None:
    exactly, before = "18-Nov-2026 19:06:40 +0800", "18-Nov-2026 12:06:39 +0100"
    assert read_recent_first([before, exactly], 1_795_000_000.0) == [2, 1]


def test_the_message_before_one_is_the_same_in_both_parts() -> None:
    """Runs of UIDs join on it."""
    old, new = "14-Nov-2023 22:13:20 +0800", "20-Nov-2026 08:00:00 +0800"
    previous: dict[int, int] = {}

    def take(reader: Reader) -> list[Item]:
        items = list(reader.queue)
        previous.update({item.listed.meta.uid: item.listed.previous for item in items})
        return items

    read_recent_first([old, new, old, new], 1_795_000_000.0, take)
    assert previous == {1: 0, 2: 1, 3: 2, 4: 3}
