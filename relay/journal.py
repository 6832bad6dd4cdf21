"""The relay's log: one line per event on standard error, as JSON or key=value.

Owns the form of a line. Its callers pass names, numbers and words of ours: never a token, a header, an octet of a tunnel, or a text
that somebody unproved has written.
"""
from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO


class Journal:
    def __init__(self, log_format: str = "json", stream: TextIO | None = None) -> None:
        self.log_format = log_format
        self._stream = stream if stream is not None else sys.stderr

    def event(self, name: str, **values: str | int | float | list[str] | None) -> None:
        """Writes one line; values that are None are left out."""
        row = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": name}
        row.update({key: value for key, value in values.items() if value is not None})  # type: ignore[misc]  # without the None values
        if self.log_format == "json":
            line = json.dumps(row, ensure_ascii=True)
        else:
            line = " ".join(f"{key}={_plain(value)}" for key, value in row.items())
        self._stream.write(line + "\n")
        self._stream.flush()


def _plain(value: object) -> str:
    text = ",".join(value) if isinstance(value, list) else str(value)
    return text if text and text.isprintable() and not set(text) & set(' "=') else json.dumps(text)


class LibraryWords(logging.Handler):
    """asyncio's own warnings as events: the fixed part of the message only, since its arguments may show what was in a buffer."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(logging.WARNING)
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        self._journal.event("library", logger=record.name, level=record.levelname.lower(), words=str(record.msg)[:80])


def unhandled(journal: Journal, context: dict[str, Any]) -> None:
    """What the event loop found nobody to give to: type and place of the error, no text of it."""
    error = context.get("exception")
    place = None
    if isinstance(error, BaseException) and error.__traceback__ is not None:
        last = error.__traceback__
        while last.tb_next is not None:
            last = last.tb_next
        place = f"{last.tb_frame.f_code.co_name}:{last.tb_lineno}"
    journal.event("internal-error", error=type(error).__name__ if error is not None else None, place=place)
