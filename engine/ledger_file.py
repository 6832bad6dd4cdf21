"""The command line's ledger: one SQLite file.

Owns the file's schema and its durability; decides nothing (engine/transfer/ does). One process at a time: the file is locked while
it is open. A failed write raises EngineError(LEDGER_UNWRITABLE) and leaves the last durable state. A file that is no ledger, or a damaged
one, is refused before anything is written into it (engine/ledger_look.py).
"""
from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from engine.causes import Cause
from engine.ledger import Entry, FlagChunk, FolderRow, Intent, Outcome, PassRow, Repair, RepairRow, Run, SetAsideRow, Written
from engine.ledger_look import MARK, cannot_be_used, damaged, is_begun, not_begun, of_another_format, of_another_pair, refusal

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS folders (id INTEGER PRIMARY KEY, source TEXT NOT NULL UNIQUE, row TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS runs (id INTEGER PRIMARY KEY, folder INTEGER NOT NULL, source_first INTEGER NOT NULL,
  source_last INTEGER NOT NULL, count INTEGER NOT NULL, target_first INTEGER NOT NULL, outcome TEXT NOT NULL,
  pass INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS runs_of_folder ON runs (folder, source_first);
CREATE TABLE IF NOT EXISTS intents (id INTEGER PRIMARY KEY, folder INTEGER NOT NULL, uids TEXT NOT NULL,
  target_uidvalidity INTEGER NOT NULL, target_uidnext INTEGER NOT NULL, begun_at REAL NOT NULL, flags BLOB NOT NULL DEFAULT X'');
CREATE TABLE IF NOT EXISTS set_aside (folder INTEGER NOT NULL, uid INTEGER NOT NULL, reason TEXT NOT NULL,
  server_text TEXT NOT NULL, size INTEGER NOT NULL, internal_date TEXT NOT NULL, PRIMARY KEY (folder, uid));
CREATE TABLE IF NOT EXISTS repairs (folder INTEGER NOT NULL, uid INTEGER NOT NULL, repair TEXT NOT NULL, words TEXT NOT NULL,
  PRIMARY KEY (folder, uid));
CREATE TABLE IF NOT EXISTS flags (id INTEGER PRIMARY KEY, folder INTEGER NOT NULL, first_uid INTEGER NOT NULL,
  last_uid INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS flags_of_folder ON flags (folder, id);
CREATE TABLE IF NOT EXISTS passes (id INTEGER PRIMARY KEY, begun_at REAL NOT NULL, ended_at REAL, outcome TEXT NOT NULL DEFAULT '');
"""
_FORMAT = "4"
_FLAGS_OF_INTENTS = "ALTER TABLE intents ADD COLUMN flags BLOB NOT NULL DEFAULT X''"
_UPGRADES: dict[str, tuple[str, ...]] = {  # what a file of an older format lacks; a folder's row is JSON, with defaults for what it lacks
    "1": ("ALTER TABLE runs ADD COLUMN pass INTEGER NOT NULL DEFAULT 0", _FLAGS_OF_INTENTS),
    "2": (_FLAGS_OF_INTENTS,),
    "3": (_FLAGS_OF_INTENTS,),
}
_BY_FOLDER = ("runs", "intents", "set_aside", "repairs", "flags")
_CHUNKS_AT_ONCE = 64
_T = TypeVar("_T")


class SqliteLedger:
    """A ledger in one SQLite file: the command line's. One process at a time: the file is locked while it is open.

    `pair` names the two mailboxes; a file that was begun for another pair is refused rather than mixed up. None: the pair of a ledger
    that was begun. Raises LedgerUnusable for a file that cannot be this ledger, LedgerFailed where it cannot be opened now.
    """

    def __init__(self, path: Path, pair: str | None) -> None:
        self.path = path
        begun = is_begun(path)
        if not begun and pair is None:
            raise not_begun(path)
        try:  # readable by its owner alone: it names accounts, folders and what servers said
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise cannot_be_used(path, error) from None
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
            try:
                self.pair = self._begin(pair, begun)
            except BaseException:
                self._db.close()
                raise
        except sqlite3.Error as error:
            raise refusal(path, error) from None

    def _begin(self, pair: str | None, begun: bool) -> str:
        """Locks the file, finds it sound, and makes or brings up to date what is in it; the pair that it is about."""
        db = self._db
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        found = db.execute("PRAGMA quick_check(1)").fetchone()[0]  # 4 ms for 100,000 messages in 10,000 runs, else a tenth of one
        if found != "ok":
            raise damaged(self.path, found)
        if not begun:
            db.execute("PRAGMA synchronous=OFF")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("BEGIN EXCLUSIVE")
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        if pair is not None:
            db.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?), ('pair', ?)", (_FORMAT, pair))
        meta = dict(db.execute("SELECT key, value FROM meta"))
        if pair not in (None, meta["pair"]):
            raise of_another_pair(self.path, meta["pair"])
        if meta["format"] not in (_FORMAT, *_UPGRADES):
            raise of_another_format(self.path, meta["format"], _FORMAT)
        if meta["format"] != _FORMAT:
            for statement in _UPGRADES[meta["format"]]:
                db.execute(statement)
            db.execute("UPDATE meta SET value=? WHERE key='format'", (_FORMAT,))
        if db.execute("PRAGMA application_id").fetchone()[0] != MARK:
            db.execute(f"PRAGMA application_id={MARK}")
        db.execute("COMMIT")
        db.execute("PRAGMA synchronous=FULL")  # an intent is on the disk before its APPEND is on the wire
        self._waits = False
        if not begun:  # a new file goes to the disk once, when all is in it, instead of step by step
            db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        return str(meta["pair"])

    def folders(self) -> list[FolderRow]:
        return self._read(_folder, "SELECT id, row FROM folders ORDER BY id")

    def put_folder(self, row: FolderRow) -> FolderRow:
        return self._transaction(lambda: self._put_folder(row), can_wait=True)

    def runs(self, folder_id: int) -> list[Run]:
        return self._read(lambda a, b, n, t, o, i, p: Run(a, b, n, t, Outcome(o), i, p),
                          "SELECT source_first, source_last, count, target_first, outcome, id, pass FROM runs WHERE folder=?"
                          " ORDER BY source_first", folder_id)

    def intents(self, folder_id: int) -> list[Intent]:
        return self._read(lambda u, v, n, at, i, f: Intent(tuple(json.loads(u)), v, n, at, i, f),
                          "SELECT uids, target_uidvalidity, target_uidnext, begun_at, id, flags FROM intents WHERE folder=?"
                          " ORDER BY id", folder_id)

    def set_aside(self, folder_id: int) -> list[SetAsideRow]:
        return self._read(lambda u, r, t, s, d: SetAsideRow(u, Cause(r), t, s, d),
                          "SELECT uid, reason, server_text, size, internal_date FROM set_aside WHERE folder=? ORDER BY uid", folder_id)

    def repairs(self, folder_id: int) -> list[RepairRow]:
        return self._read(lambda u, r, w: RepairRow(u, Repair(r), w),
                          "SELECT uid, repair, words FROM repairs WHERE folder=? ORDER BY uid", folder_id)

    def flags(self, folder_id: int) -> Iterator[FlagChunk]:
        last = 0
        while rows := self._all("SELECT first_uid, last_uid, data, id FROM flags WHERE folder=? AND id>? ORDER BY id LIMIT ?",
                                folder_id, last, _CHUNKS_AT_ONCE):
            yield from (FlagChunk(a, b, data, i) for a, b, data, i in rows)
            last = rows[-1][3]

    def begin_pass(self, begun_at: float) -> int:
        return self._transaction(lambda: self._db.execute("INSERT INTO passes (begun_at) VALUES (?)", (begun_at,)).lastrowid or 0,
                                 can_wait=True)

    def end_pass(self, pass_id: int, ended_at: float, outcome: str) -> None:
        self._transaction(lambda: self._db.execute("UPDATE passes SET ended_at=?, outcome=? WHERE id=?", (ended_at, outcome, pass_id)),
                          can_wait=True)

    def passes(self) -> list[PassRow]:
        return [PassRow(*row) for row in self._all("SELECT id, begun_at, ended_at, outcome FROM passes ORDER BY id")]

    def write(self, entry: Entry) -> Written:
        return self._transaction(lambda: self._write(entry), can_wait=entry.can_wait)

    def forget_folder(self, row: FolderRow) -> None:
        def forget() -> None:
            for table in _BY_FOLDER:
                self._db.execute(f"DELETE FROM {table} WHERE folder=?", (row.id,))  # noqa: S608  # names from the line above
            self._put_folder(row)
        self._transaction(forget)

    def append_seconds_peak(self) -> float:
        rows = self._all("SELECT value FROM meta WHERE key='append_seconds_peak'")
        return float(rows[0][0]) if rows else 0.0

    def close(self) -> None:
        """What could wait is on the disk then."""
        self._db.close()

    def _write(self, entry: Entry) -> Written:
        db, folder = self._db, entry.folder.id
        runs: list[int] = []
        intents: list[int] = []
        self._put_folder(entry.folder)
        db.executemany("DELETE FROM intents WHERE id=?", [(i,) for i in entry.close_intents])
        db.executemany("DELETE FROM set_aside WHERE folder=? AND uid=?", [(folder, u) for u in entry.clear_set_aside])
        db.executemany("DELETE FROM runs WHERE id=?", [(i,) for i in entry.drop_runs])
        db.executemany("DELETE FROM repairs WHERE folder=? AND uid=?", [(folder, u) for u in entry.drop_repairs])
        for r in entry.runs:
            values = (folder, r.source_first, r.source_last, r.count, r.target_first, r.outcome.value, r.pass_id)
            if r.id:
                db.execute("UPDATE runs SET folder=?, source_first=?, source_last=?, count=?, target_first=?, outcome=?, pass=?"
                           " WHERE id=?", (*values, r.id))
            runs.append(r.id or db.execute(
                "INSERT INTO runs (folder, source_first, source_last, count, target_first, outcome, pass)"
                " VALUES (?,?,?,?,?,?,?)", values).lastrowid or 0)
        db.executemany("INSERT OR REPLACE INTO set_aside VALUES (?,?,?,?,?,?)",
                       [(folder, s.uid, s.reason.value, s.server_text, s.size, s.internal_date) for s in entry.set_aside])
        db.executemany("INSERT OR REPLACE INTO repairs VALUES (?,?,?,?)",
                       [(folder, r.uid, r.repair.value, r.words) for r in entry.repairs])
        if entry.drop_flags:
            db.execute("DELETE FROM flags WHERE folder=?", (folder,))
        db.executemany("INSERT INTO flags (folder, first_uid, last_uid, data) VALUES (?,?,?,?)",
                       [(folder, f.first_uid, f.last_uid, f.data) for f in entry.flags])
        for i in entry.open_intents:
            intents.append(db.execute(
                "INSERT INTO intents (folder, uids, target_uidvalidity, target_uidnext, begun_at, flags) VALUES (?,?,?,?,?,?)",
                (folder, json.dumps(i.uids), i.target_uidvalidity, i.target_uidnext, i.begun_at, i.flags)).lastrowid or 0)
        if entry.append_seconds > self.append_seconds_peak():
            db.execute("INSERT OR REPLACE INTO meta VALUES ('append_seconds_peak', ?)", (str(entry.append_seconds),))
        return Written(runs, intents)

    def _put_folder(self, row: FolderRow) -> FolderRow:
        text = json.dumps(row._asdict())
        if row.id:
            self._db.execute("UPDATE folders SET row=?, source=? WHERE id=?", (text, row.source, row.id))
            return row
        added = self._db.execute("INSERT INTO folders (source, row) VALUES (?, ?)", (row.source, text))
        return row._replace(id=added.lastrowid or 0)

    def _read(self, made: Callable[..., _T], query: str, *values: Any) -> list[_T]:
        """The rows as what they mean. A row that cannot mean it was not written by us."""
        rows = self._all(query, *values)
        try:
            return [made(*row) for row in rows]
        except (ValueError, TypeError) as error:
            raise damaged(self.path, f"a row cannot be read: {error}") from None

    def _all(self, query: str, *values: Any) -> list[Any]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise refusal(self.path, error) from None

    def _transaction(self, work: Callable[[], _T], *, can_wait: bool = False) -> _T:
        try:
            if self._waits != can_wait:
                # NORMAL: a transaction is written to the log, and the log is synced by the next one under FULL, or when it is closed.
                self._db.execute(f"PRAGMA synchronous={'NORMAL' if can_wait else 'FULL'}")
                self._waits = can_wait
            self._db.execute("BEGIN IMMEDIATE")
            try:
                result = work()
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise refusal(self.path, error) from None
        return result


def _folder(row_id: int, text: str) -> FolderRow:
    return FolderRow(**{**json.loads(text), "id": row_id})
