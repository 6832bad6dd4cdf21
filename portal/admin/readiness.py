"""Whether a project can begin: the four tasks of its page, and what each still lacks.

Must not: change anything. Always: a task is done only if its proof is there (a passed test of the servers as they are now, mail that was
moved through them, people, links), never because somebody opened its page.
"""
from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from engine.causes import Side
from portal.models import Attempt, AuditEvent, Check, CheckState, Credential, Link, Move, MoveState, Owner, Person, Project, now
from portal.services.common import is_over
from portal.services.credentials import DESTINATION_SECRET


class Task(StrEnum):
    MISSING = "missing"    # nothing entered
    UNTESTED = "untested"  # entered; no test of it passed since
    FAILED = "failed"      # the last test failed
    USED = "used"          # not tested, but mail has been moved through it
    DONE = "done"


@dataclass(frozen=True)
class Readiness:
    """`people` and `with_link` are counts; `own_secret`: the project has a master user's password for the new server."""

    source: Task
    destination: Task
    people: int
    with_link: int
    own_secret: bool
    by_state: dict[MoveState, int]

    @property
    def ready(self) -> bool:
        return all(task in (Task.DONE, Task.USED) for task in (self.source, self.destination)) and self.people > 0

    @property
    def waits_to_begin(self) -> bool:
        """There are people who have not begun."""
        return any(self.by_state.get(state) for state in (MoveState.INVITED, MoveState.READY))


def readiness(session: Session, project: Project) -> Readiness:
    by_state = dict(session.execute(
        select(Move.state, func.count()).join(Person, Move.person_id == Person.id).where(Person.project_id == project.id)
        .group_by(Move.state)).all())
    return Readiness(
        _server_task(session, project, Side.SOURCE, bool(project.provider or project.source_host)),
        _server_task(session, project, Side.DESTINATION, bool(project.destination_host)),
        sum(by_state.values()), people_with_link(session, project), has_own_secret(session, project), by_state)


def _server_task(session: Session, project: Project, side: Side, entered: bool) -> Task:
    if not entered:
        return Task.MISSING
    test = latest_test(session, project, side)
    changed, changed_at = session.execute(select(func.max(AuditEvent.id), func.max(AuditEvent.created_at)).where(
        AuditEvent.project_id == project.id, AuditEvent.action == f"change.{side.value}")).one()
    asked = session.scalar(select(func.max(AuditEvent.id)).where(
        AuditEvent.subject_kind == "check", AuditEvent.subject_id == test.id)) if test else None
    if test is None or test.state is not CheckState.DONE or (asked or 0) < (changed or 0):
        return Task.USED if _mail_has_passed(session, project, side, changed_at) else Task.UNTESTED
    return Task.FAILED if test.cause else Task.DONE


def _mail_has_passed(session: Session, project: Project, side: Side, since: dt.datetime | None) -> bool:
    """Whether an attempt that began since then moved a message or came to its end. Of the old server only of those who have no other
    one of their own."""
    proved = (select(Attempt.id).join(Move, Attempt.move_id == Move.id).join(Person, Move.person_id == Person.id)
              .where(Person.project_id == project.id, or_(Attempt.moved > 0, Attempt.outcome.in_(("complete", "partial")))))
    if since is not None:
        proved = proved.where(Attempt.started_at > since)
    if side is Side.SOURCE:
        proved = proved.where(Person.source_host.is_(None), or_(Person.provider.is_(None), Person.provider == project.provider))
    return session.scalar(proved.limit(1)) is not None


def latest_test(session: Session, project: Project, side: Side) -> Check | None:
    return session.scalar(select(Check).where(Check.project_id == project.id, Check.side == side.value).order_by(Check.id.desc()).limit(1))


def people_with_link(session: Session, project: Project) -> int:
    if is_over(project):
        return 0  # none opens any more
    return session.scalar(select(func.count(func.distinct(Link.person_id))).join(Person, Link.person_id == Person.id).where(
        Person.project_id == project.id, Link.revoked_at.is_(None), Link.expires_at > now())) or 0


def people_without_link(session: Session, project: Project) -> list[Person]:
    """Those whose move is not complete and who have no link that works."""
    linked = select(Link.person_id).where(Link.revoked_at.is_(None), Link.expires_at > now())
    return list(session.scalars(select(Person).join(Move, Move.person_id == Person.id).where(
        Person.project_id == project.id, Person.id.not_in(linked), Move.state != MoveState.DONE).order_by(Person.id)))


def has_own_secret(session: Session, project: Project) -> bool:
    return session.scalar(select(Credential.id).where(
        Credential.owner_kind == Owner.PROJECT, Credential.owner_id == project.id, Credential.field == DESTINATION_SECRET)) is not None
