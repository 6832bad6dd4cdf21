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


DATED = b"Subject: a\r\nDate: Mon, 6 May 2024 07:08:09 +0800\r\n\r\nb\r\n"
NO_DATE = "01-Jan-0001 00:00:00 +0000"


@pytest.mark.parametrize(("words", "flags", "date", "rungs"), [
    ("NO", ("\\Seen", "$a"), DATE, []), ("NO unknown FLAG", ("\\Seen", "$a"), DATE, [Repair.KEYWORDS]),
    ("NO unknown flag", ("\\Seen",), DATE, []), ("NO", ("\\Seen", "a]"), DATE, [Repair.KEYWORDS]),
    ("NO", ("\\Seen", "\\]"), DATE, [Repair.KEYWORDS]), ("NO bad Time", (), DATE, [Repair.DATE]), ("NO bad time", (), "", []),
    ("NO", (), NO_DATE, [Repair.DATE]), ("NO date of a keyword", ("$a",), DATE, [Repair.KEYWORDS, Repair.DATE]),
])
def test_a_rung_is_tried_for_its_reason_only(words: str, flags: tuple[str, ...], date: str, rungs: list[Repair]) -> None:
    found = list(ladder(outgoing(DATED, flags, date), refused(words)))
    assert [repair for repair, _ in found] == rungs
    for repair, form in found:
        assert (form.content, form.size, form.uid) == (DATED, len(DATED), 1)
        assert form.internal_date == ("06-May-2024 07:08:09 +0800" if repair is Repair.DATE else date)
        assert form.flags == (tuple(f for f in flags if f in ("\\Seen",)) if Repair.KEYWORDS in rungs else flags)


def test_what_the_engine_says_counts_like_what_the_server_said() -> None:
    error = MessageRefused(Cause.X_ITEM, server_text="NO", detail="the keyword cannot be written")
    [(repair, _)] = ladder(outgoing(flags=("$a",)), error)
    assert repair is Repair.KEYWORDS


def test_a_flag_that_no_server_knows_is_left_off_with_the_keywords() -> None:
    [(_, form)] = ladder(outgoing(flags=("\\Seen", "\\]", "$a")), refused("NO"))
    assert form.flags == ("\\Seen",)


def test_the_date_of_a_stream_is_left_to_the_server() -> None:
    [(repair, form)] = ladder(Outgoing(1, (), DATE, len(DATED), iter([DATED])), refused("BAD date"))
    assert (repair, form.internal_date, form.size) == (Repair.DATE, "", len(DATED))


@pytest.mark.parametrize(("content", "date"), [
    (b"\r\nDate: Mon, 6 May 2024 07:08:09 +0800\r\n", ""),                                     # no header at all
    (b"Date: Mon, 6 May 2024 07:08:09 +0800", "06-May-2024 07:08:09 +0800"),                   # nothing but a header
    (b"X: " + b"x" * 65_530 + b"\r\nDate: Mon, 6 May 2024 07:08:09 +0800\r\n\r\n", ""),        # too far down
    (b"A: b\r\n\r\nDate: Mon, 6 May 2024 07:08:09 +0800\r\n\r\n", ""),                         # in the body, which has blank lines too
    (b"Date: Mon, 6 May 2024 07:08:09 -0000\r\n\r\n", "06-May-2024 07:08:09 +0000"),
    (b"Date: Mon, 6 May 2024 07:08:09\r\n\r\n", "06-May-2024 07:08:09 +0000"),
    (b"Date: Sun, 6 May 2024 17:58:09 +0530 (\xe6)\r\n\r\n", "06-May-2024 17:58:09 +0530"),
    (b"Date: Mon, 6 May 0024 07:08:09 +9999\r\n\r\n", ""),
])
def test_the_messages_own_date_is_one_of_its_header(content: bytes, date: str) -> None:
    assert own_date(content) == date
