"""Quick and full, with a ledger and without, against servers: what is read, what is named, and how reading goes on after a fault."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from engine.causes import Cause, Side
from engine.imap.fetch import Metadata
from engine.imap.session import Session
from engine.ledger import Entry, Repair, RepairRow
from engine.ledger_file import SqliteLedger
from engine.report.copy import CopyOutcome
from engine.report.verify import FindingKind, VerifyMode, VerifyReport
from engine.transfer.copier import copy_mailbox
from engine.verify import reading, verify_mailboxes
from engine.verify.reading import with_crlf
from engine.verify.spool import Spool
from tests.support.provider_simulator import PROFILES, Action, BodyFault, Fault, Folder, ProviderSimulator, message

QUICK, FULL = VerifyMode.QUICK, VerifyMode.FULL


@dataclass
class Copied:
    """A mailbox and its copy, with the ledger that the copy left."""

    source: ProviderSimulator
    destination: ProviderSimulator
    ledger: SqliteLedger

    def verified(self, mode: VerifyMode = FULL, *, with_ledger: bool = True, connections: int = 1) -> VerifyReport:
        self.source.bodies_opened = self.destination.bodies_opened = 0
        report = verify_mailboxes(self.source.login_for(), self.destination.login_for(), source_route=self.source.route,
                                  destination_route=self.destination.route, mode=mode, ledger=self.ledger if with_ledger else None,
                                  connections=connections)
        assert report.cause is None, report
        return report

    def here(self, name: str = "INBOX") -> Folder:
        return self.source.account()[name]

    def there(self, name: str = "INBOX") -> Folder:
        return self.destination.account()[name]


@contextmanager
def copied(place: Path, source: str, *contents: bytes) -> Iterator[Copied]:
    with ProviderSimulator(source) as here, ProviderSimulator("dovecot") as there:
        here.account()["INBOX"].put(*contents, flags=("\\Seen",))
        ledger = SqliteLedger(place / "ledger", "pair")
        done = copy_mailbox(here.login_for(), there.login_for(), ledger=ledger, source_route=here.route, destination_route=there.route)
        assert done.outcome is CopyOutcome.COMPLETE
        yield Copied(here, there, ledger)
        ledger.close()


@pytest.fixture
def five(tmp_path: Path) -> Iterator[Copied]:
    with copied(tmp_path, "plain", *(message(f"mail {n}", "x" * 10 * n) for n in range(1, 6))) as scene:
        yield scene


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PAUSE", 0.01)


def named(report: VerifyReport) -> list[tuple[FindingKind, int | None, int | None]]:
    return [(f.kind, f.source_uid, f.target_uid) for folder in report.folders for f in folder.findings]


@pytest.mark.parametrize("with_ledger", [True, False])
def test_quick_reads_lists_and_no_bodies(five: Copied, with_ledger: bool) -> None:
    report = five.verified(QUICK, with_ledger=with_ledger)
    assert (report.equal, report.mode, report.octets_compared, report.sizes_compared, report.ledger_used) == (
        True, QUICK, False, True, with_ledger)
    assert five.source.bodies_opened == five.destination.bodies_opened == 0
    assert not five.source.source_changes()
    assert five.verified().octets_compared and five.source.bodies_opened == five.destination.bodies_opened == 5


@pytest.mark.parametrize("with_ledger", [True, False])
def test_a_flipped_octet_is_found_by_full_and_not_by_quick(five: Copied, with_ledger: bool) -> None:
    changed = five.there().messages[2]
    changed.content = changed.content.replace(b"mail 3", b"mail 8")
    assert five.verified(QUICK, with_ledger=with_ledger).equal
    report = five.verified(with_ledger=with_ledger)
    assert not report.equal
    assert (report.altered, report.missing, report.extra) == ((1, 0, 0) if with_ledger else (0, 1, 1))


def test_quick_without_a_ledger_compares_sizes_dates_and_flags_as_multisets(five: Copied) -> None:
    five.there().messages[0].flags = ()
    five.there().messages[1].internal_date = "01-Jan-2001 00:00:00 +0000"
    del five.there().messages[3]
    report = five.verified(QUICK, with_ledger=False)
    assert (report.missing, report.extra, report.altered_flags, report.altered_date) == (1, 0, 1, 1)


def test_repaired_line_ends_are_compared_as_they_were_moved(five: Copied) -> None:
    odd, other = five.here().messages[1], five.here().messages[2]
    odd.content = b"Subject: odd\r\n\r\nbare\nand\rand\r\n" + b"long\n" * 50_000 + b"\r"
    five.there().messages[1].content = b"Subject: odd\r\n\r\nbare\r\nand\r\nand\r\n" + b"long\r\n" * 50_000 + b"\r\n"
    [row] = [row for row in five.ledger.folders() if row.source == "INBOX"]
    assert five.verified().altered == 1
    five.ledger.write(Entry(row, repairs=[RepairRow(odd.uid, Repair.LINE_ENDS, "keywords + line_ends: NO bare LF")]))
    for mode in VerifyMode:
        report = five.verified(mode)
        assert (report.equal, report.repaired) == (True, 1)
    five.there().messages[1].content += b"!"
    other.content += b"\n"
    report = five.verified()
    assert named(report) == [(FindingKind.ALTERED_OCTETS, odd.uid, 2), (FindingKind.ALTERED_OCTETS, other.uid, 3)]


@pytest.mark.parametrize("at", range(1, 8))
def test_line_ends_that_two_pieces_share_stay_one(at: int) -> None:
    octets = b"a\r\nb\n\rc\r\r\n"
    assert b"".join(with_crlf([octets[:at], octets[at:]])) == b"a\r\nb\r\n\r\nc\r\n\r\n"


def test_a_refused_message_does_not_take_those_after_it_along(tmp_path: Path) -> None:
    with copied(tmp_path, "plain", *(message(f"mail {n}") for n in range(900))) as scene:
        scene.here().messages[3].fault = BodyFault.REFUSED
        scene.there().messages[700].fault = BodyFault.MISSING
        report = scene.verified()
        assert named(report) == [(FindingKind.UNREADABLE, scene.here().messages[3].uid, 4),
                                 (FindingKind.UNREADABLE, scene.here().messages[700].uid, 701)]
        assert (report.missing, report.unreadable, report.extra) == (2, 2, 0)


def test_a_message_that_leaves_while_we_read_is_no_difference(five: Copied) -> None:
    """The list named it, and when its body is asked for it is gone."""
    session = Session.open(five.source.login_for(), five.source.route, side=Side.SOURCE)
    with Spool() as spool:
        spool.put(Side.SOURCE, 1, [Metadata(five.here().messages.pop(2).uid, 10, (), "")])
        reading.Part(Side.SOURCE, 1, "INBOX", octets=True).read(session, spool)
        assert spool.count(Side.SOURCE) == 4
        assert list(spool.unread(Side.SOURCE, 1, 1, 1 << 32)) == []
    session.logout()


def test_one_large_folder_is_read_over_several_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "WORTH_A_PART", 200)
    with copied(tmp_path, "plain", *(message(f"mail {n}", "") for n in range(420))) as scene:
        before = scene.source.count("EXAMINE")
        report = scene.verified(connections=2)
        assert report.equal
        assert scene.source.bodies_opened == scene.destination.bodies_opened == 420
        inbox = [line for line in scene.source.lines("EXAMINE")[before:] if b"INBOX" in line]
        assert len(inbox) == 2


def test_reading_goes_on_where_it_broke_and_gives_up_only_without_any_progress(tmp_path: Path) -> None:
    with copied(tmp_path, "plain", *(message(f"mail {n}", "x" * 1000) for n in range(600))) as scene:
        scene.source.faults.append(Fault("UID FETCH", Action.CUT_ANSWER, contains=b"BODY", at=60_000, times=2 * reading.TRIES))
        report = scene.verified()
        assert report.equal
        assert scene.source.bodies_opened < 600 + 2 * reading.TRIES * 400  # what was in flight is read again, the rest is not
        scene.source.faults.append(Fault("UID FETCH", Action.CUT_ANSWER, contains=b"BODY", at=60, times=None))
        failed = verify_mailboxes(scene.source.login_for(), scene.destination.login_for(), source_route=scene.source.route,
                                  destination_route=scene.destination.route)
        assert failed.cause is not None and not failed.equal


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_folder_that_is_not_opened_is_named_and_the_others_are_compared(five: Copied, side: str) -> None:
    server = five.source if side == "source" else five.destination
    for end in (five.source, five.destination):
        end.add_folder("Locked").put(message("a"), message("b"))
    server.faults.append(Fault("EXAMINE", Action.REPLY, b"NO This folder is damaged", contains=b"Locked", times=None))
    report = five.verified(with_ledger=False)
    assert not report.equal and report.unreadable == 2
    [found] = [f for folder in report.folders for f in folder.findings if f.kind is FindingKind.UNREADABLE]
    assert (found.folder, found.words) == ("Locked", f"the {side} does not open it: This folder is damaged")
    assert [(f.folder, f.source_messages, f.missing, f.extra) for f in report.folders if f.folder == "INBOX"] == [("INBOX", 5, 0, 0)]


def test_what_was_compared_before_a_failure_is_in_the_report(five: Copied) -> None:
    for n in range(8):  # more than are read at a time: INBOX, the largest, is done with when the smallest is begun
        for end in (five.source, five.destination):
            end.add_folder(f"F{n}").put(message("a"), message("b"))
    five.source.add_folder("Later").put(message("a"))
    del five.there().messages[1]
    five.source.profile = replace(PROFILES["plain"], greeting=PROFILES["exchange"].greeting)
    five.source.faults.append(Fault("EXAMINE", Action.REPLY, b"BAD Request is throttled. Suggested Backoff Time: 400000 milliseconds",
                                    contains=b"Later", times=None))
    report = verify_mailboxes(five.source.login_for(), five.destination.login_for(), source_route=five.source.route,
                              destination_route=five.destination.route)
    assert report.cause is Cause.THROTTLED and report.retry_after and 399 < report.retry_after <= 400 and not report.equal
    assert [(f.folder, f.missing) for f in report.folders if f.missing] == [("INBOX", 1)]


@pytest.mark.parametrize("mode", list(VerifyMode))
def test_a_ledger_of_another_uidvalidity_is_told_and_not_used(five: Copied, mode: VerifyMode) -> None:
    five.here().uidvalidity += 1
    report = five.verified(mode)
    assert report.equal
    assert [f.note for f in report.folders if f.note] == ["another UIDVALIDITY than the ledger's, compared by content: INBOX"]
    del five.there().messages[0]
    assert five.verified(mode).missing == 1


@pytest.mark.parametrize("mode", list(VerifyMode))
def test_a_folder_that_left_the_source_is_told(tmp_path: Path, mode: VerifyMode) -> None:
    with ProviderSimulator("plain") as here, ProviderSimulator("dovecot") as there:
        here.add_folder("Old").put(message("a"), message("b"))
        ledger = SqliteLedger(tmp_path / "ledger", "pair")
        copy_mailbox(here.login_for(), there.login_for(), ledger=ledger, source_route=here.route, destination_route=there.route)
        del here.account().folders["Old"]
        report = Copied(here, there, ledger).verified(mode)
        assert (report.equal, report.gone) == (True, 2)
        assert [(f.folder, f.note) for f in report.folders if f.gone] == [("Old", "the source no longer has this folder")]
        ledger.close()


def test_where_the_source_only_estimates_sizes_quick_says_that_it_does_not_compare_them(tmp_path: Path) -> None:
    with copied(tmp_path, "exchange", message("a"), message("b", "longer")) as scene:
        report = scene.verified(QUICK)
        assert (report.equal, report.sizes_compared) == (True, False)
        scene.there().messages[1].flags = ()
        assert scene.verified(QUICK).altered_flags == 1
        assert scene.verified().altered == 0
