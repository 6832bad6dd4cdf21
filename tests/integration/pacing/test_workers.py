"""Given a worker whose slice a server told to wait, when others take up the mailbox, then none of them connects before the time."""
from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from engine.causes import Cause
from portal.models import Move, MoveState, now
from portal.services import moves, projects
from portal.services.common import SYSTEM
from portal.services.projects import Server
from tests.integration.worker.conftest import Crew
from tests.support.dovecot import PASSWORD
from tests.support.portal_app import portal_in
from tests.support.provider_simulator import Action, Fault, ProviderSimulator, message

LOGIN = "user@example.com"


@pytest.fixture
def servers() -> Iterator[tuple[ProviderSimulator, ProviderSimulator]]:
    with ProviderSimulator("dovecot", tls=True, accounts={LOGIN: PASSWORD}) as source, \
            ProviderSimulator("dovecot", tls=True, accounts={LOGIN: PASSWORD}) as destination:
        yield source, destination


@pytest.fixture
def crew(tmp_path: Path, instance_template: Path, redis_url: str, servers: tuple[ProviderSimulator, ProviderSimulator]) -> Iterator[Crew]:
    """A company between two simulated servers."""
    logs = tmp_path / "logs"
    logs.mkdir()
    with portal_in(tmp_path / "instance", instance_template, redis_url, LEASE_SECONDS="5", RECONCILE_SECONDS="1") as portal:
        with portal.database.session() as session:
            project = projects.create_project(session, SYSTEM, "测试公司")
            ports = portal.settings.allowed_ports
            source, destination = servers
            projects.change_source(session, SYSTEM, project, "generic", Server(
                "localhost", source.port, ca_pem=source.ca_pem, reason="test"), allowed_ports=ports)
            projects.change_destination(session, SYSTEM, project, Server(
                "localhost", destination.port, ca_pem=destination.ca_pem, reason="test"), allowed_ports=ports)
        crew = Crew(portal, project, logs=logs)
        try:
            yield crew
        finally:
            crew.stop_all()


def queue(crew: Crew, move_id: int) -> None:
    """As if its time had come."""
    with crew.portal.database.session() as session:
        session.execute(update(Move).where(Move.id == move_id).values(state=MoveState.QUEUED, not_before=None, cause=None))
    crew.portal.queue.enqueue_slice(move_id)


def test_a_stated_wait_holds_every_worker_and_the_next_slice_completes(
        crew: Crew, servers: tuple[ProviderSimulator, ProviderSimulator]) -> None:
    source, destination = servers
    source.account()["INBOX"].put(*(message(str(n)) for n in range(40)))
    source.faults.append(Fault("UID FETCH", Action.UNTAGGED, text=b"* OK [THROTTLED] Suggested Backoff Time: 1800000 milliseconds"))
    move_id = crew.add(LOGIN)
    with crew.portal.database.session() as session:
        moves.start(session, SYSTEM, session.get_one(Move, move_id))
    crew.start("move")
    crew.start("move")
    crew.wait(lambda: crew.move(move_id).state is MoveState.WAITING)
    move = crew.move(move_id)
    assert move.cause == Cause.THROTTLED and move.not_before is not None
    left = move.not_before - now()
    assert dt.timedelta(minutes=25) < left <= dt.timedelta(minutes=30)
    seen = source.connections
    queue(crew, move_id)  # a clock that is wrong, or a person who cannot wait
    crew.wait(lambda: crew.move(move_id).state is MoveState.WAITING)
    assert source.connections == seen
    crew.start("check")
    crew.wait(lambda: crew.check(move_id).finished_at is not None)
    assert (crew.check(move_id).cause, source.connections) == ("throttled", seen)
    client = crew.portal.queue.connection
    client.delete(*client.keys("banjia:pace:*"))  # the wait is over (or Redis was wiped)
    queue(crew, move_id)
    assert crew.wait_closed(move_id).outcome == "complete"
    assert sum(len(folder.messages) for folder in destination.account().folders.values()) == 40
