"""The database's own promises: durable, no lost update, one moment per reader, work queued only after the commit."""
from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisDown
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.models import AuditEvent, Link, Project, now
from portal.services.common import (
    SYSTEM,
    Actor,
    ServiceError,
    audit,
    changed_rows,
    enqueue_check,
    enqueue_slice,
    one_transaction,
    transaction,
)
from portal.store.db import Database
from tests.support.portal_app import PortalForTests
from tests.unit.portal.company import Company, QueueThatRemembers


@pytest.fixture
def company(portal: PortalForTests):
    company = Company(portal)
    yield company
    company.close()


def test_every_connection_has_the_pragmas(portal: PortalForTests) -> None:
    with portal.database.reading() as one, portal.database.reading() as two:
        for session in (one, two):
            found = {name: session.scalar(text(f"PRAGMA {name}"))
                     for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "busy_timeout")}
            assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1, "busy_timeout": 15000}


def test_the_file_is_its_owners_alone(portal: PortalForTests) -> None:
    with portal.database.session() as session:
        session.add(Project(name="x", closes_at=now()))
    for path in portal.settings.instance_dir.glob("banjia.db*"):
        assert os.stat(path).st_mode & 0o077 == 0, path.name


def test_a_row_without_its_owner_is_refused(portal: PortalForTests) -> None:
    with pytest.raises(IntegrityError), portal.database.session() as session:
        session.add(Link(person_id=404, token_sha256="x", expires_at=now()))


def _add_up(url: str, rounds: int) -> None:
    database = Database(url)
    for _ in range(rounds):
        with database.session() as session:
            project = session.scalars(select(Project)).one()
            project.contact = str(int(project.contact) + 1)  # read, add, write: what SQLite's default transaction loses
    database.close()


def test_no_update_is_lost_between_processes(portal: PortalForTests) -> None:
    with portal.database.session() as session:
        session.add(Project(name="counter", closes_at=now(), contact="0"))
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_add_up, args=(portal.settings.database_url, 25)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    with portal.database.reading() as session:
        assert session.scalars(select(Project.contact)).one() == "75"


def test_a_reader_holds_up_no_writer_and_sees_one_moment(portal: PortalForTests) -> None:
    with portal.database.session() as session:
        session.add(Project(name="x", closes_at=now(), contact="before"))
    with portal.database.reading() as reader:
        assert reader.scalars(select(Project.contact)).one() == "before"
        started = time.monotonic()
        with portal.database.session() as writer:
            writer.execute(update(Project).values(contact="after"))
        assert time.monotonic() - started < 5, "the writer waited for the reader"
        assert reader.scalars(select(Project.contact)).one() == "before"


def test_what_a_reading_session_changed_is_not_kept(portal: PortalForTests) -> None:
    with portal.database.reading() as session:
        session.add(Project(name="x", closes_at=now()))
        session.flush()
    with portal.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Project)) == 0


def test_a_service_sees_what_others_committed_after_the_page_was_read(company: Company) -> None:
    """Given a request that has read a row, when another one changes it, then the service in the first sees the change."""
    assert company.session.get_one(Project, company.project.id).contact == "Li, ext. 8000"
    with company.database.session() as other:
        other.execute(update(Project).values(contact="somebody else"))
    with transaction(company.session):
        assert company.project.contact == "somebody else"


@one_transaction
def _rename(session: Session, actor: Actor, project: Project, name: str, *, fail: bool = False) -> str:
    project.name = name
    audit(session, actor, "rename.project", project, project_id=project.id)
    enqueue_check(session, 1)
    enqueue_slice(session, 2)
    assert queue_of(session) == ([], []), "queued before the commit"
    if fail:
        raise ServiceError(None, "不行", "no")
    return name


def queue_of(session: Session) -> tuple[list[int], list[int]]:
    queue: QueueThatRemembers = session.info["queue"]
    return queue.checks, queue.slices


def test_change_event_and_commit_are_one_and_work_follows_them(company: Company) -> None:
    assert _rename(company.session, SYSTEM, company.project, "new name") == "new name"
    with company.look() as session:
        assert session.scalars(select(Project.name)).one() == "new name"
    assert len(company.events("rename.project")) == 1
    assert queue_of(company.session) == ([1], [2])


def test_a_refused_service_leaves_nothing_behind(company: Company) -> None:
    with pytest.raises(ServiceError):
        _rename(company.session, SYSTEM, company.project, "new name", fail=True)
    assert company.project.name == "Example"
    assert company.events("rename.project") == [] and queue_of(company.session) == ([], [])


def test_services_inside_one_transaction_stand_or_fall_together(company: Company) -> None:
    with pytest.raises(ServiceError), transaction(company.session):
        _rename(company.session, SYSTEM, company.project, "first")
        _rename(company.session, SYSTEM, company.project, "second", fail=True)
    assert company.project.name == "Example" and company.events("rename.project") == [] and queue_of(company.session) == ([], [])


def test_a_dead_queue_loses_nothing_and_troubles_nobody(company: Company, caplog: pytest.LogCaptureFixture) -> None:
    company.queue.broken = RedisDown("connection refused")
    assert _rename(company.session, SYSTEM, company.project, "kept") == "kept"
    with company.look() as session:
        assert session.scalars(select(Project.name)).one() == "kept"
    assert "wait for the reconciler" in caplog.text


def test_an_expected_queue_failure_only_a_bug_is_not_swallowed(company: Company) -> None:
    company.queue.broken = TypeError("a bug")
    with pytest.raises(TypeError):
        _rename(company.session, SYSTEM, company.project, "kept")


def test_compare_and_set_changes_a_row_once(company: Company) -> None:
    barrier, changed = threading.Barrier(4), []

    def press() -> None:
        with company.database.session() as session:
            barrier.wait(10)
            changed.append(changed_rows(session, update(Project).where(Project.contact == "Li, ext. 8000").values(contact="taken")))

    threads = [threading.Thread(target=press) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(changed) == [0, 0, 0, 1]


def test_audit_rows_can_only_be_added(company: Company) -> None:
    path = company.database.engine.url.database
    assert path is not None
    raw = sqlite3.connect(path)
    for statement in ("UPDATE audit_events SET actor = 'nobody'", "DELETE FROM audit_events"):
        with pytest.raises(sqlite3.IntegrityError, match="only added"):
            raw.execute(statement)
        raw.rollback()
    raw.close()
    with company.look() as session:
        assert session.scalar(select(func.count()).select_from(AuditEvent)) == 3


def test_what_was_deleted_is_gone_from_the_files(portal: PortalForTests) -> None:
    """Given a value that was stored, when it is deleted and the log is emptied, then no file of the database holds it."""
    directory: Path = portal.settings.instance_dir
    with portal.database.session() as session:
        session.add(Project(name="kanarienvogel-7731", closes_at=now()))
    assert any(b"kanarienvogel-7731" in path.read_bytes() for path in directory.glob("banjia.db*"))
    with portal.database.session() as session:
        session.delete(session.scalars(select(Project)).one())
    portal.database.forget_deleted()
    assert not any(b"kanarienvogel-7731" in path.read_bytes() for path in directory.glob("banjia.db*"))
