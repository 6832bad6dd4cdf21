"""What the mutation run showed that nothing fast held: where a destination does not tell UIDs (no UIDPLUS), which of the messages that
lie there are taken for ours, when they are looked for, and what stands open until then."""
from __future__ import annotations

import pytest

from engine.causes import Cause, Side
from engine.errors import ConnectionBroken
from engine.transfer import writing
from engine.transfer.pairing import Hashing, hashed
from tests.unit.mutation.writer_rig import DATE, LATER, MakeWriterRig, content, ready, refused, streamed

NOT_THERE = "accepted by the destination and not there when read back"


def test_what_lies_there_in_order_and_size_is_ours(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(uidplus=False)
    rig.destination.deliver(content(9), 98)                # below what was the next UID
    rig.destination.deliver(content(9), 100)
    rig.claims.add((100,))                                 # another folder's
    rig.take(ready(1, flags=("\\Seen",)), ready(2, content(2, 50)), ready(3))
    assert (rig.runs(), rig.open_intents(), rig.aside()) == ([(1, 3, 101)], [], {})
    assert [words for words in rig.destination.said if words[0] in ("examine", "unselect")] == [("examine", "Inbox/there"), ("unselect",)]
    assert [uid in rig.claims for uid in range(100, 105)] == [True, True, True, True, False]
    assert (len(rig.writer.proof), rig.writer.proof.span, rig.records.row.moved) == (3, (101, 103), 3)


def test_mail_that_came_in_between_is_told_apart_by_every_octet(writer_rig: MakeWriterRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "BATCH_MESSAGES", 1)
    rig = writer_rig(uidplus=False)
    rig.destination.before_send = lambda: rig.destination.deliver(content(7), date=DATE)
    rig.take(ready(1), streamed(2, 60), ready(3))
    assert (rig.runs(), rig.aside()) == ([(1, 1, 101), (2, 1, 103), (3, 1, 105)], {})
    assert rig.destination.said[-5:] == [("examine", "Inbox/there"), ("unselect",), ("examine", "Inbox/there"),
                                         ("digests", 100, 101, 102, 104, 105), ("unselect",)]


def test_what_the_server_altered_is_ours_by_its_date(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(uidplus=False, alters=lambda octets: octets + b"\r\n" if b"Subject: 2" in octets else octets)
    rig.take(ready(1), ready(2, date="07-May-2024 01:00:00 +0800"), ready(3))
    assert (rig.runs(), rig.aside()) == ([(1, 3, 100)], {})


def test_what_came_in_another_order_is_known_by_size_and_date_where_those_are_its_own(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(uidplus=False, in_order=False, uid_of={1: 103, 2: 102, 3: 101, 4: 100}.__getitem__)
    rig.take(ready(1), ready(2, date=LATER), ready(3, content(3, 50)), ready(4, content(4, 50), date=LATER))
    assert rig.runs() == [(1, 1, 103), (2, 1, 102), (3, 1, 101), (4, 1, 100)]
    assert not [words for words in rig.destination.said if words[0] == "digests"]


def test_where_several_have_size_and_date_every_octet_of_those_tells(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(uidplus=False, in_order=False, uid_of={1: 103, 2: 102, 3: 101}.__getitem__)
    rig.take(ready(1), ready(2, date=LATER), ready(3))
    assert (rig.runs(), rig.aside()) == ([(1, 1, 103), (2, 1, 102), (3, 1, 101)], {})
    assert [words for words in rig.destination.said if words[0] == "digests"] == [("digests", 101, 103)]


def test_after_a_refusal_place_tells_nothing_until_all_was_looked_for(writer_rig: MakeWriterRig) -> None:
    left = [refused("NO one of these")]
    rig = writer_rig(uidplus=False, refuses=lambda message: left.pop() if left else None)
    rig.take(ready(1), ready(2))
    assert [words for words in rig.destination.said if words[0] == "digests"] == [("digests", 100, 101)]
    rig.take(ready(3), ready(4))
    assert len([words for words in rig.destination.said if words[0] == "digests"]) == 1
    assert rig.runs() == [(1, 4, 100)]


def test_equal_dates_are_given_away_once(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(uidplus=False, alters=lambda octets: octets + b"\r\n" if b"Subject: 1" not in octets else octets)
    rig.take(ready(1), ready(2), ready(3))
    assert (rig.runs(), rig.aside()) == ([(1, 3, 100)], {})


def test_what_is_not_there_is_named_and_not_counted(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(uidplus=False)
    examined = rig.destination.examine

    def examine(name: str) -> None:
        """Somebody has removed the second meanwhile."""
        rig.destination.folder[:] = [m for m in rig.destination.folder if m.uid != 101]
        examined(name)

    rig.destination.examine = examine  # type: ignore[method-assign]
    rig.take(ready(1), ready(2, date=LATER), ready(3))
    assert (rig.runs(), rig.open_intents()) == ([(1, 1, 100), (3, 1, 102)], [])
    [aside] = rig.ledger.set_aside(rig.records.row.id)
    assert (aside.uid, aside.reason, aside.server_text, aside.size, aside.internal_date) == (2, Cause.INCOMPLETE, NOT_THERE, 14, LATER)


def test_they_are_looked_for_after_so_many_messages(writer_rig: MakeWriterRig, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("BATCH_MESSAGES", 2), ("WINDOW_BATCHES", 1), ("RESOLVE_MESSAGES", 4)):
        monkeypatch.setattr(writing, name, value)
    rig = writer_rig(uidplus=False)
    rig.take(*(ready(uid) for uid in range(1, 11)))
    assert [words for words in rig.destination.said if words[0] in ("send", "examine")] == [
        ("send", 1, 2), ("send", 3, 4), ("examine", "Inbox/there"), ("send", 5, 6), ("send", 7, 8), ("examine", "Inbox/there"),
        ("send", 9, 10), ("examine", "Inbox/there")]
    assert (rig.runs(), rig.open_intents()) == ([(1, 10, 100)], [])
    assert [i.target_uidnext for i in rig.intents] == [100, 100, 104, 104, 108]


def test_intents_stay_open_until_they_were_looked_for(writer_rig: MakeWriterRig, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("BATCH_MESSAGES", 1), ("WINDOW_BATCHES", 1)):
        monkeypatch.setattr(writing, name, value)
    rig = writer_rig(uidplus=False, breaks_at=3, breaks_with=ConnectionBroken(Cause.DNS_CONNECT, side=Side.DESTINATION))
    with pytest.raises(ConnectionBroken):
        rig.take(*(ready(uid) for uid in range(1, 6)))
    rig.writer.save()
    assert (rig.runs(), rig.open_intents()) == ([], [(1,), (2,), (3,), (4,)][:len(rig.sent())])
    assert rig.writer.suspects() == [3]


def test_a_drain_that_must_not_ask_leaves_them_open(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(uidplus=False)
    writer = rig.writer
    writer._send([ready(1), ready(2)])
    writer.drain(ask=False)
    assert (rig.runs(), rig.open_intents(), rig.destination.unanswered) == ([], [(1, 2)], [])
    assert [words[0] for words in rig.destination.said] == ["send", "answered"]
    writer.drain()
    assert (rig.runs(), rig.open_intents()) == ([(1, 2, 100)], [])
    asked = len(rig.destination.said)
    writer.drain()
    assert len(rig.destination.said) == asked  # nothing more to ask about


def test_a_batch_that_was_refused_whole_is_closed_as_well(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(uidplus=False, refuses=lambda message: refused("NO never"))
    rig.take(ready(1))
    assert (rig.open_intents(), rig.aside()) == ([], {1: "NO never"})


def test_a_repaired_message_is_known_by_what_was_sent_at_last(writer_rig: MakeWriterRig) -> None:
    left = [refused("NO bare newlines")]
    rig = writer_rig(uidplus=False, refuses=lambda message: left.pop() if left else None)
    rig.destination.before_send = lambda: rig.destination.deliver(content(7), date=DATE)
    rig.take(ready(1, b"a: b\r\n\r\nbare\n"))
    [(_, _, there)] = rig.runs()
    assert {m.uid: m.octets for m in rig.destination.folder}[there] == b"a: b\r\n\r\nbare\r\n"
    assert rig.records.row.repaired == 1


def test_a_repair_is_stored_though_nobody_may_ask_where_the_message_went(writer_rig: MakeWriterRig) -> None:
    left = [refused("NO bare newlines")]
    rig = writer_rig(uidplus=False, refuses=lambda message: left.pop() if left else None)
    rig.writer._send([ready(1, b"a: b\r\n\r\nbare\n")])
    rig.writer.drain(ask=False)
    assert [row.uid for row in rig.ledger.repairs(rig.records.row.id)] == [1]
    assert (rig.runs(), rig.open_intents()) == ([], [(1,)])


@pytest.mark.parametrize("uidplus", [True, False])
def test_raw_octets_of_a_header_are_kept_for_the_proof(writer_rig: MakeWriterRig, uidplus: bool) -> None:
    rig = writer_rig(uidplus=uidplus)
    rig.take(ready(1), ready(2, b"Subject: \xe6\xad\xa3\r\n\r\nb"), streamed(3))
    assert {uid: source for uid, (source, _) in rig.writer.proof.raw_headers.items()} == {101: 2}


def test_octets_are_hashed_as_they_are_sent_and_anew_when_they_are_sent_again() -> None:
    pieces = Hashing([b"a", b"bc"])
    for _ in range(2):
        assert b"".join(pieces) == b"abc"
        assert pieces.digest() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    whole = ready(1).outgoing
    assert hashed(whole) is whole, "its octets are at hand when they are asked for"
    poured = hashed(whole._replace(content=iter((b"a", b"bc"))))
    assert (poured.uid, poured.size, poured.internal_date) == (1, 14, DATE)
    assert not isinstance(poured.content, bytes) and b"".join(poured.content) == b"abc"


def test_uids_that_are_promised_and_not_told_are_read_back_before_anything_is_forgotten(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(tells_uids=False, breaks_at=3, breaks_with=ConnectionBroken(Cause.DESTINATION_CONNECT, side=Side.DESTINATION))
    with pytest.raises(ConnectionBroken):
        rig.take(*(ready(uid) for uid in range(1, 385)))
    rig.writer.save()
    assert sorted(uid for uids in rig.open_intents() for uid in uids) == list(range(1, 385))  # to be looked up: they are there
    again = writer_rig(tells_uids=False)
    again.take(*(ready(uid) for uid in range(1, 4)))
    assert again.runs() == [(1, 3, 100)]
    assert again.open_intents() == []
