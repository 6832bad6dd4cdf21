"""The messages of one folder on both sides, while they are paired: in a temporary database on disk, so that a million cost no memory.

Pure but for that file, which has no name and goes with the process. Owns the rule of pairing: as multisets, each destination message at
most once, lowest UIDs first.
"""
from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

Side = Literal["here", "there"]
Key = Literal["size", "header", "date"]
Instant = float | str

_SCHEMA = """
PRAGMA journal_mode=OFF;
PRAGMA synchronous=OFF;
PRAGMA cache_size=-4096;
CREATE TABLE here (uid INTEGER PRIMARY KEY, previous INTEGER, size INTEGER, date, flags TEXT, internal_date TEXT, digest BLOB,
  header BLOB, target INTEGER, altered INTEGER NOT NULL DEFAULT 0);
CREATE TABLE there (uid INTEGER PRIMARY KEY, size INTEGER, date, flags TEXT, digest BLOB, header BLOB, taken INTEGER NOT NULL DEFAULT 0);
"""
_INDEXES = "CREATE INDEX there_size ON there (size); CREATE INDEX there_date ON there (date);"


class Found(NamedTuple):
    """A source message and the destination message that is its copy; `altered` by the destination's server when it stored it."""

    uid: int
    previous: int
    size: int
    flags: tuple[str, ...]
    internal_date: str
    target_uid: int
    target_flags: tuple[str, ...]
    altered: bool


class Census:
    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # "": a temporary file that only this connection sees
        self._db.executescript(_SCHEMA)

    def __enter__(self) -> Census:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def add_there(self, messages: Iterable[tuple[int, int, Instant, tuple[str, ...]]]) -> None:
        """(UID, octets, date, flags) of the destination's unclaimed messages."""
        self._db.executemany("INSERT OR IGNORE INTO there (uid, size, date, flags) VALUES (?,?,?,?)",
                             ((uid, size, date, json.dumps(flags)) for uid, size, date, flags in messages))
        self._db.executescript(_INDEXES)

    def add_here(self, messages: Iterable[tuple[int, int, int, Instant, tuple[str, ...], str]]) -> None:
        """(UID, the UID before it, octets, date, flags, internal date) of the source's messages that are not accounted for."""
        self._db.executemany("INSERT OR IGNORE INTO here (uid, previous, size, date, flags, internal_date) VALUES (?,?,?,?,?,?)",
                             ((uid, previous, size, date, json.dumps(flags), text) for uid, previous, size, date, flags, text in messages))

    def all_uids(self, side: Side, at_once: int = 500) -> Iterator[list[int]]:
        return self._uids(side, "1", at_once)

    def uids_in_common(self, side: Side, key: Key, at_once: int) -> Iterator[list[int]]:
        """Unpaired messages of this side whose key the other side has among its unpaired ones, ascending, a few at a time."""
        other, free = ("there", "taken=0") if side == "here" else ("here", "target IS NULL")
        known = f"SELECT {key} FROM {other} WHERE {free}"  # noqa: S608  # names of this file
        return self._uids(side, f"{key} IS NOT NULL AND {key} IN ({known})", at_once)

    def _uids(self, side: Side, condition: str, at_once: int) -> Iterator[list[int]]:
        free = "target IS NULL" if side == "here" else "taken=0"
        last = 0
        while True:
            statement = f"SELECT uid FROM {side} WHERE uid>? AND {free} AND {condition} ORDER BY uid LIMIT ?"  # noqa: S608  # names of this file
            rows = self._db.execute(statement, (last, at_once)).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield [uid for (uid,) in rows]

    def sizes(self, uids: Iterable[int]) -> list[tuple[int, int]]:
        """(UID, announced octets) of these source messages, ascending."""
        return [(uid, self._db.execute("SELECT size FROM here WHERE uid=?", (uid,)).fetchone()[0]) for uid in sorted(uids)]

    def set_digests(self, side: Side, digests: Iterable[tuple[bytes, int]]) -> None:
        """(SHA-256 of every octet, UID)."""
        self._db.executemany(f"UPDATE {side} SET digest=? WHERE uid=?", digests)  # noqa: S608  # a table of this file

    def set_headers(self, side: Side, headers: Iterable[tuple[bytes, int]]) -> None:
        """(SHA-256 of the header block, UID)."""
        self._db.executemany(f"UPDATE {side} SET header=? WHERE uid=?", headers)  # noqa: S608  # a table of this file

    def pair_equal(self) -> None:
        """Of the same octets: first those with the same date, then the rest."""
        for keys in ("digest, date", "digest"):
            self._pair(keys, "digest IS NOT NULL", altered=0)

    def pair_altered(self, octets: int) -> None:
        """The same header block, the same date to the second, nearly the same size; not the same: those were compared by every byte."""
        self._pair("header, date", "header IS NOT NULL", altered=1, extra=(
            f"h.size <> t.size AND abs(h.size - t.size) <= {octets} + h.size / 50"))

    def _pair(self, keys: str, condition: str, *, altered: int, extra: str = "1") -> None:
        same = " AND ".join(f"h.{key}=t.{key}" for key in keys.split(", "))
        numbered = f"SELECT uid, size, {keys}, row_number() OVER (PARTITION BY {keys} ORDER BY uid) n"
        here = f"{numbered} FROM here WHERE target IS NULL AND {condition}"  # names of this file
        there = f"{numbered} FROM there WHERE taken=0 AND {condition}"
        found = self._db.execute(  # the n-th of equals here goes with the n-th of equals there
            f"SELECT h.uid, t.uid FROM ({here}) h JOIN ({there}) t ON h.n=t.n AND {same} WHERE {extra}")  # noqa: S608  # names of this file
        self._db.execute("CREATE TEMP TABLE paired (uid INTEGER PRIMARY KEY, target INTEGER)")
        while some := found.fetchmany(1000):
            self._db.executemany("INSERT INTO paired VALUES (?,?)", some)
        self._db.execute("UPDATE here SET altered=?, target=(SELECT p.target FROM paired p WHERE p.uid=here.uid)"
                         " WHERE uid IN (SELECT uid FROM paired)", (altered,))
        self._db.execute("UPDATE there SET taken=1 WHERE uid IN (SELECT target FROM paired)")
        self._db.execute("DROP TABLE paired")

    def pairs(self, at_once: int) -> Iterator[list[Found]]:
        """In the order of the source's UIDs, a few at a time."""
        last = 0
        while True:
            rows = self._db.execute(
                "SELECT h.uid, h.previous, h.size, h.flags, h.internal_date, t.uid, t.flags, h.altered FROM here h"
                " JOIN there t ON t.uid=h.target WHERE h.uid>? ORDER BY h.uid LIMIT ?", (last, at_once)).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield [Found(uid, previous, size, tuple(json.loads(flags)), date, target, tuple(json.loads(theirs)), bool(altered))
                   for uid, previous, size, flags, date, target, theirs, altered in rows]
