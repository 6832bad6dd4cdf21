"""The database: one engine, and sessions that begin, commit and end the same way in the portal, the workers and the tests.

Owns: how SQLite is opened and how a transaction begins there; running the migrations. Must not: need Flask, know a table.
Always, on SQLite: WAL; every transaction that may write begins IMMEDIATE (the driver's default loses concurrent read-add-write
updates without an error: facts, portal 2.3); foreign keys hold; a commit is on the disk when it returns (synchronous=FULL); freed
pages are overwritten (secure_delete). PostgreSQL needs none of that and gets none of it.

The engine opens its connections when they are first needed; a process that forks calls `after_fork` in the child.
"""
from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, cast

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event, func, inspect, select, text
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.orm import Session

BUSY_SECONDS = 15  # how long a writer waits for the other writer of a SQLite file
_BEGIN = "banjia_begin"


class Queue(Protocol):
    """What the services need of portal/queueing.py; jobs are named by row ids only."""

    def enqueue_checks(self, check_ids: list[int]) -> None: ...

    def enqueue_slices(self, move_ids: list[int]) -> None: ...


class Database:
    """`queue` receives the work that services asked for, after their commit; without one, rows wait for the reconciler."""

    def __init__(self, url: str, *, queue: Queue | None = None) -> None:
        self.url = url
        self.queue = queue
        self.engine = open_engine(url)

    def open_session(self) -> Session:
        """A session for one web request. It reads without blocking writers; each service call in it is one transaction of its
        own that is committed when the call returns (portal/services/common.py). The caller closes it."""
        return self._session(self.engine.execution_options(**{_BEGIN: "DEFERRED"}))

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session whose transaction may write from its first statement. Commits on success, rolls back on an exception."""
        session = self._session(self.engine)
        try:
            yield session
            session.commit()
        except BaseException:
            session.rollback()
            raise
        finally:
            session.close()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one moment of the database and cannot hold up writers. What was changed in it is not kept."""
        session = self.open_session()
        if self.engine.dialect.name == "postgresql":
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        try:
            yield session
        finally:
            session.rollback()
            session.close()

    def _session(self, engine: Engine) -> Session:
        return Session(engine, expire_on_commit=False, info={"queue": self.queue})

    def ready(self) -> bool:
        """True when the database answers and its tables are of this version."""
        with self.engine.connect().execution_options(**{_BEGIN: "DEFERRED"}) as connection:
            return _revision(connection) == newest_revision()

    def forget_deleted(self) -> None:
        """SQLite: empties the write-ahead log, where deleted rows would stand until it is overwritten. Does nothing while
        somebody reads, and nothing on PostgreSQL."""
        if self.engine.dialect.name == "sqlite":
            connection = self.engine.raw_connection()  # no transaction: a checkpoint inside one is refused
            try:
                cursor = connection.cursor()
                cursor.execute("PRAGMA busy_timeout = 200")
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                connection.invalidate()  # closed for good: its short timeout is nobody else's
                connection.close()

    def after_fork(self) -> None:
        """In a forked child: forgets the parent's connections without closing them."""
        self.engine.dispose(close=False)

    def close(self) -> None:
        self.engine.dispose()


def open_engine(url: str) -> Engine:
    """An engine with the rules above. Creates the directory of a SQLite file (0700), not its tables."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_pre_ping=True)
    if parsed.database:
        Path(parsed.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; _begin_sqlite does
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get(_BEGIN, 'IMMEDIATE')}")


def begin_writing(session: Session) -> None:
    """Makes the session's transaction one that may write. A transaction that has only read ends first, and whatever the session
    remembers is read again under the lock; one that already holds changes, or already may write, goes on."""
    if session.new or session.dirty or session.deleted:
        return
    if session.in_transaction():
        if session.connection().get_execution_options().get(_BEGIN, "IMMEDIATE") == "IMMEDIATE":
            return
        session.commit()
    session.expire_all()
    session.connection(execution_options={_BEGIN: "IMMEDIATE"})


def alone(session: Session, what: str) -> None:
    """Until the transaction ends, nobody else passes here with the same `what`: for rules that count rows before adding one. On
    SQLite a transaction that may write is alone as it is."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(func.hashtext(what))))


# --- migrations -----------------------------------------------------------------------------------------------------------


def _alembic(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent.parent / "migrations"))
    config.attributes["url"] = url  # not an option: a password may hold a % sign
    return config


def migrate(url: str, revision: str = "head") -> None:
    """Brings the tables to `revision`. Safe to call from several processes at once: one migrates, the others wait."""
    _make_private(url)
    command.upgrade(_alembic(url), revision)


def unmigrate(url: str, revision: str) -> None:
    """Takes the tables back to `revision` ("base": no tables)."""
    command.downgrade(_alembic(url), revision)


def newest_revision() -> str | None:
    return ScriptDirectory.from_config(_alembic("")).get_current_head()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return cast("str | None", connection.execute(text("SELECT version_num FROM alembic_version")).scalar())


def _make_private(url: str) -> None:
    """A new SQLite file is readable by its owner only; SQLite gives its -wal and -shm files the same mode."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        path = Path(parsed.database)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=True)
