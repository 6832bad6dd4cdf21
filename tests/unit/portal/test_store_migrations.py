"""Migrations: from nothing to today's models and back, on a file and as PostgreSQL would get it, by several processes at once."""
from __future__ import annotations

import datetime as dt
import multiprocessing
from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from engine.ledger import Outcome, Run
from engine.manifest import Proof, manifest_of
from portal.models import Base, Check
from portal.store.db import Database, migrate, newest_revision, unmigrate
from portal.store.ledger import SqlLedger


def _insert(connection: Connection, table: str, **values: Any) -> None:
    """As an old version wrote it: every column that must have a value and is not given gets the least one of its type."""
    for column in inspect(connection).get_columns(table):
        if not column["nullable"] and column["name"] not in values:
            kind = column["type"].python_type
            values[column["name"]] = "2026-01-02 03:04:05" if kind is dt.datetime else "" if kind is str else 0
    names = list(values)
    connection.exec_driver_sql(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' for _ in names)})",
                               tuple(values.values()))


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
    assert newest_revision() == "0006"
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


def test_a_ledger_of_the_third_revision_is_kept_and_its_runs_belong_to_no_pass(tmp_path: Path) -> None:
    """There, and back without what only the fourth revision knows, and there again."""
    url = f"sqlite:///{tmp_path}/banjia.db"
    migrate(url, "0003")
    database = Database(url)
    with database.engine.begin() as connection:
        _insert(connection, "projects", id=1, name="P", state="open")
        _insert(connection, "people", id=1, project_id=1, source_address="a@old", destination_address="a@new")
        _insert(connection, "moves", id=1, person_id=1, state="done")
        _insert(connection, "ledger_folders", id=1, move_id=1, source="INBOX", target="INBOX", source_uidnext=4_294_967_295,
                total=11, moved=10, set_aside=1, bytes_moved=5_000_000_000, complete=1)
        _insert(connection, "ledger_runs", id=1, folder_id=1, source_first=1, source_last=10, count=10, target_first=4_294_967_000,
                outcome="moved")
        _insert(connection, "set_aside", id=1, folder_id=1, uid=11, reason="x_item", server_text="words")
    database.close()
    for _ in range(2):
        migrate(url)
        database = Database(url)
        ledger = SqlLedger(database, 1, 0, 0)
        [row] = ledger.folders()
        assert (row.moved, row.bytes_moved, row.repaired, row.gone, row.flags_updated, row.source_modseq) == (10, 5_000_000_000, 0, 0, 0, 0)
        assert ledger.runs(row.id) == [Run(1, 10, 10, 4294967000, Outcome.MOVED, 1, pass_id=0)]
        assert ([s.uid for s in ledger.set_aside(row.id)], ledger.repairs(row.id), list(ledger.flags(row.id))) == ([11], [], [])
        manifest = manifest_of(ledger)
        assert (manifest.proof, manifest.last_pass()) == (Proof.HOLDS, 0), "what no pass is known of cannot be undone"
        with database.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE ledger_folders SET repaired = 3, source_modseq = 9")
            connection.exec_driver_sql("UPDATE ledger_runs SET pass_id = 4")
        database.close()
        unmigrate(url, "0003")
        old = Database(url)
        with old.engine.connect() as connection:
            columns = {column["name"] for column in inspect(connection).get_columns("ledger_folders")}
            assert not columns & {"repaired", "gone", "flags_updated", "source_modseq"}
            assert connection.exec_driver_sql("SELECT source_last, target_first FROM ledger_runs").one() == (10, 4294967000)
            assert connection.exec_driver_sql("SELECT bytes_moved FROM ledger_folders").scalar() == 5_000_000_000
        old.close()


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
