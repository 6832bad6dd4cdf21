"""What the simulation found, each as the smallest story that shows it."""
from __future__ import annotations

from collections import Counter

import pytest

from engine.report.copy import CopyOutcome
from tests.support.provider_simulator import Action, AppendRefusal, BodyFault, Fault
from tests.unit.simulation.rig import Make, Rig

WAIT = b"Request is throttled. Suggested Backoff Time: 15000 milliseconds"


def test_a_large_message_that_is_refused_when_it_is_announced_stops_nothing(rig: Make) -> None:
    one = rig(destination="IMAP4rev1 UIDPLUS")
    one.fill(1)
    one.fill(1, size=1500)
    one.fill(3)
    one.destination.account().quota = 5000
    assert one.copy().ended == "failed"
    one.destination.account().quota = None
    assert one.copy().ended == "complete"
    assert one.is_exact()


def test_a_short_wait_in_a_goodbye_is_kept(rig: Make) -> None:
    one = rig()
    one.fill(5)
    one.source.faults.append(Fault("UID FETCH", Action.REPLY, text=b"BYE " + WAIT))
    assert one.copy().ended == "complete"
    assert not one.source.sent_in_back_off


@pytest.mark.parametrize("verb", ["STATUS", "LIST", "EXAMINE"])
def test_a_notice_is_kept_whatever_command_it_comes_with(rig: Make, verb: str) -> None:
    one = rig()
    one.fill(5)
    one.source.faults.append(Fault(verb, Action.UNTAGGED, text=b"* OK [THROTTLED] " + WAIT))
    assert one.copy().ended == "complete"
    assert not one.source.sent_in_back_off


def test_a_refusal_with_a_wait_is_kept_where_uids_have_to_be_read_back(rig: Make) -> None:
    one = rig(destination="IMAP4rev1 LITERAL+")
    one.fill(8)
    one.destination.faults.append(Fault("APPEND", Action.REPLY, skip=4, text=b"NO " + WAIT))
    assert one.copy().ended == "complete"
    assert not one.destination.sent_in_back_off


def test_a_wait_that_refuses_the_opening_of_what_is_read_back_is_obeyed(rig: Make) -> None:
    one = rig()
    one.fill(5)
    one.destination.faults.append(Fault("EXAMINE", Action.REPLY, text=b"NO " + WAIT))
    assert one.copy().ended == "complete"
    assert one.is_exact()
    assert not one.destination.sent_in_back_off


@pytest.mark.parametrize("destination", ["IMAP4rev1 UIDPLUS MULTIAPPEND LITERAL+", "IMAP4rev1 MULTIAPPEND LITERAL+"])
def test_what_is_stored_out_of_its_order_is_counted(rig: Make, destination: str) -> None:
    one = rig(destination=destination)
    one.destination.manners.append_service = 0.2   # so that batches wait behind one another
    mails = one.fill(12)
    mails[1].flags = ("$label",)
    one.destination.append_refusals.append(AppendRefusal(b"NO APPEND failed: Unknown flag: $label", keyword="$label"))
    report = one.copy().report
    assert report is not None
    order = [m.content for m in one.destination.account()["INBOX"].messages]
    places = [order.index(m.content) for m in mails]
    late = sum(any(place > other for other in places[at + 1:]) for at, place in enumerate(places))
    assert report.out_of_order == late > 0


def test_what_is_sent_again_is_not_taken_for_a_message_of_the_same_size(rig: Make) -> None:
    one = rig(destination="IMAP4rev1")
    mails = one.fill(8)
    mails[2].flags = ("$label",)
    one.destination.append_refusals.append(AppendRefusal(b"NO APPEND failed: Unknown flag: $label", keyword="$label"))
    assert one.copy().ended == "complete"
    mails[5].flags = ("\\Flagged",)
    assert one.copy().ended == "complete"
    flagged = [m.content for m in one.destination.account()["INBOX"].messages if "\\Flagged" in m.flags]
    assert flagged == [mails[5].content]


@pytest.mark.parametrize("destination", ["IMAP4rev1 UIDPLUS", "IMAP4rev1 UIDPLUS LITERAL+", "IMAP4rev1"])
def test_one_message_that_always_ends_the_connection_is_set_aside(rig: Make, destination: str) -> None:
    one = rig(destination=destination)
    mails = one.fill(9)
    mails[4].internal_date = "29-Feb-2020 01:02:03 +0000"
    one.destination.faults.append(Fault("APPEND", Action.CLOSE, contains=b"29-Feb-2020", times=None))
    for _ in range(3):
        report = one.copy().report
    assert report is not None and report.outcome is CopyOutcome.PARTIAL
    assert [aside.uid for aside in report.set_aside] == [mails[4].uid]
    assert one.contents("destination") == one.contents("source") - Counter([mails[4].content])


def test_one_message_that_no_list_may_name_is_named_though_another_came_meanwhile(rig: Make) -> None:
    one = rig()
    bad = one.fill(20)[7]
    bad.unlisted, bad.fault = b"NO [SERVERBUG] Internal error occurred", BodyFault.REFUSED
    record, came = one.source.record, []

    def record_and_deliver(connection: int, verb: str, line: bytes, login: str | None) -> None:
        if b"BODY.PEEK" in line and not came:
            came.extend(one.fill(1))
        record(connection, verb, line, login)

    one.source.record = record_and_deliver  # type: ignore[method-assign]
    report = one.copy().report
    assert report is not None and came
    assert [aside.uid for aside in report.set_aside] == [bad.uid]


STEPS = range(100, 280, 4)


def killed(rig: Make, source: str, step: int) -> Rig:
    """A copy that died at this step, where the destination executes what it was sent before 20 to 60 s later."""
    one = rig(source=source)
    one.fill(12)
    one.destination.manners.append_service = 0.2
    one.destination.manners.stall_when_alone = 40.0
    assert one.copy(kill_at=step).ended == "killed"
    one.world.pass_time(1.0)
    return one


@pytest.mark.parametrize("source", ["dovecot", "exchange"])
def test_a_late_copy_is_removed_whether_or_not_the_source_knows_its_sizes(rig: Make, source: str) -> None:
    late = 0
    for step in STEPS:
        one = killed(rig, source, step)
        assert one.copy().ended == "complete"
        one.world.pass_time(70.0)
        assert one.copy().ended == "complete"
        assert one.is_exact(), step
        late += one.destination.happened["late execution"] > 0
    assert late >= 3


def test_a_late_copy_is_removed_though_the_first_sweep_comes_late(rig: Make) -> None:
    late = 0
    for step in STEPS:
        one = killed(rig, "dovecot", step)
        one.disk.full_at, one.disk.full_for = 7, 1000
        if one.copy().ended == "failed":           # looked up, not swept
            one.disk.full_at = None
            one.world.pass_time(200.0)             # longer than an intent is watched
            assert one.copy().ended == "complete"
            assert one.is_exact(), step
            late += one.destination.happened["late execution"] > 0
    assert late >= 3


@pytest.mark.parametrize("fault", [BodyFault.MISSING, BodyFault.NIL, BodyFault.HEADER_ONLY])
def test_a_body_that_is_given_at_the_second_asking_is_adopted_not_doubled(rig: Make, fault: BodyFault) -> None:
    one = rig()
    one.fill(5)
    assert one.copy().ended == "complete"
    one.disk.lose()
    bad = one.source.account()["INBOX"].messages[2]
    bad.fault, bad.fault_times = fault, 1
    one.copy()
    one.copy()
    assert one.is_exact()


@pytest.mark.parametrize("fault", [BodyFault.REFUSED, BodyFault.CUT])
def test_one_message_that_is_never_given_does_not_stop_an_adoption(rig: Make, fault: BodyFault) -> None:
    one = rig()
    one.fill(5)
    assert one.copy().ended == "complete"
    one.disk.lose()
    one.source.account()["INBOX"].messages[2].fault = fault
    reports = [one.copy().report for _ in range(3)]
    assert reports[-1] is not None and reports[-1].outcome in (CopyOutcome.COMPLETE, CopyOutcome.PARTIAL)
    assert one.is_exact()


@pytest.mark.parametrize("side", ["source", "destination", "both"])
def test_a_folder_that_is_gone_while_it_is_watched_ends_no_later_copy(rig: Make, side: str) -> None:
    watched = 0
    for step in range(120, 400, 20):
        one = rig()
        one.source.add_folder("Projects")
        one.fill(12, "Projects")
        one.destination.manners.append_service = 0.2
        assert one.copy(kill_at=step).ended in ("killed", "complete")
        assert one.copy().ended == "complete"
        watched += any(folder.intents for folder in one.read_ledger() if folder.row.source == "Projects")
        if side != "destination":
            del one.source.account().folders["Projects"]
        if side != "source":
            del one.destination.account().folders["Projects"]
        one.copy()
        assert one.copy().ended == "complete", step
        one.world.pass_time(200.0)
        assert one.copy().ended == "complete", step
    assert watched
