"""Given a mailbox that was copied, when its source changes, then the next pass carries over just that."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.ledger_file import SqliteLedger
from engine.report.copy import CopyOutcome, CopyReport
from engine.transfer.copier import copy_mailbox
from tests.support.provider_simulator import LOOPBACK, PROFILES, Message, Profile, ProviderSimulator, message, with_capabilities


@dataclass
class Moved:
    """Two servers and a ledger; INBOX holds `count` messages."""

    source: ProviderSimulator
    destination: ProviderSimulator
    ledger: SqliteLedger

    def fill(self, count: int) -> None:
        self.source.account()["INBOX"].put(*(message(str(n), f"body {n} ") for n in range(count)), flags=("\\Seen",))

    def copy(self) -> CopyReport:
        for server in (self.source, self.destination):
            server.commands.clear()
        self.source.bodies_opened = 0
        report = copy_mailbox(self.source.login_for(), self.destination.login_for(), ledger=self.ledger, source_route=LOOPBACK,
                              destination_route=LOOPBACK)
        assert not self.source.source_changes()
        return report

    def flags(self, server: ProviderSimulator) -> dict[bytes, frozenset[str]]:
        return {m.content: frozenset(m.flags) - {"\\Recent"} for m in server.account()["INBOX"].messages}

    @property
    def here(self) -> list[Message]:
        return self.source.account()["INBOX"].messages

    @property
    def there(self) -> list[Message]:
        return self.destination.account()["INBOX"].messages


def without(*capabilities: str) -> Profile:
    return with_capabilities(PROFILES["dovecot"], without=capabilities)


@pytest.fixture(params=[(), ("CONDSTORE", "QRESYNC"), ("CONDSTORE", "QRESYNC", "LIST-STATUS")],
                ids=["condstore", "plain", "no-list-status"])
def moved(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Moved]:
    ledger = SqliteLedger(tmp_path / "ledger", "pair")
    with ProviderSimulator(without(*request.param)) as source, ProviderSimulator("dovecot") as destination:
        one = Moved(source, destination, ledger)
        one.fill(30)
        assert one.copy().outcome is CopyOutcome.COMPLETE
        yield one
    ledger.close()


def test_nothing_new_opens_no_body_and_changes_nothing(moved: Moved) -> None:
    report = moved.copy()
    assert (report.outcome, report.totals()["moved"], moved.source.bodies_opened) == (CopyOutcome.COMPLETE, 0, 0)
    assert not moved.destination.count("APPEND") and not moved.destination.count("UID STORE")


def test_changed_flags_are_carried_over_and_only_they(moved: Moved) -> None:
    moved.here[3].flags = ("\\Seen", "\\Flagged")
    moved.here[4].flags = ()
    moved.there[5].flags = ("\\Seen", "\\Answered")  # the owner's own doing in the new mailbox stays
    moved.there[3].flags = ("\\Seen", "$MyOwn")
    report = moved.copy()
    assert (report.totals()["flags_updated"], report.totals()["moved"]) == (2, 0)
    assert frozenset(moved.there[3].flags) == {"\\Seen", "\\Flagged", "$MyOwn"}
    assert moved.there[4].flags == ()
    assert frozenset(moved.there[5].flags) == {"\\Seen", "\\Answered"}
    again = moved.copy()
    assert not moved.destination.count("UID STORE") and again.outcome is CopyOutcome.COMPLETE


def test_new_mail_and_changed_flags_together(moved: Moved) -> None:
    moved.here[0].flags = ("\\Answered",)
    moved.fill(3)
    report = moved.copy()
    assert (report.totals()["moved"], report.totals()["flags_updated"]) == (3, 1)
    assert moved.flags(moved.source) == moved.flags(moved.destination)
    moved.here[-1].flags = ("\\Flagged",)  # of the mail that came later, too
    assert moved.copy().totals()["flags_updated"] == 2
    assert moved.flags(moved.source) == moved.flags(moved.destination)


def test_deletions_are_counted_once_and_never_replayed(moved: Moved) -> None:
    del moved.here[2], moved.here[7]
    report = moved.copy()
    assert (report.outcome, report.totals()["gone"], len(moved.there)) == (CopyOutcome.COMPLETE, 2, 30)
    assert moved.copy().totals()["gone"] == 2
    moved.fill(1)
    del moved.here[0]
    assert moved.copy().totals()["gone"] == 3
    assert len(moved.there) == 31


def test_flags_after_deletions_reach_the_right_message(moved: Moved) -> None:
    """The ledger's runs count messages; which UIDs they were, the stored flags know."""
    del moved.here[1]
    moved.copy()
    moved.here[1].flags = ("\\Flagged",)
    target = moved.here[1].content
    moved.copy()
    assert [m.content for m in moved.there if "\\Flagged" in m.flags] == [target]


def test_sparse_uids_are_no_hindrance(tmp_path: Path) -> None:
    """NetEase: large UIDs, not from 1, with gaps."""
    ledger = SqliteLedger(tmp_path / "ledger", "pair")
    with ProviderSimulator("netease") as source, ProviderSimulator("dovecot") as destination:
        one = Moved(source, destination, ledger)
        one.fill(10)
        assert one.copy().outcome is CopyOutcome.COMPLETE
        del one.here[4]
        one.here[6].flags = ("\\Seen", "\\Flagged")
        wanted = one.here[6].content
        one.copy()
        assert [m.content for m in one.there if "\\Flagged" in m.flags] == [wanted]
    ledger.close()
