"""The portal: Flask pages for employees, helpdesk, admins. `create_app(settings)` is the only way to make one.

Always: importing this package, or its models, services and store, loads no Flask; workers need none.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # portal/__main__.py comes after this, and says which package is missing
    from flask import Flask

    from config import Settings


def create_app(settings: Settings, *, mx_lookup: Callable[[str], list[str]] | None = None) -> Flask:
    """The WSGI app (portal/application.py)."""
    from portal.application import create_app as create

    return create(settings, mx_lookup=mx_lookup)
