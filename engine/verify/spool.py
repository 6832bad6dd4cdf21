"""What was read of one destination folder and of the source folders that were moved into it: one row per message, in a temporary database.

Owns the rows and their orders (by UID, by content); decides nothing. Must not: hold rows in memory beyond a small cache, leave a file
behind (SQLite's temporary database has no name and ends with the connection).
Always: safe to call from the threads that read, one call at a time.
"""
from __future__ import annotations

import re
import sqlite3
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from engine.causes import Cause, Side
from engine.errors import EngineError
from engine.imap.fetch import Metadata
from engine.transfer.matching import instant

_CACHE_KIB = 2048  # of pages; also the memory of one sort before it goes to disk
_AT_ONCE = 1000    # rows of one write
_COLUMNS = "folder INTEGER NOT NULL, uid INTEGER NOT NULL, size INTEGER NOT NULL, date TEXT NOT NULL, flags TEXT NOT NULL, digest BLOB"
_DAY_AND_TIME = re.compile(r"(.{11}) (\d\d):(\d\d):(\d\d) (.{5})\Z", re.ASCII)
_T = TypeVar("_T")


class Row(NamedTuple):
    """A message. `folder` numbers the source folder (0 at the destination); `date` is Unix time, or the text that is none; `flags` are
    lower case, sorted, joined by blanks; `key` stands for its octets, None: they could not be read. `partner` is the UID that the ledger
    names for it on the other side (0: none); `of_run`: its partner is one of a run, and it is not known which."""

    folder: int
    uid: int
    date: str
    flags: str
    key: bytes | int | None
    size: int
    partner: int = 0
    of_run: int = 0


class Spool:
    """`key`: "digest" compares octets, "size" what the servers say of their number, "0" nothing of the content."""

    def __init__(self, key: str = "digest") -> None:
        assert key in ("digest", "size", "0")
        self._lock = threading.Lock()
        self._key = key
        self._validity: dict[tuple[Side, int], int] = {}
        try:
            self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            for pragma in ("journal_mode=OFF", "synchronous=OFF", "temp_store=FILE", f"cache_size=-{_CACHE_KIB}"):
                self._db.execute(f"PRAGMA {pragma}")
            for side in Side:
                self._db.execute(f"CREATE TABLE {side.value} ({_COLUMNS}, PRIMARY KEY (folder, uid)) WITHOUT ROWID")
                self._db.execute(f"CREATE TABLE {side.value}_rest (folder INTEGER NOT NULL, uid INTEGER NOT NULL, partner INTEGER NOT NULL,"
                                 " of_run INTEGER NOT NULL, PRIMARY KEY (folder, uid)) WITHOUT ROWID")
        except sqlite3.Error as error:
            raise _no_room(error) from None

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._db.close()

    # -- what the readers write --------------------------------------------------------------------------------------------------

    def opened(self, side: Side, folder: int, uidvalidity: int) -> None:
        self._validity[side, folder] = uidvalidity

    def uidvalidity(self, side: Side, folder: int) -> int:
        """0: the folder was not opened."""
        return self._validity.get((side, folder), 0)

    def put(self, side: Side, folder: int, messages: Iterable[Metadata]) -> int:
        """Adds messages, or renews what is told of them; a digest stays. How many they were."""
        count = 0
        statement = (f"INSERT INTO {side.value} VALUES (?,?,?,?,?,NULL) ON CONFLICT DO UPDATE"  # noqa: S608  # a Side
                     " SET size=excluded.size, date=excluded.date, flags=excluded.flags")
        for batch in _batches((folder, m.uid, m.size, _date(m.internal_date), _flags(m.flags)) for m in messages):
            self._write(statement, batch)
            count += len(batch)
        return count

    def put_digests(self, side: Side, folder: int, digests: Iterable[tuple[int, bytes]]) -> None:
        self._write(f"UPDATE {side.value} SET digest=? WHERE folder=? AND uid=?",  # noqa: S608  # a Side
                    [(digest, folder, uid) for uid, digest in digests])

    def forget(self, side: Side, folder: int, uid: int) -> None:
        """It left the folder while we read."""
        self._write(f"DELETE FROM {side.value} WHERE folder=? AND uid=?", [(folder, uid)])  # noqa: S608  # a Side

    def unread(self, side: Side, folder: int, first: int, last: int) -> array[int]:
        """UIDs without a digest, ascending, 4 octets each."""
        unread = f"FROM {side.value} WHERE folder=? AND uid BETWEEN ? AND ? AND digest IS NULL"
        rows = self._stream(f"SELECT uid {unread} ORDER BY uid", folder, first, last)  # a Side
        return array("I", (uid for (uid,) in rows))

    def octets(self, side: Side, folder: int, first: int, last: int) -> int:
        """Of the messages without a digest, as the server tells their sizes."""
        unread = f"FROM {side.value} WHERE folder=? AND uid BETWEEN ? AND ? AND digest IS NULL"
        [(octets,)] = self._stream(f"SELECT total(size) {unread}", folder, first, last)  # a Side
        return int(octets)

    # -- what the comparison reads -----------------------------------------------------------------------------------------------

    def count(self, side: Side, folder: int | None = None, first: int = 0, last: int = 1 << 33) -> int:
        where, values = ("1", ()) if folder is None else ("folder=? AND uid BETWEEN ? AND ?", (folder, first, last))
        [(count,)] = self._stream(f"SELECT count(*) FROM {side.value} WHERE {where}", *values)  # noqa: S608  # fixed words
        return int(count)

    def by_uid(self, side: Side, folder: int, first: int, last: int) -> Iterator[Row]:
        rows = self._stream(f"SELECT folder, uid, date, flags, {self._key}, size, 0, 0 FROM {side.value}"  # noqa: S608  # fixed words
                            " WHERE folder=? AND uid BETWEEN ? AND ? ORDER BY uid", folder, first, last)
        return map(Row._make, rows)

    def set_rest(self, side: Side, rows: Iterable[tuple[int, int, int, int]]) -> None:
        """(folder, UID, partner, of_run) of messages that are left to be compared by content."""
        for batch in _batches(rows):
            self._write(f"INSERT OR REPLACE INTO {side.value}_rest VALUES (?,?,?,?)", batch)  # noqa: S608  # a Side

    def by_content(self, side: Side, *, rest: bool, readable: bool = True) -> Iterator[Row]:
        """All messages of the side (`rest`: those set apart) by key, date, flags, then those of a run last; or those whose octets could not
        be read."""
        table = f"{side.value}_rest JOIN {side.value} USING (folder, uid)" if rest else side.value
        rows = self._stream(f"SELECT folder, uid, date, flags, {self._key}, size, {'partner, of_run' if rest else '0, 0'} FROM {table}"  # noqa: S608
                            f" WHERE {self._key} IS {'NOT NULL' if readable else 'NULL'} ORDER BY 5, 3, 4, 8, 1, 2")
        return map(Row._make, rows)

    # -- inside ------------------------------------------------------------------------------------------------------------------

    def _write(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        def write() -> None:
            self._db.execute("BEGIN")
            self._db.executemany(statement, rows)
            self._db.execute("COMMIT")
        self._guarded(write)

    def _stream(self, query: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        cursor = self._guarded(lambda: self._db.execute(query, values))
        while rows := self._guarded(lambda: cursor.fetchmany(_AT_ONCE)):
            yield from rows

    def _guarded(self, work: Callable[[], _T]) -> _T:
        try:
            with self._lock:
                return work()
        except sqlite3.Error as error:
            raise _no_room(error) from None


def _no_room(error: sqlite3.Error) -> EngineError:
    return EngineError(Cause.INTERNAL, side=Side.DESTINATION, detail=f"temporary file of the comparison: {error}")


def _date(text: str) -> str:
    """`matching.instant` as text. Most messages share their day with others, and the calendar is the dear part."""
    parts = _DAY_AND_TIME.match(text)
    midnight = _midnight(parts[1], parts[5]) if parts else instant(text)
    if parts is None or isinstance(midnight, str):
        return text if isinstance(midnight, str) else f"{midnight:.0f}"
    return str(midnight + int(parts[2]) * 3600 + int(parts[3]) * 60 + int(parts[4]))


@lru_cache(maxsize=4096)
def _midnight(day: str, zone: str) -> int | str:
    at = instant(f"{day} 00:00:00 {zone}")
    return at if isinstance(at, str) else int(at)


@lru_cache(maxsize=4096)
def _flags(flags: tuple[str, ...]) -> str:
    return " ".join(sorted({flag.lower() for flag in flags}))


def _batches(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    batch: list[tuple[Any, ...]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
