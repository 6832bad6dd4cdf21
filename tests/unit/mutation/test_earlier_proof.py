"""Given a run that ended before what it had appended was read back, when the next one goes on, then it reads that back first: nothing is
appended twice, and what is not there or not as it was is named. In the simulation's world."""
from __future__ import annotations

import pytest

from engine.ledger import Repair
from engine.transfer import writing
from tests.support.provider_simulator import Action, AppendRefusal, Fault, message
from tests.support.simulator_mail import Message
from tests.unit.simulation.rig import Make, Rig
from tests.unit.simulation.scenario import FolderInLedger

LATER = b"NO [THROTTLED] Suggested Backoff Time: 7200000 milliseconds"


def stopped_before_the_proof(rig: Make, source: str = "dovecot", messages: int = 8) -> Rig:
    """Everything is appended; the destination asks to wait when it is asked what is there."""
    one = rig(source)
    one.fill(messages)
    one.destination.faults.append(Fault("EXAMINE", Action.REPLY, text=LATER))
    assert one.copy().ended == "paused"
    assert len(there(one)) == messages
    row = inbox(one).row
    assert (row.moved, row.unproven_from, row.complete) == (messages, 1, False)
    one.world.pass_time(7300)
    one.destination.back_off_until = -1.0
    return one


def inbox(one: Rig) -> FolderInLedger:
    return next(folder for folder in one.read_ledger() if folder.row.source == "INBOX")


def there(one: Rig) -> list[Message]:
    return one.destination.account()["INBOX"].messages


def set_aside(one: Rig) -> dict[int, str]:
    return {row.uid: row.server_text for row in inbox(one).set_aside}


def appended(one: Rig) -> int:
    return one.destination.counts()["APPEND"]


def test_what_is_there_as_it_was_sent_is_proven_and_not_sent_again(rig: Make) -> None:
    one = stopped_before_the_proof(rig)
    before = appended(one)
    assert one.copy().ended == "complete"
    assert (appended(one), one.is_exact(), inbox(one).row.unproven_from) == (before, True, 0)


def test_what_the_destination_did_not_keep_is_named_and_not_doubled(rig: Make) -> None:
    one = stopped_before_the_proof(rig)
    del there(one)[2]
    report = one.copy().report
    assert report is not None and report.outcome.value == "partial"
    assert set_aside(one) == {3: "accepted by the destination as UID 3, and not there when the next run read it back"}
    assert inbox(one).row.moved == 7 and len(there(one)) == 7
    one.copy(retry_set_aside=True)
    assert len(there(one)) == 7, "it was accepted once: whoever removed it may have meant it"


def test_that_nothing_of_it_is_there_is_no_lost_folder(rig: Make) -> None:
    one = stopped_before_the_proof(rig, messages=2)
    there(one).clear()
    one.fill(3)
    assert one.copy().ended == "partial"
    assert sorted(set_aside(one)) == [1, 2] and len(there(one)) == 3


def test_what_has_other_octets_and_another_date_there_is_named(rig: Make) -> None:
    one = stopped_before_the_proof(rig)
    there(one)[0].content += b"more\r\n"
    there(one)[5].internal_date = "01-Jan-2020 00:00:00 +0000"
    assert one.copy().ended == "partial"
    assert list(set_aside(one)) == [1] and "the server altered it" in set_aside(one)[1]
    repairs = one.world.run_process(lambda: one.disk.open().repairs(1))
    assert [(r.uid, r.repair) for r in repairs] == [(6, Repair.DATE)]


def test_where_the_source_only_guesses_sizes_every_octet_has_the_last_word(rig: Make) -> None:
    one = stopped_before_the_proof(rig, "exchange")
    there(one)[4].content = there(one)[4].content[:-3] + b"!\r\n"
    one.copy()
    assert list(set_aside(one)) == [5]


def test_whose_copy_is_whose_nobody_knows_when_one_left_the_source_since(rig: Make) -> None:
    one = stopped_before_the_proof(rig)
    del one.source.account()["INBOX"].messages[3]
    assert one.copy().ended == "complete"
    assert set_aside(one) == {} and inbox(one).row.unproven_from == 0


def test_of_a_long_run_only_what_is_unproven_is_asked_for(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PROVE_MESSAGES", 8)
    one = rig()
    one.fill(60)
    one.destination.faults.append(Fault("EXAMINE", Action.REPLY, text=LATER, skip=1))
    assert one.copy().ended == "paused"
    folder = inbox(one)
    floor, moved = folder.row.unproven_from, folder.row.moved
    assert 8 < floor < moved and [run.count for run in folder.runs] == [moved]
    del there(one)[moved - 1], there(one)[floor - 2]  # the last, and one that was proven
    one.world.pass_time(7300)
    one.destination.back_off_until = -1.0
    assert one.copy().ended == "partial"
    assert list(set_aside(one)) == [moved]
    asked = [line for line in one.source.lines("UID FETCH") if b"%d:%d " % (floor, moved) in line]
    assert asked


def test_a_source_that_asks_to_wait_keeps_nobody_from_the_proof(rig: Make) -> None:
    one = rig()
    one.fill(30)
    one.source.faults.append(Fault("UID FETCH", Action.REPLY, text=LATER, contains=b"BODY.PEEK", skip=3))
    assert one.copy().ended == "paused"
    folder = inbox(one)
    assert folder.row.moved == len(there(one)) > 0
    assert folder.row.unproven_from == 0


def test_a_connection_that_breaks_meanwhile_leaves_it_to_the_next(rig: Make) -> None:
    one = stopped_before_the_proof(rig)
    del there(one)[2]
    one.destination.faults.append(Fault("UID FETCH", Action.CLOSE))
    assert one.copy().ended == "partial"
    assert list(set_aside(one)) == [3]


def test_what_was_moved_changed_is_not_taken_for_what_the_source_has(rig: Make) -> None:
    one = rig()
    one.source.account()["INBOX"].put(message("bare", "a\nb"), message("two"))
    one.fill(4)
    one.destination.append_refusals.append(AppendRefusal(b"NO Message contains bare newlines", contains=b"a\nb"))
    one.destination.faults.append(Fault("EXAMINE", Action.REPLY, text=LATER))
    assert one.copy().ended == "paused"
    one.world.pass_time(7300)
    one.destination.back_off_until = -1.0
    one.copy()
    assert set_aside(one) == {}
