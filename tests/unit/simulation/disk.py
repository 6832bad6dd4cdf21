"""The ledger of a simulated process: the command line's SQLite file, with a disk that fills, a lease that is lost, and a process that
dies before or after a durable write.

Must not: change what is stored. Dying inside a transaction is SQLite's affair (a transaction is whole or not there).
"""
from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from engine.causes import Cause, Side
from engine.errors import EngineError, LeaseLost
from engine.ledger_file import SqliteLedger
from tests.unit.simulation.world import Killed, World

WRITES = frozenset({"write", "put_folder", "forget_folder", "begin_pass", "end_pass"})


class Disk:
    """One ledger file over several processes. `full_at`, `lost_at`: the write (counted within a process) that fails so."""

    def __init__(self, world: World, path: Path) -> None:
        self.world, self.path = world, path
        self.happened: Counter[str] = Counter()
        self.full_at: int | None = None
        self.full_for = 1
        self.lost_at: int | None = None
        self.die_at: tuple[int, str] | None = None   # (write, "before" | "after")

    def open(self) -> Ledger:
        return Ledger(self)

    def lose(self) -> None:
        for path in self.path.parent.glob(self.path.name + "*"):
            path.unlink()


class Ledger:
    """A LedgerStore of one process."""

    def __init__(self, disk: Disk) -> None:
        self._disk, self._world = disk, disk.world
        self._ledger = SqliteLedger(disk.path, "pair")
        self._ledger._db.execute("PRAGMA synchronous=OFF")  # the process dies here, never the machine
        self._writes = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._ledger, name)
        if name == "close":
            return method

        def call(*arguments: Any, **named: Any) -> Any:
            if self._world.killed:
                raise Killed
            if name not in WRITES:
                return method(*arguments, **named)
            return self._write(name, lambda: method(*arguments, **named))

        return call

    def _write(self, name: str, write: Any) -> Any:
        disk, world = self._disk, self._world
        self._writes += 1
        if disk.die_at == (self._writes, "before"):
            disk.happened["killed before a ledger write"] += 1
            world.die()
            raise Killed
        if disk.full_at is not None and disk.full_at <= self._writes < disk.full_at + disk.full_for:
            disk.happened["disk full"] += 1
            raise EngineError(Cause.LEDGER_UNWRITABLE, side=Side.DESTINATION, detail="the ledger cannot be written: disk full")
        if disk.lost_at == self._writes:
            disk.happened["lease lost"] += 1
            raise LeaseLost
        result = write()
        world.note("ledger", name, self._writes)
        if disk.die_at == (self._writes, "after"):
            disk.happened["killed after a ledger write"] += 1
            world.die()
            raise Killed
        world.step()
        return result
