"""A small company for the tests of services: a project with two servers, and people in any state, made through the services
themselves; what only a worker does (ending a check, stopping a move) is written as a worker writes it."""
from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from functools import cached_property

from sqlalchemy import select
from sqlalchemy.orm import Session

from engine.causes import Cause, Side
from engine.endpoint import Secret
from engine.report.steps import Step
from portal.models import Attempt, AuditEvent, Check, CheckState, Credential, Move, MoveState, Person, now
from portal.services.common import Actor
from portal.services.people import NewPerson, add_person, submit_secrets
from portal.services.projects import Server, change_destination, change_source, create_project
from portal.store.db import Database
from tests.support.portal_app import PortalForTests

HELPDESK = Actor("staff:li@example.com", "192.0.2.7")
ADMIN = Actor("staff:zhao@example.com", "192.0.2.8")
OLD, NEW = Server("imap.old.example"), Server("imap.new.example")


@dataclass
class QueueThatRemembers:
    """Stands where a WorkQueue stands and keeps what arrives, in order; `broken` raises instead."""

    checks: list[int] = field(default_factory=list)
    slices: list[int] = field(default_factory=list)
    broken: Exception | None = None

    def enqueue_checks(self, check_ids: list[int]) -> None:
        self._refuse()
        self.checks += check_ids

    def enqueue_slices(self, move_ids: list[int]) -> None:
        self._refuse()
        self.slices += move_ids

    def _refuse(self) -> None:
        if self.broken is not None:
            raise self.broken


class Company:
    """One session as a web request has it; `look()` is another one, which sees only what was committed."""

    def __init__(self, portal: PortalForTests, provider: str | None = "generic") -> None:
        self.portal = portal
        self.queue = QueueThatRemembers()
        self.database = Database(portal.settings.database_url, queue=self.queue)
        self.session: Session = self.database.open_session()
        self.sealer = portal.sealer
        self.project = create_project(self.session, ADMIN, "Example", contact="Li, ext. 8000")
        change_source(self.session, ADMIN, self.project, provider, OLD)
        change_destination(self.session, ADMIN, self.project, NEW)

    @cached_property
    def wang(self) -> Person:
        return self.person("wang")

    def person(self, name: str) -> Person:
        return add_person(
            self.session, ADMIN, self.project, NewPerson(f"{name}@old.example", name, destination_address=f"{name}@new.example")
        )

    def submit(self, person: Person, source: str | None = "right-code", destination: str | None = "new-password") -> Check:
        return submit_secrets(self.session, Actor.person(person), person, source and Secret(source), destination and Secret(destination),  # type: ignore[arg-type]
                              self.sealer)

    def end_check(self, check: Check, cause: Cause | None = None, *, ago: dt.timedelta = dt.timedelta(),
                  at: tuple[Side, Step] | None = None, retry_after: float | None = None) -> None:
        """As a worker ends it; `at`: which side failed, at which step."""
        with self.database.session() as session:
            row = session.get_one(Check, check.id)
            row.state, row.cause, row.finished_at = CheckState.DONE, cause.value if cause else None, now() - ago
            if at is not None:
                row.result = {at[0].value: {"outcome": "failed", "step": at[1].value, "retry_after": retry_after}}
            move = session.scalar(select(Move).where(Move.person_id == row.person_id))
            if cause is None and move is not None and move.state is MoveState.INVITED:
                move.state = MoveState.READY
        self.session.rollback()  # the next request: another snapshot
        self.session.expire_all()

    def ready(self, name: str) -> Person:
        person = self.person(name)
        self.end_check(self.submit(person))
        return person

    def set_move(self, person: Person, state: MoveState, cause: Cause | None = None, outcome: str | None = None) -> Move:
        """As a worker leaves it: stuck, waiting, done or moving, its attempt ended where that is so."""
        with self.database.session() as session:
            move = session.scalars(select(Move).where(Move.person_id == person.id)).one()
            move.state, move.cause, move.outcome = state, cause.value if cause else None, outcome
            attempt = session.scalar(select(Attempt).where(Attempt.move_id == move.id, Attempt.ended_at.is_(None)))
            if attempt is not None and state in (MoveState.STUCK, MoveState.DONE):
                attempt.ended_at, attempt.outcome, attempt.cause = now(), outcome or "failed", move.cause
            if state is MoveState.DONE:
                move.finished_at = now()
        self.session.rollback()  # the next request: another snapshot
        self.session.expire_all()
        return person.move

    def look(self) -> Session:
        """A fresh session: what is committed."""
        return self.database.open_session()

    def events(self, action: str) -> list[AuditEvent]:
        with self.look() as session:
            return list(session.scalars(select(AuditEvent).where(AuditEvent.action == action).order_by(AuditEvent.id)))

    def credentials(self) -> list[tuple[str, int, str]]:
        with self.look() as session:
            rows = session.scalars(select(Credential).order_by(Credential.owner_kind, Credential.owner_id, Credential.field))
            return [(row.owner_kind.value, row.owner_id, row.field) for row in rows]

    def attempts(self, person: Person) -> list[Attempt]:
        with self.look() as session:
            return list(session.scalars(select(Attempt).where(Attempt.move_id == person.move.id).order_by(Attempt.number)))

    def opened(self, person: Person, name: str) -> str:
        """A stored secret as the worker's vault opens it."""
        with self.look() as session:
            row = session.scalars(select(Credential).where(Credential.owner_id == person.id, Credential.field == name)).one()
            return self.portal.vault.open(row.sealed, row.owner_kind, row.owner_id, row.field).reveal()

    def close(self) -> None:
        self.session.close()
        self.database.close()



