"""What the mutation run showed that nothing else held: what adoption does to the copies that it finds, and the edges of stored flags."""
from __future__ import annotations

import pytest

from engine.report.copy import CopyOutcome
from engine.transfer.complete import header_only
from engine.transfer.flags import StoredFlags, pack
from tests.support.simulator_mail import Message
from tests.unit.simulation.rig import Make


def test_copies_that_are_found_get_the_flags_that_they_lack_and_keep_their_own(rig: Make) -> None:
    one = rig()
    mails = one.fill(4)
    there = one.destination.add_folder("INBOX") if "INBOX" not in one.destination.account().folders else one.destination.account()["INBOX"]
    wanted = [("\\Seen",), ("\\Flagged", "\\Seen"), (), ("\\Answered",)]
    for mail, flags, own in zip(mails, wanted, [(), ("\\Seen",), ("\\Draft",), ("\\Flagged",)], strict=True):
        mail.flags = flags
        there.add(Message(mail.content, own, mail.internal_date))
    report = one.copy().report
    assert report is not None and (report.outcome, report.totals()["already_there"]) == (CopyOutcome.COMPLETE, 4)
    assert [set(m.flags) for m in there.messages] == [{"\\Seen"}, {"\\Flagged", "\\Seen"}, {"\\Draft"}, {"\\Answered", "\\Flagged"}]


def test_a_copy_that_its_server_altered_is_named_and_counted_once(rig: Make) -> None:
    one = rig()
    one.fill(5)
    one.destination.account()["INBOX"].altered = b"body 2 "
    assert one.copy().ended == "partial"
    one.disk.lose()
    report = one.copy().report
    assert report is not None and report.outcome is CopyOutcome.PARTIAL
    totals = report.totals()
    assert (totals["total"], totals["already_there"], totals["moved"], totals["set_aside"]) == (5, 4, 0, 1)
    assert [aside.uid for aside in report.set_aside] == [3]
    assert "altered" in report.set_aside[0].server_text
    assert one.contents("destination").total() == 5


def test_flags_between_two_uids_are_those_of_both_as_well() -> None:
    first, second = pack([(1, ("a",)), (128, ("b",)), (255, ()), (300, ("c",))]), pack([(400, ("d",)), (401, ())])
    stored = StoredFlags([first, second])
    assert [*stored.between(128, 300)] == [(128, ("b",)), (255, ()), (300, ("c",))]
    assert [*stored.between(300, 400)] == [(300, ("c",)), (400, ("d",))]
    assert [*stored.between(129, 254)] == []
    many = [(n * 128, (f"${n % 130}",)) for n in range(1, 400)]  # numbers of one octet and of two
    assert [*StoredFlags([pack(many)])] == many


@pytest.mark.parametrize(("content", "announced", "expected"), [
    (b"a: b\r\n\r\n", 8, False), (b"a: b\r\n\r\n", 9, True), (b"a: b\r\n\r\nbody", 900, False), (b"a: b", 4, False), (b"a: b", 5, True),
])
def test_a_header_alone_is_told_by_what_was_announced(content: bytes, announced: int, expected: bool) -> None:
    assert header_only(content, announced) is expected
