"""Given a mailbox on one real Dovecot, when it is copied to another, then it is there: every octet, once, in order."""
from __future__ import annotations

from pathlib import Path

import pytest

from engine.progress import Progress, Silent, Stop
from engine.report.copy import CopyOutcome
from tests.integration.transfer.conftest import Copy, mail, samples
from tests.support.dovecot import Dovecot, Sample, differences, read_back, seed


@pytest.fixture
def filled(source_server: Dovecot, fresh_user: str) -> str:
    seed(source_server, fresh_user, samples())
    with source_server.client(fresh_user) as client:
        client.command(b'CREATE "Empty"')
    return fresh_user


def test_everything_arrives_once_and_in_order(filled: str, copy: Copy, source_server: Dovecot, destination_server: Dovecot) -> None:
    report = copy(filled)
    source, destination = read_back(source_server, filled), read_back(destination_server, filled)
    assert report.outcome is CopyOutcome.COMPLETE
    assert differences(source, destination) == []
    assert "Empty" in destination
    for folder, messages in source.items():
        assert [m.content for m in messages] == [m.content for m in destination[folder]], folder
    totals = report.totals()
    assert totals["moved"] == totals["total"] == sum(map(len, source.values()))


def test_the_source_is_not_changed(filled: str, copy: Copy, source_server: Dovecot) -> None:
    before = read_back(source_server, filled)
    copy(filled)
    assert read_back(source_server, filled) == before


def test_a_second_copy_moves_nothing_and_reads_nothing(filled: str, copy: Copy, source_server: Dovecot) -> None:
    copy(filled)
    report = copy(filled)
    totals = report.totals()
    assert (report.outcome, totals["moved"], report.bytes) == (CopyOutcome.COMPLETE, 0, 0)
    assert totals["already_there"] == totals["total"]


def test_new_mail_is_all_that_the_next_copy_moves(filled: str, copy: Copy, source_server: Dovecot, destination_server: Dovecot) -> None:
    copy(filled)
    seed(source_server, filled, [Sample(mail(500), "Sent"), Sample(mail(501), "New folder")])
    assert copy(filled).totals()["moved"] == 2
    assert differences(read_back(source_server, filled), read_back(destination_server, filled)) == []


def test_a_lost_ledger_doubles_nothing_and_twins_stay_twins(filled: str, copy: Copy, source_server: Dovecot,
                                                            destination_server: Dovecot) -> None:
    copy(filled)
    report = copy(filled, ledger="another")
    assert report.totals()["moved"] == 0
    assert report.totals()["already_there"] == report.totals()["total"]
    assert differences(read_back(source_server, filled), read_back(destination_server, filled)) == []


def test_a_missing_twin_is_added_when_the_ledger_was_lost(filled: str, copy: Copy, source_server: Dovecot,
                                                          destination_server: Dovecot) -> None:
    copy(filled)
    with destination_server.client(filled) as client:
        client.command(b'SELECT "Twins"')
        client.command(b"STORE 2 +FLAGS (\\Deleted)")
        client.command(b"EXPUNGE")
    assert copy(filled, ledger="another").totals()["moved"] == 1
    assert differences(read_back(source_server, filled), read_back(destination_server, filled)) == []


def test_mail_that_the_destination_had_stays_and_is_not_counted_as_ours(filled: str, copy: Copy, source_server: Dovecot,
                                                                        destination_server: Dovecot) -> None:
    seed(destination_server, filled, [Sample(mail(900), "INBOX"), Sample(mail(901), "Sent")])
    copy(filled)
    there = read_back(destination_server, filled)
    assert mail(900) in [m.content for m in there["INBOX"]]
    assert differences(read_back(source_server, filled), there, extra_is_fine=True) == []


def test_stopped_anywhere_it_goes_on_where_it_was(filled: str, copy: Copy, source_server: Dovecot, destination_server: Dovecot) -> None:
    class StopAfter(Silent):
        def __init__(self, stop: Stop, messages: int) -> None:
            self.stop, self.messages = stop, messages

        def progress(self, at: Progress) -> None:
            if at.moved >= self.messages:
                self.stop.ask()

    for messages in range(1, 60, 7):
        stop = Stop()
        report = copy(filled, progress=StopAfter(stop, messages), stop=stop)
        if report.outcome is CopyOutcome.COMPLETE:
            break
        assert report.outcome is CopyOutcome.PAUSED
    assert copy(filled).outcome is CopyOutcome.COMPLETE
    assert differences(read_back(source_server, filled), read_back(destination_server, filled)) == []


@pytest.mark.parametrize("connections", [2, 4])
def test_several_connections_move_the_same_mailbox(filled: str, copy: Copy, connections: int, source_server: Dovecot,
                                                   destination_server: Dovecot) -> None:
    assert copy(filled, connections=connections).outcome is CopyOutcome.COMPLETE
    assert differences(read_back(source_server, filled), read_back(destination_server, filled)) == []


def test_one_refused_message_takes_nothing_with_it(fresh_user: str, copy: Copy, tmp_path: Path, source_server: Dovecot,
                                                   destination_server: Dovecot) -> None:
    """Dovecot refuses an empty message; it stands in the middle of a batch."""
    from tests.support.dovecot import seed_maildir
    contents = [mail(n).replace(b"\r\n", b"\n") for n in range(20)]
    seed_maildir(source_server, fresh_user, [*contents[:10], b"", *contents[10:]])
    report = copy(fresh_user)
    assert report.outcome is CopyOutcome.PARTIAL
    [aside] = report.set_aside
    assert (aside.folder, aside.server_text != "") == ("INBOX", True)
    there = read_back(destination_server, fresh_user)["INBOX"]
    assert sorted(m.content for m in there) == sorted(mail(n) for n in range(20))


def test_progress_ends_at_the_totals(filled: str, copy: Copy) -> None:
    class Remember(Silent):
        last: Progress

        def progress(self, at: Progress) -> None:
            self.last = at

    sink = Remember()
    report = copy(filled, progress=sink)
    assert sink.last.moved == report.totals()["moved"] == sink.last.messages_total
