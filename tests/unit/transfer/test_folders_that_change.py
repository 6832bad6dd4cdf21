"""Given folders that are made anew, lost, renamed or full while or between passes, then nothing is lost, doubled or silent."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.causes import Cause
from engine.ledger_file import SqliteLedger
from engine.report.copy import CopyOutcome
from engine.transfer import pairs
from tests.support.provider_simulator import AppendRefusal, BodyFault, message
from tests.unit.transfer.moving import Bench, MakeBench, offering

UNASKED = b"NO [TOOBIG] Non-synchronizing literal size exceeds 4K"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "RECONNECT_SECONDS", (0.01,))


@pytest.fixture
def moved(bench: MakeBench) -> Iterator[Bench]:
    one = bench()
    one.fill(40)
    assert one.copy().outcome is CopyOutcome.COMPLETE
    yield one


def remake(one: Bench, *, source: bool, same_validity: bool) -> None:
    """The folder is deleted and made again, with half of its mail and one that is new; UIDs begin at 1."""
    server = one.source if source else one.destination
    old = server.account()["INBOX"]
    folder = server.add_folder("INBOX")
    if same_validity:
        folder.uidvalidity = old.uidvalidity
    folder.put(message("new", "quite new "), *(m.content for m in old.messages[::2]))


@pytest.mark.parametrize("same_validity", [False, True], ids=["another", "the same"])
def test_a_source_folder_that_was_made_again_is_adopted_not_doubled(moved: Bench, same_validity: bool) -> None:
    """Also where UIDVALIDITY is constant (Alibaba): the UIDs went back to lower numbers."""
    before = moved.contents(moved.destination)
    remake(moved, source=True, same_validity=same_validity)
    report = moved.copy()
    assert (report.outcome, report.totals()["moved"]) == (CopyOutcome.COMPLETE, 1)
    assert (moved.contents(moved.destination) - before).total() == 1
    assert not moved.contents(moved.source) - moved.contents(moved.destination)


@pytest.mark.parametrize("same_validity", [False, True], ids=["another", "the same"])
def test_a_destination_folder_that_was_made_again_gets_what_it_lacks(moved: Bench, same_validity: bool) -> None:
    remake(moved, source=False, same_validity=same_validity)
    moved.source.account()["INBOX"].put(message("later", "later "))
    assert moved.copy().outcome is CopyOutcome.COMPLETE
    lacking = moved.contents(moved.source) - moved.contents(moved.destination)
    assert not lacking
    assert (moved.contents(moved.destination) - moved.contents(moved.source)).total() == 1  # the new folder's own


def test_a_destination_folder_that_is_deleted_under_our_hands_is_filled_again(bench: MakeBench) -> None:
    one = bench(destination=offering("IMAP4rev1 UIDPLUS LITERAL+"))
    one.source.add_folder("Work").put(*(message(str(n), f"work {n} ") for n in range(60)))
    one.destination.append_refusals.append(AppendRefusal(b"NO [TRYCREATE] Mailbox does not exist", contains=b"work 30 ", times=1))
    deleted = []

    def delete_once(refusal: AppendRefusal) -> None:
        deleted.append(one.destination.account().folders.pop("Work", None))

    original = AppendRefusal.applies

    def applies(self: AppendRefusal, folder: str, flags: tuple[str, ...], content: bytes) -> bool:
        refused = original(self, folder, flags, content)
        if refused and not deleted:
            delete_once(self)
        return refused

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AppendRefusal, "applies", applies)
        report = one.copy()
    assert deleted and report.outcome is CopyOutcome.COMPLETE, report
    there = sorted(m.content for m in one.destination.account()["Work"].messages)
    assert there == sorted(m.content for m in one.source.account()["Work"].messages)


def test_a_server_that_hangs_up_over_unasked_literals_is_asked(bench: MakeBench) -> None:
    """Cyrus with `literalminus` offers LITERAL+ all the same."""
    one = bench(destination=offering("IMAP4rev1 UIDPLUS LITERAL+"))
    one.fill(5)
    one.source.account()["INBOX"].put(message("large", "x" * 9000), message("larger", "y" * 12000))
    one.destination.append_refusals.append(AppendRefusal(UNASKED, larger_than=8000, times=1))
    report = one.copy()
    assert (report.outcome, report.set_aside) == (CopyOutcome.COMPLETE, [])
    assert one.is_exact()


@pytest.mark.parametrize("fault", [BodyFault.NIL, BodyFault.MISSING, BodyFault.REFUSED, BodyFault.HEADER_ONLY])
@pytest.mark.parametrize("times", [1, None], ids=["once", "always"])
def test_a_body_that_is_not_given_while_comparing_is_not_moved_twice(moved: Bench, tmp_path: Path, fault: BodyFault,
                                                                     times: int | None) -> None:
    """The ledger is lost; what the source does not show now may be at the destination all the same."""
    moved.ledger.close()
    moved.ledger = SqliteLedger(tmp_path / "another", "pair")
    bad = moved.source.account()["INBOX"].messages[7]
    bad.fault, bad.fault_times = fault, times
    report = moved.copy()
    assert moved.contents(moved.destination) == moved.contents(moved.source)
    assert report.outcome is (CopyOutcome.COMPLETE if times else CopyOutcome.PARTIAL)
    assert [a.uid for a in report.set_aside] == ([] if times else [bad.uid])


def test_a_destination_that_fills_up_stops_the_move_and_goes_on_later(bench: MakeBench) -> None:
    one = bench(destination=offering("IMAP4rev1 UIDPLUS"))
    one.fill(20)
    full = AppendRefusal(b"NO Over quota", contains=b"body 11 ")
    one.destination.append_refusals.append(full)
    report = one.copy()
    assert (report.outcome, report.cause) == (CopyOutcome.FAILED, Cause.DESTINATION_QUOTA)
    one.destination.append_refusals.remove(full)
    assert one.copy().outcome is CopyOutcome.COMPLETE
    assert one.is_exact()


def test_what_could_not_be_compared_is_compared_before_it_is_tried_again(moved: Bench, tmp_path: Path) -> None:
    """It was set aside because the source did not show it, and it is at the destination since before."""
    moved.ledger.close()
    moved.ledger = SqliteLedger(tmp_path / "another", "pair")
    bad = moved.source.account()["INBOX"].messages[7]
    bad.fault, bad.fault_times = BodyFault.NIL, None
    assert [a.uid for a in moved.copy().set_aside] == [bad.uid]
    bad.fault = None
    report = moved.copy(retry_set_aside=True)
    assert (report.outcome, report.totals()["moved"]) == (CopyOutcome.COMPLETE, 0)
    assert moved.is_exact()
