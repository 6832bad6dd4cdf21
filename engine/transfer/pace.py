"""Obeying a server that asks for less while it still says OK ([THROTTLED] inside an OK; facts: engine 5.4).

A short wait is sat out here; a long one is raised, ends the run as PAUSED and comes back as `retry_after`.
"""
from __future__ import annotations

import time
from collections.abc import Callable

from engine.imap.session import Session

WAIT_HERE_SECONDS = 20.0    # a longer wait ends the run
UNSTATED_WAIT_SECONDS = 10.0  # when the server does not say how long


def obey(session: Session, stopped: Callable[[], bool]) -> None:
    """Waits as the last notice demanded, if there was one since the last call. Raises it (Throttled) when the wait is long."""
    notice = session.take_throttle()
    if notice is None:
        return
    wait = notice.retry_after if notice.retry_after is not None else UNSTATED_WAIT_SECONDS
    if wait > WAIT_HERE_SECONDS:
        raise notice
    until = time.monotonic() + wait
    while time.monotonic() < until and not stopped():
        time.sleep(0.1)
