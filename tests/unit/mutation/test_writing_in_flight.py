"""What the mutation run showed that nothing fast held: which messages share a batch, how much is unanswered at once, which intents stand
open when something is sent, and what is stored when the connection breaks with answers outstanding."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from engine.causes import Cause, Side
from engine.errors import ConnectionBroken, MessageRefused
from engine.imap.fetch import Metadata
from engine.imap.session import Session
from engine.transfer import writing
from engine.transfer.handing import Gone, Unreadable
from engine.transfer.matching import Claims
from engine.transfer.proof import Proof
from engine.transfer.records import Listed
from engine.transfer.writing import Writer
from tests.unit.mutation.writer_rig import DATE, UIDVALIDITY, MakeWriterRig, content, ready, refused, streamed

KIB = 1024


def lost() -> ConnectionBroken:
    return ConnectionBroken(Cause.DNS_CONNECT, side=Side.DESTINATION, detail="lost")


def small_windows(monkeypatch: pytest.MonkeyPatch, **constants: int) -> None:
    for name, value in constants.items():
        monkeypatch.setattr(writing, name, value)


# -- batches


def test_a_batch_has_at_most_so_many_messages(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig()
    assert rig.take(*(ready(uid) for uid in range(1, 301)))
    assert [len(batch) for batch in rig.sent()] == [128, 128, 44]
    assert rig.runs() == [(1, 300, 100)]
    assert rig.open_intents() == []


@pytest.mark.parametrize(("size", "batches"), [
    (400 * KIB, [2, 2, 1]), (512 * KIB, [2, 2, 1]), (512 * KIB + 1, [1, 1, 1, 1, 1]), (2048 * KIB, [1, 1, 1, 1, 1]),
])
def test_a_batch_has_at_most_so_many_octets(writer_rig: MakeWriterRig, size: int, batches: list[int]) -> None:
    rig = writer_rig()
    rig.take(*(ready(uid, content(uid, size)) for uid in range(1, 6)))
    assert [len(batch) for batch in rig.sent()] == batches
    assert rig.destination.gate.asked == [(count, count * size) for count in batches]
    assert (rig.records.row.bytes_moved, rig.destination.gate.came) == (5 * size, 5)


def test_octets_are_counted_anew_for_each_batch(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(goes_alone=lambda uid: uid == 4)
    sizes = [600, 512, 512, 1, 512, 512, 400, 400, 200]
    rig.take(*(ready(uid, content(uid, size * KIB)) for uid, size in enumerate(sizes, 1)))
    assert rig.sent() == [(1,), (2, 3), (4,), (5, 6), (7, 8, 9)]


def test_a_stream_and_a_suspect_go_alone(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(goes_alone=lambda uid: uid == 5)
    rig.take(ready(1), ready(2), streamed(3), ready(4), ready(5), ready(6), ready(7))
    assert rig.sent() == [(1, 2), (3,), (4,), (5,), (6, 7)]
    assert rig.runs() == [(1, 7, 100)]


def test_a_suspect_is_asked_for_and_answered_with_nothing_else_under_way(writer_rig: MakeWriterRig) -> None:
    """So that it is sure whose doing it is when the connection breaks, and what the server says is heard."""
    rig = writer_rig(goes_alone=lambda uid: uid == 4)
    rig.take(*(ready(uid) for uid in range(1, 7)))
    said = rig.destination.said
    at = said.index(("send", 4))
    assert [words for words in said[:at] if words[0] == "answered"] == [("answered", 1, 2, 3)]
    assert said[at + 1] == ("answered", 4)
    assert rig.destination.asked_first == [4]


def test_the_destination_does_not_idle_while_a_batch_fills(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig()
    rig.take(*(ready(uid) for uid in range(1, 7)), waits_for=lambda item: item.listed.meta.uid in (2, 4))
    assert rig.sent() == [(1,), (2, 3, 4, 5, 6)]  # while the first is under way, the next ones gather


def test_what_is_gone_or_unreadable_is_stored_with_the_rest(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig()
    rig.take(Gone(ready(1).listed), ready(2), Unreadable(ready(3).listed, refused("NO never")), Gone(ready(4).listed))
    row = rig.records.row
    assert (row.vanished, row.moved, row.set_aside, rig.runs()) == (2, 1, 1, [(2, 1, 100)])
    [aside] = rig.ledger.set_aside(row.id)
    assert (aside.uid, aside.reason, aside.server_text, aside.size, aside.internal_date) == (3, Cause.X_ITEM, "NO never", 14, DATE)


@pytest.mark.parametrize("item", [Gone(ready(1).listed), Unreadable(ready(1).listed, refused("", detail="cut short"))])
def test_a_folder_of_nothing_else_is_stored_too(writer_rig: MakeWriterRig, item: Any) -> None:
    rig = writer_rig()
    assert rig.take(item)
    assert (rig.records.row.vanished, rig.aside()) == ((1, {}) if isinstance(item, Gone) else (0, {1: "cut short"}))
    assert rig.told == [0]


def test_nothing_to_say_is_not_written(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig()
    assert rig.take()
    rig.writer.save()
    assert rig.told == []


def test_a_stop_leaves_the_half_filled_batch_and_stores_what_was_sent(writer_rig: MakeWriterRig, monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch, BATCH_MESSAGES=2)
    rig = writer_rig()
    assert not rig.take(*(ready(uid) for uid in range(1, 7)), stops_before=4)
    assert (rig.sent(), rig.runs(), rig.open_intents()) == ([(1, 2)], [(1, 2, 100)], [])
    assert rig.destination.unanswered == []


def test_what_was_appended_is_read_back_now_and_then_with_nothing_under_way(writer_rig: MakeWriterRig,
                                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch, BATCH_MESSAGES=2, PROVE_MESSAGES=6)
    rig = writer_rig()
    rig.take(*(ready(uid) for uid in range(1, 31)))
    assert rig.proven == [(12, 0), (12, 0)]  # six were answered, and six were under way
    assert (len(rig.writer.proof), rig.runs()) == (6, [(1, 30, 100)])


# -- windows


@pytest.mark.parametrize(("rtt", "most"), [(0.0, 3), (0.01, 3), (0.0101, 8)])
def test_so_many_batches_are_unanswered_and_no_more(writer_rig: MakeWriterRig, monkeypatch: pytest.MonkeyPatch, rtt: float,
                                                    most: int) -> None:
    small_windows(monkeypatch, BATCH_MESSAGES=1)
    rig = writer_rig(rtt=rtt)
    rig.take(*(ready(uid) for uid in range(1, 21)))
    assert rig.destination.levels == [*range(1, most + 1)] + [most] * (20 - most)


def test_a_gate_that_halves_the_window_is_obeyed(writer_rig: MakeWriterRig, monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch, BATCH_MESSAGES=1, WINDOW_BYTES=8000, WINDOW_STREAMED=10_000)
    rig = writer_rig(rtt=1.0)
    rig.destination.gate.share = 0.5
    rig.take(*(ready(uid, content(uid, 2000)) for uid in range(1, 11)), *(streamed(uid, 2500) for uid in range(11, 21)))
    assert rig.destination.levels == [1] + [2] * 19


@pytest.mark.parametrize(("held", "streams", "most"), [(3000, 1 << 20, 3), (2999, 1 << 20, 2), (1 << 20, 4000, 4), (1 << 20, 3999, 3)])
def test_so_many_octets_are_unanswered_and_no_more(writer_rig: MakeWriterRig, monkeypatch: pytest.MonkeyPatch, held: int, streams: int,
                                                   most: int) -> None:
    small_windows(monkeypatch, BATCH_MESSAGES=1, WINDOW_BYTES=held, WINDOW_STREAMED=streams)
    rig = writer_rig(rtt=1.0)
    rig.take(*(ready(uid, content(uid, 1000)) for uid in range(1, 31)))
    assert rig.destination.levels == [*range(1, most + 1)] + [most] * (30 - most)
    assert (rig.writer._sent_octets, rig.writer._held_octets) == (0, 0)


def test_streams_are_not_held_and_have_a_window_of_their_own(writer_rig: MakeWriterRig, monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch, WINDOW_BYTES=1, WINDOW_STREAMED=5000)
    rig = writer_rig(rtt=1.0)
    rig.take(*(streamed(uid, 1000) for uid in range(1, 21)))
    assert rig.destination.levels == [1, 2, 3, 4, *[5] * 16]


def test_a_stream_that_nobody_takes_is_answered_at_once(writer_rig: MakeWriterRig, monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch, BATCH_MESSAGES=1)
    rig = writer_rig(unasked=frozenset({2, 4}), refuses=lambda message: refused("NO too large") if message.uid in (2, 4) else None)
    rig.take(ready(1), streamed(2), ready(3), ready(4), ready(5))
    said = [words for words in rig.destination.said if words[0] in ("send", "answered")]
    assert said[:4] == [("send", 1), ("send", 2), ("answered", 1), ("answered", 2)]
    assert said[4:7] == [("send", 3), ("send", 4), ("send", 5)]  # a message that is held has time
    assert rig.aside() == {2: "NO too large", 4: "NO too large"}


# -- intents and latencies


def test_an_intent_stands_open_before_its_batch_is_sent_and_names_what_it_may_find(writer_rig: MakeWriterRig,
                                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch, BATCH_MESSAGES=2, WINDOW_BATCHES=1)
    rig = writer_rig(floor=90, uid_of={1: 100, 2: 104, 3: 103, 4: 101, 5: 105, 6: 106}.__getitem__)
    rig.take(*(ready(uid) for uid in range(1, 7)))
    assert [(i.uids, i.target_uidnext) for i in rig.intents] == [((1, 2), 90), ((3, 4), 105), ((5, 6), 105)]
    assert {i.target_uidvalidity for i in rig.intents} == {UIDVALIDITY}
    assert rig.open_intents() == []
    assert [uid in rig.claims for uid in range(99, 108)] == [False, True, True, False, True, True, True, True, False]
    assert rig.told == [0, 2, 4, 6]


def test_the_slowest_answer_of_a_write_is_remembered(writer_rig: MakeWriterRig, monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch, BATCH_MESSAGES=1)
    rig = writer_rig(send_seconds=10.0, answer_seconds=1.0)
    rig.take(ready(1), ready(2), ready(3))  # each takes 10 s to be sent; the first is answered after 21 s, the last after 3 s
    assert rig.ledger.append_seconds_peak() == pytest.approx(21.0)


def test_lanes_and_the_wish_to_be_asked_reach_the_appender(writer_rig: MakeWriterRig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = writer_rig()
    given: list[Any] = []

    def appender(session: Any, lanes: Sequence[Any], *, ask_first: bool) -> Any:
        given.append((session, lanes, ask_first))
        return rig.destination

    monkeypatch.setattr(writing, "Appender", appender)
    lanes: Sequence[Session] = (object(),)  # type: ignore[assignment]
    rest: dict[str, Any] = {"uidvalidity": 1, "floor": 1, "goes_alone": bool, "stopped": bool, "told": bool, "prove": bool,
                            "proof": Proof()}
    Writer(rig.destination, rig.records, Claims(), lanes=lanes, ask_first=True, **rest)  # type: ignore[arg-type]
    Writer(rig.destination, rig.records, Claims(), **rest)  # type: ignore[arg-type]
    assert given == [(rig.destination, lanes, True), (rig.destination, (), False)]


# -- a connection that breaks with answers outstanding


def test_the_oldest_unanswered_batch_is_suspected(writer_rig: MakeWriterRig, monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch, BATCH_MESSAGES=2)
    rig = writer_rig(breaks_at=2, breaks_with=lost())
    with pytest.raises(ConnectionBroken):
        rig.take(*(ready(uid) for uid in range(1, 11)))
    assert rig.writer.suspects() == [3, 4]
    assert rig.runs() == [(1, 2, 100)]
    assert rig.open_intents() == [(3, 4), (5, 6), (7, 8)]  # sent and not answered: nobody knows
    rig.writer.save()
    assert (rig.runs(), rig.records.row.moved) == ([(1, 2, 100)], 2)
    assert rig.open_intents() == [(3, 4), (5, 6), (7, 8)]


def test_nobody_is_suspected_where_nothing_is_under_way(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig()
    rig.take(ready(1))
    assert rig.writer.suspects() == []


def test_what_was_answered_before_the_break_is_stored_by_saving(writer_rig: MakeWriterRig, monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch, BATCH_MESSAGES=1)
    rig = writer_rig(breaks_at=2, breaks_with=lost())
    with pytest.raises(ConnectionBroken):
        rig.take(ready(1), ready(2), ready(3))
    assert (rig.runs(), rig.open_intents()) == ([], [(1,), (2,), (3,)])  # the first was answered and not yet stored
    told = len(rig.told)
    rig.writer.save()
    assert (rig.runs(), rig.open_intents(), rig.records.row.moved) == ([(1, 1, 100)], [(2,), (3,)], 1)
    rig.writer.save()
    assert len(rig.told) == told + 1  # once


def test_a_message_that_breaks_the_connection_when_it_is_sent_again_is_suspected_itself(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(refuses=lambda message: refused("NO not these") if message.uid == 3 else None, breaks_at=4, breaks_with=lost())
    with pytest.raises(ConnectionBroken):
        rig.take(*(ready(uid) for uid in range(1, 5)))
    assert rig.sent() == [(1, 2, 3, 4), (1,), (2,), (3,)]
    assert rig.writer.suspects() == [3]


def test_a_batch_of_which_every_message_was_settled_is_not_suspected_again(writer_rig: MakeWriterRig) -> None:
    rig = writer_rig(refuses=lambda message: refused("NO not this") if message.uid == 2 else None)
    rig.take(ready(1), ready(2), ready(3))
    assert (rig.writer.suspects(), rig.runs(), rig.aside()) == ([], [(1, 1, 100), (3, 1, 101)], {2: "NO not this"})


@pytest.mark.parametrize(("rtt", "under_way"), [(0.01, 0), (0.0101, 4)])
def test_next_door_the_source_is_free_when_all_is_answered_and_far_away_when_all_is_read(
        writer_rig: MakeWriterRig, monkeypatch: pytest.MonkeyPatch, rtt: float, under_way: int) -> None:
    monkeypatch.setattr(writing, "BATCH_MESSAGES", 1)
    monkeypatch.setattr(writing, "WINDOW_BATCHES", 4)
    rig, left = writer_rig(rtt=rtt), []
    assert rig.take(*(ready(uid) for uid in range(1, 5)), source_is_free=lambda: left.append(len(rig.destination.unanswered)))
    assert left == [under_way]
    assert rig.runs() == [(1, 4, 100)]


@pytest.mark.parametrize("gone", [True, False])
def test_no_end_is_held_while_the_source_is_silent_after_a_message_that_was_not_read(
        writer_rig: MakeWriterRig, monkeypatch: pytest.MonkeyPatch, gone: bool) -> None:
    monkeypatch.setattr(writing, "BATCH_MESSAGES", 1)
    rig = writer_rig()
    there, last = rig.destination, ready(5)

    def hold() -> None:
        there.holding = bool(there.unanswered)

    there.before_send = hold
    listed = Listed(Metadata(4, 10, (), DATE), 3)
    odd = Gone(listed) if gone else Unreadable(listed, MessageRefused(Cause.X_ITEM, side=Side.SOURCE))
    rig.take(ready(1), ready(2), ready(3), odd, last, waits_for=lambda item: item is last)
    words = [words for words in there.said if words[0] in ("send", "let end")]
    assert words[words.index(("send", 2)):][:2] == [("send", 2), ("let end",)]


def test_what_was_sent_gets_its_end_when_the_next_message_is_waited_for(writer_rig: MakeWriterRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "BATCH_MESSAGES", 1)
    rig = writer_rig()

    def hold() -> None:
        rig.destination.holding = True

    rig.destination.before_send = hold
    rig.take(*(ready(uid) for uid in range(1, 6)), waits_for=lambda item: item.listed.meta.uid == 4)
    assert [words for words in rig.destination.said if words[0] in ("send", "let end")] == [
        ("send", 1), ("send", 2), ("let end",), ("send", 3), ("send", 4), ("send", 5)]
