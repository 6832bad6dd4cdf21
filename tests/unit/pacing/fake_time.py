"""Time that passes only when somebody sleeps, for one process and its store."""
from __future__ import annotations

import threading
from dataclasses import dataclass, field

from engine.pacing.pace import Clock
from engine.pacing.store import MemoryPaceStore

EPOCH = 1_800_000_000.0


@dataclass
class FakeTime:
    past: float = 0.0
    slept: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def monotonic(self) -> float:
        return self.past

    def wall(self) -> float:
        return EPOCH + self.past

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.past += seconds
            self.slept += seconds

    def pass_(self, seconds: float) -> None:
        with self._lock:
            self.past += seconds

    @property
    def clock(self) -> Clock:
        return Clock(self.monotonic, self.sleep)

    def store(self, holder: str = "self") -> MemoryPaceStore:
        return MemoryPaceStore(holder, self.wall)


@dataclass
class FakeMeter:
    """What a stream would have counted."""

    bytes_in: int = 0
    bytes_out: int = 0
    waited: float = 0.0
    closed: bool = False
