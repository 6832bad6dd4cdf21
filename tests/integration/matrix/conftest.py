"""One mailbox, two real servers of different habits, and any capability taken away on either side.

Dovecot: separator "/", folders beside INBOX, Sent and Trash under Chinese names. Cyrus: separator ".", folders below INBOX, English names.
Every connection of the mover goes through a proxy for which off means off (tests/support/capability_proxy.py).
"""
from __future__ import annotations

import datetime as dt
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.endpoint import Account, Endpoint, Secret, Security
from engine.imap.session import Session
from engine.ledger_file import SqliteLedger
from engine.report.copy import CopyOutcome, CopyReport
from engine.transfer.copier import copy_mailbox
from tests.support.capability_proxy import CapabilityProxy
from tests.support.cyrus import Cyrus, running_cyrus
from tests.support.dovecot import LOOPBACK, PASSWORD, Dovecot, Sample, SmallImap, differences, read_back, running_dovecot, seed

CAPABILITIES = ("UIDPLUS", "LITERAL+", "LITERAL-", "MULTIAPPEND", "COMPRESS", "CONDSTORE", "SPECIAL-USE", "NAMESPACE", "LIST-STATUS", "ID",
                "APPENDLIMIT", "QUOTA")
READING = ("COMPRESS", "CONDSTORE", "SPECIAL-USE", "NAMESPACE", "LIST-STATUS", "ID", "QUOTA")  # those that a source is asked for
LOGINS = {f"m{number:03d}@example.com": PASSWORD for number in range(1, 300)}
ROUTES = (("dovecot", "cyrus"), ("cyrus", "dovecot"), ("dovecot", "dovecot"), ("cyrus", "cyrus"))
_DOVECOT_NAMES = {"Sent": "已发送", "Trash": "已删除邮件", "Drafts": "草稿箱", "Junk": "垃圾邮件"}
_fresh = itertools.count(1)
Server = Dovecot | Cyrus


@dataclass(frozen=True)
class Servers:
    dovecot: Dovecot
    cyrus: Cyrus

    def named(self, name: str) -> Server:
        return self.dovecot if name == "dovecot" else self.cyrus


@pytest.fixture(scope="module")
def servers(need_dovecot: None, need_cyrus: None) -> Iterator[Servers]:
    roles = tuple((name, f"\\{role}") for role, name in _DOVECOT_NAMES.items())
    with running_dovecot(LOGINS, separator="/", listescape=False, fsync="never", quota="1G", roles=roles) as dovecot, \
         running_cyrus(LOGINS, altnamespace=False, unixhierarchysep=False, quota_kib=1_000_000, extra="munge8bit: no") as cyrus:
        yield Servers(dovecot, cyrus)


def place(server: str, folder: str) -> str:
    """Where a folder stands, by its English name: the display name there, parts joined by "/"."""
    if server == "dovecot":
        return _DOVECOT_NAMES.get(folder, folder)
    return folder if folder == "INBOX" else f"INBOX/{folder}"


def english(server: str, folder: str) -> str:
    if server == "dovecot":
        return {name: role for role, name in _DOVECOT_NAMES.items()}.get(folder, folder)
    return folder.removeprefix("INBOX/")


def letter(n: int, body: bytes = b"", *, message_id: bool = True) -> bytes:
    head = f"From: a@example.com\r\nSubject: {n}\r\n" + (f"Message-ID: <m{n}@example.com>\r\n" if message_id else "")
    return head.encode() + b"\r\n" + (body or f"body {n}\r\n".encode())


def mailbox() -> list[Sample]:
    """Flags, keywords, dates in odd zones, twins, one Message-ID twice, none, 8-bit in header and body, every octet but NUL, deep Chinese
    names, mail in a role folder, 3 MB."""
    at = dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.timezone(dt.timedelta(hours=8)))
    flags: list[tuple[str, ...]] = [(), ("\\Seen",), ("\\Seen", "\\Answered", "$Forwarded"), ("\\Flagged", "NonJunk"), ("\\Draft",)]
    folders = ["INBOX", "项目/华东区 客户/2024", "Sent", "a b"]
    made = [Sample(letter(n, b"x" * (n * 397 % 9000) + b"\r\n"), folders[n % 4], flags[n % 5],
                   at.astimezone(dt.timezone(dt.timedelta(hours=n - 11))) + dt.timedelta(days=37 * n)) for n in range(24)]
    made += [Sample(letter(7), "Twins", ("\\Seen",), at)] * 3
    made += [Sample(letter(7, b"another body\r\n"), "Twins", (), at), Sample(letter(7, b"anothex body\r\n"), "Twins", (), at)]
    made += [Sample(letter(8, message_id=False), "Twins", (), at)] * 2
    odd = bytes(n for n in range(1, 256) if n not in b"\r\n")
    made += [Sample("Subject: 原始八位\r\n\r\n正文 ".encode() + odd + b"\r\n" + odd, "INBOX", (), at),
             Sample("Subject: 国标\r\n\r\n正文\r\n".encode("gb18030"), "INBOX", ("\\Seen",), at)]
    return [*made, Sample(letter(9, b"y" * 3_000_000 + b"\r\n"), "Large", (), at), Sample(letter(10), "Large", (), at)]


@dataclass
class Case:
    """A mailbox at one server, on its way to another; `source` and `destination` are what is off there."""

    servers: Servers
    route: tuple[str, str]
    ledger: Path
    source: frozenset[str] = frozenset()
    destination: frozenset[str] = frozenset()
    used: dict[str, Counter[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.logins = [f"m{next(_fresh):03d}@example.com" for _ in range(2)]

    def _server(self, side: int) -> Server:
        return self.servers.named(self.route[side])

    def fill(self, samples: Iterable[Sample], *empty: str) -> None:
        seed(self._server(0), self.logins[0], [Sample(s.content, place(self.route[0], s.folder), s.flags, s.date) for s in samples])
        with self._server(0).client(self.logins[0]) as client:
            for folder in empty:
                client.create(client.wire_name(place(self.route[0], folder)))

    def at_source(self) -> SmallImap:
        return self._server(0).client(self.logins[0])

    def copy(self) -> CopyReport:
        with self._proxy(0, self.source) as source, self._proxy(1, self.destination) as destination:
            store = SqliteLedger(self.ledger, self.logins[0])
            try:
                report = copy_mailbox(_account(source, self.logins[0]), _account(destination, self.logins[1]), ledger=store,
                                      source_route=LOOPBACK, destination_route=LOOPBACK, connections=2)
            finally:
                store.close()
        for side, proxy in (("source", source), ("destination", destination)):
            self.used.setdefault(side, Counter()).update(proxy.used)
        assert report.outcome is CopyOutcome.COMPLETE, (report.cause, report.server_text, report.set_aside)
        return report

    def _proxy(self, side: int, off: frozenset[str]) -> CapabilityProxy:
        server = self._server(side)
        assert server.ports is not None
        add = [] if "LITERAL-" in off else ["LITERAL-"]
        if "APPENDLIMIT" not in off and self.route[side] == "dovecot":
            add.append("APPENDLIMIT=50000000")
        return CapabilityProxy("127.0.0.1", server.ports.imap, off=off, add=add)

    def differences(self) -> list[str]:
        there = read_back(self._server(0), self.logins[0])
        target_of = {folder: place(self.route[1], english(self.route[0], folder)) for folder in there}
        return differences(there, read_back(self._server(1), self.logins[1]), target_of=target_of)


def _account(proxy: CapabilityProxy, login: str) -> Account:
    return Account(Endpoint("localhost", proxy.port, Security.PLAIN), login, Secret(LOGINS[login]))


@pytest.fixture
def case(servers: Servers, compressing: None, tmp_path: Path) -> Callable[..., Case]:
    """case(("dovecot", "cyrus"), destination={"UIDPLUS"}): a filled mailbox."""
    def made(route: tuple[str, str], *, source: Iterable[str] = (), destination: Iterable[str] = ()) -> Case:
        one = Case(servers, route, tmp_path / "ledger", frozenset(source), frozenset(destination))
        one.fill(mailbox(), "空文件夹", "a b/empty")
        return one
    return made


@pytest.fixture
def compressing(monkeypatch: pytest.MonkeyPatch) -> None:
    """COMPRESS is for links slower than loopback; here it is used wherever it is offered."""
    plain = Session.open.__func__  # type: ignore[attr-defined]

    def opened(cls: type[Session], *args: Any, **options: Any) -> Session:
        session: Session = plain(cls, *args, **options)
        session.compress()
        return session
    monkeypatch.setattr(Session, "open", classmethod(opened))


def three_runs(case: Case) -> None:
    """A first run moves all, a second nothing, a third exactly what changed."""
    assert sum(f.moved for f in case.copy().folders) == len(mailbox())
    assert case.differences() == []
    again = case.copy()
    assert [(f.source, f.moved, f.flags_updated) for f in again.folders if f.moved or f.flags_updated] == []
    assert case.differences() == []
    inbox, new = "INBOX", "新/夹"
    case.fill([Sample(letter(101), inbox, ("\\Seen",)), Sample(letter(102), inbox), Sample(letter(103), new, ("\\Flagged",))])
    with case.at_source() as client:
        client.command(b"SELECT INBOX")
        client.command(b"STORE 1 FLAGS (\\Answered \\Flagged later)")
        client.command(b"STORE 2 +FLAGS (\\Flagged)")
        client.command(b"STORE 3 -FLAGS (NonJunk)")
    delta = case.copy()
    assert sorted(f.moved for f in delta.folders if f.moved) == [1, 2]
    assert sum(f.flags_updated for f in delta.folders) == 3
    assert case.differences() == []
