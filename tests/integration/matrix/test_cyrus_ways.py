"""What only Cyrus does: it refuses odd mail, alters headers without a word, closes over a literal, and says so in words of its own."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import create_connection

import pytest

from engine.causes import Cause
from engine.ledger_file import SqliteLedger
from engine.report.copy import CopyOutcome, CopyReport
from engine.transfer.copier import copy_mailbox
from tests.support.capability_proxy import CapabilityProxy
from tests.support.cyrus import Cyrus, running_cyrus
from tests.support.dovecot import LOOPBACK, PASSWORD, Stored, account
from tests.support.provider_simulator import Message, ProviderSimulator

USER = "li@example.com"
HEAD = b"From: a@example.com\r\nSubject: x\r\n"
GOOD = [HEAD + b"\r\ngood %d\r\n" % n for n in range(5)]
Copy = Callable[[Cyrus], CopyReport]


@pytest.fixture
def source() -> Iterator[ProviderSimulator]:
    with ProviderSimulator("dovecot") as server:
        yield server


@pytest.fixture
def copy(source: ProviderSimulator, tmp_path: Path) -> Iterator[Copy]:
    ledger = SqliteLedger(tmp_path / "ledger", USER)
    yield lambda cyrus: copy_mailbox(source.login_for(), account(cyrus, USER), ledger=ledger, source_route=source.route,
                                     destination_route=LOOPBACK)
    ledger.close()


def fill(source: ProviderSimulator, *odd: bytes | Message) -> None:
    inbox = source.account()["INBOX"]
    for message in (*GOOD[:3], *odd, *GOOD[3:]):
        inbox.add(message if isinstance(message, Message) else Message(message))


def inbox(cyrus: Cyrus) -> list[Stored]:
    with cyrus.client(USER) as client:
        return client.read_folder("INBOX")


@pytest.mark.usefixtures("need_cyrus")
def test_mail_that_cyrus_refuses_is_set_aside_with_its_words_and_costs_no_other(source: ProviderSimulator, copy: Copy) -> None:
    refused = {b"a\0b": "NUL", b"": "Zero-length", b"no header\r\n": "invalid header", HEAD + b"no colon\r\n\r\nx\r\n": "invalid header"}
    fill(source, *refused)
    with running_cyrus({USER: PASSWORD}) as cyrus:
        report = copy(cyrus)
        assert report.outcome is CopyOutcome.PARTIAL
        assert len(report.set_aside) == len(refused)
        for aside, words in zip(sorted(report.set_aside, key=lambda row: row.uid), refused.values(), strict=True):
            assert words in aside.server_text
        assert [m.content for m in inbox(cyrus)] == GOOD


@pytest.mark.usefixtures("need_cyrus")
def test_what_can_be_repaired_is_and_is_counted(source: ProviderSimulator, copy: Copy) -> None:
    bare = Message(HEAD + b"\r\nbare\nlines\n")
    old = Message(HEAD + b"\r\nold\r\n", internal_date="31-Dec-1960 22:13:20 +0800")
    fill(source, bare, old)
    with running_cyrus({USER: PASSWORD}) as cyrus:
        report = copy(cyrus)
        assert report.outcome is CopyOutcome.COMPLETE and report.folders[0].repaired == 2
        assert Counter(m.content for m in inbox(cyrus)) == Counter([*GOOD, HEAD + b"\r\nbare\r\nlines\r\n", old.content])


@pytest.mark.usefixtures("need_cyrus")
def test_a_header_that_was_altered_in_silence_is_named(source: ProviderSimulator, copy: Copy) -> None:
    """munge8bit, on by default: every octet above 127 of a header becomes an X; size, flags and date agree."""
    fill(source, "Subject: 主题\r\n\r\n正文\r\n".encode(), "Subject: 国标\r\n\r\nx\r\n".encode("gb18030"))
    with running_cyrus({USER: PASSWORD}) as cyrus:
        report = copy(cyrus)
        assert [m.content for m in inbox(cyrus)][3].startswith(b"Subject: XXXXXX\r\n")
        assert report.outcome is CopyOutcome.PARTIAL and len(report.set_aside) == 2
        assert {row.reason for row in report.set_aside} == {str(Cause.INCOMPLETE)}


@pytest.mark.usefixtures("need_cyrus")
def test_over_quota_ends_the_run_and_the_next_goes_on_where_it_ended(source: ProviderSimulator, copy: Copy) -> None:
    large = [HEAD + b"\r\n%d " % n + b"y" * 20_000 + b"\r\n" for n in range(8)]
    fill(source, *large)
    with running_cyrus({USER: PASSWORD}, quota_kib=100) as cyrus:
        report = copy(cyrus)
        assert (report.outcome, report.cause) == (CopyOutcome.FAILED, Cause.DESTINATION_QUOTA)
        with cyrus.admin() as admin:
            admin.command(f"SETQUOTA {cyrus.mailbox(USER)} (STORAGE 1000)".encode())
        assert copy(cyrus).outcome is CopyOutcome.COMPLETE
        # A batch that was under way behind the refused one may be stored before it: what counts here is that all are there, once.
        assert sorted(m.content for m in inbox(cyrus)) == sorted([*GOOD, *large])


@pytest.mark.usefixtures("need_cyrus")
@pytest.mark.parametrize("announced", [True, False])
def test_a_message_over_the_limit_is_set_aside_also_where_the_server_closes_over_it(source: ProviderSimulator, copy: Copy,
                                                                                    announced: bool) -> None:
    fill(source, HEAD + b"\r\n" + b"y" * 200_000 + b"\r\n")
    suppress = "" if announced else "APPENDLIMIT=100000"
    with running_cyrus({USER: PASSWORD}, extra="maxmessagesize: 100000", suppress=suppress) as cyrus:
        report = copy(cyrus)
        assert report.outcome is CopyOutcome.PARTIAL
        assert [row.uid for row in report.set_aside] == [4]
        assert [m.content for m in inbox(cyrus)] == GOOD


@pytest.mark.usefixtures("need_cyrus")
def test_literal_plus_announced_and_literal_minus_kept(source: ProviderSimulator, copy: Copy) -> None:
    """`literalminus` of Cyrus 3.6: LITERAL+ stays in the list, and a {n+} above 4096 octets closes the connection."""
    large = [HEAD + b"\r\n%d " % n + b"y" * 6_000 + b"\r\n" for n in range(3)]
    fill(source, *large)
    with running_cyrus({USER: PASSWORD}, literal_minus=True) as cyrus:
        assert copy(cyrus).outcome is CopyOutcome.COMPLETE
        assert [m.content for m in inbox(cyrus)] == [*GOOD[:3], *large, *GOOD[3:]]


@pytest.mark.usefixtures("need_cyrus")
def test_a_client_that_uses_what_is_off_is_noticed() -> None:
    with running_cyrus({USER: PASSWORD}) as cyrus, pytest.raises(AssertionError, match="LITERAL"):
        assert cyrus.ports
        with CapabilityProxy("127.0.0.1", cyrus.ports.imap, off={"LITERAL+"}) as proxy, \
             create_connection((proxy.host, proxy.port)) as client:
            client.sendall(b"a LOGIN {14+}\r\nli@example.com x\r\n")
            while client.recv(4096):
                pass
