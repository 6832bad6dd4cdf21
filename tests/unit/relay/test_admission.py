"""Caps and penalties, without a clock of their own."""
from __future__ import annotations

from dataclasses import replace

import pytest

from relay.admission import PENALTY_ADDRESSES, PENALTY_MEMORY, Penalties, Places, neighbourhood
from relay.config import Client, Limits, Upstream
from relay.preface import Answer

LIMITS = Limits(max_sessions=3)
ONE, TWO = Client("one", (), max_connections=2), Client("two", ())
CN, US = Upstream("cn", "a.example", 993), Upstream("us", "b.example", 993)


def test_each_cap_has_its_own_answer_and_a_place_given_back_is_free_again() -> None:
    places = Places()
    assert [places.take(ONE, CN, LIMITS) for _ in range(3)] == [None, None, Answer.CLIENT_CONNECTIONS]
    assert places.take(TWO, CN, LIMITS) is None
    assert places.take(TWO, CN, LIMITS) is Answer.SESSIONS
    places.give_back(ONE, CN)
    assert len(places) == 2
    capped = replace(US, max_connections=1)
    assert places.take(TWO, capped, LIMITS) is None
    places.give_back(ONE, CN)
    assert places.take(ONE, capped, LIMITS) is Answer.UPSTREAM_CONNECTIONS
    places.give_back(TWO, CN)
    places.give_back(TWO, capped)
    assert len(places) == 0


def test_refusals_grow_slower_and_are_forgotten() -> None:
    penalties = Penalties()
    assert [penalties.fail("a", 100.0 + n) for n in range(7)] == [0.3, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
    assert penalties.fail("b", 107.0) == 0.3
    assert penalties.fail("a", 106.0 + PENALTY_MEMORY + 0.1) == 0.3


def test_the_table_of_penalties_is_bounded() -> None:
    penalties = Penalties()
    for number in range(PENALTY_ADDRESSES + 50):
        penalties.fail(str(number), 1.0)
    assert len(penalties._failures) == PENALTY_ADDRESSES
    assert penalties.fail("0", 1.0) == 0.3  # the oldest went first
    assert penalties.fail(str(PENALTY_ADDRESSES + 49), 1.0) == 2.0


@pytest.mark.parametrize(("address", "source"), [("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"),
                                                 ("2001:db8:1:2:3::9", "2001:db8:1:2::/64"), ("fe80::1%eth0", "fe80::/64")])
def test_an_ipv6_neighbourhood_is_one_source(address: str, source: str) -> None:
    assert neighbourhood(address) == source
