"""Given a source that answers oddly, when its mailbox is moved, then every message arrives octet for octet or is named with the reason.

Each scenario is one quirk seen at a server or allowed to one; what an odd answer may never do is change the source, stop the mailbox or
be taken for a message.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.causes import Cause
from engine.endpoint import Account
from engine.report.copy import CopyOutcome, CopyReport
from engine.transfer import pairs, reading
from tests.support.provider_simulator import (
    PROFILES,
    Action,
    BodyFault,
    Fault,
    Folder,
    Form,
    Message,
    message,
)
from tests.support.simulator_oddities import ODDITIES, each, instead_of, short_by
from tests.unit.transfer.moving import Bench, benches

PLAIN = PROFILES["plain"]
DOVECOT = PROFILES["dovecot"]


class OddBench(Bench):
    """Holds after each move what always holds."""

    @property
    def inbox(self) -> Folder:
        return self.source.account()["INBOX"]

    def put(self, count: int) -> list[Message]:
        return self.inbox.put(*(message(str(n), f"body {n} ") for n in range(count)))

    def copy(self, source: Account | None = None, **options: Any) -> CopyReport:
        """Nothing changed at the source, nothing searched, nothing arrived that was not sent."""
        report = super().copy(source, **options)
        assert not self.source.source_changes()
        assert not [verb for verb in self.source.counts() if "SEARCH" in verb]
        assert not self.arrived() - Counter(m.content for m in self.inbox.messages)
        return report

    def arrived(self) -> Counter[bytes]:
        return self.contents(self.destination)

    def bodies_asked(self) -> list[bytes]:
        return [c.line for c in list(self.source.commands) if "FETCH" in c.verb and b"BODY.PEEK[" in c.line]


MakeBench = Callable[..., OddBench]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[MakeBench]:
    with benches(OddBench, tmp_path) as make:
        yield make


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between tries are shortened; what is waited for is not."""
    monkeypatch.setattr(pairs, "RECONNECT_SECONDS", (0.01,))


# -- answers in odd forms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("oddity", sorted(ODDITIES))
def test_an_answer_in_an_odd_form_is_the_same_mailbox(bench: MakeBench, oddity: str) -> None:
    one = bench()
    one.put(30)
    one.inbox.put(b"Subject: one line without an end", b'Subject: "quoted" \\ and slashes', flags=("\\Seen", "$Label1"))
    one.source.oddity = ODDITIES[oddity]
    assert (one.copy().outcome, one.is_exact()) == (CopyOutcome.COMPLETE, True)
    arrived = {m.content: m for m in one.destination.account()["INBOX"].messages}
    assert all((arrived[m.content].flags, arrived[m.content].internal_date) == (m.flags, m.internal_date) for m in one.inbox.messages)


@pytest.mark.parametrize(("change", "why"), [
    ({"lower_case": True}, "keywords are case-insensitive (RFC 3501 §9)"),
    ({"search": "refused"}, "SEARCH is never sent"),
    ({"search": "nothing"}, "SEARCH is never sent"),
    ({"uid_bodies": False}, "263: bodies by sequence number only"),
    ({"uid_lists": False, "uid_bodies": False}, "UID FETCH answers nothing at all"),
    ({"uid_lists": False}, "lists by sequence number only"),
    ({"status_uidnext": False}, "NetEase"),
    ({"status_uidnext": False, "select_uidnext": False}, "UIDNEXT nowhere"),
    ({"first_uid": 1_320_900, "uid_step": 7}, "sparse UIDs"),
    ({"first_uid": 4_294_960_000, "uid_step": 101}, "UIDs up to the last"),
    ({"strict_uid_sets": True}, "only ascending sets"),
])
@pytest.mark.parametrize("per_list", [2000, 10])
def test_a_server_with_a_habit_gives_the_same_mailbox(bench: MakeBench, change: dict[str, object], why: str, per_list: int,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "RANGE_MESSAGES", per_list)
    monkeypatch.setattr(reading, "FIRST_RANGE", 3)
    one = bench(replace(DOVECOT, **change))  # type: ignore[arg-type]
    one.put(65)
    assert (one.copy().outcome, one.is_exact()) == (CopyOutcome.COMPLETE, True), why
    sent = [m.content for m in one.inbox.messages]
    assert [m.content for m in one.destination.account()["INBOX"].messages] == sent


def test_the_last_uid_that_can_be(bench: MakeBench) -> None:
    one = bench()
    one.inbox.put(message("first"))
    one.inbox.put(message("last"), uid=4_294_967_295)
    assert (one.copy().outcome, one.is_exact()) == (CopyOutcome.COMPLETE, True)


def test_mail_above_the_uidnext_that_was_told_is_found(bench: MakeBench) -> None:
    one = bench()
    one.put(10)
    one.inbox.uidnext = 4
    assert (one.copy().totals()["moved"], one.is_exact()) == (10, True)


# -- bodies that do not come -----------------------------------------------------------------------------------------------------

NOT_GIVEN = [BodyFault.MISSING, BodyFault.REFUSED, BodyFault.NIL, BodyFault.EMPTY, BodyFault.HEADER_ONLY]


@pytest.mark.parametrize("fault", NOT_GIVEN)
@pytest.mark.parametrize("cure", [Form.ALONE, Form.PIECES, Form.APART])
def test_a_body_is_asked_for_in_another_form(bench: MakeBench, fault: BodyFault, cure: Form) -> None:
    one = bench()
    bad = one.put(20)[7]
    bad.fault, bad.cure = fault, cure
    assert (one.copy().outcome, one.is_exact()) == (CopyOutcome.COMPLETE, True)


def test_a_body_that_uid_fetch_passes_over_is_asked_for_by_number(bench: MakeBench) -> None:
    one = bench()
    bad = one.put(20)[7]
    bad.fault, bad.cure = BodyFault.MISSING, Form.NUMBER
    assert (one.copy().outcome, one.is_exact()) == (CopyOutcome.COMPLETE, True)
    assert any(b" FETCH 8 (UID BODY.PEEK[])" in line and b"UID FETCH" not in line for line in one.bodies_asked())


@pytest.mark.parametrize("fault", NOT_GIVEN)
def test_a_body_that_comes_in_no_form_is_tried_three_times_and_named(bench: MakeBench, fault: BodyFault) -> None:
    one = bench()
    bad = one.put(20)[7]
    bad.fault, bad.words = fault, "NO [SERVERBUG] 邮件已损坏".encode("gbk")
    report = one.copy()
    assert report.outcome is CopyOutcome.PARTIAL
    [aside] = report.set_aside
    assert (aside.uid, aside.reason, aside.size) == (bad.uid, Cause.X_ITEM.value, len(bad.content))
    assert ("邮件已损坏" if fault is BodyFault.REFUSED else f"announced {len(bad.content)} octets") in aside.server_text
    assert one.arrived() == Counter(m.content for m in one.inbox.messages if m is not bad)
    again = [line for line in one.bodies_asked() if b"FETCH 8 " in line]
    whole = [line for line in again if b"UID FETCH 8 (UID BODY.PEEK[])" in line]
    assert (len(whole), len(again)) == (1, 4 if fault is BodyFault.MISSING else 3)  # alone (by number, too), pieces, apart
    assert one.source.connections == 1


@pytest.mark.parametrize("content", [b"Subject: draft\r\n\r\n", b"Subject: draft\r\n", b"Subject: draft", b"\r\n", b"\r\n\r\n", b"x",
                                     b"Subject: bare\n\nline ends\n", b"Content-Type: multipart/mixed; boundary=b\r\n\r\n",
                                     b"Content-Type: multipart/mixed; boundary=b\r\n\r\nno part at all\r\n"])
def test_a_message_that_has_no_more_than_that_is_moved(bench: MakeBench, content: bytes) -> None:
    one = bench()
    one.inbox.put(content)
    assert (one.copy().outcome, one.is_exact()) == (CopyOutcome.COMPLETE, True)
    assert len(one.bodies_asked()) == 1


def test_a_multipart_message_without_a_part_is_named(bench: MakeBench) -> None:
    one = bench()
    head = b"Subject: x\r\nContent-Type: multipart/mixed;\r\n\tboundary=\"=_b\"\r\n\r\n"
    one.inbox.put(head + b"This is a multi-part message.\r\n", announced_size=9000)
    one.inbox.put(head + b"--=_b\r\n\r\nhere it is\r\n--=_b--\r\n", announced_size=9000)
    report = one.copy()
    assert [a.uid for a in report.set_aside] == [1]
    assert one.arrived().total() == 1


@pytest.mark.parametrize(("announced", "tries"), [(0, 1), (1, 2), (700, 2), (100_000, 2), (4_000_000_000, 2)])
def test_a_size_that_lies_is_not_believed(bench: MakeBench, announced: int, tries: int) -> None:
    """Another length than announced is asked for again; what comes twice is the message."""
    one = bench()
    one.inbox.put(message("lie", "x" * 500), announced_size=announced)
    assert (one.copy().outcome, one.is_exact()) == (CopyOutcome.COMPLETE, True)
    assert len(one.bodies_asked()) == tries


def test_a_server_whose_sizes_all_lie_is_not_asked_for_everything_twice(bench: MakeBench) -> None:
    one = bench()
    for folder in (one.inbox, one.source.account()["Sent"]):
        folder.put(*(message(str(n), f"body {n} ") for n in range(60)))
        for m in folder.messages:
            m.announced_size = len(m.content) + 2
    report = one.copy()
    assert (report.outcome, report.totals()["moved"], one.is_exact()) == (CopyOutcome.COMPLETE, 120, True)
    assert len(one.bodies_asked()) == 62


def test_sizes_that_are_known_to_be_guesses_are_not_asked_about(bench: MakeBench) -> None:
    one = bench("exchange")
    one.put(65)
    assert (one.copy().outcome, one.is_exact(), len(one.bodies_asked())) == (CopyOutcome.COMPLETE, True, 1)


def test_a_body_that_is_cut_by_the_server_comes_whole_at_the_second_asking(bench: MakeBench) -> None:
    one = bench()
    [bad] = one.inbox.put(message("large", "x" * 20_000))
    cut = bad.content[:5000]
    one.source.oddity = each(lambda response: b"* 1 FETCH (UID 1 BODY[] {5000}\r\n" + cut + b")\r\n"
                             if b"BODY[" in response and len(one.bodies_asked()) == 1 else response)
    assert (one.copy().outcome, one.is_exact()) == (CopyOutcome.COMPLETE, True)


@pytest.mark.parametrize("takes_empty", [True, False])
@pytest.mark.parametrize("fault", [None, BodyFault.NIL, BodyFault.EMPTY])
def test_a_message_of_zero_octets(bench: MakeBench, takes_empty: bool, fault: BodyFault | None) -> None:
    """It is what the source has: moved, or set aside with the destination's words."""
    one = bench(destination=replace(DOVECOT, takes_empty=takes_empty))
    one.put(3)
    one.inbox.put(b"", fault=fault)
    report = one.copy()
    assert len(one.bodies_asked()) == 1
    if takes_empty:
        assert (report.outcome, one.is_exact()) == (CopyOutcome.COMPLETE, True)
    else:
        assert [(a.uid, "zero byte" in a.server_text) for a in report.set_aside] == [(4, True)]
        assert one.arrived().total() == 3


# -- bodies that break the connection --------------------------------------------------------------------------------------------

BREAKS = [BodyFault.CUT, BodyFault.BOMB, BodyFault.BYE, BodyFault.ENDLESS]


@pytest.mark.parametrize("fault", BREAKS)
def test_a_connection_that_one_message_breaks_is_opened_again(bench: MakeBench, fault: BodyFault) -> None:
    one = bench()
    bad = one.put(20)[7]
    bad.fault, bad.fault_times = fault, 1
    assert (one.copy().outcome, one.is_exact()) == (CopyOutcome.COMPLETE, True)
    assert one.source.connections == 2


@pytest.mark.parametrize("fault", BREAKS)
def test_a_message_that_breaks_the_connection_in_every_form_is_named(bench: MakeBench, fault: BodyFault) -> None:
    one = bench()
    first, second = one.put(20)[7:9]
    first.fault = second.fault = fault
    report = one.copy()
    assert (report.outcome, [a.uid for a in report.set_aside]) == (CopyOutcome.PARTIAL, [8, 9])
    assert one.arrived().total() == 18
    assert one.source.connections <= 7


@pytest.mark.parametrize("fault", BREAKS)
@pytest.mark.parametrize("cure", [Form.ALONE, Form.PIECES])
def test_a_message_that_broke_the_connection_is_asked_for_in_another_form(bench: MakeBench, fault: BodyFault, cure: Form) -> None:
    one = bench()
    bad = one.put(20)[7]
    bad.fault, bad.cure = fault, cure
    assert (one.copy().outcome, one.is_exact()) == (CopyOutcome.COMPLETE, True)
    assert one.source.connections == (2 if cure is Form.ALONE else 3)


@pytest.mark.parametrize("octets", [1, 2, 3, 20])
def test_a_literal_that_is_shorter_than_announced_is_not_the_message(bench: MakeBench, octets: int) -> None:
    """What follows is taken for the message's octets, and the server's next words are not what must follow: it is read in pieces."""
    one = bench()
    one.put(100)
    one.source.oddity = each(short_by(octets, b"body 7 "))
    assert (one.copy().outcome, one.is_exact()) == (CopyOutcome.COMPLETE, True)


@pytest.mark.parametrize("text", [
    b"* 8 FETCH (UID 8 BODY[] {-5}\r\n)\r\n", b"* 8 FETCH (UID 8 BODY[] {abc}\r\n)\r\n", b"* 8 FETCH (UID 8 BODY[] \"x\r\n",
    b"* 8 FETCH (UID 8 BODY[]\r\n", b"* 8 FETCH (UID -8 BODY[] {3}\r\nabc)\r\n", b"* 8 FETCH ()\r\n", b"* -8 FETCH (UID 8)\r\n",
    b"* 8 FETCH (UID 8 BODY[TEXT] {3}\r\nabc)\r\n", b"8 FETCH no star\r\n", b"* 8 FETCH " + b"(" * 200 + b"\r\n", b"\r\n" * 5,
    b"* 8 FETCH (UID 8 BODY[] {3000000000}\r\n)\r\n"])
def test_garbage_instead_of_a_message_is_that_messages_fault(bench: MakeBench, text: bytes) -> None:
    one = bench()
    one.put(20)
    one.source.oddity = each(instead_of(b"body 7 ", text))
    report = one.copy()
    assert [a.uid for a in report.set_aside] == [8]
    assert one.arrived().total() == 19


# -- lists and counts ------------------------------------------------------------------------------------------------------------


def test_a_message_that_no_list_may_name_is_named_itself(bench: MakeBench) -> None:
    """Dovecot refuses a whole FETCH for the size of one damaged message."""
    one = bench()
    bad = one.put(40)[17]
    bad.unlisted = b"NO [SERVERBUG] Internal error occurred"
    bad.fault = BodyFault.REFUSED
    report = one.copy()
    assert [a.uid for a in report.set_aside] == [18]
    assert one.arrived().total() == 39


def test_a_message_whose_size_cannot_be_told_is_moved(bench: MakeBench) -> None:
    one = bench()
    one.put(40)[17].unlisted = b"NO [SERVERBUG] Internal error occurred"
    assert (one.copy().outcome, one.is_exact()) == (CopyOutcome.COMPLETE, True)


def test_a_server_that_refuses_every_list_is_a_failure_and_not_an_empty_folder(bench: MakeBench) -> None:
    one = bench()
    one.put(40)
    one.source.faults.append(Fault("UID FETCH", Action.REPLY, text=b"BAD FETCH is not implemented", times=None))
    assert one.copy().outcome is not CopyOutcome.COMPLETE


def test_a_message_deleted_meanwhile_is_gone_and_not_set_aside(bench: MakeBench) -> None:
    one = bench()
    bad = one.put(20)[7]
    bad.fault = BodyFault.MISSING

    def delete(responses: list[bytes]) -> list[bytes]:
        if one.bodies_asked() and bad in one.inbox.messages:
            one.inbox.messages.remove(bad)
        return responses

    one.source.oddity = delete
    report = one.copy()
    assert (report.outcome, report.set_aside, one.is_exact()) == (CopyOutcome.COMPLETE, [], True)


def test_a_message_that_is_counted_and_no_longer_given_is_not_taken_for_deleted(bench: MakeBench) -> None:
    one = bench()
    bad = one.put(20)[7]

    def hide(responses: list[bytes]) -> list[bytes]:
        bad.hidden = True
        return responses

    one.source.oddity = hide
    bad.fault = BodyFault.MISSING
    report = one.copy()
    assert [a.uid for a in report.set_aside] == [8]


def test_a_goodbye_in_the_middle_of_a_batch_costs_a_connection(bench: MakeBench) -> None:
    one = bench()
    one.put(20)
    one.source.faults.append(Fault("UID FETCH", Action.CUT_ANSWER, contains=b"BODY.PEEK", at=1500))
    assert (one.copy().outcome, one.is_exact()) == (CopyOutcome.COMPLETE, True)
    assert one.source.connections == 2


# -- many ------------------------------------------------------------------------------------------------------------------------


def test_a_thousand_bad_messages_of_ten_thousand(bench: MakeBench) -> None:
    one = bench()
    messages = one.put(10_000)
    bad = messages[3::10]
    for number, m in enumerate(bad):
        m.fault = NOT_GIVEN[number % len(NOT_GIVEN)]
        m.words = b"NO [SERVERBUG] number %d is damaged" % m.uid
    report = one.copy()
    assert report.outcome is CopyOutcome.PARTIAL
    assert [a.uid for a in sorted(report.set_aside, key=lambda a: a.uid)] == [m.uid for m in bad]
    assert report.totals()["moved"] == 9000
    assert one.arrived() == Counter(m.content for m in messages if m.fault is None)
    refused = {m.uid for m in bad if m.fault is BodyFault.REFUSED}
    assert all(f"number {a.uid} is damaged" in a.server_text for a in report.set_aside if a.uid in refused)
    assert one.source.connections == 1
    assert one.copy().totals()["moved"] == 0


def test_many_messages_that_break_the_connection(bench: MakeBench) -> None:
    one = bench()
    bad = one.put(100)[1::10]
    for m in bad:
        m.fault = BodyFault.CUT
    report = one.copy()
    assert [a.uid for a in report.set_aside] == [m.uid for m in bad]
    assert one.arrived().total() == 90


def test_neighbours_that_break_the_connection_do_not_stop_a_mailbox(bench: MakeBench) -> None:
    one = bench()
    bad = one.put(20)[5:11]
    for m in bad:
        m.fault = BodyFault.BYE
    assert [a.uid for a in one.copy().set_aside] == [m.uid for m in bad]
    assert one.arrived().total() == 14
