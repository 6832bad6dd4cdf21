"""Given a connection that breaks or is refused while a mailbox is moved, when it is opened again, then not more often than the numbers
say, what was moved is there once, and whoever waits for word hears whose fault it was. In the simulation's world, where time is virtual."""
from __future__ import annotations

import time
from functools import partial
from typing import Any

import pytest

from engine.causes import Cause, Side
from engine.errors import ConnectionBroken
from engine.imap.session import Session
from engine.transfer import copier, working
from tests.support.provider_simulator import Action, AppendRefusal, BodyFault, Fault, Message, message
from tests.unit.mutation.stories import Heard, Make, took
from tests.unit.simulation import scenario
from tests.unit.simulation.rig import Rig

DAY = 86_400.0
ASKED = b"NO [THROTTLED] Suggested Backoff Time: 3000 milliseconds"


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_server_that_hangs_up_at_login_has_counted_two_logins_at_most(filled_rig: Make, side: str) -> None:
    one = filled_rig()
    server = getattr(one, side)
    server.faults.append(Fault("LOGIN", Action.CLOSE, times=None))
    report = one.copy().report
    assert report is not None and (report.outcome.value, report.side) == ("failed", Side(side))
    assert server.count("LOGIN") == 2
    server.faults[:] = [Fault("LOGIN", Action.CLOSE)]
    assert one.copy().ended == "complete"
    assert one.is_exact()


def test_a_server_that_hung_up_at_login_and_then_cannot_be_reached_is_tried_as_one_that_cannot(filled_rig: Make) -> None:
    one = filled_rig()
    one.source.faults.append(Fault("LOGIN", Action.CLOSE))
    dial = one.source.connect
    refused = []

    def connect() -> Any:
        if one.source.connections == 1 and not refused:
            refused.append(1)
            raise ConnectionBroken(Cause.DNS_CONNECT, detail="no connection: refused")
        return dial()

    one.source.connect = connect  # type: ignore[method-assign]
    assert one.copy().ended == "complete"
    assert refused


def test_a_server_that_took_long_to_say_nothing_is_not_asked_again(filled_rig: Make) -> None:
    one = filled_rig()
    one.source.faults.append(Fault("GREETING", Action.HANG))
    assert took(one) < 45
    assert (one.attempts[-1].ended, one.source.connections) == ("failed", 1)
    assert one.destination.open_now == 0


@pytest.mark.parametrize(("refusals", "ended"), [(4, "complete"), (6, "failed")])
def test_the_first_connections_are_tried_three_times(filled_rig: Make, refusals: int, ended: str) -> None:
    one = filled_rig()
    one.connects_refused = refusals  # two at a time, one on each side
    assert 2.5 <= took(one) <= 5
    assert one.attempts[-1].ended == ended


@pytest.mark.parametrize(("refused", "named"), [("source", "source"), ("destination", "destination"), ("both", "source")])
def test_who_is_refused_is_named_and_the_other_side_is_not_kept_open(filled_rig: Make, refused: str, named: str) -> None:
    one = filled_rig()
    for server in (one.source, one.destination):
        if refused in (server.host, "both"):
            server.faults.append(Fault("LOGIN", Action.REPLY, text=b"NO [AUTHENTICATIONFAILED] Wrong words"))
    report = one.copy().report
    assert report is not None
    assert (report.outcome.value, report.side, "Wrong words" in report.server_text) == ("failed", Side(named), True)
    assert (one.source.connections, one.destination.connections) == (1, 1)
    assert (one.source.open_now, one.destination.open_now) == (0, 0)


@pytest.mark.parametrize(("times", "ended"), [(5, "complete"), (6, "failed")])
@pytest.mark.parametrize("verb", ["LIST", "UID FETCH"])
def test_a_connection_that_breaks_again_and_again_is_opened_five_times_more(filled_rig: Make, verb: str, times: int, ended: str) -> None:
    one = filled_rig()
    one.source.faults.append(Fault(verb, Action.CLOSE, times=times))
    assert 52.5 <= took(one) <= 80
    assert (one.attempts[-1].ended, one.source.connections) == (ended, 6)
    report = one.attempts[-1].report
    assert report is not None and (report.cause is None) == (ended == "complete")
    assert one.is_exact() == (ended == "complete")


def test_breaks_with_progress_between_them_do_not_add_up(filled_rig: Make) -> None:
    one = filled_rig()
    one.fill(90)
    one.source.faults += [Fault("UID FETCH", Action.CLOSE, skip=4 * n, contains=b"BODY.PEEK[]") for n in range(1, 10)]
    assert one.copy().ended == "complete"
    assert (one.source.connections, one.is_exact()) == (10, True)
    before = 0.0
    for login in [c.at for c in one.source.commands if c.verb == "LOGIN"][1:]:
        last = max(c.at for c in one.source.commands + one.destination.commands if before <= c.at < login - 0.4)
        assert login - last < 1.5  # after each only the shortest wait
        before = login


@pytest.mark.parametrize(("times", "ended"), [(5, "complete"), (None, "paused")])
def test_a_server_that_asks_for_a_little_time_gets_it_five_times(filled_rig: Make, times: int | None, ended: str) -> None:
    one = filled_rig()
    one.source.faults.append(Fault("UID FETCH", Action.REPLY, text=ASKED, times=times))
    one.copy()
    report = one.attempts[-1].report
    assert report is not None and report.outcome.value == ended
    assert not one.source.sent_in_back_off
    if ended == "paused":
        assert (report.cause, report.retry_after) == (Cause.THROTTLED, 3.0)
        assert "Backoff" in report.server_text


def tell_and_break(one: Rig, server: Any) -> None:
    """When the first body is asked for, this server states a wait inside an OK, and at the same moment the source is gone."""
    record, connection_to_break = one.source.record, one.source.connections + 1

    def record_and_break(connection: int, verb: str, line: bytes, login: str | None) -> None:
        record(connection, verb, line, login)
        if b"BODY.PEEK[]" in line and one.source.connections == connection_to_break:
            for link in server.links:
                link.to_client(b"* OK [THROTTLED] Suggested Backoff Time: 92000 milliseconds\r\n")
            for link in one.source.links:
                link.to_client(None)

    one.source.record = record_and_break  # type: ignore[method-assign]


def test_a_wait_that_was_stated_before_the_connection_broke_is_told_in_the_servers_words(filled_rig: Make) -> None:
    one = filled_rig()
    tell_and_break(one, one.source)
    report = one.copy().report
    assert report is not None
    assert (report.outcome.value, report.side, report.retry_after) == ("paused", Side.SOURCE, 92.0)
    assert "Suggested Backoff Time" in report.server_text
    assert one.source.connections == 1


def test_what_the_other_side_asked_for_is_not_said_of_the_one_that_broke(filled_rig: Make, heard: Heard) -> None:
    one = filled_rig()
    assert one.copy().ended == "complete"
    one.fill(2)  # of a known folder: nothing is read before the destination's is open
    tell_and_break(one, one.destination)
    report = one.copy().report
    assert report is not None
    assert (report.outcome.value, report.side, report.cause) == ("paused", Side.DESTINATION, Cause.DESTINATION_BUSY)
    assert (Side.SOURCE, Cause.DNS_CONNECT) in [line[:2] for line in heard.lines]


@pytest.mark.parametrize(("times", "ended"), [(2, "complete"), (3, "partial")])
def test_a_destination_folder_may_be_deleted_twice_under_our_hands(filled_rig: Make, times: int, ended: str) -> None:
    one = filled_rig()
    one.source.add_folder("Projects")
    one.fill(4, "Projects")
    folders, record, left = one.destination.account().folders, one.destination.record, [times]

    def record_and_delete(connection: int, verb: str, line: bytes, login: str | None) -> None:
        """Deletes the folder when what was written to it is to be read back."""
        if verb == "EXAMINE" and b"Projects" in line and left[0] and folders["Projects"].messages:
            left[0] -= 1
            del folders["Projects"]
        record(connection, verb, line, login)

    one.destination.record = record_and_delete  # type: ignore[method-assign]
    report = one.copy().report
    assert report is not None and (report.outcome.value, left) == (ended, [0])
    assert one.is_exact()  # the inbox
    assert one.destination.connections == 3
    if ended == "complete":
        assert one.contents("source", "Projects") == one.contents("destination", "Projects")
    else:
        [named] = report.set_aside
        assert (named.folder, named.uid, named.reason) == ("Projects", 0, "x_folder")


def test_a_source_folder_that_cannot_be_opened_is_named_and_the_others_are_moved(filled_rig: Make, heard: Heard) -> None:
    one = filled_rig()
    one.source.add_folder("Projects")
    one.fill(4, "Projects")
    one.source.faults.append(Fault("EXAMINE", Action.REPLY, contains=b"Projects", text=b"NO no such folder"))
    report = one.copy().report
    assert report is not None and report.outcome.value == "partial"
    assert [(a.folder, a.reason, a.server_text) for a in report.set_aside] == [("Projects", "x_folder", "no such folder")]
    assert (Side.SOURCE, Cause.X_FOLDER, "no such folder") in heard.lines
    assert one.is_exact()
    assert one.copy().ended == "complete"
    assert one.contents("source", "Projects") == one.contents("destination", "Projects")


def test_a_further_pair_that_cannot_be_opened_is_told_and_stops_nobody(filled_rig: Make, heard: Heard) -> None:
    one = filled_rig(connections=2)
    one.source.add_folder("Projects")
    one.fill(4, "Projects")
    one.source.faults.append(Fault("LOGIN", Action.REPLY, skip=1, times=None, text=b"NO [LIMIT] Too many simultaneous connections"))
    assert one.copy().ended == "complete"
    assert one.is_exact() and one.contents("source", "Projects") == one.contents("destination", "Projects")
    assert [(side, text) for side, _, text in heard.lines] == [(Side.SOURCE, "[LIMIT] Too many simultaneous connections")]
    assert one.source.count("LOGIN") == 2
    assert (one.source.open_now, one.destination.open_now) == (0, 0)


# -- what a try is given

def test_what_was_set_aside_is_tried_again_when_that_is_asked_and_not_before(filled_rig: Make) -> None:
    one = filled_rig()
    one.destination.append_refusals.append(AppendRefusal(b"NO [TOOBIG] not this one", contains=b"body 7 "))
    assert one.copy().ended == "partial"
    appended = one.destination.count("APPEND")
    one.fill(1)
    assert one.copy().ended == "partial"
    assert one.destination.count("APPEND") == appended + 1  # the new one
    one.destination.append_refusals.clear()
    assert one.copy(retry_set_aside=True).ended == "complete"
    assert one.destination.count("APPEND") == appended + 2
    assert one.is_exact()


def test_what_was_looked_at_in_the_plan_is_not_asked_again(filled_rig: Make) -> None:
    one = filled_rig()
    assert one.copy().ended == "complete"
    assert sum(b"INBOX" in line for line in one.destination.lines("STATUS")) == 1


def test_a_connection_that_breaks_while_it_is_compressed_costs_no_folder(filled_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = filled_rig()
    one.source.add_folder("Projects")
    one.fill(4, "Projects")

    def compress(session: Session, since: object) -> bool:
        session.close()
        raise ConnectionBroken(Cause.DNS_CONNECT, detail="lost")

    monkeypatch.setattr(working, "compress_where_it_pays", compress)
    assert one.copy().ended == "complete"
    assert one.is_exact() and one.contents("source", "Projects") == one.contents("destination", "Projects")


def test_flags_that_changed_are_carried_over_and_the_folder_is_not_moved_again(filled_rig: Make) -> None:
    one = filled_rig()
    assert one.copy().ended == "complete"
    mail = one.source.account()["INBOX"].messages[3]
    mail.flags = ("\\Flagged",)
    report = one.copy().report
    assert report is not None and report.outcome.value == "complete"
    assert sum(folder.flags_updated for folder in report.folders) == 1
    [copied] = [m for m in one.destination.account()["INBOX"].messages if m.content == mail.content]
    assert copied.flags == ("\\Flagged",)
    assert sum(b"INBOX" in line for line in one.source.lines("EXAMINE")) == 2  # to move it, and for the look


def test_messages_that_break_the_connection_are_named_one_after_the_other(filled_rig: Make) -> None:
    one = filled_rig()
    for bad in one.source.account()["INBOX"].messages[2:10]:
        bad.fault = BodyFault.CUT
    report = one.copy().report
    assert report is not None and report.outcome.value == "partial"
    assert (report.totals()["moved"], report.totals()["set_aside"]) == (4, 8)


def test_what_was_set_aside_before_is_no_progress_now(filled_rig: Make) -> None:
    one = filled_rig()
    one.destination.append_refusals.append(AppendRefusal(b"NO [TOOBIG] not this one", contains=b"body 7 "))
    assert one.copy().ended == "partial"
    one.fill(3)
    seen = one.source.connections
    one.source.faults.append(Fault("UID FETCH", Action.CLOSE, times=None, contains=b"RFC822.SIZE"))
    assert one.copy().ended == "failed"
    assert one.source.connections == seen + 6


def test_what_is_younger_goes_first_where_that_was_asked(filled_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = filled_rig()
    inbox = one.source.account()["INBOX"].messages
    for young in inbox[8:]:
        young.internal_date = time.strftime("%d-%b-%Y 12:00:00 +0000", time.gmtime(one.world.wall() - 2 * DAY))
    monkeypatch.setattr(scenario, "copy_mailbox", partial(copier.copy_mailbox, recent_days=30))
    assert one.copy().ended == "complete"
    there = [m.content for m in one.destination.account()["INBOX"].messages]
    assert there == [m.content for m in inbox[8:] + inbox[:8]]


def test_the_same_message_in_two_folders_that_become_one_is_there_twice(filled_rig: Make) -> None:
    one = filled_rig()
    sent = one.source.account()["Sent"]
    [mail] = sent.put(message("once", "the same"))
    assert one.copy().ended == "complete"
    twin = one.source.add_folder("Sent Items", "\\Sent")
    twin.add(Message(mail.content, mail.flags, mail.internal_date))
    assert one.copy().ended == "complete"
    assert [m.content for m in one.destination.account()["Sent"].messages] == [mail.content, mail.content]
    assert twin.name not in one.destination.account().folders


def test_a_server_that_closes_before_it_greets_holds_nobody_for_half_an_hour(filled_rig: Make) -> None:
    one = filled_rig()
    one.source.faults.append(Fault("GREETING", Action.CLOSE, times=None))
    assert took(one) < 60
