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
from tests.unit.mutation.two import DATE, LATER, SAME_INSTANT, MakeTwo, Two, mail

BODIES = b"BODY.PEEK[]"


@pytest.fixture
def records(tmp_path: Path) -> Iterator[FolderRecords]:
    ledger = SqliteLedger(tmp_path / "ledger", "a -> b")
    yield FolderRecords(ledger, ledger.put_folder(FolderRow("INBOX", "INBOX")), pass_id=4)
    ledger.close()


def adopted(one: Two, records: FolderRecords, *hopeless: int) -> list[tuple[int, int, int]]:
    """(source UID, how many, UID there) of the runs."""
    Adoption(one.careful(*hopeless), one.target, "INBOX", records, one.claims).run()
    assert {(run.outcome, run.pass_id) for run in records.runs if run.source_first != 90} <= {(Outcome.ALREADY_THERE, 0)}
    return [(run.source_first, run.count, run.target_first) for run in records.runs]


def headers_asked(one: Two) -> list[int]:
    """How often each side was asked for header blocks."""
    return [sum(b"HEADER]" in line for line in server.lines("UID FETCH")) for server in (one.here, one.there)]


def test_an_empty_destination_costs_nothing(two: MakeTwo, records: FolderRecords) -> None:
    one = two()
    one.inbox.put(mail(1))
    assert adopted(one, records) == []
    assert (one.here.count("UID FETCH"), one.there.count("UID FETCH")) == (0, 0)


def test_each_copy_is_given_away_once_and_those_of_the_same_date_first(two: MakeTwo, records: FolderRecords) -> None:
    one = two()
    for content, date in ((mail(1), DATE), (mail(1), LATER), (mail(2), DATE), (mail(3), DATE), (mail(4), DATE), (mail(1), DATE)):
        one.inbox.add(Message(content, (), date))
    for content, date in ((mail(1), LATER), (mail(1), SAME_INSTANT), (mail(2), LATER), (mail(4), SAME_INSTANT), (mail(9), DATE)):
        one.copies.add(Message(content, (), date))
    assert adopted(one, records) == [(1, 1, 2), (2, 1, 1), (3, 1, 3), (5, 1, 4)]
    row = records.row
    assert (row.already_there, row.moved, row.set_aside, row.bytes_moved) == (4, 0, 0, 0)
    assert [uid in one.claims for uid in range(1, 6)] == [True, True, True, True, False]
    assert [*records.stored_flags()] == [(1, ()), (2, ()), (3, ()), (5, ())]


def test_what_is_accounted_for_or_claimed_is_left_out(two: MakeTwo, records: FolderRecords) -> None:
    one = two()
    one.inbox.put(*(mail(n) for n in range(1, 6)))
    one.copies.put(*(mail(n) for n in (1, 2, 3, 4, 5)))
    records.write(arrived=[Arrived(item, 70) for item in listed(one.wanted(2))], outcome=Outcome.ALREADY_THERE)
    records.write(set_aside=[SetAsideRow(5, Cause.X_ITEM, "NO")])
    one.claims.add((4,))
    assert adopted(one, records) == [(1, 1, 1), (2, 1, 70), (3, 1, 3)]
    assert (one.here.bodies_opened, records.row.already_there) == (3, 3)  # 1, 3 and 4, which has the size of what is free


def test_copies_in_order_are_one_run_over_what_was_accounted_for(two: MakeTwo, records: FolderRecords) -> None:
    one = two()
    one.inbox.put(*(mail(n) for n in range(1, 7)))
    one.copies.put(*(mail(n) for n in range(1, 7)))
    records.write(arrived=[Arrived(item, 1 + n) for n, item in enumerate(listed(one.wanted(1, 2)))], outcome=Outcome.ALREADY_THERE)
    one.claims.add((1, 2))
    assert adopted(one, records) == [(1, 6, 1)]


def test_before_the_first_message_there_is_none(two: MakeTwo, records: FolderRecords) -> None:
    one = two()
    one.inbox.put(mail(1), mail(2))
    one.copies.put(mail(1), mail(2))
    records.write(arrived=[Arrived(item, 1) for item in listed(one.wanted(1))], outcome=Outcome.ALREADY_THERE)
    one.claims.add((1,))
    del one.inbox.messages[0]
    assert adopted(one, records) == [(1, 1, 1), (2, 1, 2)]


def test_what_the_server_altered_is_its_copy_and_is_named(two: MakeTwo, records: FolderRecords) -> None:
    one = two()
    one.inbox.put(mail(1), mail(2), mail(3), mail(4), mail(5), internal_date=DATE)
    for n, content, date in ((1, mail(1), DATE), (2, mail(2) + b"\r\n", SAME_INSTANT), (3, mail(3) + b"\r\n", LATER),
                             (4, mail(4) + b"x" * 900, DATE), (5, mail(6) + b"\r\n", DATE)):
        one.copies.add(Message(content, (), date, n))
    assert adopted(one, records) == [(1, 2, 1)]
    assert [*records.set_aside.values()] == [
        SetAsideRow(2, Cause.INCOMPLETE, "at the destination as UID 2, altered by its server", len(mail(2)))]
    assert (records.row.already_there, records.row.set_aside) == (1, 1)
    assert [uid in one.claims for uid in range(1, 6)] == [True, True, False, False, False]


@pytest.mark.parametrize("hopeless", [False, True])
def test_what_is_not_given_whole_is_set_aside_and_not_taken_for_new(two: MakeTwo, records: FolderRecords, hopeless: bool) -> None:
    one = two()
    one.inbox.put(mail(1), mail(2), mail(3))
    one.copies.put(mail(1), mail(2), mail(3))
    if not hopeless:
        one.inbox.messages[1].fault = BodyFault.MISSING
    assert adopted(one, records, *([2] if hopeless else [])) == [(1, 1, 1), (3, 1, 3)]
    assert [*records.set_aside.values()] == [SetAsideRow(2, Cause.X_ITEM, UNREAD, len(mail(2)))]


def test_where_sizes_are_guesses_the_header_block_says_what_is_compared(two: MakeTwo, records: FolderRecords) -> None:
    one = two("exchange")
    one.inbox.put(mail(1), mail(2), mail(3))
    for message in one.inbox.messages:
        message.announced_size = 7
    first, _, third = (m.uid for m in one.inbox.messages)
    one.copies.put(mail(3), mail(1), mail(2, "another body 2\r\n"), mail(8))
    assert adopted(one, records) == [(first, 1, 2), (third, 1, 1)]
    assert (one.here.bodies_opened, one.there.bodies_opened) == (3, 3)
    assert headers_asked(one)[0] >= 1


def test_own_mail_of_a_destination_costs_neither_bodies_nor_headers(two: MakeTwo, records: FolderRecords) -> None:
    one = two()
    one.inbox.put(mail(1), mail(2, "as long as no other\r\n"), internal_date=DATE)
    one.copies.put(mail(1), mail(7, "of another size and date, long as it is\r\n"), internal_date=LATER)
    assert adopted(one, records) == [(1, 1, 1)]
    assert (one.here.bodies_opened, one.there.bodies_opened) == (1, 1)
    assert headers_asked(one) == [0, 0]


def test_headers_are_asked_for_where_a_date_occurs_on_both_sides(two: MakeTwo, records: FolderRecords) -> None:
    one = two()
    one.inbox.put(mail(1), internal_date=DATE)
    one.inbox.put(mail(2), internal_date=LATER)
    one.copies.put(mail(8, "somebody's own, which came at the same second\r\n"), internal_date=SAME_INSTANT)
    assert adopted(one, records) == []
    assert headers_asked(one) == [1, 1]


def test_many_are_compared_and_stored_a_few_at_a_time(two: MakeTwo, records: FolderRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopt, "AT_ONCE", 2)
    one = two()
    one.inbox.put(*(mail(n) for n in range(1, 8)))
    one.copies.put(*(mail(n) for n in range(1, 8)))
    assert adopted(one, records) == [(1, 7, 1)]
    for server in (one.here, one.there):
        assert sum(BODIES in line for line in server.lines("UID FETCH")) == 4
    assert len([*records._store.flags(records.row.id)]) == 4


def test_a_copy_gets_what_it_lacks_in_the_letters_of_the_source(two: MakeTwo, records: FolderRecords) -> None:
    one = two()
    flags = [("\\Seen", "$Forwarded"), ("\\Seen", "$Forwarded"), ("\\Flagged",), (), ("\\Answered", "\\Seen")]
    own = [(), ("\\Draft",), ("\\flagged",), ("\\Seen",), ("\\Seen",)]
    for n, (ours, theirs) in enumerate(zip(flags, own, strict=True)):
        one.inbox.add(Message(mail(n), ours))
        one.copies.add(Message(mail(n), theirs))
    assert adopted(one, records) == [(1, 5, 1)]
    assert [sorted(m.flags) for m in one.copies.messages] == [
        ["$Forwarded", "\\Seen"], ["$Forwarded", "\\Draft", "\\Seen"], ["\\flagged"], ["\\Seen"], ["\\Answered", "\\Seen"]]
    assert one.there.count("UID STORE") == 2
    assert [*records.stored_flags()] == [*enumerate(flags, 1)]
