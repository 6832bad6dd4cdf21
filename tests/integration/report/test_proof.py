"""After every real copy the proof holds, from the ledger alone: new mail, deletions, refusals, lost ledgers, interruptions, undo."""
from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from engine.ledger_file import SqliteLedger
from engine.manifest import Manifest, Proof, manifest_of
from engine.progress import Progress, Silent, Stop
from engine.report.copy import CopyOutcome
from engine.report_files import Heading, as_json
from engine.transfer.copier import copy_mailbox
from tests.integration.transfer.conftest import mail, samples
from tests.integration.undo.conftest import Mailboxes
from tests.support.dovecot import Dovecot, Sample, differences, read_back, seed, seed_maildir
from tests.support.provider_simulator import LOOPBACK, PROFILES, Action, Fault, ProviderSimulator, message


@pytest.fixture
def mailboxes(tmp_path: Path, source_server: Dovecot, destination_server: Dovecot, fresh_user: str) -> Mailboxes:
    return Mailboxes(source_server, destination_server, fresh_user, tmp_path / "ledger")


def manifest(mailboxes: Mailboxes) -> Manifest:
    found: Manifest = mailboxes.with_ledger(manifest_of)
    return found


def same_on_both_sides(mailboxes: Mailboxes) -> bool:
    return differences(read_back(mailboxes.source, mailboxes.login), read_back(mailboxes.destination, mailboxes.login)) == []


def delete(server: Dovecot, login: str, folder: str, numbers: str) -> None:
    with server.client(login) as client:
        client.command(b'SELECT "%s"' % folder.encode())
        client.command(b"STORE %s +FLAGS (\\Deleted)" % numbers.encode())
        client.command(b"EXPUNGE")


def test_a_first_copy_and_every_range_of_it(mailboxes: Mailboxes) -> None:
    """Each destination UID that the report names is a message there, and each message there is named once."""
    count = seed(mailboxes.source, mailboxes.login, samples())
    mailboxes.copy()
    found = manifest(mailboxes)
    assert (found.proof, found.counts.total, found.counts.moved) == (Proof.HOLDS, count, count)
    told = json.loads("".join(mailboxes.with_ledger(lambda ledger: list(as_json(ledger, Heading("a", "b", time.time()))))))
    there = read_back(mailboxes.destination, mailboxes.login)
    for folder in told["folders"]:
        named = [uid for run in folder["runs"] for uid in range(run["target_first"], run["target_last"] + 1)]
        assert sorted(named) == sorted(m.uid for m in there[folder["target"]]), folder["target"]


def test_new_mail_deletions_and_changed_flags_between_passes(mailboxes: Mailboxes) -> None:
    seed(mailboxes.source, mailboxes.login, [Sample(mail(n), "INBOX") for n in range(1, 31)])
    mailboxes.copy()
    delete(mailboxes.source, mailboxes.login, "INBOX", "2,5:7")
    mailboxes.copy()
    first = manifest(mailboxes)
    assert (first.proof, first.counts.moved, first.counts.gone) == (Proof.HOLDS, 30, 4)
    seed(mailboxes.source, mailboxes.login, [Sample(mail(n), "INBOX") for n in range(40, 45)])
    delete(mailboxes.source, mailboxes.login, "INBOX", "1")
    with mailboxes.source.client(mailboxes.login) as client:
        client.command(b'SELECT "INBOX"')
        client.command(b"STORE 3 +FLAGS (\\Flagged)")
    mailboxes.copy()
    second = manifest(mailboxes)
    assert (second.proof, second.counts.moved, second.counts.gone) == (Proof.HOLDS, 35, 5)
    assert second.digest != first.digest
    mailboxes.copy()
    assert manifest(mailboxes).digest == second.digest, "a pass with nothing new changes nothing of what happened"


def test_a_refused_message_and_its_second_try(mailboxes: Mailboxes) -> None:
    contents = [mail(n).replace(b"\r\n", b"\n") for n in range(20)]
    seed_maildir(mailboxes.source, mailboxes.login, [*contents[:10], b"", *contents[10:]])
    assert mailboxes.copy().outcome is CopyOutcome.PARTIAL
    found = manifest(mailboxes)
    assert (found.proof, found.counts.moved, found.counts.set_aside) == (Proof.HOLDS, 20, 1)
    mailboxes.copy(retry_set_aside=True)
    again = manifest(mailboxes)
    assert (again.proof, again.counts.moved, again.counts.set_aside) == (Proof.HOLDS, 20, 1)


def test_a_lost_ledger(mailboxes: Mailboxes) -> None:
    count = seed(mailboxes.source, mailboxes.login, samples())
    mailboxes.copy()
    mailboxes.path = mailboxes.path.with_name("another")
    mailboxes.copy()
    found = manifest(mailboxes)
    assert (found.proof, found.counts.already_there, found.last_pass()) == (Proof.HOLDS, count, 0)
    assert mailboxes.undo(1).folders == [], "what was found there is nobody's to remove"
    assert same_on_both_sides(mailboxes)


def test_stopped_on_the_way_it_is_open_and_then_it_holds(mailboxes: Mailboxes) -> None:
    class StopAfter(Silent):
        def __init__(self, stop: Stop) -> None:
            self.stop = stop

        def progress(self, at: Progress) -> None:
            if at.moved >= 20:
                self.stop.ask()

    count = seed(mailboxes.source, mailboxes.login, samples(400))
    stop = Stop()
    mailboxes.copy(stop=stop, progress=StopAfter(stop))
    assert manifest(mailboxes).proof is Proof.OPEN
    mailboxes.copy()
    found = manifest(mailboxes)
    assert (found.proof, found.counts.moved) == (Proof.HOLDS, count)
    assert sum(found.appended(one.id) for one in found.passes) == count
    assert all(found.appended(one.id) for one in found.passes), "both passes appended some"


def test_a_folder_made_anew_at_the_destination(mailboxes: Mailboxes) -> None:
    """Given its UIDs name nothing any more, then it is moved again, and the proof is of what is there now."""
    seed(mailboxes.source, mailboxes.login, [Sample(mail(n), "Old") for n in range(9)])
    mailboxes.copy()
    with mailboxes.destination.client(mailboxes.login) as client:
        client.command(b'DELETE "Old"')
        client.command(b'CREATE "Old"')
    mailboxes.copy()
    found = manifest(mailboxes)
    assert (found.proof, found.appended(1), found.appended(2)) == (Proof.HOLDS, 0, 9)
    assert same_on_both_sides(mailboxes)


def test_undone_and_moved_again_twice(mailboxes: Mailboxes) -> None:
    count = seed(mailboxes.source, mailboxes.login, samples())
    for number in (1, 2):
        mailboxes.copy()
        assert manifest(mailboxes).proof is Proof.HOLDS
        assert mailboxes.undo(number).totals()["removed"] == count
        found = manifest(mailboxes)
        assert (found.proof, found.counts.moved, found.counts.remaining, found.counts.bytes_moved) == (Proof.OPEN, 0, count, 0)
        assert not any(messages for messages in read_back(mailboxes.destination, mailboxes.login).values())
    mailboxes.copy()
    assert manifest(mailboxes).proof is Proof.HOLDS
    assert same_on_both_sides(mailboxes)


def test_a_folder_that_cannot_be_opened_is_in_the_report(tmp_path: Path) -> None:
    """Given a locked folder, when all else was moved, then its messages stand in the report as not settled."""
    with ProviderSimulator(PROFILES["plain"]) as source, ProviderSimulator(PROFILES["plain"]) as destination:
        source.account()["INBOX"].put(*(message(str(n), f"body {n} ") for n in range(4)))
        source.add_folder("Locked").put(*(message(str(n), f"body {n} ") for n in range(3)))
        source.faults.append(Fault("EXAMINE", Action.REPLY, b"NO This folder is damaged", contains=b"Locked", times=None))
        ledger = SqliteLedger(tmp_path / "ledger", "a -> b")
        report = copy_mailbox(source.login_for(), destination.login_for(), ledger=ledger, source_route=LOOPBACK, destination_route=LOOPBACK)
        found = manifest_of(ledger)
        ledger.close()
    assert report.outcome is CopyOutcome.PARTIAL
    assert (found.proof, found.counts.moved, found.counts.remaining) == (Proof.OPEN, 4, 3)
    assert [folder.row.source for folder in found.folders if folder.proof is Proof.OPEN] == ["Locked"]
