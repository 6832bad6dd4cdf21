"""Cells of a sheet that no spreadsheet program runs as a formula (OWASP, CSV injection)."""
from __future__ import annotations

FORMULA = "=+-@\t\r\n|%＝＋－＠"  # in the full width too: Excel in Chinese takes it for the same
BLANKS = " \u00a0\u3000"            # which a program may cut away


def safe_cell(cell: str) -> str:
    """The cell itself; with an apostrophe before it where it begins like a formula."""
    shown = cell.lstrip(BLANKS)
    return f"'{cell}" if shown and shown[0] in FORMULA else cell
