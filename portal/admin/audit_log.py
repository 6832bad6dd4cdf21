"""Reading the audit: one page of events by actor, kind of act, subject, project and time.

Must not: change or hide an event. Always: newest first, and stable from page to page (by id, which only grows).
"""
from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from portal.models import AuditEvent, Move, Person, Project
from portal.services.days import ZONE

PAGE = 100


@dataclass(frozen=True)
class AuditFilter:
    """Empty fields do not filter. `actor` is part of a name; `day_from` and `day_to` are days as pages write them, both included."""

    actor: str = ""
    action: str = ""
    project: int | None = None
    move: int | None = None
    day_from: dt.date | None = None
    day_to: dt.date | None = None

    @property
    def is_empty(self) -> bool:
        return self == AuditFilter()


@dataclass(frozen=True)
class AuditPage:
    events: list[AuditEvent]
    total: int
    number: int

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // PAGE))


def read_audit(session: Session, wanted: AuditFilter, number: int) -> AuditPage:
    """Page `number` (from 1; beyond the last one gives the last)."""
    total = session.scalar(_where(select(func.count()).select_from(AuditEvent), session, wanted)) or 0
    number = max(1, min(number, max(1, -(-total // PAGE))))
    events = session.scalars(_where(select(AuditEvent), session, wanted).order_by(AuditEvent.id.desc())
                             .limit(PAGE).offset((number - 1) * PAGE))
    return AuditPage(list(events), total, number)


def actions(session: Session) -> list[str]:
    """Every kind of act that has happened, for the filter."""
    return list(session.scalars(select(AuditEvent.action).distinct().order_by(AuditEvent.action)))


def of_move(session: Session, move: Move, limit: int = 200) -> list[AuditEvent]:
    """What happened to this move, its person and their link, newest first."""
    return list(session.scalars(select(AuditEvent).where(_about(move)).order_by(AuditEvent.id.desc()).limit(limit)))


def subjects(session: Session, events: list[AuditEvent]) -> dict[tuple[str, int], str]:
    """What people call the subjects: addresses of people and moves, names of projects. Subjects that are gone are left out."""
    ids: dict[str, set[int]] = {}
    for event in events:
        if event.subject_id is not None:
            ids.setdefault(event.subject_kind, set()).add(event.subject_id)
    names: dict[tuple[str, int], str] = {}
    for row_id, address in session.execute(select(Person.id, Person.source_address).where(Person.id.in_(ids.get("person", set())))):
        names["person", row_id] = address
    for row_id, address in session.execute(select(Move.id, Person.source_address).join(Person, Move.person_id == Person.id)
                                           .where(Move.id.in_(ids.get("move", set())))):
        names["move", row_id] = address
    for row_id, name in session.execute(select(Project.id, Project.name).where(Project.id.in_(ids.get("project", set())))):
        names["project", row_id] = name
    return names


def _about(move: Move):  # type: ignore[no-untyped-def]
    kind, row = AuditEvent.subject_kind, AuditEvent.subject_id
    return ((kind == "move") & (row == move.id)) | ((kind == "person") & (row == move.person_id))


def _where(statement: Select[Any], session: Session, wanted: AuditFilter) -> Select[Any]:
    if wanted.actor:
        statement = statement.where(AuditEvent.actor.icontains(wanted.actor, autoescape=True))
    if wanted.action:
        statement = statement.where(AuditEvent.action == wanted.action)
    if wanted.project is not None:
        statement = statement.where(AuditEvent.project_id == wanted.project)
    if wanted.move is not None:
        move = session.get(Move, wanted.move)
        statement = statement.where(_about(move) if move else AuditEvent.id < 0)
    if wanted.day_from is not None:
        statement = statement.where(AuditEvent.created_at >= _midnight(wanted.day_from))
    if wanted.day_to is not None:
        statement = statement.where(AuditEvent.created_at < _midnight(wanted.day_to) + dt.timedelta(days=1))
    return statement


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), ZONE)
