"""Migrations: from nothing to today's models and back, on a file and as PostgreSQL would get it, by several processes at once."""
from __future__ import annotations

import multiprocessing
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from portal.models import Base, Check
from portal.store.db import Database, migrate, newest_revision, unmigrate


def test_from_nothing_to_todays_models(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/banjia.db"
    migrate(url)
    database = Database(url)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    assert database.ready()
    database.close()


def test_there_and_back_and_there(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/banjia.db"
    migrate(url)
    unmigrate(url, "base")
    database = Database(url)
    assert set(inspect(database.engine).get_table_names()) == {"alembic_version"} and not database.ready()
    migrate(url)
    migrate(url)
    assert set(inspect(database.engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    assert newest_revision() == "0004"
    database.close()


def test_what_the_first_tables_hold_outlives_the_second_revision(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/banjia.db"
    migrate(url, "0001")
    database = Database(url)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO checks (side, login, state, steps, result, server_text, launched_by, created_at)"
                                   " VALUES ('source', 'probe', 'done', '[]', '{}', '', 'person', '2026-01-02 03:04:05')")
    assert not database.ready()
    migrate(url)
    with database.reading() as session:
        check = session.scalars(select(Check)).one()
        assert (check.login, check.source_mailbox, check.destination_mailbox) == ("probe", None, None)
    unmigrate(url, "0001")
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT login FROM checks").scalar() == "probe"
    database.close()


def test_a_database_without_tables_is_not_ready(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/empty.db")
    assert not database.ready()
    database.close()


def _migrate(url: str) -> None:
    migrate(url)


def test_processes_that_start_together_migrate_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/banjia.db"
    spawn = multiprocessing.get_context("spawn")
    starters = [spawn.Process(target=_migrate, args=(url,)) for _ in range(3)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join(60)
    assert [starter.exitcode for starter in starters] == [0, 0, 0]
    database = Database(url)
    assert database.ready()
    database.close()


def test_every_table_can_be_made_on_postgresql() -> None:
    for table in Base.metadata.sorted_tables:
        statement = str(CreateTable(table).compile(dialect=postgresql.dialect()))
        assert statement.strip().startswith(f"CREATE TABLE {table.name}")
        for name, column in table.columns.items():
            if name.startswith("bytes_") or name in ("size", "source_uidnext", "target_first"):
                assert f"{column.name} BIGINT" in statement, f"{table.name}.{name}: more than 2 GiB must fit"
