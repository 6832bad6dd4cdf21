"""What the whole portal shares: the services of one app, and CSRF protection.

Nothing here is connected at import. `Services` is put at app.extensions["banjia"] by create_app.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from flask import current_app
from flask_wtf.csrf import CSRFProtect

from config import Settings
from portal.queueing import WorkQueue
from portal.security.vault import Sealer
from portal.store.db import Database

csrf = CSRFProtect()


@dataclass(frozen=True)
class Services:
    """`mx_lookup` gives the MX hosts of a domain (engine/providers/detect.py)."""

    settings: Settings
    database: Database
    queue: WorkQueue
    sealer: Sealer
    mx_lookup: Callable[[str], list[str]]


def services() -> Services:
    """Of the running app."""
    return cast(Services, current_app.extensions["banjia"])
