"""A mailbox copied in two passes between two real Dovecots, with the owner's own mail in between."""
from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.ledger_file import SqliteLedger
from engine.report.copy import CopyReport
from engine.report.undo import UndoReport
from engine.transfer.copier import copy_mailbox
from engine.transfer.undo import undo_pass
from tests.integration.transfer.conftest import mail
from tests.support.dovecot import LOOPBACK, Dovecot, Sample, Stored, account, read_back, seed

AT = dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.timezone(dt.timedelta(hours=8)))
Contents = dict[str, list[bytes]]


@dataclass
class Mailboxes:
    """One login on both servers, and the ledger of its copies. Each call opens and closes the ledger, as a process would."""

    source: Dovecot
    destination: Dovecot
    login: str
    path: Path

    def ledger(self) -> SqliteLedger:
        return SqliteLedger(self.path, self.login)

    def copy(self, **options: Any) -> CopyReport:
        return self.with_ledger(lambda ledger: copy_mailbox(
            account(self.source, self.login), account(self.destination, self.login), ledger=ledger, source_route=LOOPBACK,
            destination_route=LOOPBACK, **options))

    def undo(self, pass_id: int, **options: Any) -> UndoReport:
        return self.with_ledger(lambda ledger: undo_pass(
            account(self.destination, self.login), ledger=ledger, pass_id=pass_id, route=LOOPBACK, **options))

    def with_ledger(self, work: Callable[[SqliteLedger], Any]) -> Any:
        ledger = self.ledger()
        try:
            return work(ledger)
        finally:
            ledger.close()

    def last_pass(self) -> int:
        return int(self.with_ledger(lambda ledger: ledger.passes()[-1].id))

    def seed(self, *numbers: int, folder: str = "INBOX") -> None:
        seed(self.source, self.login, [Sample(mail(n), folder, ("\\Seen",), AT + dt.timedelta(minutes=n)) for n in numbers])

    def receive(self, *numbers: int, folder: str = "INBOX") -> None:
        """Mail of its owner's at the destination."""
        seed(self.destination, self.login, [Sample(mail(n), folder, (), AT) for n in numbers])

    def at_destination(self) -> Contents:
        return _contents(read_back(self.destination, self.login))

    def at_source(self) -> Contents:
        return _contents(read_back(self.source, self.login))


def _contents(folders: dict[str, list[Stored]]) -> Contents:
    return {name: sorted(m.content for m in messages) for name, messages in folders.items()}


def mails(*numbers: int) -> list[bytes]:
    return sorted(mail(n) for n in numbers)


@pytest.fixture
def mailboxes(tmp_path: Path, source_server: Dovecot, destination_server: Dovecot, fresh_user: str) -> Mailboxes:
    return Mailboxes(source_server, destination_server, fresh_user, tmp_path / "ledger")


@pytest.fixture
def two_passes(mailboxes: Mailboxes) -> Mailboxes:
    """Pass 1: 1 to 5 in INBOX, 20 to 22 in Sent. Then the owner's own 90, 91. Pass 2: 6 to 9 in INBOX, 23 in Sent, 40 in a new folder."""
    mailboxes.seed(*range(1, 6))
    mailboxes.seed(20, 21, 22, folder="Sent")
    mailboxes.copy()
    mailboxes.receive(90)
    mailboxes.receive(91, folder="Sent")
    mailboxes.seed(*range(6, 10))
    mailboxes.seed(23, folder="Sent")
    mailboxes.seed(40, folder="新的")
    mailboxes.copy()
    mailboxes.receive(92)
    return mailboxes
