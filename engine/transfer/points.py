"""Moments of a transfer that a test can be told of, so that it can end the process at each of them.

Owns nothing but the hook. In use nobody installs one, and a moment costs one comparison. The names are for people who read a failing
test: what has just happened, or is about to.
"""
from __future__ import annotations

from collections.abc import Callable

_hook: Callable[[str], None] | None = None


def install(hook: Callable[[str], None] | None) -> None:
    """Calls `hook(name)` at every moment from now on, in whichever thread it happens; None ends that."""
    global _hook
    _hook = hook


def reached(moment: str) -> None:
    if _hook is not None:
        _hook(moment)
