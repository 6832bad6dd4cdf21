"""What the mutation run showed that nothing fast held: which messages of a destination are adopted as whose copies, what is stored of them,
and what it costs to find out."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.causes import Cause
from engine.ledger import FolderRow, Outcome, SetAsideRow
from engine.ledger_file import SqliteLedger
from engine.transfer import adopt
from engine.transfer.adopt import UNREAD, Adoption
from engine.transfer.records import Arrived, FolderRecords, listed
from tests.support.simulator_mail import BodyFault, Message
from tests.unit.mutation.two_mailboxes import DATE, LATER, SAME_INSTANT, MakeMailboxes, TwoMailboxes, mail

BODIES = b"BODY.PEEK[]"


@pytest.fixture
def records(tmp_path: Path) -> Iterator[FolderRecords]:
    ledger = SqliteLedger(tmp_path / "ledger", "a -> b")
    yield FolderRecords(ledger, ledger.put_folder(FolderRow("INBOX", "INBOX")), pass_id=4)
    ledger.close()


def adopted(boxes: TwoMailboxes, records: FolderRecords, *hopeless: int) -> list[tuple[int, int, int]]:
    """(source UID, how many, UID there) of the runs."""
    Adoption(boxes.careful(*hopeless), boxes.destination_session, "INBOX", records, boxes.claims).run()
    assert {(run.outcome, run.pass_id) for run in records.runs if run.source_first != 90} <= {(Outcome.ALREADY_THERE, 0)}
    return [(run.source_first, run.count, run.target_first) for run in records.runs]


def headers_asked(boxes: TwoMailboxes) -> list[int]:
    """How often each side was asked for header blocks."""
    return [sum(b"HEADER]" in line for line in server.lines("UID FETCH")) for server in (boxes.source_server, boxes.destination_server)]


def test_an_empty_destination_costs_nothing(mailboxes: MakeMailboxes, records: FolderRecords) -> None:
    boxes = mailboxes()
    boxes.inbox.put(mail(1))
    assert adopted(boxes, records) == []
    assert (boxes.source_server.count("UID FETCH"), boxes.destination_server.count("UID FETCH")) == (0, 0)


def test_each_copy_is_given_away_once_and_those_of_the_same_date_first(mailboxes: MakeMailboxes, records: FolderRecords) -> None:
    boxes = mailboxes()
    for content, date in ((mail(1), DATE), (mail(1), LATER), (mail(2), DATE), (mail(3), DATE), (mail(4), DATE), (mail(1), DATE)):
        boxes.inbox.add(Message(content, (), date))
    for content, date in ((mail(1), LATER), (mail(1), SAME_INSTANT), (mail(2), LATER), (mail(4), SAME_INSTANT), (mail(9), DATE)):
        boxes.copies.add(Message(content, (), date))
    assert adopted(boxes, records) == [(1, 1, 2), (2, 1, 1), (3, 1, 3), (5, 1, 4)]
    row = records.row
    assert (row.already_there, row.moved, row.set_aside, row.bytes_moved) == (4, 0, 0, 0)
    assert [uid in boxes.claims for uid in range(1, 6)] == [True, True, True, True, False]
    assert [*records.stored_flags()] == [(1, ()), (2, ()), (3, ()), (5, ())]


def test_what_is_accounted_for_or_claimed_is_left_out(mailboxes: MakeMailboxes, records: FolderRecords) -> None:
    boxes = mailboxes()
    boxes.inbox.put(*(mail(n) for n in range(1, 6)))
    boxes.copies.put(*(mail(n) for n in (1, 2, 3, 4, 5)))
    records.write(arrived=[Arrived(item, 70) for item in listed(boxes.wanted(2))], outcome=Outcome.ALREADY_THERE)
    records.write(set_aside=[SetAsideRow(5, Cause.X_ITEM, "NO")])
    boxes.claims.add((4,))
    assert adopted(boxes, records) == [(1, 1, 1), (2, 1, 70), (3, 1, 3)]
    assert (boxes.source_server.bodies_opened, records.row.already_there) == (3, 3)  # 1, 3 and 4, which has the size of what is free


def test_copies_in_order_are_one_run_over_what_was_accounted_for(mailboxes: MakeMailboxes, records: FolderRecords) -> None:
    boxes = mailboxes()
    boxes.inbox.put(*(mail(n) for n in range(1, 7)))
    boxes.copies.put(*(mail(n) for n in range(1, 7)))
    records.write(arrived=[Arrived(item, 1 + n) for n, item in enumerate(listed(boxes.wanted(1, 2)))], outcome=Outcome.ALREADY_THERE)
    boxes.claims.add((1, 2))
    assert adopted(boxes, records) == [(1, 6, 1)]


def test_before_the_first_message_there_is_none(mailboxes: MakeMailboxes, records: FolderRecords) -> None:
    boxes = mailboxes()
    boxes.inbox.put(mail(1), mail(2))
    boxes.copies.put(mail(1), mail(2))
    records.write(arrived=[Arrived(item, 1) for item in listed(boxes.wanted(1))], outcome=Outcome.ALREADY_THERE)
    boxes.claims.add((1,))
    del boxes.inbox.messages[0]
    assert adopted(boxes, records) == [(1, 1, 1), (2, 1, 2)]


def test_what_the_server_altered_is_its_copy_and_is_named(mailboxes: MakeMailboxes, records: FolderRecords) -> None:
    boxes = mailboxes()
    boxes.inbox.put(mail(1), mail(2), mail(3), mail(4), mail(5), internal_date=DATE)
    for n, content, date in ((1, mail(1), DATE), (2, mail(2) + b"\r\n", SAME_INSTANT), (3, mail(3) + b"\r\n", LATER),
                             (4, mail(4) + b"x" * 900, DATE), (5, mail(6) + b"\r\n", DATE)):
        boxes.copies.add(Message(content, (), date, n))
    assert adopted(boxes, records) == [(1, 2, 1)]
    assert [*records.set_aside.values()] == [
        SetAsideRow(2, Cause.INCOMPLETE, "at the destination as UID 2, altered by its server", len(mail(2)))]
    assert (records.row.already_there, records.row.set_aside) == (1, 1)
    assert [uid in boxes.claims for uid in range(1, 6)] == [True, True, False, False, False]


@pytest.mark.parametrize("hopeless", [False, True])
def test_what_is_not_given_whole_is_set_aside_and_not_taken_for_new(mailboxes: MakeMailboxes, records: FolderRecords,
                                                                    hopeless: bool) -> None:
    boxes = mailboxes()
    boxes.inbox.put(mail(1), mail(2), mail(3))
    boxes.copies.put(mail(1), mail(2), mail(3))
    if not hopeless:
        boxes.inbox.messages[1].fault = BodyFault.MISSING
    assert adopted(boxes, records, *([2] if hopeless else [])) == [(1, 1, 1), (3, 1, 3)]
    assert [*records.set_aside.values()] == [SetAsideRow(2, Cause.X_ITEM, UNREAD, len(mail(2)))]


def test_where_sizes_are_guesses_the_header_block_says_what_is_compared(mailboxes: MakeMailboxes, records: FolderRecords) -> None:
    boxes = mailboxes("exchange")
    boxes.inbox.put(mail(1), mail(2), mail(3))
    for message in boxes.inbox.messages:
        message.announced_size = 7
    first, _, third = (m.uid for m in boxes.inbox.messages)
    boxes.copies.put(mail(3), mail(1), mail(2, "another body 2\r\n"), mail(8))
    assert adopted(boxes, records) == [(first, 1, 2), (third, 1, 1)]
    assert (boxes.source_server.bodies_opened, boxes.destination_server.bodies_opened) == (3, 3)
    assert headers_asked(boxes)[0] >= 1


def test_own_mail_of_a_destination_costs_neither_bodies_nor_headers(mailboxes: MakeMailboxes, records: FolderRecords) -> None:
    boxes = mailboxes()
    boxes.inbox.put(mail(1), mail(2, "as long as no other\r\n"), internal_date=DATE)
    boxes.copies.put(mail(1), mail(7, "of another size and date, long as it is\r\n"), internal_date=LATER)
    assert adopted(boxes, records) == [(1, 1, 1)]
    assert (boxes.source_server.bodies_opened, boxes.destination_server.bodies_opened) == (1, 1)
    assert headers_asked(boxes) == [0, 0]


def test_headers_are_asked_for_where_a_date_occurs_on_both_sides(mailboxes: MakeMailboxes, records: FolderRecords) -> None:
    boxes = mailboxes()
    boxes.inbox.put(mail(1), internal_date=DATE)
    boxes.inbox.put(mail(2), internal_date=LATER)
    boxes.copies.put(mail(8, "somebody's own, which came at the same second\r\n"), internal_date=SAME_INSTANT)
    assert adopted(boxes, records) == []
    assert headers_asked(boxes) == [1, 1]


def test_many_are_compared_and_stored_a_few_at_a_time(mailboxes: MakeMailboxes, records: FolderRecords,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopt, "AT_ONCE", 2)
    boxes = mailboxes()
    boxes.inbox.put(*(mail(n) for n in range(1, 8)))
    boxes.copies.put(*(mail(n) for n in range(1, 8)))
    assert adopted(boxes, records) == [(1, 7, 1)]
    for server in (boxes.source_server, boxes.destination_server):
        assert sum(BODIES in line for line in server.lines("UID FETCH")) == 4
    assert len([*records._store.flags(records.row.id)]) == 4


def test_a_copy_gets_what_it_lacks_in_the_letters_of_the_source(mailboxes: MakeMailboxes, records: FolderRecords) -> None:
    boxes = mailboxes()
    flags = [("\\Seen", "$Forwarded"), ("\\Seen", "$Forwarded"), ("\\Flagged",), (), ("\\Answered", "\\Seen")]
    own = [(), ("\\Draft",), ("\\flagged",), ("\\Seen",), ("\\Seen",)]
    for n, (ours, theirs) in enumerate(zip(flags, own, strict=True)):
        boxes.inbox.add(Message(mail(n), ours))
        boxes.copies.add(Message(mail(n), theirs))
    assert adopted(boxes, records) == [(1, 5, 1)]
    assert [sorted(m.flags) for m in boxes.copies.messages] == [
        ["$Forwarded", "\\Seen"], ["$Forwarded", "\\Draft", "\\Seen"], ["\\flagged"], ["\\Seen"], ["\\Answered", "\\Seen"]]
    assert boxes.destination_server.count("UID STORE") == 2
    assert [*records.stored_flags()] == [*enumerate(flags, 1)]
