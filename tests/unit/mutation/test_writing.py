"""What the mutation run showed that nothing fast held: what the writer says of refusals, repairs and mail that vanished."""
from __future__ import annotations

import pytest

from engine.causes import Cause, Side
from engine.ledger import Repair
from tests.support.provider_simulator import AppendRefusal
from tests.unit.simulation.rig import Make, Rig


@pytest.mark.parametrize("destination", ["IMAP4rev1 UIDPLUS LITERAL+", "IMAP4rev1 UIDPLUS MULTIAPPEND LITERAL+", "IMAP4rev1"])
def test_a_keyword_that_is_refused_is_left_off_and_named(rig: Make, destination: str) -> None:
    one = rig(destination=destination)
    mails = one.fill(6)
    mails[3].flags = ("\\Seen", "$label")
    one.destination.append_refusals.append(AppendRefusal(b"NO APPEND failed: Unknown flag: $label", keyword="$label"))
    report = one.copy().report
    assert report is not None
    assert (report.totals()["moved"], report.totals()["repaired"], report.totals()["set_aside"]) == (6, 1, 0)
    assert one.is_exact()
    [[repair]] = [repairs for repairs in one.world.run_process(lambda: _repairs(one)) if repairs]
    assert (repair.uid, repair.repair) == (mails[3].uid, Repair.KEYWORDS)
    assert "Unknown flag: $label" in repair.words and " + " not in repair.words and ": NO" not in repair.words
    [copied] = [m for m in one.destination.account()["INBOX"].messages if m.content == mails[3].content]
    assert copied.flags == ("\\Seen",)


def _repairs(one: Rig) -> list[list]:
    ledger = one.disk.open()
    try:
        return [ledger.repairs(row.id) for row in ledger.folders()]
    finally:
        ledger.close()


def test_mail_that_vanishes_while_it_is_moved_is_counted(rig: Make) -> None:
    one = rig()
    mails = one.fill(30)
    inbox = one.source.account()["INBOX"]
    record = one.source.record

    def record_and_delete(connection: int, verb: str, line: bytes, login: str | None) -> None:
        """Deletes two messages that were listed when the first body is asked for."""
        if b"BODY.PEEK" in line:
            inbox.messages[:] = [m for m in inbox.messages if m not in (mails[7], mails[8])]
        record(connection, verb, line, login)

    one.source.record = record_and_delete  # type: ignore[method-assign]
    report = one.copy().report
    assert report is not None and report.outcome.value == "complete"
    totals = report.totals()
    assert (totals["total"], totals["moved"], totals["vanished"]) == (30, 28, 2)
    assert one.is_exact()


def test_a_full_destination_is_named_with_its_words_and_its_side(rig: Make) -> None:
    one = rig()
    one.fill(9)
    one.destination.account().quota = 900
    report = one.copy().report
    assert report is not None
    assert (report.cause, report.side) == (Cause.DESTINATION_QUOTA, Side.DESTINATION)
    assert "Quota exceeded" in report.server_text
    assert 0 < one.contents("destination").total() < 9
