"""The mailbox's totals while it moves: adds up the folders' counters and tells the sink, at most twice a second."""
from __future__ import annotations

import threading
import time

from engine.ledger import FolderRow
from engine.progress import Progress, ProgressSink

TELL_SECONDS = 0.5


class Tally:
    """Shared by all connection pairs. The sink is called under a lock: one call at a time."""

    def __init__(self, sink: ProgressSink, messages_total: int, bytes_total: int, folders_total: int) -> None:
        self._sink = sink
        self._lock = threading.Lock()
        self._rows: dict[str, FolderRow] = {}
        self._totals = (folders_total, messages_total, bytes_total)
        self._told_at = 0.0

    def put(self, row: FolderRow, *, now: bool = False) -> None:
        """A folder's counters changed. May raise LeaseLost, from the sink."""
        with self._lock:
            self._rows[row.source] = row
            if now or time.monotonic() - self._told_at >= TELL_SECONDS:
                self._told_at = time.monotonic()
                self._sink.progress(self._progress(row.source_display))

    def _progress(self, folder: str) -> Progress:
        rows = self._rows.values()
        folders, messages, octets = self._totals
        return Progress(
            folder=folder, folders_total=folders, messages_total=messages, bytes_total=octets,
            moved=sum(r.moved for r in rows), already_there=sum(r.already_there for r in rows),
            excluded=sum(r.excluded for r in rows), set_aside=sum(r.set_aside for r in rows),
            bytes_moved=sum(r.bytes_moved for r in rows))
