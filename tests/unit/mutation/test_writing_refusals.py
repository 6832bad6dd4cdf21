"""What the mutation run showed that nothing fast held: what a refused message is sent as again, when, after which wait, and which
refusals are not about the message."""
from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.causes import Cause, Side
from engine.errors import ConnectionBroken, EngineError, Refused, Throttled
from engine.imap.append import Outgoing
from engine.ledger import Repair, RepairRow
from engine.transfer import writing
from engine.transfer.writing import FolderLost
from tests.unit.mutation.writer_rig import DATE, LATER, MakeWriterRig, WriterRig, ready, refused, streamed

BARE = b"Date: Tue, 7 May 2024 07:08:09 +0800\r\n\r\nbare\nends\n"


def in_turn(*answers: EngineError | None, uid: int = 1) -> Callable[[Outgoing], EngineError | None]:
    """Answers to one message, one after the other; it is taken afterwards."""
    left = list(answers)
    return lambda message: left.pop(0) if message.uid == uid and left else None


def busy(**options: float) -> EngineError:
    return refused("NO [INUSE] busy", Cause.DESTINATION_BUSY, **options)  # type: ignore[arg-type]


def gone() -> EngineError:
    return refused("NO [TRYCREATE] no such mailbox", Cause.X_FOLDER)


def repairs(rig: WriterRig) -> list[RepairRow]:
    return rig.ledger.repairs(rig.records.row.id)


# -- a batch that is refused


def test_before_a_refused_batch_goes_again_what_follows_is_answered(writer_rig: MakeWriterRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "BATCH_MESSAGES", 2)
    rig = writer_rig(refuses=in_turn(refused("NO one of these"), uid=2))
    rig.take(*(ready(uid) for uid in range(1, 7)))
    assert rig.destination.said == [
        ("send", 1, 2), ("send", 3, 4), ("send", 5, 6), ("answered", 1, 2), ("answered", 3, 4), ("answered", 5, 6),
        ("send", 1), ("answered", 1), ("send", 2), ("answered", 2)]
    assert (rig.records.row.moved, rig.aside(), rig.open_intents(), repairs(rig)) == (6, {}, [], [])


def test_a_message_that_was_refused_alone_goes_again_when_nothing_else_is_under_way(writer_rig: MakeWriterRig,
                                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "BATCH_MESSAGES", 1)
    rig = writer_rig(refuses=in_turn(refused("NO bare newlines")))
    rig.take(ready(1, BARE), ready(2))
    assert rig.destination.said == [("send", 1), ("send", 2), ("answered", 1), ("answered", 2), ("send", 1), ("answered", 1)]


def test_the_words_of_the_message_count_and_not_those_of_its_batch(writer_rig: MakeWriterRig) -> None:
    answers = in_turn(refused("NO not this batch"), refused("NO no bare ends"), refused("NO still not"), uid=2)
    rig = writer_rig(refuses=answers)
    rig.take(ready(1), ready(2, BARE), ready(3))
    assert rig.sent() == [(1, 2, 3), (1,), (2,), (2,), (3,)]
    assert (rig.aside(), rig.records.row.moved, repairs(rig)) == ({2: "NO no bare ends"}, 2, [])


def test_a_message_without_a_repair_is_not_sent_again(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(refuses=in_turn(refused("NO never"), refused("NO never")))
    rig.take(ready(1))
    assert (rig.sent(), rig.aside()) == ([(1,)], {1: "NO never"})


# -- repairs


def test_one_repair_is_named_with_the_servers_words(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(refuses=in_turn(refused("BAD invalid date")))
    rig.take(ready(1, BARE.replace(b"\n", b"\r\n").replace(b"\r\r", b"\r")))
    assert repairs(rig) == [RepairRow(1, Repair.DATE, "BAD invalid date")]
    [there] = rig.destination.folder
    assert (there.date, there.flags) == (LATER, ())
    assert rig.records.row.repaired == 1


def test_several_repairs_are_named_together_and_the_proof_is_of_what_was_sent(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(refuses=in_turn(refused("", detail="bad flag or date"), refused("NO"), refused("NO")))
    rig.take(ready(1, BARE, ("\\Seen", "$a")))
    assert repairs(rig) == [RepairRow(1, Repair.LINE_ENDS, "keywords + date + line_ends: bad flag or date")]
    [there] = rig.destination.folder
    assert (there.octets, there.flags, there.date) == (BARE.replace(b"are\nends\n", b"are\r\nends\r\n"), ("\\Seen",), LATER)
    [unlike] = rig.writer.proof.unlike([])
    assert (unlike.sent.size, unlike.sent.flags, unlike.sent.internal_date) == (len(there.octets), ("\\Seen",), LATER)
    assert rig.records.row.bytes_moved == len(there.octets)


def test_two_repairs_are_named_both(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(refuses=in_turn(refused("BAD flag or date"), refused("NO")))
    rig.take(ready(1, flags=("$a",)))
    assert repairs(rig) == [RepairRow(1, Repair.DATE, "keywords + date: BAD flag or date")]


def test_a_message_that_stays_refused_is_one_row_with_its_first_words(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(refuses=in_turn(*(refused(f"NO keyword, try {n}") for n in range(1, 9))))
    rig.take(ready(1, BARE, ("$a",)), ready(2))
    assert rig.sent() == [(1, 2), (1,), (1,), (1,), (2,)]
    [aside] = rig.ledger.set_aside(rig.records.row.id)
    assert (aside.uid, aside.server_text, aside.size, aside.internal_date) == (1, "NO keyword, try 2", len(BARE), DATE)


def test_a_stream_that_was_taken_is_not_sent_again_and_its_reader_is_let_go(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(refuses=in_turn(refused("NO bad flag")))
    message = streamed(1, flags=("$a",))
    assert message.stream is not None
    rig.take(message, ready(2))
    assert (rig.sent(), rig.aside(), message.stream.abandoned()) == ([(1,), (2,)], {1: "NO bad flag"}, True)


def test_a_stream_of_which_nothing_was_taken_is_repaired_once(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(refuses=in_turn(refused("NO bad flag")), unasked=frozenset({1}))
    rig.destination.before_send = lambda: setattr(rig.destination, "unasked", frozenset({1} - {*sum(rig.sent(), ())}))
    message = streamed(1, flags=("$a",))
    rig.take(message)
    assert (rig.sent(), repairs(rig)) == ([(1,), (1,)], [RepairRow(1, Repair.KEYWORDS, "NO bad flag")])
    assert message.stream is not None and not message.stream.abandoned()


def test_a_stream_that_is_refused_again_after_its_octets_were_taken_is_set_aside(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(refuses=in_turn(*(refused(f"NO bad flag or date {n}") for n in range(5))), unasked=frozenset({1}))
    rig.destination.before_send = lambda: setattr(rig.destination, "unasked", frozenset({1} - {*sum(rig.sent(), ())}))
    message = streamed(1, flags=("$a",))
    rig.take(message)
    assert (rig.sent(), rig.aside(), repairs(rig)) == ([(1,), (1,)], {1: "NO bad flag or date 0"}, [])
    assert message.stream is not None and message.stream.abandoned()


# -- waits


@pytest.mark.parametrize("cause", sorted(writing.BUSY))
def test_busy_is_tried_again_after_growing_waits(writer_rig: MakeWriterRig, cause: Cause) -> None:
    rig = writer_rig(refuses=in_turn(*(refused("NO later", cause) for _ in range(3))))
    rig.take(ready(1))
    assert rig.destination.slept == [2.0, 5.0, 15.0]
    assert (rig.sent(), rig.runs(), repairs(rig)) == ([(1,), (1,), (1,), (1,)], [(1, 1, 100)], [])


@pytest.mark.parametrize(("asked", "slept", "told"), [(None, [2.0, 5.0, 15.0], 60.0), (2.0, [2.0, 5.0, 15.0], 2.0), (3.0, [], 3.0),
                                                      (90.0, [], 90.0)])
def test_a_wait_that_is_long_or_does_not_end_is_the_callers(writer_rig: MakeWriterRig, asked: float | None, slept: list[float],
                                                            told: float) -> None:
    rig = writer_rig(refuses=in_turn(*(refused("NO later", Cause.THROTTLED, retry_after=asked) for _ in range(9))))
    with pytest.raises(Throttled) as caught:
        rig.take(ready(1))
    error = caught.value
    assert (error.cause, error.side, error.server_text, error.retry_after) == (Cause.THROTTLED, Side.DESTINATION, "NO later", told)
    assert (rig.destination.slept, rig.open_intents(), rig.aside()) == (slept, [(1,)], {})


def test_a_stream_that_was_taken_cannot_wait(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(refuses=in_turn(busy()))
    with pytest.raises(Throttled):
        rig.take(streamed(1))
    assert (rig.destination.slept, rig.sent()) == ([], [(1,)])


def test_a_wait_belongs_to_one_message(writer_rig: MakeWriterRig) -> None:
    first, second = in_turn(busy(), busy(), uid=1), in_turn(busy(), busy(), uid=2)
    rig = writer_rig(refuses=lambda message: first(message) or second(message), one_fate=False)
    rig.take(ready(1), ready(2))
    assert rig.destination.slept == [2.0, 5.0, 2.0]


# -- refusals that are not about the message


@pytest.mark.parametrize("cause", sorted(writing.FATAL))
def test_a_refusal_of_the_mailbox_ends_the_move_in_its_own_words(writer_rig: MakeWriterRig, cause: Cause) -> None:
    rig = writer_rig(refuses=in_turn(refused("NO over quota", cause, detail="where")))
    with pytest.raises(Refused) as caught:
        rig.take(ready(1), ready(2))
    error = caught.value
    assert (error.cause, error.side, error.server_text, error.detail) == (cause, Side.DESTINATION, "NO over quota", "where")
    assert (rig.sent(), rig.open_intents()) == ([(1, 2)], [(1, 2)])


def test_a_literal_that_was_not_asked_for_breaks_the_connection(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(refuses=in_turn(refused("BAD Non-synchronizing literal over 4096", detail="where")))
    with pytest.raises(ConnectionBroken) as caught:
        rig.take(ready(1))
    error = caught.value
    assert (error.cause, error.side, error.detail) == (Cause.X_ITEM, Side.DESTINATION, "where")
    assert error.server_text == "BAD Non-synchronizing literal over 4096"


def test_a_folder_that_is_not_there_is_made_and_the_message_sent_again(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(refuses=in_turn(gone()))
    rig.take(ready(1))
    assert rig.destination.said == [("send", 1), ("answered", 1), ("create", "Inbox/there"), ("send", 1), ("answered", 1)]
    assert rig.runs() == [(1, 1, 100)]


def test_a_folder_is_made_once_for_a_message_and_then_it_is_set_aside(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(refuses=in_turn(gone(), gone(), gone(), gone()))
    rig.take(ready(1))
    assert [words[0] for words in rig.destination.said] == ["send", "answered", "create", "send", "answered"]
    assert rig.aside() == {1: "NO [TRYCREATE] no such mailbox"}


def test_no_folder_is_made_for_a_stream_that_was_taken(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(refuses=in_turn(gone()))
    with pytest.raises(FolderLost):  # made anew, and the message read anew
        rig.take(streamed(1))
    assert ("create", "Inbox/there") not in rig.destination.said
    assert rig.aside() == {}


@pytest.mark.parametrize("before", ["moved", "already_there", "answered and not yet stored"])
def test_a_folder_that_held_something_is_lost_and_not_made_anew(writer_rig: MakeWriterRig, before: str,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "BATCH_MESSAGES", 1)
    rig = writer_rig(refuses=in_turn(gone(), uid=2))
    if before in ("moved", "already_there"):
        rig.records.write(row=rig.records.row._replace(**{before: 1}))
    with pytest.raises(FolderLost) as caught:
        rig.take(*([ready(1)] if before.startswith("answered") else []), ready(2))
    assert (caught.value.cause, caught.value.side) == (Cause.X_FOLDER, Side.DESTINATION)
    assert caught.value.server_text == "NO [TRYCREATE] no such mailbox"
    assert ("create", "Inbox/there") not in rig.destination.said


def test_a_message_that_arrives_after_it_was_set_aside_is_set_aside_no_more(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(refuses=in_turn(refused("NO not now"), uid=2))
    rig.take(ready(2))
    assert (rig.aside(), rig.records.row.set_aside) == ({2: "NO not now"}, 1)
    rig.take(ready(1), ready(2))
    assert (rig.aside(), rig.records.row.set_aside, rig.records.row.moved) == ({}, 0, 2)


def test_a_batch_that_was_refused_as_busy_waits_once(writer_rig: MakeWriterRig) -> None:
    left = [busy()]
    rig = writer_rig(refuses=lambda message: left.pop() if left else None)
    rig.take(*(ready(uid) for uid in range(1, 129)))
    assert rig.destination.slept == [2.0]
    assert rig.runs() == [(1, 128, 100)]


def test_a_folder_that_is_not_there_is_made_once_for_a_whole_batch(writer_rig: MakeWriterRig) -> None:
    left = [refused("NO [TRYCREATE] no such mailbox", Cause.X_FOLDER)]
    rig = writer_rig(refuses=lambda message: left.pop() if left else None)
    rig.take(ready(1), ready(2))
    assert rig.runs() == [(1, 2, 100)]
    assert [words for words in rig.destination.said if words[0] == "create"] == [("create", "Inbox/there")]


def test_batches_that_are_refused_together_go_again_in_their_order(writer_rig: MakeWriterRig) -> None:
    first_of_each = {1, 129, 257}

    def refuses(message: Outgoing) -> EngineError | None:
        if message.uid not in first_of_each:
            return None
        first_of_each.remove(message.uid)
        return busy()

    rig = writer_rig(refuses=refuses)
    rig.take(*(ready(uid) for uid in range(1, 385)))
    assert rig.runs() == [(1, 384, 100)]
