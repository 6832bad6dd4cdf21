"""Given servers that refuse, throttle, lie, cut or are late, when a mailbox is moved, then nothing is lost, doubled or silent."""
from __future__ import annotations

from collections import Counter

import pytest

from engine.causes import Cause
from engine.report.copy import CopyOutcome
from engine.transfer import pairs, writing
from engine.transfer.copier import copy_mailbox
from tests.support.provider_simulator import (
    LOOPBACK,
    PROFILES,
    Action,
    AppendRefusal,
    BodyFault,
    Fault,
    message,
)
from tests.unit.transfer.moving import TEN_TIMES, MakeBench, offering


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between tries are shortened; what is waited for is not."""
    monkeypatch.setattr(pairs, "RECONNECT_SECONDS", (0.01,))
    monkeypatch.setattr(writing, "BUSY_WAIT_SECONDS", (0.01, 0.01, 0.01))


@pytest.mark.parametrize("capabilities", [
    "IMAP4rev1", "IMAP4rev1 UIDPLUS", "IMAP4rev1 LITERAL+", "IMAP4rev1 LITERAL- UIDPLUS", "IMAP4rev1 MULTIAPPEND",
    "IMAP4rev1 MULTIAPPEND LITERAL+", "IMAP4rev1 UIDPLUS MULTIAPPEND LITERAL+"])
def test_every_destination_gets_the_same_mailbox(bench: MakeBench, capabilities: str) -> None:
    one = bench(destination=offering(capabilities))
    one.fill(130)
    report = one.copy()
    assert (report.outcome, report.totals()["moved"]) == (CopyOutcome.COMPLETE, 130)
    sent = [m.content for m in one.source.account()["INBOX"].messages]
    assert [m.content for m in one.destination.account()["INBOX"].messages] == sent
    assert one.copy().totals()["moved"] == 0


def test_a_wrong_secret_is_one_login(bench: MakeBench) -> None:
    one = bench()
    report = one.copy(one.source.login_for(secret="wrong"))
    assert (report.outcome, report.cause) == (CopyOutcome.FAILED, Cause.BAD_SECRET)
    assert one.source.count("LOGIN") + one.source.count("AUTHENTICATE") == 1


def test_a_refused_message_takes_nothing_with_it(bench: MakeBench) -> None:
    one = bench()
    one.fill(60)
    one.destination.append_refusals.append(AppendRefusal(b"NO [TOOBIG] Message too large", contains=b"body 31 "))
    report = one.copy()
    assert report.outcome is CopyOutcome.PARTIAL
    [aside] = report.set_aside
    assert "Message too large" in aside.server_text
    assert (one.contents(one.source) - one.contents(one.destination)).total() == 1
    assert one.contents(one.destination).total() == 59


def test_many_refused_messages_do_not_stop_a_mailbox(bench: MakeBench) -> None:
    one = bench()
    one.fill(100)
    one.destination.append_refusals.append(AppendRefusal(b"NO not this one", contains=b"7 "))
    report = one.copy()
    refused = sum(b"7 " in content for content in one.contents(one.source).elements())
    assert (len(report.set_aside), one.contents(one.destination).total()) == (refused, 100 - refused)


def test_a_full_destination_stops_the_move_and_says_so(bench: MakeBench) -> None:
    one = bench()
    one.fill(50)
    refusal = AppendRefusal(b"NO [OVERQUOTA] Quota exceeded", contains=b"body 30 ")
    one.destination.append_refusals.append(refusal)
    report = one.copy()
    assert (report.outcome, report.cause) == (CopyOutcome.FAILED, Cause.DESTINATION_QUOTA)
    one.destination.append_refusals.remove(refusal)
    assert one.copy().outcome is CopyOutcome.COMPLETE
    assert one.is_exact()


@pytest.mark.parametrize("fault", [BodyFault.HEADER_ONLY, BodyFault.NIL, BodyFault.EMPTY, BodyFault.MISSING, BodyFault.REFUSED])
def test_a_body_that_is_not_given_is_asked_for_again_then_named(bench: MakeBench, fault: BodyFault) -> None:
    one = bench()
    one.fill(20)
    bad = one.source.account()["INBOX"].messages[7]
    bad.fault = fault
    report = one.copy()
    assert report.outcome is CopyOutcome.PARTIAL
    assert [(a.uid, a.reason) for a in report.set_aside] == [(bad.uid, "x_item")]
    assert one.contents(one.destination).total() == 19
    assert not one.source.source_changes()


@pytest.mark.parametrize("fault", [BodyFault.HEADER_ONLY, BodyFault.MISSING, BodyFault.REFUSED, BodyFault.CUT])
def test_a_body_that_is_given_at_the_second_asking_is_moved(bench: MakeBench, fault: BodyFault) -> None:
    one = bench()
    one.fill(20)
    bad = one.source.account()["INBOX"].messages[7]
    bad.fault, bad.fault_times = fault, 1
    assert one.copy().outcome is CopyOutcome.COMPLETE
    assert one.is_exact()


def test_a_whole_mailbox_of_headers_is_named_to_the_last(bench: MakeBench) -> None:
    """263 gives a throttled mover the header only (facts: providers section 9)."""
    one = bench(source="m263_headers")
    one.fill(30)
    report = one.copy()
    assert (report.outcome, len(report.set_aside)) == (CopyOutcome.PARTIAL, 30)
    assert one.contents(one.destination).total() == 0


def test_a_message_that_breaks_the_connection_every_time_is_set_aside(bench: MakeBench) -> None:
    one = bench()
    one.fill(20)
    one.source.account()["INBOX"].messages[7].fault = BodyFault.CUT
    report = one.copy()
    assert (report.outcome, [a.uid for a in report.set_aside]) == (CopyOutcome.PARTIAL, [8])
    assert one.contents(one.destination).total() == 19


@pytest.mark.parametrize("action", [Action.CLOSE, Action.EXECUTE_THEN_CLOSE, Action.CUT_LITERAL])
@pytest.mark.parametrize("skip", [0, 1, 3])
def test_the_destination_breaks_off_and_nothing_is_doubled(bench: MakeBench, action: Action, skip: int) -> None:
    one = bench(destination=offering("IMAP4rev1 UIDPLUS LITERAL+"))
    one.fill(40)
    one.destination.faults.append(Fault("APPEND", action, skip=skip, at=5))
    report = one.copy()
    assert report.outcome is CopyOutcome.COMPLETE, report
    assert one.is_exact()


def test_what_a_dead_connection_stores_late_is_found_or_removed(bench: MakeBench) -> None:
    """The server executes an APPEND after the connection was lost and the next one had its first look."""
    one = bench(destination=offering("IMAP4rev1 UIDPLUS LITERAL+"))
    one.fill(10)
    one.destination.faults.append(Fault("APPEND", Action.LATE, seconds=0.3, skip=2))
    one.destination.faults.append(Fault("APPEND", Action.CLOSE, skip=3))
    assert one.copy().outcome is CopyOutcome.COMPLETE
    assert one.is_exact()


def test_mail_that_a_person_moved_away_and_back_is_never_removed(bench: MakeBench) -> None:
    """A watch is open, the claimed copies are gone, and what lies there unclaimed is the only copy."""
    one = bench(destination=offering("IMAP4rev1 UIDPLUS LITERAL+"))
    one.fill(10)
    one.destination.faults.append(Fault("APPEND", Action.EXECUTE_THEN_CLOSE, skip=2))
    assert one.copy().outcome is CopyOutcome.COMPLETE
    inbox = one.destination.account()["INBOX"]
    taken, inbox.messages[:] = list(inbox.messages), []
    for message_ in taken:
        message_.uid = 0
        inbox.add(message_)
    one.copy()
    assert one.is_exact()


def test_an_equal_header_and_size_is_not_an_equal_message(bench: MakeBench) -> None:
    one = bench()
    head = b"Message-ID: <same@example.com>\r\nSubject: x\r\n\r\n"
    one.source.account()["INBOX"].put(head + b"\xe6\xad\xa3")
    one.destination.account()["INBOX"].put(head + b"???")
    assert one.copy().totals()["moved"] == 1
    assert one.contents(one.destination) == Counter([head + b"\xe6\xad\xa3", head + b"???"])


def test_a_server_that_hangs_up_at_login_is_asked_twice_at_most(bench: MakeBench) -> None:
    one = bench()
    one.source.faults.append(Fault("LOGIN", Action.CLOSE, times=None))
    assert one.copy().outcome is CopyOutcome.FAILED
    assert one.source.count("LOGIN") == 2


def test_a_stated_wait_ends_the_slice_and_is_obeyed(bench: MakeBench) -> None:
    one = bench(source="exchange")
    one.fill(10)
    one.source.faults.append(Fault("UID FETCH", Action.REPLY, text=b"BAD Request is throttled. Suggested Backoff Time: 92415 milliseconds"))
    report = one.copy()
    assert (report.outcome, report.cause) == (CopyOutcome.PAUSED, Cause.THROTTLED)
    assert report.retry_after == pytest.approx(92.415)


def test_a_notice_inside_an_ok_is_obeyed(bench: MakeBench) -> None:
    one = bench(source="gmail")
    one.fill(10)
    one.source.faults.append(Fault("UID FETCH", Action.UNTAGGED, text=b"* OK [THROTTLED] Suggested Backoff Time: 60000 milliseconds"))
    report = one.copy()
    assert (report.outcome, report.retry_after) == (CopyOutcome.PAUSED, pytest.approx(60.0, abs=10.0))
    assert one.copy().outcome is CopyOutcome.COMPLETE
    assert one.is_exact()


def test_a_goodbye_with_a_stated_wait_is_obeyed(bench: MakeBench) -> None:
    one = bench(source="exchange")
    one.fill(10)
    one.source.faults.append(Fault("UID FETCH", Action.REPLY, text=b"BYE Request is throttled. Suggested Backoff Time: 92000 milliseconds"))
    report = one.copy()
    assert (report.outcome, report.cause, report.retry_after) == (CopyOutcome.PAUSED, Cause.THROTTLED, pytest.approx(92.0))
    assert one.source.count("LOGIN") == 1


def test_messages_that_are_counted_and_not_listed_are_named(bench: MakeBench) -> None:
    one = bench()
    one.fill(6)
    one.source.account()["INBOX"].messages[3].hidden = True
    report = one.copy()
    assert report.outcome is CopyOutcome.PARTIAL
    assert [(a.uid, a.reason) for a in report.set_aside] == [(0, "incomplete")]


def test_a_destination_that_alters_and_does_not_tell_uids_gains_no_copies(bench: MakeBench) -> None:
    one = bench(destination=offering("IMAP4rev1"))
    one.fill(4)
    one.destination.account()["INBOX"].altered = b"body 2 "
    assert one.copy().outcome is CopyOutcome.PARTIAL
    for _ in range(2):
        copy_mailbox(one.source.login_for(), one.destination.login_for(), ledger=one.ledger, source_route=LOOPBACK,
                     destination_route=LOOPBACK, clock=TEN_TIMES, retry_set_aside=True)
    assert one.contents(one.destination).total() == 4


def test_only_what_may_be_sent_to_a_source_is_sent(bench: MakeBench) -> None:
    for profile in sorted(PROFILES):
        one = bench(source=profile)
        one.fill(3)
        one.copy()
        assert not one.source.source_changes(), profile
        assert not {verb for verb in one.source.counts() if "SEARCH" in verb}, profile


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_rebuilt_folder_is_adopted_and_not_moved_again(bench: MakeBench, side: str) -> None:
    """Its UIDVALIDITY is another: the ledger's UIDs mean nothing any more, the messages are the same."""
    one = bench()
    one.fill(10)
    assert one.copy().outcome is CopyOutcome.COMPLETE
    getattr(one, side).account()["INBOX"].uidvalidity += 5
    one.fill(3)
    assert (one.copy().outcome, one.is_exact()) == (CopyOutcome.COMPLETE, True)


def test_folders_that_share_a_rebuilt_folder_are_adopted_together(bench: MakeBench) -> None:
    one = bench(source="plain")
    bins = [one.source.add_folder(name) for name in ("Trash", "Deleted Items")]
    for number, folder in enumerate(bins):
        folder.put(*(message(f"{number}-{n}") for n in range(4)), message("twin"))
    assert one.copy().outcome is CopyOutcome.COMPLETE
    [shared] = [folder for folder in one.destination.account().folders.values() if folder.messages]
    assert len(shared.messages) == 10
    shared.uidvalidity += 5
    assert one.copy().outcome is CopyOutcome.COMPLETE
    assert len(shared.messages) == 10


@pytest.mark.parametrize("came_in", [0, 1])
def test_older_mail_that_becomes_visible_is_moved_by_the_next_run(bench: MakeBench, came_in: int) -> None:
    """The provider showed 30 days only; its owner then chose "all"."""
    one = bench()
    one.fill(10)
    inbox = one.source.account()["INBOX"]
    everything = list(inbox.messages)
    inbox.messages[:] = [m for m in everything if m.uid not in (1, 2, 3, 6)]
    assert one.copy().totals()["moved"] == 6
    inbox.messages[:] = everything
    one.fill(came_in)
    report = one.copy()
    assert (report.outcome, report.totals()["moved"], one.is_exact()) == (CopyOutcome.COMPLETE, 4 + came_in, True)


@pytest.mark.parametrize(("command", "waits"), [("LOGIN", pairs.BREAKS_AT_THE_START), ("UID FETCH", pairs.BREAKS_IN_A_ROW)])
def test_a_server_that_asks_for_one_short_wait_after_another_ends_the_slice(bench: MakeBench, command: str, waits: int) -> None:
    one = bench(source="exchange")
    one.fill(3)
    one.source.faults.append(Fault(command, Action.REPLY, times=None,
                                   text=b"BAD Request is throttled. Suggested Backoff Time: 50 milliseconds"))
    report = one.copy()
    assert (report.outcome, report.cause, report.retry_after) == (CopyOutcome.PAUSED, Cause.THROTTLED, pytest.approx(0.05))
    assert one.source.count(command) == waits + 1
