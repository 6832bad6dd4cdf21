"""Given a run that ended before what it had appended was read back, when the next one goes on, then it reads that back first: nothing is
appended twice, and what is not there or not as it was is named. In the simulation's world."""
from __future__ import annotations

import time
from functools import partial

import pytest

from engine.causes import Cause, Side
from engine.errors import Throttled
from engine.ledger import Repair
from engine.transfer import earlier_proof, writing
from engine.transfer.copier import copy_mailbox
from tests.support.provider_simulator import PROFILES, Action, AppendRefusal, BodyFault, Fault, message
from tests.unit.mutation.interrupted import LATER, appended, go_on, inbox, set_aside, stopped_before_the_proof, there, with_ledger
from tests.unit.simulation import scenario
from tests.unit.simulation.rig import Make


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


@pytest.mark.parametrize("gap", [False, True])
def test_what_left_the_source_since_keeps_nobody_from_finding_what_is_lost(rig: Make, gap: bool) -> None:
    """Whose copy is whose the ledger knows, also of a run with gaps."""
    one = rig()
    one.fill(9)
    box = one.source.account()["INBOX"].messages
    del box[1 if gap else 0]
    one.destination.faults.append(Fault("EXAMINE", Action.REPLY, text=LATER))
    assert one.copy().ended == "paused"
    go_on(one)
    del box[3]
    del there(one)[6]
    assert one.copy().ended == "partial"
    assert set_aside(one) == {8: "accepted by the destination as UID 7, and not there when the next run read it back"}
    assert (inbox(one).row.moved, inbox(one).row.unproven_from, [run.count for run in inbox(one).runs]) == (7, 0, [8])


def test_of_what_is_gone_at_the_source_it_is_asked_only_whether_it_is_there(rig: Make) -> None:
    one = stopped_before_the_proof(rig)
    del one.source.account()["INBOX"].messages[3:5]
    del there(one)[4]
    assert one.copy().ended == "partial"
    assert list(set_aside(one)) == [5]


def test_what_was_named_is_not_counted_again(rig: Make) -> None:
    """Whatever moment the naming is cut at: the sums stay those of four messages."""
    killed = 0
    for step in range(100, 500):
        one = rig()
        one.fill(4)
        one.destination.account()["INBOX"].altered = b"body 2 "
        if one.copy(kill_at=step).ended != "killed":
            break
        killed += 1
        one.world.pass_time(700)
        one.copy()
        row = inbox(one).row
        assert (row.moved, row.set_aside, row.total) == (3, 1, 4), step
    assert killed > 100


def test_a_pause_after_the_naming_counts_nothing_twice(rig: Make) -> None:
    one = stopped_before_the_proof(rig)
    del there(one)[2:5]
    one.fill(2)
    for _ in range(3):
        one.destination.faults.append(Fault("APPEND", Action.REPLY, text=LATER))
        assert one.copy().ended == "paused"
        go_on(one)
    assert one.copy().ended == "partial"
    assert (inbox(one).row.moved, inbox(one).row.set_aside) == (7, 3)


@pytest.mark.parametrize("fault", [BodyFault.REFUSED, BodyFault.CUT, BodyFault.NIL, BodyFault.MISSING, BodyFault.EMPTY])
def test_what_the_source_does_not_give_any_more_is_no_difference_and_stops_nothing(rig: Make, fault: BodyFault) -> None:
    one = stopped_before_the_proof(rig, "exchange")
    one.source.account()["INBOX"].messages[3].fault = fault
    one.fill(3)
    for _ in range(2):
        one.copy()
        go_on(one)
    assert len(there(one)) == 11 and set_aside(one) == {} and inbox(one).row.unproven_from == 0


def test_what_the_source_does_not_list_any_more_stops_nothing(rig: Make) -> None:
    one = stopped_before_the_proof(rig)
    bad = one.source.account()["INBOX"].messages[3]
    bad.unlisted, bad.fault = b"NO [SERVERBUG] Internal error occurred", BodyFault.REFUSED
    one.fill(2)
    one.copy()
    assert len(there(one)) == 10


@pytest.mark.parametrize("bad", [1, 2, 5])
def test_messages_that_break_the_connection_one_after_another_stop_nothing(rig: Make, bad: int) -> None:
    one = stopped_before_the_proof(rig, "exchange", messages=20)
    for mail in one.source.account()["INBOX"].messages[3:3 + bad * 2:2]:
        mail.fault = BodyFault.CUT
    one.fill(3)
    one.copy()
    assert len(there(one)) == 23 and inbox(one).row.unproven_from == 0


def test_a_destination_that_breaks_each_time_is_given_up(rig: Make) -> None:
    """What is unproven stays where it is: that is no progress, and the tries have a number."""
    one = stopped_before_the_proof(rig)
    one.destination.faults.append(Fault("EXAMINE", Action.CLOSE, times=None))
    before = one.destination.counts()["LOGIN"]
    assert one.copy().ended == "failed"
    assert one.destination.counts()["LOGIN"] - before < 10 and inbox(one).row.unproven_from == 1


def test_a_message_that_the_destination_does_not_list_is_named_and_stops_nothing(rig: Make) -> None:
    one = stopped_before_the_proof(rig)
    there(one)[3].unlisted = b"NO [SERVERBUG] Internal error occurred"
    one.fill(2)
    one.copy()
    assert len(there(one)) == 10 and list(set_aside(one)) == [4]


@pytest.mark.parametrize("where", ["source list", "source body", "destination body"])
def test_one_refusal_that_passes_hides_nothing(rig: Make, where: str) -> None:
    one = stopped_before_the_proof(rig)
    there(one)[4].content += b"more\r\n"
    server = one.destination if where == "destination body" else one.source
    server.faults.append(Fault("UID FETCH", Action.REPLY, text=b"NO [SERVERBUG] Internal error occurred",
                               contains=b"RFC822.SIZE" if where == "source list" else b"BODY.PEEK"))
    one.copy()
    assert list(set_aside(one)) == [5]


def test_the_last_days_first_comes_to_an_end_at_a_source_that_gives_little(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenario, "copy_mailbox", partial(copy_mailbox, recent_days=30))
    one = rig("exchange")
    yesterday = time.strftime("%d-%b-%Y 12:00:00 +0000", time.gmtime(one.world.wall() - 86400))
    for mail in one.fill(120)[60:]:
        mail.internal_date = yesterday
    one.destination.faults.append(Fault("EXAMINE", Action.REPLY, text=LATER))
    assert one.copy().ended == "paused"
    go_on(one)
    one.fill(2)
    for _ in range(4):
        one.source.faults[:] = [Fault("UID FETCH", Action.REPLY, text=LATER, contains=b"BODY.PEEK", skip=2)]
        one.copy()
        one.world.pass_time(7300)
        one.source.back_off_until = -1.0
    assert len(there(one)) == 122


def test_a_message_that_was_repaired_twice_is_counted_once_and_both_are_told(rig: Make) -> None:
    one = rig()
    one.source.account()["INBOX"].put(message("bare", "a\nb"))
    one.fill(3)
    one.destination.append_refusals.append(AppendRefusal(b"NO Message contains bare newlines", contains=b"a\nb"))
    one.destination.faults.append(Fault("EXAMINE", Action.REPLY, text=LATER))
    assert one.copy().ended == "paused"
    go_on(one)
    for mail in there(one):
        mail.internal_date = "01-Jan-2020 00:00:00 +0000"
    one.copy()
    repairs = with_ledger(one, lambda ledger: ledger.repairs(1))
    assert (len(repairs), inbox(one).row.repaired) == (4, 4)
    assert repairs[0].made == {Repair.LINE_ENDS, Repair.DATE} and "bare newlines" in repairs[0].words


@pytest.mark.parametrize("source", ["dovecot", "m263"])
def test_a_source_that_tells_untrue_sizes_accuses_nobody(rig: Make, source: str) -> None:
    one = rig(source)
    for mail in one.fill(8):
        mail.announced_size = len(mail.content) + 3
    one.destination.faults.append(Fault("EXAMINE", Action.REPLY, text=LATER))
    assert one.copy().ended == "paused"
    go_on(one)
    there(one)[4].content = b"X" + there(one)[4].content[1:]
    one.copy()
    assert list(set_aside(one)) == [5]


def test_a_source_that_gives_little_at_a_time_comes_to_an_end(rig: Make) -> None:
    one = stopped_before_the_proof(rig, "exchange", messages=120)
    one.fill(5)
    for _ in range(6):
        one.source.faults[:] = [Fault("UID FETCH", Action.REPLY, text=LATER, contains=b"BODY.PEEK", skip=2)]
        before = inbox(one).row.unproven_from
        if one.copy().ended != "paused":
            break
        assert inbox(one).row.unproven_from > before or len(there(one)) > 120
        one.world.pass_time(7300)
        one.source.back_off_until = -1.0
    assert len(there(one)) == 125


def test_a_stop_is_obeyed_and_the_next_run_goes_on_there(rig: Make) -> None:
    one = stopped_before_the_proof(rig, "exchange", messages=300)
    record, asked = one.source.record, 0

    def record_and_stop(connection: int, verb: str, line: bytes, login: str) -> None:
        nonlocal asked
        if b"BODY.PEEK[]" in line:
            asked += 1
            one.stop.ask()
        record(connection, verb, line, login)

    one.source.record = record_and_stop  # type: ignore[method-assign]
    assert one.copy().ended == "paused"
    assert asked == 1 and 1 < inbox(one).row.unproven_from < 300
    one.source.record = record  # type: ignore[method-assign]
    assert one.copy().ended == "complete"
    assert inbox(one).row.unproven_from == 0


def test_no_body_is_asked_for_where_the_destination_guesses_sizes(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def later(*_: object) -> None:
        raise Throttled(Cause.DESTINATION_BUSY, side=Side.DESTINATION, server_text="later", retry_after=7200)

    one = rig()
    one.destination.profile = PROFILES["exchange"]
    one.fill(30)
    with monkeypatch.context() as patch:
        patch.setattr("engine.transfer.folder.prove", later)
        assert one.copy().ended == "paused"
    assert inbox(one).row.unproven_from
    go_on(one)
    before = len([line for line in one.source.lines("UID FETCH") if b"BODY.PEEK[]" in line])
    assert one.copy().ended == "complete" and set_aside(one) == {}
    assert len([line for line in one.source.lines("UID FETCH") if b"BODY.PEEK[]" in line]) == before


def test_many_runs_are_asked_about_together(rig: Make) -> None:
    """A destination whose UIDs lie seven apart: each message is a run."""
    one = rig()
    one.destination.account()["INBOX"].uid_step = 7
    one.fill(200)
    one.destination.faults.append(Fault("EXAMINE", Action.REPLY, text=LATER))
    assert one.copy().ended == "paused"
    go_on(one)
    before = len(one.source.lines("UID FETCH"))
    assert len(inbox(one).runs) == 200 and one.copy().ended == "complete"
    assert len(one.source.lines("UID FETCH")) - before < 50, "the simulation lists a few at a time"


@pytest.mark.parametrize("at_once", [1, 3, 8])
def test_it_is_read_back_in_parts_of_any_size(rig: Make, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(earlier_proof, "AT_ONCE", at_once)
    one = stopped_before_the_proof(rig)
    del there(one)[7], there(one)[0]
    assert one.copy().ended == "partial"
    assert (sorted(set_aside(one)), inbox(one).row.moved, inbox(one).row.unproven_from) == ([1, 8], 6, 0)


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
    go_on(one)
    one.copy()
    assert set_aside(one) == {}


def test_what_was_moved_changed_is_missed_when_it_is_not_there(rig: Make) -> None:
    one = rig()
    [plain, labelled] = one.fill(2)
    labelled.flags = ("$label",)
    one.destination.append_refusals.append(AppendRefusal(b"NO APPEND failed: Unknown flag: $label", keyword="$label"))
    one.destination.faults.append(Fault("EXAMINE", Action.REPLY, text=LATER))
    assert one.copy().ended == "paused"
    go_on(one)
    there(one)[:] = [mail for mail in there(one) if mail.content == plain.content]
    assert one.copy().ended == "partial"
    assert list(set_aside(one)) == [labelled.uid]
