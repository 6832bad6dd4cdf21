"""The report of a move as files: JSON for programs, CSV for spreadsheets, HTML to print. In Chinese and English.

    heading = Heading("li@old.example", "li@new.example", made_at=time.time(), language="zh")
    for piece in as_html(ledger, heading): file.write(piece)

What happened is the ledger's (engine/manifest.py); this package only writes it down. Each writer is a generator of text, so that a
large mailbox is never held whole. Must not: open a mailbox, decide anything, load engine.transfer (the portal uses this package).
"""
from __future__ import annotations

from collections.abc import Callable, Iterator

from engine.ledger import LedgerStore
from engine.report_files.as_csv import as_csv
from engine.report_files.as_html import as_html
from engine.report_files.as_json import as_json
from engine.report_files.heading import Format, Heading

__all__ = ["WRITERS", "Format", "Heading", "as_csv", "as_html", "as_json"]

# Each gives its file piece by piece.
WRITERS: dict[Format, Callable[[LedgerStore, Heading], Iterator[str]]] = {Format.JSON: as_json, Format.CSV: as_csv, Format.HTML: as_html}
