"""pymap as a second real IMAP server for tests (the demo's, portal/demo/pymap.py): no package, no SPECIAL-USE, no QUOTA."""
from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from portal.demo.pymap import Pymap, PymapFailed
from tests.support.certificates import authority

__all__ = ["Pymap", "PymapFailed", "running_pymap"]


@contextmanager
def running_pymap(users: Mapping[str, str]) -> Iterator[Pymap]:
    with tempfile.TemporaryDirectory(prefix="py") as directory, Pymap(users, Path(directory), authority()) as server:
        yield server
