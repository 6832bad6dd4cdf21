"""Days as the portal counts them: in one zone, whole, to their last second.

A deadline is one day for everybody: what a page, a sheet and the audit call the last day is the same, and it is over when that day
is over in this zone. Must not: know a page.
"""
from __future__ import annotations

import datetime as dt

# China's time; China has no summer time.
ZONE = dt.timezone(dt.timedelta(hours=8))


def end_of_day(when: dt.datetime) -> dt.datetime:
    """The last second of the day that holds `when`."""
    return when.astimezone(ZONE).replace(hour=23, minute=59, second=59, microsecond=0)


def day_of(when: dt.datetime) -> str:
    """2026-12-24"""
    return when.astimezone(ZONE).date().isoformat()
