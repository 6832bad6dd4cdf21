"""A mailbox worth moving, and one call that moves it between two real Dovecots."""
from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.ledger_file import SqliteLedger
from engine.report.copy import CopyReport
from engine.transfer.copier import copy_mailbox
from tests.support.dovecot import LOOPBACK, Dovecot, Sample, account

Copy = Callable[..., CopyReport]


def mail(n: int, *, body: bytes = b"", message_id: bool = True) -> bytes:
    head = f"From: a@example.com\r\nSubject: {n}\r\nDate: Mon, 6 May 2024 07:08:09 +0800\r\n".encode()
    if message_id:
        head += f"Message-ID: <m{n}@example.com>\r\n".encode()
    return head + b"\r\n" + (body or f"body {n}\r\n".encode())


def samples(count: int = 60) -> list[Sample]:
    """Several folders, twins, mail without a Message-ID, different mail with one Message-ID, flags, keywords, dates, 8-bit."""
    at = dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.timezone(dt.timedelta(hours=8)))
    flags = [(), ("\\Seen",), ("\\Seen", "\\Answered", "$Forwarded"), ("\\Flagged", "NonJunk"), ("\\Draft",)]
    folders = ["INBOX", "项目/华东区 客户", "Sent", "a b"]
    found = [Sample(mail(n, body=b"x" * (n * 97 % 5000) + b"\r\n"), folders[n % 4], flags[n % 5], at + dt.timedelta(minutes=n))
             for n in range(count)]
    found += [Sample(mail(7), "Twins", ("\\Seen",), at)] * 3
    found += [Sample(mail(7, body=b"another body\r\n"), "Twins", (), at), Sample(mail(7, body=b"anothex body\r\n"), "Twins", (), at)]
    found += [Sample(mail(8, message_id=False), "Twins", (), at)] * 2
    found += [Sample("Subject: 原始八位\r\n\r\n正文 ".encode() + bytes(range(128, 256)) + b"\r\n", "INBOX", (), at)]
    found += [Sample(mail(9, body=b"y" * 3_000_000 + b"\r\n"), "Large", (), at), Sample(mail(10), "Large", (), at)]
    return found


@pytest.fixture
def copy(tmp_path: Path, source_server: Dovecot, destination_server: Dovecot) -> Copy:
    """copy(login, ledger="name", **options) moves that login's mailbox with a ledger file of that name."""
    def run(login: str, *, ledger: str = "ledger", **options: Any) -> CopyReport:
        store = SqliteLedger(tmp_path / ledger, login)
        try:
            return copy_mailbox(account(source_server, login), account(destination_server, login), ledger=store,
                                source_route=LOOPBACK, destination_route=LOOPBACK, **options)
        finally:
            store.close()
    return run
