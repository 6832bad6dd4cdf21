"""Where the pace of accounts is kept: the protocol, a keeper for one process, and one that the next run of a command reads.

Must not: decide anything (state.py does); fail: a keeper that cannot be reached goes on with what this process knows.
"""
from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
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


class FilePaceStore(MemoryPaceStore):
    """For a command that runs again and again, one at a time: what it was told and what it used of a day outlives it; its connections do
    not. A file that cannot be read is the careful beginning, one that cannot be written is done without, and where nothing is to be
    remembered there is none."""

    def __init__(self, path: Path, holder: str = "self", clock: Callable[[], float] | None = None) -> None:
        super().__init__(holder, clock)
        self._path = path
        with contextlib.suppress(OSError, ValueError, TypeError):
            for names, text in json.loads(path.read_text(encoding="utf-8")):
                self._states[PaceKey(*names)] = PaceState.from_text(text)

    def change(self, key: PaceKey, change: Change) -> tuple[PaceState, float]:
        before, _ = self.look(key)
        after, now = super().change(key, change)
        if after._replace(leases={}) != before._replace(leases={}):
            self._save()
        return after, now

    def _save(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            told = [[[key.provider, key.account, key.egress], state._replace(leases={}).to_text()] for key, state in self._states.items()]
            new = self._path.with_name(f"{self._path.name}.new")
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
                json.dump(told, file)
            new.replace(self._path)
