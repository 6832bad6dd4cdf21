"""How Alembic reaches the database: through portal/store/db.py's rules, in one transaction that others wait for.

On SQLite foreign keys are off while tables are rebuilt (batch mode drops and renames them) and checked before the commit.
"""
from __future__ import annotations

from typing import Literal

from alembic import context
from sqlalchemy import Connection, Enum, text

from portal.models import Base
from portal.models.base import UTCDateTime
from portal.store.db import open_engine

_LOCK = 0x62616E6A  # any number, the same in every process of this product


def _render(kind: str, item: object, _context: object) -> str | Literal[False]:
    """Column types as SQLAlchemy's own, so that an old revision never depends on today's models."""
    if kind == "type" and isinstance(item, UTCDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, Enum):
        return f"sa.String({item.length})"
    return False


def _run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True, compare_type=True,
                      render_item=_render, transactional_ddl=True, transaction_per_migration=False)
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        context.run_migrations()
        if connection.dialect.name == "sqlite":
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            if broken:
                raise RuntimeError(f"the migration would leave {len(broken)} rows without the row they belong to")


def run() -> None:
    engine = open_engine(context.config.attributes["url"])
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                connection.connection.driver_connection.execute("PRAGMA foreign_keys = OFF")  # type: ignore[union-attr]
            _run(connection)
    finally:
        engine.dispose()


run()
