"""Given flags as they were carried over, what a chunk keeps of them and which changes a mail program would see."""
from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.ledger import FlagChunk
from engine.transfer import flags as flags_module
from engine.transfer.flags import BadChunk, Change, StoredFlags, change, pack, pack_all, unpack

UIDS = st.lists(st.integers(1, 2**32 - 1), min_size=1, max_size=60, unique=True).map(sorted)
FLAGS = st.lists(st.sampled_from(["\\Seen", "\\Flagged", "$Forwarded", "NonJunk", "&kc2JgVuiYjc-"]), max_size=4, unique=True).map(tuple)


@settings(deadline=None)
@given(st.data(), UIDS)
def test_a_chunk_tells_what_was_put_into_it(data: st.DataObject, uids: list[int]) -> None:
    messages = [(uid, data.draw(FLAGS)) for uid in uids]
    chunk = pack(messages)
    assert (chunk.first_uid, chunk.last_uid) == (uids[0], uids[-1])
    assert list(unpack(chunk.data)) == messages


def test_ordinary_mail_takes_about_an_octet_a_message() -> None:
    chunks = pack_all((uid, ("\\Seen",) if uid % 7 else ()) for uid in range(1, 50_001))
    assert sum(len(c.data) for c in chunks) < 50_000
    assert sum(1 for _ in StoredFlags(chunks)) == 50_000


def test_a_later_chunk_overrides_an_earlier_one() -> None:
    first = pack([(1, ()), (2, ()), (5, ("\\Seen",))])._replace(id=1)
    later = pack([(2, ("\\Flagged",))])._replace(id=2)
    stored = StoredFlags([later, first])
    assert list(stored) == [(1, ()), (2, ("\\Flagged",)), (5, ("\\Seen",))]
    assert list(stored.uids(2, 4)) == [2]
    assert stored.overlaps == 1


def test_what_is_later_is_told_by_the_number_of_the_chunk_and_not_by_where_it_begins() -> None:
    first = pack([(5, ()), (9, ())])._replace(id=1)
    later = pack([(1, ("a",)), (5, ("a",))])._replace(id=2)
    assert list(StoredFlags([first, later])) == [(1, ("a",)), (5, ("a",)), (9, ())]


@pytest.mark.parametrize("data", [b"", b"not zlib", pack([(1, ("a",))]).data[:-3]])
def test_a_damaged_chunk_is_named(data: bytes) -> None:
    with pytest.raises(BadChunk):
        list(unpack(data))


def test_the_form_on_disk_is_the_documented_one() -> None:
    chunk = pack([(127, ()), (255, ("\\Seen", "a")), (16_639, ())])
    assert (chunk.first_uid, chunk.last_uid) == (127, 16_639)
    assert zlib.decompress(chunk.data) == b'[[],["\\\\Seen","a"]]\n\x7f\0\x80\x01\x01\x80\x80\x01\0'


def test_distances_of_every_length_come_back() -> None:
    uids = [1, 128, 256, 16_639, 33_023, 2**21 + 40_000, 2**22 + 40_000, 2**28 + 2**23, 2**29 + 2**23, 2**32 - 1]
    assert list(unpack(pack((uid, (str(uid),)) for uid in uids).data)) == [(uid, (str(uid),)) for uid in uids]


def test_a_chunk_holds_so_many_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flags_module, "CHUNK_MESSAGES", 3)
    for count, spans in ((7, [(1, 3), (4, 6), (7, 7)]), (6, [(1, 3), (4, 6)]), (0, [])):
        messages = [(uid, ("a",)) for uid in range(1, count + 1)]
        chunks = pack_all(messages)
        assert [(c.first_uid, c.last_uid) for c in chunks] == spans
        assert list(StoredFlags(chunks)) == messages


def test_what_lies_outside_is_not_unpacked_and_the_edges_are_inside() -> None:
    chunks = [FlagChunk(1, 9, b"damaged"), pack([(10, ()), (15, ()), (20, ())]), pack([(30, ())]), FlagChunk(40, 50, b"damaged")]
    assert list(StoredFlags(chunks).between(10, 30)) == [(10, ()), (15, ()), (20, ()), (30, ())]
    over = [*chunks, pack([(15, ("a",)), (20, ("b",))])._replace(id=9)]
    assert list(StoredFlags(over).between(10, 20)) == [(10, ()), (15, ("a",)), (20, ("b",))]
    assert list(StoredFlags(over).between(11, 19)) == [(15, ("a",))]


@pytest.mark.parametrize(("spans", "overlaps"), [
    ([(1, 5), (6, 9)], 0), ([(1, 5), (5, 9)], 1), ([(1, 9), (2, 3), (4, 5), (20, 30)], 2), ([(1, 9), (2, 3), (9, 12), (12, 13)], 3)])
def test_chunks_that_override_others_are_counted(spans: list[tuple[int, int]], overlaps: int) -> None:
    assert StoredFlags(FlagChunk(first, last, b"", n) for n, (first, last) in enumerate(spans)).overlaps == overlaps


@pytest.mark.parametrize(("data", "words"), [
    (zlib.compress(b"[[]]\n" + b"\x80" * 6 + b"\x01\0"), "a number of a chunk of flags has no end"),
    (zlib.compress(b"[[]]\n" + b"\x01\x05"), "list index out of range"),
    (zlib.compress(b"[[]]\n\x01\0")[:-5], "a chunk of flags is too large or cut short"),
    (zlib.compress(b"[[]]\n" + b"\x01\0" * 60), "a chunk of flags is too large or cut short"),
], ids=["no end", "no such set", "cut short", "too large"])
def test_what_is_wrong_with_a_chunk_is_said(data: bytes, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flags_module, "_LARGEST", 100)
    with pytest.raises(BadChunk) as caught:
        list(unpack(data))
    assert str(caught.value) == f"a chunk of flags cannot be read: {words}"


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_octets_do_worse_than_that(data: bytes) -> None:
    for blob in (data, zlib.compress(data), zlib.compress(b'[["a"]]\n' + data)):
        try:
            found = list(unpack(blob))
        except BadChunk:
            continue
        assert [uid for uid, _ in found] == sorted(uid for uid, _ in found)


@pytest.mark.parametrize(("before", "now", "found"), [
    (("\\Seen",), ("\\seen",), None),
    (("\\Seen", "\\Recent"), ("\\Seen",), None),
    ((), ("\\Seen",), Change(1, ("\\Seen",), frozenset({"\\Seen"}), frozenset())),
    (("\\Seen", "$a"), ("\\Flagged", "$A"), Change(1, ("\\Flagged", "$A"), frozenset({"\\Flagged"}), frozenset({"\\Seen"}))),
])
def test_what_counts_as_a_change(before: tuple[str, ...], now: tuple[str, ...], found: Change | None) -> None:
    assert change(1, before, now) == found
