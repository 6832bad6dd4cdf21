"""Given a message that a destination refuses, which forms are tried, and in which order."""
from __future__ import annotations

import pytest

from engine.causes import Cause
from engine.errors import MessageRefused
from engine.imap.append import Outgoing
from engine.ledger import Repair
from engine.transfer.repair import ladder, own_date

DATE = "17-Jul-1996 02:44:25 -0700"


def refused(words: str) -> MessageRefused:
    return MessageRefused(Cause.X_ITEM, server_text=words)


def outgoing(content: bytes = b"Subject: a\r\n\r\nb\r\n", flags: tuple[str, ...] = (), date: str = DATE) -> Outgoing:
    return Outgoing(1, flags, date, len(content), content)


def test_a_message_without_a_reason_for_a_repair_has_no_rung() -> None:
    assert list(ladder(outgoing(flags=("\\Seen", "$Forwarded")), refused("NO not this one"))) == []


def test_keywords_are_left_off_and_system_flags_stay() -> None:
    [(repair, form)] = ladder(outgoing(flags=("\\Seen", "ke]y", "$Forwarded")), refused("BAD Invalid keyword"))
    assert (repair, form.flags, form.internal_date) == (Repair.KEYWORDS, ("\\Seen",), DATE)


def test_a_date_that_nobody_takes_becomes_the_messages_own() -> None:
    content = b"Subject: a\r\nDate: Mon, 6 May 2024 07:08:09\r\n +0800\r\n\r\nb\r\n"
    [(repair, form)] = ladder(outgoing(content, date="01-Jan-0001 00:00:00 +0000"), refused("BAD Invalid internal date"))
    assert (repair, form.internal_date) == (Repair.DATE, "06-May-2024 07:08:09 +0800")


def test_bare_line_ends_become_whole_ones_and_nothing_else_changes() -> None:
    content = b"Subject: a\n\nx\ry\r\n\0z\xff\n"
    [(repair, form)] = ladder(outgoing(content), refused("NO Message contains bare newlines"))
    assert repair is Repair.LINE_ENDS
    assert form.content == b"Subject: a\r\n\r\nx\r\ny\r\n\0z\xff\r\n"
    assert form.size == len(form.content)


def test_rungs_are_added_to_each_other_and_are_three_at_most() -> None:
    rungs = list(ladder(outgoing(b"a\nb", ("a]",), "32-Foo"), refused("NO")))
    assert [repair for repair, _ in rungs] == [Repair.KEYWORDS, Repair.DATE, Repair.LINE_ENDS]
    last = rungs[-1][1]
    assert (last.flags, last.internal_date, last.content) == ((), "", b"a\r\nb")


def test_a_stream_is_repaired_outside_its_octets_only() -> None:
    message = Outgoing(1, ("a]",), "32-Foo", 3, iter([b"a\nb"]))
    assert [repair for repair, _ in ladder(message, refused("NO"))] == [Repair.KEYWORDS, Repair.DATE]


@pytest.mark.parametrize(("header", "date"), [
    (b"Date: Mon, 6 May 2024 07:08:09 +0800\r\n", "06-May-2024 07:08:09 +0800"),
    (b"DATE:6 May 2024 07:08:09 GMT\r\n", "06-May-2024 07:08:09 +0000"),
    (b"Date: yesterday\r\n", ""),
    (b"Date: 1 Jan 1899 00:00:00 +0000\r\n", ""),
    (b"X-Date: Mon, 6 May 2024 07:08:09 +0800\r\n", ""),
    (b"", ""),
])
def test_the_messages_own_date(header: bytes, date: str) -> None:
    assert own_date(header + b"\r\nDate: Mon, 6 May 2024 07:08:09 +0800\r\n") == date
