"""Given flags as they were carried over, what a chunk keeps of them and which changes a mail program would see."""
from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


@pytest.mark.parametrize("data", [b"", b"not zlib", pack([(1, ("a",))]).data[:-3]])
def test_a_damaged_chunk_is_named(data: bytes) -> None:
    with pytest.raises(BadChunk):
        list(unpack(data))


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
