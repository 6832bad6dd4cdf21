"""What the mutation run showed that nothing fast held: how long a destination is waited for, what of an open intent is found there and what
is one copy too many; and which source messages count as read whole."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from engine.errors import ConnectionBroken
from engine.imap.folders import FolderStatus
from engine.ledger import Intent
from engine.transfer import careful
from engine.transfer.matching import Pair
from engine.transfer.recover import Clock, LookedUp, look_up, settle, surplus
from tests.support.simulator_mail import BodyFault, Message
from tests.unit.mutation.two_mailboxes import DATE, LATER, SAME_INSTANT, MakeMailboxes, TwoMailboxes, mail

NOW = 1_000_000.0


NONE: frozenset[int] = frozenset()

# -- settling


@dataclass
class Server:
    """A destination whose STATUS changes at these seconds, as (UIDNEXT, MESSAGES)."""

    changes: dict[float, tuple[int, int]]
    now: float = 0.0
    asked: list[str] = field(default_factory=list)

    def status(self, folder: str) -> FolderStatus:
        self.asked.append(folder)
        uidnext, messages = self.changes[max(at for at in self.changes if at <= self.now)]
        return FolderStatus(messages=messages, uidnext=uidnext, uidvalidity=1, size=None)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def settled(self, slowest: float = 0.0, *ages: float, stopped: Callable[[], bool] = lambda: False) -> bool:
        intents = [Intent((1,), 1, 1, NOW - age) for age in ages or (5.0,)]
        clock = Clock(wall=lambda: NOW, monotonic=lambda: self.now, sleep=self.sleep)
        return settle(self, "Inbox/there", intents, slowest, clock, stopped)  # type: ignore[arg-type]


@pytest.mark.parametrize(("slowest", "seconds"), [(0.0, 4.0), (0.1, 2.0), (0.5, 2.0), (1.0, 3.0), (5.0, 15.0)])
def test_a_destination_has_to_be_still_for_as_long_as_an_append_can_take(slowest: float, seconds: float) -> None:
    server = Server({0.0: (7, 3)})
    assert server.settled(slowest) is True
    assert (server.now, set(server.asked)) == (seconds, {"Inbox/there"})


@pytest.mark.parametrize("change", [(8, 3), (7, 4), (8, 4)])
def test_whatever_changes_begins_the_wait_anew(change: tuple[int, int]) -> None:
    server = Server({0.0: (7, 3), 1.5: change})
    assert server.settled(0.5) is True
    assert server.now == 3.5


def test_a_destination_that_is_never_still_is_waited_for_so_long_and_no_longer() -> None:
    server = Server({n * 0.25: (n, n) for n in range(1000)})
    server.now = 50.0
    assert server.settled(0.5) is True
    assert server.now == 140.0


def test_a_stop_ends_the_wait_before_it_sleeps_again() -> None:
    server = Server({0.0: (7, 3)})
    assert server.settled(0.5, stopped=lambda: len(server.asked) == 3) is False
    assert (server.now, len(server.asked)) == (0.5, 3)


@pytest.mark.parametrize(("ages", "asks"), [((601.0,), False), ((600.0,), True), ((5.0, 700.0), True), ((700.0, 5.0), True),
                                            ((700.0, 900.0), False)])
def test_what_is_old_has_nothing_under_way_any_more(ages: tuple[float, ...], asks: bool) -> None:
    server = Server({0.0: (7, 3)})
    assert server.settled(0.5, *ages) is True
    assert bool(server.asked) is asks


# -- what an intent may find, and what is one too many


def looked_up(boxes: TwoMailboxes, *uids: int, floor: int = 1) -> LookedUp:
    wanted = boxes.wanted(*uids)
    found = look_up(boxes.careful(), boxes.destination_session, "INBOX", wanted, floor, boxes.claims)
    assert {pair.target_uid for pair in found.pairs} <= set(found.there)
    return found._replace(there={})


def too_many(boxes: TwoMailboxes, *uids: int, floor: int = 1) -> list[int]:
    return surplus(boxes.source_session, boxes.destination_session, "INBOX", boxes.wanted(*uids), floor, boxes.claims)


def test_what_an_intent_may_find_is_paired_by_every_octet(mailboxes: MakeMailboxes) -> None:
    boxes = mailboxes()
    boxes.inbox.put(*(mail(n) for n in range(1, 6)), internal_date=DATE)
    boxes.copies.put(mail(1), mail(2), mail(9), mail(2), mail(3), mail(4), mail(1), internal_date=LATER)
    boxes.claims.add((5,))
    # 1 is below, 5 is another's
    assert looked_up(boxes, 1, 2, 3, 4, floor=2) == LookedUp([Pair(1, 7), Pair(2, 2), Pair(4, 6)], [], {}, NONE)
    assert boxes.source_server.bodies_opened == 4


def test_what_the_server_altered_is_paired_by_its_header_and_its_date(mailboxes: MakeMailboxes) -> None:
    boxes = mailboxes()
    boxes.inbox.put(mail(1), mail(2), mail(3), mail(4), internal_date=DATE)
    boxes.copies.add(Message(mail(3), (), SAME_INSTANT))
    boxes.copies.add(Message(mail(1, "changed\r\n"), (), SAME_INSTANT))
    boxes.copies.add(Message(mail(2, "changed\r\n"), (), LATER))
    assert looked_up(boxes, 1, 2, 3, 4) == LookedUp([Pair(1, 2), Pair(3, 1)], [], {}, frozenset({1}))


def test_headers_are_asked_for_only_where_something_is_left_on_both_sides(mailboxes: MakeMailboxes) -> None:
    boxes = mailboxes()
    boxes.inbox.put(mail(1))
    boxes.copies.put(mail(1), mail(9))
    assert looked_up(boxes, 1) == LookedUp([Pair(1, 1)], [], {}, NONE)
    assert not [line for server in (boxes.source_server, boxes.destination_server)
                for line in server.lines("UID FETCH") if b"HEADER]" in line]


@pytest.mark.parametrize("source", ["dovecot", "exchange"])
@pytest.mark.parametrize("empty", ["source", "destination"])
def test_nothing_is_read_where_one_side_has_nothing(mailboxes: MakeMailboxes, empty: str, source: str) -> None:
    boxes = mailboxes(source)
    [first] = boxes.inbox.put(mail(1))
    boxes.copies.put(mail(1))
    assert looked_up(boxes, *([] if empty == "source" else [first.uid]), floor=1 if empty == "source" else 2) == LookedUp([], [], {}, NONE)
    assert too_many(boxes, *([] if empty == "source" else [first.uid]), floor=1 if empty == "source" else 2) == []
    assert (boxes.source_server.bodies_opened, boxes.destination_server.bodies_opened) == (0, 0)


def test_what_the_source_does_not_give_is_told_and_not_paired_by_its_header(mailboxes: MakeMailboxes) -> None:
    boxes = mailboxes()
    boxes.inbox.put(mail(1), mail(2), mail(3), internal_date=DATE)
    boxes.inbox.messages[1].fault = BodyFault.MISSING
    boxes.copies.put(mail(2), mail(3), internal_date=DATE)
    assert looked_up(boxes, 1, 2, 3) == LookedUp([Pair(3, 2)], [2], {}, NONE)
    assert boxes.destination_server.count("UID FETCH") <= 3


@pytest.mark.parametrize("source", ["dovecot", "exchange"])
def test_a_copy_too_many_is_of_the_same_octets_and_date_and_nobodys(mailboxes: MakeMailboxes, source: str) -> None:
    boxes = mailboxes(source)
    boxes.inbox.put(mail(1), mail(2), mail(3), internal_date=DATE)
    uids = [m.uid for m in boxes.inbox.messages]
    boxes.copies.put(mail(1), mail(2), mail(3), mail(2), internal_date=SAME_INSTANT)
    boxes.copies.put(mail(2), internal_date=LATER)                 # somebody's own
    boxes.copies.put(mail(1, "another\r\n"), internal_date=DATE)
    boxes.copies.put(mail(3), internal_date=SAME_INSTANT)          # not watched
    boxes.claims.add((1, 2, 3))
    assert too_many(boxes, *uids[:2]) == [4]
    assert too_many(boxes, *uids, floor=5) == [7]
    assert too_many(boxes, uids[0]) == []


def test_only_what_has_the_size_of_something_watched_is_read(mailboxes: MakeMailboxes) -> None:
    boxes = mailboxes()
    boxes.inbox.put(mail(1), mail(2, "longer than that\r\n"), mail(3, "the longest of them all\r\n"))
    boxes.copies.put(mail(1), mail(4), mail(5, "of no size that is watched, and long\r\n"))
    assert too_many(boxes, 1, 2) == [1]
    assert (boxes.source_server.bodies_opened, boxes.destination_server.bodies_opened) == (1, 2)


def test_sizes_that_are_guesses_leave_nothing_out(mailboxes: MakeMailboxes) -> None:
    boxes = mailboxes("exchange")
    boxes.inbox.put(mail(1))
    boxes.inbox.messages[0].announced_size = 5
    boxes.copies.put(mail(1))
    assert too_many(boxes, boxes.inbox.messages[0].uid) == [1]


# -- reading with care


def digests(boxes: TwoMailboxes, sizes: dict[int, int], *hopeless: int) -> tuple[list[int], list[int]]:
    reading = boxes.careful(*hopeless)
    return [uid for uid, _ in reading.digests(sorted(sizes.items()))], reading.unread


def sizes_of(boxes: TwoMailboxes) -> dict[int, int]:
    return {m.uid: m.size() for m in boxes.inbox.messages}


def test_many_are_read_a_few_at_a_time(mailboxes: MakeMailboxes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(careful, "AT_ONCE", 2)
    boxes = mailboxes()
    boxes.inbox.put(*(mail(n) for n in range(1, 6)))
    before = boxes.source_server.count("UID FETCH")
    assert digests(boxes, sizes_of(boxes), 3) == ([1, 2, 4, 5], [3])
    assert boxes.source_server.count("UID FETCH") - before == 2
    assert boxes.source_server.bodies_opened == 4


def test_a_list_that_is_full_at_its_end_is_read_once(mailboxes: MakeMailboxes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(careful, "AT_ONCE", 2)
    boxes = mailboxes()
    boxes.inbox.put(*(mail(n) for n in range(1, 5)))
    before = boxes.source_server.count("UID FETCH")
    assert digests(boxes, sizes_of(boxes)) == ([1, 2, 3, 4], [])
    assert boxes.source_server.count("UID FETCH") - before == 2


@pytest.mark.parametrize("fault", [BodyFault.MISSING, BodyFault.REFUSED, BodyFault.HEADER_ONLY, BodyFault.EMPTY])
@pytest.mark.parametrize(("times", "found"), [(1, ([1, 3, 2], [])), (None, ([1, 3], [2]))])
def test_what_does_not_come_whole_is_asked_for_once_more(mailboxes: MakeMailboxes, fault: BodyFault, times: int | None,
                                                         found: tuple[list[int], list[int]]) -> None:
    boxes = mailboxes()
    boxes.inbox.put(mail(1), mail(2), mail(3))
    boxes.inbox.messages[1].fault, boxes.inbox.messages[1].fault_times = fault, times
    read, unread = digests(boxes, sizes_of(boxes))
    assert (sorted(read), unread) == (sorted(found[0]), found[1])


@pytest.mark.parametrize(("source", "announced", "read"), [("dovecot", 0, False), ("dovecot", 5, False), ("exchange", 5, True),
                                                           ("exchange", 900, True)])
def test_another_length_than_announced_is_whole_where_sizes_are_guesses(mailboxes: MakeMailboxes, source: str, announced: int,
                                                                        read: bool) -> None:
    boxes = mailboxes(source)
    boxes.inbox.put(mail(1))
    uid = boxes.inbox.messages[0].uid
    assert digests(boxes, {uid: announced}) == (([uid], []) if read else ([], [uid]))


@pytest.mark.parametrize(("announced", "read"), [(0, True), (5, False)])
def test_no_octets_are_whole_where_none_were_announced(mailboxes: MakeMailboxes, announced: int, read: bool) -> None:
    boxes = mailboxes("exchange")
    boxes.inbox.put(mail(1), b"")
    uid = boxes.inbox.messages[1].uid
    assert digests(boxes, {uid: announced}) == (([uid], []) if read else ([], [uid]))


def test_the_message_that_breaks_the_connection_is_named(mailboxes: MakeMailboxes) -> None:
    boxes = mailboxes()
    boxes.inbox.put(*(mail(n) for n in range(1, 6)))
    boxes.inbox.messages[2].fault = BodyFault.CUT
    with pytest.raises(ConnectionBroken) as caught:
        digests(boxes, sizes_of(boxes))
    assert caught.value.uids == (3,)
