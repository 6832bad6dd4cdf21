"""Whatever a caller holds, no line break or zero byte reaches a command line, and every argument has one form."""
from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.wire import encoder
from engine.wire.encoder import EncodeError

INJECTIONS = ["a\r\nB1 DELETE INBOX", "a\nb", "a\rb", "a\0b", "\r", "\n", "\0"]
ENTRY_POINTS: list[Callable[[str], object]] = [
    encoder.quoted, encoder.astring, encoder.mailbox, encoder.flag, encoder.internal_date,
    lambda text: encoder.flag_list((text,)), lambda text: encoder.id_list({"name": text}), lambda text: encoder.id_list({text: "x"}),
]


@pytest.mark.parametrize("text", INJECTIONS)
@pytest.mark.parametrize("encode", ENTRY_POINTS)
def test_a_line_break_or_zero_byte_is_refused_everywhere(encode: Callable[[str], object], text: str) -> None:
    with pytest.raises(EncodeError):
        encode(text)


@settings(deadline=None)
@given(st.text())
def test_no_text_makes_any_argument_hold_a_line_break(text: str) -> None:
    for encode in ENTRY_POINTS:
        try:
            made = encode(text)
        except EncodeError:
            continue
        octets = b"".join(part or b"" for part in made) if isinstance(made, tuple) else made
        assert isinstance(octets, bytes)
        assert not set(octets) & {0, 10, 13}


def test_an_error_never_shows_the_value() -> None:
    with pytest.raises(EncodeError) as caught:
        encoder.astring("hunter2\r\n", "password")
    assert "hunter2" not in str(caught.value)
    assert "password" in str(caught.value)


@pytest.mark.parametrize(("text", "line", "literal"), [
    ("li", b'"li"', None), ("", b'""', None), ('a"b\\c', b'"a\\"b\\\\c"', None), ("a b", b'"a b"', None),
    ("密码", b"{6}", "密码".encode()), ("ä", b"{2}", "ä".encode()),
])
def test_ascii_is_quoted_and_other_text_is_a_literal(text: str, line: bytes, literal: bytes | None) -> None:
    assert encoder.astring(text) == (line, literal)


def test_half_a_character_is_refused() -> None:
    with pytest.raises(EncodeError):
        encoder.astring("a\ud83d")


def test_octets_that_a_server_listed_go_back_unchanged() -> None:
    raw = "归档".encode("gb18030") + b' "x"\\'
    assert encoder.mailbox(encoder.wire_name(raw)) == b'"' + "归档".encode("gb18030") + b' \\"x\\"\\\\"'


def test_a_folder_name_that_was_not_encoded_is_refused() -> None:
    with pytest.raises(EncodeError):
        encoder.mailbox("归档")


@pytest.mark.parametrize("name", ["\\Seen", "$Label1", "[Gmail]", "a]", "NonJunk", "$MDNSent", "a+b", "\\Answered", "标".encode().hex()])
def test_flags_that_can_be_sent(name: str) -> None:
    assert encoder.flag_list((name,)) == b"(" + name.encode() + b")"


@pytest.mark.parametrize("name", ["", "\\", "a b", "(a", "a)", "a{3}", "a%", "a*", 'a"', "a\\b", "\\*", "标", "a\x7f", "\\\\Seen", "a\tb"])
def test_flags_that_cannot_be_sent(name: str) -> None:
    with pytest.raises(EncodeError):
        encoder.flag(name)


def test_recent_is_the_servers_own() -> None:
    assert encoder.flag_list(("\\Recent", "\\Seen", "\\RECENT")) == b"(\\Seen)"


@pytest.mark.parametrize("date", [
    "17-Jul-2026 02:44:25 -0700", " 7-Jul-2026 02:44:25 +0000", "07-jul-1969 23:59:60 +1400", "01-Jan-0001 00:00:00 +0000"])
def test_dates_pass_as_they_stood_on_the_wire(date: str) -> None:
    assert encoder.internal_date(date) == (b'"' + date.encode() + b'"', encoder.ordinary((), date))


@pytest.mark.parametrize("date", [
    "", "32-Foo-2026 02:44:25 +0000", "17-Jul-26 02:44:25 +0000", "17-Jul-2026 24:00:00 +0000", "17-Jul-2026 02:44:25",
    "17-Jul-2026 02:44:25 +00", "2026-07-17T02:44:25Z", '17-Jul-2026 02:44:25 +0000" X', "7-Jul-2026 02:44:25 +0000",
    "00-Jul-2026 02:44:25 +0000",
    "17-Jul-2026 02:44:25 +9999", "17-Jul-2026 02:44:25 +0000\n"])
def test_dates_outside_the_grammar_are_refused(date: str) -> None:
    with pytest.raises(EncodeError):
        encoder.internal_date(date)


@pytest.mark.parametrize(("flags", "date"), [
    (("\\Seen", "$Label1"), "17-Jul-2026 02:44:25 -0700"), (("\\SEEN", "a+b.c_d-e"), "31-dec-1999 23:59:59 +1400"), ((), ""),
    ((), " 7-Feb-2000 00:00:00 +0000"), ((), "30-Nov-1970 00:00:00 -1200")])
def test_what_no_server_has_a_reason_to_call_malformed(flags: tuple[str, ...], date: str) -> None:
    assert encoder.ordinary(flags, date)


@pytest.mark.parametrize(("flags", "date"), [
    (("\\Unheard",), ""), (("\\Seen", "a]"), ""), (("k" * 65,), ""), ((), "30-Feb-2026 00:00:00 +0000"), ((), "31-Apr-2026 00:00:00 +0000"),
    ((), "17-Jul-1969 00:00:00 +0000"), ((), "17-Jul-2126 00:00:00 +0000"), ((), "17-Jul-2026 00:00:60 +0000"),
    ((), "17-Jul-2026 00:00:00 +1500")])
def test_what_some_server_may_refuse(flags: tuple[str, ...], date: str) -> None:
    assert not encoder.ordinary(flags, date)


def test_id_fields_within_the_limits_of_rfc_2971() -> None:
    assert encoder.id_list({"name": "Banjia", "note": 'a"b'}) == b'("name" "Banjia" "note" "a\\"b")'
    assert encoder.id_list({}) == b"NIL"
    for fields in ({"n" * 31: "x"}, {"n": "x" * 1025}, {str(i): "x" for i in range(31)}, {"name": "搬家"}):
        with pytest.raises(EncodeError):
            encoder.id_list(fields)


def test_uid_sets_ascend_and_are_compact() -> None:
    assert encoder.uid_sets([7, 3, 4, 5, 9, 9]) == [b"3:5,7,9"]
    assert encoder.uid_sets([]) == []
    assert encoder.uid_range(5, None) == b"5:*"
    assert encoder.uid_range(5, 5) == b"5"


@pytest.mark.parametrize("uid", [0, -1, 1 << 32, "1", 1.0, True, None])
def test_only_numbers_are_uids(uid: object) -> None:
    with pytest.raises(EncodeError):
        encoder.uid_sets([uid])  # type: ignore[list-item]


def test_a_range_never_descends() -> None:
    with pytest.raises(EncodeError):
        encoder.uid_range(5, 4)


@settings(deadline=None)
@given(st.sets(st.integers(1, encoder.MAX_UID), max_size=300), st.integers(25, 300))
def test_sets_hold_exactly_their_uids_within_the_length(uids: set[int], longest: int) -> None:
    sets = encoder.uid_sets(sorted(uids, reverse=True), longest)
    found: list[int] = []
    for one in sets:
        assert len(one) <= longest
        for piece in one.split(b","):
            first, _, last = piece.partition(b":")
            found += range(int(first), int(last or first) + 1)
    assert found == sorted(uids)
