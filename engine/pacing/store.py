"""Where the pace of accounts is kept: the protocol, and a keeper for one process.

Must not: decide anything (state.py does); fail: a keeper that cannot be reached goes on with what this process knows.
"""
from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from engine.pacing.key import PaceKey
from engine.pacing.state import PaceState

Change = Callable[[PaceState, float], PaceState]  # from the state and the store's time; pure, because it may be called again


class PaceStore(Protocol):
    """Used from any thread. `holder` names whoever uses it among those that share it; the next holder of the same mailbox bears the same
    name, so that what a dead one held does not stand in its way."""

    holder: str

    def look(self, key: PaceKey) -> tuple[PaceState, float]:
        """The state and the time now, both by the store's clock (seconds since the epoch)."""
        ...

    def change(self, key: PaceKey, change: Change) -> tuple[PaceState, float]:
        """The state after the change, and the time now. No other change is lost by it."""
        ...


class MemoryPaceStore:
    """For one process."""

    def __init__(self, holder: str = "self", clock: Callable[[], float] | None = None) -> None:
        self.holder = holder
        self._clock = clock or time.time
        self._states: dict[PaceKey, PaceState] = {}
        self._lock = threading.Lock()

    def look(self, key: PaceKey) -> tuple[PaceState, float]:
        with self._lock:
            return self._states.get(key, PaceState()), self._clock()

    def change(self, key: PaceKey, change: Change) -> tuple[PaceState, float]:
        with self._lock:
            now = self._clock()
            state = self._states[key] = change(self._states.get(key, PaceState()), now)
            return state, now

    def learn(self, key: PaceKey, state: PaceState) -> None:
        """Takes over what a shared keeper said last, for the time when it cannot be asked."""
        with self._lock:
            self._states[key] = state
