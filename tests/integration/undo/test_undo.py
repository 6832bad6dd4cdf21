"""Given a mailbox copied in passes, when one pass is undone, then exactly what it appended is gone; killed anywhere, it converges."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engine.imap.session import Session
from engine.ledger import LedgerStore, Outcome
from engine.manifest import Proof, manifest_of
from engine.report.copy import CopyOutcome
from engine.report.undo import UndoLeft
from engine.transfer import points
from engine.transfer import undo as undo_module
from engine.wire import utf7
from tests.integration.undo.conftest import Mailboxes, mails
from tests.support.dovecot import PASSWORD, Dovecot, read_back, running_dovecot

FIRST = {"INBOX": (1, 2, 3, 4, 5), "Sent": (20, 21, 22)}
OWN = {"INBOX": (90, 92), "Sent": (91,)}
SECOND = {"INBOX": (6, 7, 8, 9), "Sent": (23,), "新的": (40,)}


def holds(mailboxes: Mailboxes, *parts: dict[str, tuple[int, ...]]) -> bool:
    """The destination has these messages, each once, and no others."""
    there = mailboxes.at_destination()
    wanted = {folder: mails(*(n for part in parts for n in part.get(folder, ()))) for folder in there}
    return there == wanted


def proof(mailboxes: Mailboxes) -> Proof:
    found: Proof = mailboxes.with_ledger(lambda ledger: manifest_of(ledger).proof)
    return found


# --- what goes and what stays ---------------------------------------------------------------------------------------------


def test_the_last_pass_goes_and_everything_else_stays(two_passes: Mailboxes) -> None:
    source = two_passes.at_source()
    report = two_passes.undo(2)
    totals = report.totals()
    assert (report.outcome, totals["removed"], totals["absent"], totals["left"]) == (CopyOutcome.COMPLETE, 6, 0, 0)
    assert holds(two_passes, FIRST, OWN)
    assert "新的" in two_passes.at_destination(), "no folder is ever removed"
    assert two_passes.at_source() == source


def test_the_first_pass_can_be_undone_and_the_second_stays(two_passes: Mailboxes) -> None:
    assert two_passes.undo(1).totals()["removed"] == 8
    assert holds(two_passes, SECOND, OWN)


def test_the_next_copy_moves_what_was_undone_again_and_once(two_passes: Mailboxes) -> None:
    two_passes.undo(2)
    assert proof(two_passes) is Proof.OPEN
    report = two_passes.copy()
    assert (report.outcome, report.totals()["moved"]) == (CopyOutcome.COMPLETE, 6)
    assert holds(two_passes, FIRST, SECOND, OWN)
    assert proof(two_passes) is Proof.HOLDS
    assert two_passes.copy().totals()["moved"] == 0


def test_a_dry_run_counts_and_changes_nothing(two_passes: Mailboxes) -> None:
    before = two_passes.with_ledger(lambda ledger: manifest_of(ledger).digest)
    report = two_passes.undo(2, dry_run=True)
    assert (report.outcome, report.totals()["removed"]) == (CopyOutcome.COMPLETE, 6)
    assert holds(two_passes, FIRST, SECOND, OWN)
    assert two_passes.with_ledger(lambda ledger: manifest_of(ledger).digest) == before


def test_what_the_owner_removed_or_marked_is_no_obstacle(two_passes: Mailboxes) -> None:
    """Also a message that its owner marked as deleted and did not expunge: it is not ours to remove."""
    with two_passes.destination.client(two_passes.login) as client:
        client.command(b'SELECT "Sent"')
        client.command(b"STORE 1 +FLAGS (\\Deleted)")  # of the first pass
        client.command(b'SELECT "INBOX"')
        client.command(b"STORE 7 +FLAGS (\\Deleted)")  # of the second
        client.command(b"EXPUNGE")
    totals = two_passes.undo(2).totals()
    assert (totals["removed"], totals["absent"]) == (5, 1)
    assert holds(two_passes, FIRST, OWN)


def test_undone_twice_the_second_finds_nothing_to_do(two_passes: Mailboxes) -> None:
    two_passes.undo(2)
    again = two_passes.undo(2)
    assert (again.outcome, again.folders) == (CopyOutcome.COMPLETE, [])


def test_after_an_undo_changed_flags_are_still_carried_over(two_passes: Mailboxes) -> None:
    """Given some were undone and moved again, when their flags change at the source, then the new copies get them."""
    two_passes.undo(2)
    two_passes.copy()
    with two_passes.source.client(two_passes.login) as client:
        client.command(b'SELECT "INBOX"')
        client.command(b"STORE 2,7 FLAGS (\\Flagged \\Seen)")
    two_passes.copy()
    there = {m.content: m.flags for m in read_back(two_passes.destination, two_passes.login)["INBOX"]}
    flagged = {content for content, flags in there.items() if "\\Flagged" in flags}
    assert flagged == set(mails(2, 7))
    assert holds(two_passes, FIRST, SECOND, OWN)
    assert proof(two_passes) is Proof.HOLDS


def test_many_messages_go_in_batches(mailboxes: Mailboxes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undo_module, "MESSAGES_AT_ONCE", 7)
    monkeypatch.setattr(undo_module, "UIDS_AT_ONCE", 3)
    mailboxes.seed(*range(1, 60))
    mailboxes.receive(90)
    mailboxes.copy()
    assert mailboxes.undo(1).totals()["removed"] == 59
    assert mailboxes.at_destination()["INBOX"] == mails(90)


# --- what is left ---------------------------------------------------------------------------------------------------------


def test_a_folder_made_anew_is_left_and_named(two_passes: Mailboxes) -> None:
    """The same UIDs name other messages there."""
    with two_passes.destination.client(two_passes.login) as client:
        client.command(b'DELETE "Sent"')
        client.command(b'CREATE "Sent"')
    two_passes.receive(*range(70, 80), folder="Sent")
    report = two_passes.undo(2)
    assert report.outcome is CopyOutcome.PARTIAL
    assert [(f.source, f.why, f.left) for f in report.folders if f.left] == [("Sent", UndoLeft.FOLDER_CHANGED, 1)]
    assert two_passes.at_destination()["Sent"] == mails(*range(70, 80))
    assert two_passes.at_destination()["INBOX"] == mails(*FIRST["INBOX"], *OWN["INBOX"])


def test_a_folder_that_is_gone_is_named(two_passes: Mailboxes) -> None:
    with two_passes.destination.client(two_passes.login) as client:
        client.command(b'DELETE "%s"' % utf7.encode("新的").encode())
    report = two_passes.undo(2)
    assert [(f.source, f.why) for f in report.folders if f.left] == [("新的", UndoLeft.FOLDER_MISSING)]


def test_what_was_deleted_at_the_source_since_is_kept_unless_asked(two_passes: Mailboxes) -> None:
    def say_gone(ledger: LedgerStore) -> None:
        inbox = next(row for row in ledger.folders() if row.source == "INBOX")
        ledger.put_folder(inbox._replace(gone=1))

    two_passes.with_ledger(say_gone)
    report = two_passes.undo(2)
    assert [(f.source, f.why, f.left) for f in report.folders if f.left] == [("INBOX", UndoLeft.GONE_AT_SOURCE, 4)]
    assert two_passes.undo(2, even_if_gone=True).outcome is CopyOutcome.COMPLETE
    assert holds(two_passes, FIRST, OWN)


def test_without_uidplus_nothing_is_touched(need_dovecot: None, source_server: Dovecot, fresh_user: str, tmp_path: Path) -> None:
    """An EXPUNGE without UIDs would take what others marked."""
    with running_dovecot({fresh_user: PASSWORD}, fsync="never", capability="IMAP4rev1 LITERAL+") as bare:
        mailboxes = Mailboxes(source_server, bare, fresh_user, tmp_path / "ledger")
        mailboxes.seed(1, 2, 3)
        mailboxes.copy()
        report = mailboxes.undo(1)
        assert report.outcome is CopyOutcome.FAILED
        assert "UIDPLUS" in report.detail and "by hand there" in report.detail
        assert mailboxes.at_destination()["INBOX"] == mails(1, 2, 3)
        assert proof(mailboxes) is Proof.HOLDS


def test_a_destination_that_refuses_leaves_the_ledger_as_it_was(two_passes: Mailboxes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given the removal is refused, then the marks are taken back, and a copy neither removes nor moves anything."""
    from engine.causes import Cause, Side
    from engine.errors import Refused

    def refuse(self: Session, name: str, uids: object) -> None:
        raise Refused(Cause.DESTINATION_REFUSED, side=Side.DESTINATION, server_text="NO [NOPERM] not allowed")

    with monkeypatch.context() as patched:
        patched.setattr(Session, "uid_expunge", refuse)
        report = two_passes.undo(2)
    assert (report.outcome, report.server_text) == (CopyOutcome.FAILED, "NO [NOPERM] not allowed")
    assert holds(two_passes, FIRST, SECOND, OWN)
    assert two_passes.copy().totals()["moved"] == 0
    assert holds(two_passes, FIRST, SECOND, OWN)
    assert proof(two_passes) is Proof.HOLDS


# --- killed at any step ---------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it; the ledger is closed and the socket gone, as the system does it."""


@dataclass
class Fate:
    """Kills at moment number `at`: around each write of the ledger and each removal at the destination."""

    at: int
    count: int = field(default=0)

    def __call__(self, moment: str) -> None:
        self.count += moment.startswith("undo")
        if self.count == self.at:
            raise Killed(moment)


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Mailboxes, int, Fate], bool]]:
    """dying(mailboxes, pass, fate): whether the undo was killed."""

    def run(mailboxes: Mailboxes, pass_id: int, fate: Fate) -> bool:
        with monkeypatch.context() as patched:
            patched.setattr(Session, "logout", Session.close)
            points.install(fate)
            try:
                mailboxes.undo(pass_id)
            except Killed:
                return True
            finally:
                points.install(None)
        return False

    yield run
    points.install(None)


def moments() -> Iterator[int]:
    return iter(range(1, 100))


@pytest.mark.timeout(300)
def test_killed_at_any_step_a_second_undo_finishes(two_passes: Mailboxes, dying: Callable[[Mailboxes, int, Fate], bool]) -> None:
    struck = 0
    for at in moments():
        number = two_passes.last_pass()
        if not dying(two_passes, number, Fate(at)):
            break
        struck += 1
        assert two_passes.undo(number).outcome is CopyOutcome.COMPLETE
        assert holds(two_passes, FIRST, OWN), f"killed at moment {at}"
        assert two_passes.copy().totals()["moved"] == 6
        assert holds(two_passes, FIRST, SECOND, OWN)
    assert struck == 12, "three folders with four moments each"


@pytest.mark.timeout(300)
def test_killed_at_any_step_a_copy_loses_and_doubles_nothing(two_passes: Mailboxes,
                                                             dying: Callable[[Mailboxes, int, Fate], bool]) -> None:
    """Given a killed undo, when not undo but copy comes next, then every message is there once."""
    struck = 0
    for at in moments():
        number = two_passes.last_pass()
        if not dying(two_passes, number, Fate(at)):
            break
        struck += 1
        assert two_passes.copy().outcome is CopyOutcome.COMPLETE
        assert holds(two_passes, FIRST, SECOND, OWN), f"killed at moment {at}"
        assert proof(two_passes) is Proof.HOLDS
        for again in (number, two_passes.last_pass()):  # so that the six are of one pass again
            two_passes.undo(again)
        assert two_passes.copy().totals()["moved"] == 6
    assert struck == 12, "three folders with four moments each"


@pytest.mark.timeout(300)
def test_killed_again_in_the_copy_that_finishes_it(two_passes: Mailboxes, dying: Callable[[Mailboxes, int, Fate], bool]) -> None:
    assert dying(two_passes, 2, Fate(1)), "the marks of the first folder are stored"
    for at in (1, 2):
        points.install(Fate(at))
        try:
            with pytest.raises(Killed):
                two_passes.copy()
        finally:
            points.install(None)
    marked = two_passes.with_ledger(lambda ledger: [run for row in ledger.folders() for run in ledger.runs(row.id)
                                                    if run.outcome is Outcome.UNDOING])
    assert marked
    assert two_passes.copy().outcome is CopyOutcome.COMPLETE
    assert holds(two_passes, FIRST, SECOND, OWN)
