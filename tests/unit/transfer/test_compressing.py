"""Given how a link did, whether it is compressed."""
from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from engine.transfer.pairs import Link, compress_where_it_pays


@pytest.mark.parametrize(("octets", "seconds", "waited", "rtt", "compressed"), [
    (8 << 20, 10.0, 9.0, 0.05, True),    # slow, far, waited for
    (8 << 20, 10.0, 9.0, 0.0005, False),  # next door
    (8 << 20, 10.0, 2.0, 0.05, False),   # something else was the bottleneck
    (900 << 20, 10.0, 9.0, 0.05, False),  # quicker than deflate
    (1 << 20, 10.0, 9.0, 0.05, False),   # too little to tell
    (2 << 20, 10.0, 7.1, 0.05, True),    # just enough of both
])
def test_only_a_slow_and_far_bottleneck_is_compressed(octets: int, seconds: float, waited: float, rtt: float, compressed: bool) -> None:
    stream = SimpleNamespace(bytes_in=octets // 2 + 7_000_000, bytes_out=octets // 2 + 900_000, waited=waited + 100.0)
    session = SimpleNamespace(channel=SimpleNamespace(stream=stream), rtt=rtt, compress=lambda: True)
    since = Link(time.monotonic() - seconds, 7_900_000, 100.0)  # what was before does not count
    assert compress_where_it_pays(session, since) is compressed  # type: ignore[arg-type]
