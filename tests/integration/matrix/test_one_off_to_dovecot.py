"""Each capability off, at the destination and at the source: from Cyrus to Dovecot the mailbox stays the same."""
from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.matrix.conftest import CAPABILITIES, READING, Case, three_runs

ROUTE = ("cyrus", "dovecot")


def test_with_everything_on_everything_is_used(case: Callable[..., Case]) -> None:
    one = case(ROUTE)
    three_runs(one)
    assert {"MULTIAPPEND", "LITERAL+", "COMPRESS", "LIST-STATUS", "SPECIAL-USE", "NAMESPACE", "ID"} <= set(one.used["destination"])
    assert {"COMPRESS", "CONDSTORE", "LIST-STATUS", "SPECIAL-USE", "NAMESPACE", "ID"} <= set(one.used["source"])


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_off_at_the_destination(case: Callable[..., Case], capability: str) -> None:
    three_runs(case(ROUTE, destination={capability}))


@pytest.mark.parametrize("capability", READING)
def test_off_at_the_source(case: Callable[..., Case], capability: str) -> None:
    three_runs(case(ROUTE, source={capability}))
