"""How the engine tells others where it is, and how others tell it to stop."""
from __future__ import annotations

import time
from typing import NamedTuple, Protocol

from engine.causes import Cause, Side


class Progress(NamedTuple):
    """Totals of the whole mailbox so far; messages and octets."""

    folder: str  # display name of the folder being moved
    folders_total: int
    messages_total: int
    bytes_total: int
    moved: int
    already_there: int
    excluded: int
    set_aside: int
    bytes_moved: int


class ProgressSink(Protocol):
    """Called from the engine's threads, one call at a time. Must return quickly; may raise LeaseLost."""

    def progress(self, at: Progress) -> None: ...

    def server_line(self, side: Side, cause: Cause, text: str) -> None:
        """A refusal or warning as the server worded it (already redacted)."""
        ...


class Stop:
    """Asked at safe points. `until` is a monotonic time in seconds after which the slice ends by itself."""

    def __init__(self, until: float | None = None) -> None:
        self.until = until
        self._asked = False

    def ask(self) -> None:
        """Safe to call from a signal handler."""
        self._asked = True

    def asked(self) -> bool:
        return self._asked or (self.until is not None and time.monotonic() >= self.until)


class Silent:
    """A sink for callers who only want the report."""

    def progress(self, at: Progress) -> None:
        pass

    def server_line(self, side: Side, cause: Cause, text: str) -> None:
        pass
