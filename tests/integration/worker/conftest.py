"""Workers as real processes over a real Redis and two real Dovecots, and a company to move."""
from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from engine.endpoint import Secret
from portal.models import Check, Move, MoveState, Project
from portal.services import people, projects
from portal.services.checks import latest_check
from portal.services.common import SYSTEM
from portal.services.people import NewPerson
from portal.services.projects import Server
from portal.store.db import migrate
from tests.support.dovecot import PASSWORD, Dovecot
from tests.support.portal_app import PortalForTests, portal_in

PATIENCE_SECONDS = 60.0
ROOT = Path(__file__).parents[3]
CLOSED = (MoveState.DONE, MoveState.STUCK, MoveState.PAUSED)


@dataclass
class Crew:
    """The portal, and the worker processes that a test starts, kills and restarts."""

    portal: PortalForTests
    project: Project
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    logs: Path = Path()

    def start(self, what: str) -> subprocess.Popen[bytes]:
        settings = self.portal.settings
        environment = {
            "PATH": os.environ["PATH"], "INSTANCE_DIR": str(settings.instance_dir), "REDIS_URL": settings.redis_url,
            "DATABASE_URL": settings.database_url,
            "ALLOWED_NETWORKS": "127.0.0.0/8", "ALLOWED_PORTS": "1-65535", "LEASE_SECONDS": str(settings.lease_seconds),
            "RECONCILE_SECONDS": str(settings.reconcile_seconds), "SLICE_SECONDS": str(settings.slice_seconds)}
        with (self.logs / f"{what}.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "worker.py", what], cwd=ROOT, env=environment, stdout=log, stderr=log,
                                       stdin=subprocess.DEVNULL)
        self.running.append(process)
        return process

    def stop_all(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.wait(10)

    def add(self, login: str, *, secret: str = PASSWORD) -> int:
        """A person with both secrets, checked by nobody yet; returns the move's id."""
        with self.portal.database.session() as session:
            project = session.get_one(Project, self.project.id)
            person = people.add_person(session, SYSTEM, project, NewPerson(login))
            people.submit_secrets(session, SYSTEM, person, Secret(secret), Secret(PASSWORD), self.portal.sealer)
            return person.move.id

    def move(self, move_id: int) -> Move:
        with self.portal.database.reading() as session:
            move = session.get_one(Move, move_id)
            session.expunge(move)
            return move

    def check(self, move_id: int) -> Check:
        """The newest of that person."""
        with self.portal.database.reading() as session:
            check = latest_check(session, session.get_one(Move, move_id).person)
            assert check is not None
            session.expunge(check)
            return check

    def wait(self, what: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, self.tail()
            time.sleep(0.05)

    def wait_closed(self, move_id: int) -> Move:
        self.wait(lambda: self.move(move_id).state in CLOSED)
        return self.move(move_id)

    def tail(self) -> str:
        return "\n".join(f"--- {p.name}\n{p.read_text()[-3000:]}" for p in sorted(self.logs.glob("*.log")))


def horse_of(worker: subprocess.Popen[bytes]) -> int | None:
    """The process id of a worker's child that does the work."""
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
    pids = children.read_text().split() if children.exists() else []
    return int(pids[0]) if pids else None


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1][:3]


@pytest.fixture
def database_variables() -> Iterator[dict[str, str]]:
    """SQLite; or, where TEST_POSTGRES_URL names a server (postgresql://postgres@127.0.0.1:5432), a new database there."""
    server = os.environ.get("TEST_POSTGRES_URL")
    if server is None:
        yield {}
        return
    name = f"banjia_{uuid.uuid4().hex[:12]}"
    admin = create_engine(f"{server}/postgres".replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    migrate(f"{server}/{name}".replace("postgresql://", "postgresql+psycopg://"))
    yield {"DATABASE_URL": f"{server}/{name}"}
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    admin.dispose()


@pytest.fixture
def crew(tmp_path: Path, instance_template: Path, redis_url: str, source_server: Dovecot, destination_server: Dovecot,
         database_variables: dict[str, str]) -> Iterator[Crew]:
    logs = tmp_path / "logs"
    logs.mkdir()
    with portal_in(tmp_path / "instance", instance_template, redis_url, LEASE_SECONDS="5", RECONCILE_SECONDS="1",
                   **database_variables) as portal:
        assert source_server.ports and destination_server.ports
        with portal.database.session() as session:
            project = projects.create_project(session, SYSTEM, "测试公司")
            ports = portal.settings.allowed_ports
            projects.change_source(session, SYSTEM, project, "generic", Server(
                "localhost", source_server.ports.imaps, ca_pem=source_server.ca_pem, reason="test"), allowed_ports=ports)
            projects.change_destination(session, SYSTEM, project, Server(
                "localhost", destination_server.ports.imaps, ca_pem=destination_server.ca_pem, reason="test"), allowed_ports=ports)
        crew = Crew(portal, project, logs=logs)
        try:
            yield crew
        finally:
            crew.stop_all()
