"""Given messages on both sides, what is paired with what: as multisets, never one destination UID twice."""
from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.ledger import Outcome, Run
from engine.transfer.matching import Claims, Pair, instant, pair_equal, pair_unique


def test_twins_stay_as_many_as_they_were() -> None:
    assert pair_equal({1: "a", 2: "a", 3: "a"}, {10: "a", 11: "a"}) == [Pair(1, 10), Pair(2, 11)]


def test_what_several_have_tells_of_none_of_them() -> None:
    assert pair_unique({1: "a", 2: "b", 3: "c", 4: "c"}, {11: "b", 12: "a", 13: "c"}) == [Pair(1, 12), Pair(2, 11)]
    assert pair_unique({1: "a"}, {11: "a", 12: "a"}) == []


def test_different_content_is_never_paired() -> None:
    assert pair_equal({1: "a"}, {10: "b"}) == []


@given(st.dictionaries(st.integers(1, 50), st.sampled_from("abc")), st.dictionaries(st.integers(1, 50), st.sampled_from("abc")))
def test_pairs_are_the_multiset_intersection(source: dict[int, str], target: dict[int, str]) -> None:
    pairs = pair_equal(source, target)
    assert Counter(source[p.source_uid] for p in pairs) == Counter(source.values()) & Counter(target.values())
    assert all(source[p.source_uid] == target[p.target_uid] for p in pairs)
    assert len({p.target_uid for p in pairs}) == len({p.source_uid for p in pairs}) == len(pairs)


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(1, 20)), max_size=15), st.sets(st.integers(1, 240)))
def test_claims_hold_exactly_the_runs_and_what_was_added(runs: list[tuple[int, int]], loose: set[int]) -> None:
    claims = Claims(Run(1, 1, count, first, Outcome.MOVED) for first, count in runs)
    claims.add(loose)
    expected = {first + k for first, count in runs for k in range(count)} | loose
    assert {uid for uid in range(1, 260) if uid in claims} == expected


@given(spans=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 6)), max_size=12))
def test_a_span_is_given_away_once_and_whole_or_not_at_all(spans: list[tuple[int, int]]) -> None:
    claims, given_away = Claims(()), set[int]()
    for first, more in spans:
        span = set(range(first, first + more + 1))
        assert claims.add_span(first, first + more) is span.isdisjoint(given_away)
        given_away |= span if span.isdisjoint(given_away) else set()
        assert [uid for uid in range(60) if uid in claims] == sorted(given_away) and len(claims) == len(given_away)


@pytest.mark.parametrize(("text", "seconds"), [
    ("17-Jul-1996 02:44:25 -0700", 837596665.0),
    (" 1-Jan-1970 00:00:00 +0000", 0.0),
    ("01-jan-1970 08:00:00 +0800", 0.0),
    ("not a date", "not a date"),
    ("01-Foo-1970 08:00:00 +0800", "01-Foo-1970 08:00:00 +0800"),
])
def test_internal_dates_are_moments(text: str, seconds: float | str) -> None:
    assert instant(text) == seconds
