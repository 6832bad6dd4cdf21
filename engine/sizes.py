"""How much, as people read it: one unit for pages, reports and commands."""
from __future__ import annotations


def size(octets: int) -> str:
    """1024-based, as mail providers and phones count."""
    value, units = float(octets), ["TB", "GB", "MB", "KB", "B"]
    while value >= 1000 and len(units) > 1:
        value /= 1024
        units.pop()
    return f"{value:.0f} {units[-1]}" if units[-1] in ("B", "KB") or value >= 100 else f"{value:.1f} {units[-1]}"
