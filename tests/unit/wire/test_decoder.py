"""Octets in, values out; what a server must not say is a ProtocolError and nothing else."""
from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.errors import ProtocolError
from engine.wire import decoder
from engine.wire.decoder import StatusText, decode, literal_length, pairs, split_untagged, uid_list


@pytest.mark.parametrize(("parts", "values"), [
    ([b""], []),
    ([b"a b"], [b"a", b"b"]),
    ([b'(\\HasNoChildren \\Sent) "/" INBOX'], [[b"\\HasNoChildren", b"\\Sent"], b"/", b"INBOX"]),
    ([b'(\\Noselect) NIL "a \\"b\\\\"'], [[b"\\Noselect"], None, b'a "b\\']),
    ([b'() "." {5}', b"a\r\n(b", b""], [[], b".", b"a\r\n(b"]),
    ([b'nil Nil "NIL"'], [None, None, b"NIL"]),
    ([b"(UID 5 BODY[HEADER.FIELDS (DATE FROM)] {3}", b"x)y", b")"], [[b"UID", b"5", b"BODY[HEADER.FIELDS (DATE FROM)]", b"x)y"]]),
    ([b"(UID 5 body[]<0> NIL)"], [[b"UID", b"5", b"body[]<0>", None]]),
    ([b"(FLAGS ([Gmail] a] \\Seen))"], [[b"FLAGS", [b"[Gmail]", b"a]", b"\\Seen"]]]),
    ([b"((a)(b))"], [[[b"a"], [b"b"]]]),
    ([b"(a)) b"], [[b"a"], b"b"]),                      # Tencent: one parenthesis too many
    ([b'(a ~{1}', b"\0", b" b)"], [[b"a", b"\0", b"b"]]),  # literal8, RFC 3516
    ([b'"" {0}', b"", b""], [b"", b""]),
    ([b'(\\Marked) "/" x ("CHILDINFO" ("SUBSCRIBED"))'], [[b"\\Marked"], b"/", b"x", [b"CHILDINFO", [b"SUBSCRIBED"]]]),
])
def test_values(parts: list[bytes], values: list[object]) -> None:
    assert decode(parts) == values


@pytest.mark.parametrize("parts", [
    [b"(a"], [b'"a'], [b'"a\\"'], [b"((a)"], [b"a\r\nb"], [b"(" * 40], [b"a", b"literal without announcement", b""], [b"(a " * 100],
    [b" ".join([b"a"] * (decoder.MAX_VALUES + 1))],
])
def test_what_cannot_be_read_is_a_protocol_error(parts: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        decode(parts)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=5))
@example([b"(" * 100])
@example([b'"\\'])
def test_no_octets_raise_anything_else(parts: list[bytes]) -> None:
    try:
        values = decode(parts)
    except ProtocolError:
        return
    assert isinstance(values, list)


@pytest.mark.parametrize(("line", "length"), [
    (b"x {12}", 12), (b"x {12+}", 12), (b"x ~{3}", 3), (b"x {}", None), (b"x {a}", None), (b"x {1} ", None), (b"{-1}", None), (b"x", None),
    (b"x {99999999999999999999}", 99999999999999999999), (b"x {999999999999999999999}", None), (b"x {007}", 7)])
def test_announced_literals(line: bytes, length: int | None) -> None:
    assert literal_length(line) == length


@pytest.mark.parametrize(("line", "split"), [
    (b"* 12 FETCH (UID 1)", (12, b"FETCH", b"(UID 1)")), (b"* ok hi", (None, b"OK", b"hi")),
    (b"* list () NIL a", (None, b"LIST", b"() NIL a")),
    (b"* 3 exists", (3, b"EXISTS", b"")), (b"* BYE", (None, b"BYE", b"")),
    (b"* ", None), (b"B1 OK", None), (b"* 12", None), (b"*OK", None)])
def test_untagged_lines(line: bytes, split: object) -> None:
    assert split_untagged(line) == split


@pytest.mark.parametrize(("text", "code", "arguments"), [
    (b"[UIDVALIDITY 12] ok", b"UIDVALIDITY", b"12"), (b"[read-only] done", b"READ-ONLY", b""),
    (b"hello [X]", b"", b""), (b"", b"", b""),
    (b"[PERMANENTFLAGS (\\Seen a] \\*)] Limited", b"PERMANENTFLAGS", b"(\\Seen a] \\*)"), (b"[APPENDUID 1 3:5] x", b"APPENDUID", b"1 3:5"),
    (b"[CAPABILITY IMAP4rev1 AUTH=PLAIN] hi", b"CAPABILITY", b"IMAP4rev1 AUTH=PLAIN"), (b"[unclosed", b"", b""), (b"[]", b"", b"")])
def test_response_codes(text: bytes, code: bytes, arguments: bytes) -> None:
    status = StatusText.of(text)
    assert (status.code, status.arguments, status.text) == (code, arguments, text)


def test_pairs_and_uid_lists() -> None:
    assert pairs([b"messages", b"3", b"Uidnext", b"4", b"stray"]) == {b"MESSAGES": b"3", b"UIDNEXT": b"4"}
    assert pairs(None) == {}
    assert uid_list(b"3,7:9,12:11") == [3, 7, 8, 9, 11, 12]
    for bad in (b"", b"a", b"1:*", b"0", b"1:2:3", b"1,,2", b"1:4294967295"):
        with pytest.raises(ProtocolError):
            uid_list(bad, limit=1000)
