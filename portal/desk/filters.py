"""Which moves a list shows: the filter as it stands in the address, the rows it finds, and who counts as silent.

Must not: change anything. Always: a filter is made of closed choices and bound values only; the same filter gives the same rows
to the list, to its count, and to "all of these" of the bulk actions.
"""
from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select
from sqlalchemy.orm import Session, contains_eager
from werkzeug.datastructures import MultiDict

from engine.causes import Cause
from engine.providers.catalogue import known
from portal.models import Check, Move, MoveState, Person, Project, ProjectState, now

PAGE_SIZES = (50, 100, 200)
BULK_MOST = 5000  # moves that one press may relaunch; more is a second press
NO_PROVIDER = "none"  # in an address: the provider is not known yet

SILENT_MOVING = dt.timedelta(minutes=5)   # a worker writes every few seconds
SILENT_WAITING = dt.timedelta(minutes=15)  # the reconciler puts what is due on the queue every half minute


@dataclass(frozen=True)
class MoveFilter:
    """Empty fields do not filter. Without a project only open projects count, as on the desk's first page; a number that somebody
    was told (M3, C1) is found in every project."""

    states: tuple[MoveState, ...] = ()
    cause: Cause | None = None
    provider: str | None = None
    project: int | None = None
    q: str = ""
    silent: bool = False

    @property
    def is_empty(self) -> bool:
        return self == MoveFilter()

    def without(self, field: str) -> MoveFilter:
        return replace(self, **{field: getattr(MoveFilter(), field)})

    def args(self) -> dict[str, Any]:
        """As they stand in an address; empty ones are left out."""
        args = {"state": ",".join(state.value for state in self.states), "cause": self.cause.value if self.cause else None,
                "provider": self.provider, "project": self.project, "q": self.q, "silent": "1" if self.silent else None}
        return {key: value for key, value in args.items() if value}


def number(text: str | int) -> int:
    """A number from an address or a form, small enough for a row's id. Raises ValueError."""
    text = str(text)
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise ValueError(text[:20])
    return int(text)


def read_filter(args: MultiDict[str, str]) -> MoveFilter:
    """What the address (or a form) says; a value that is no choice is dropped."""
    cause, provider = args.get("cause", ""), args.get("provider", "")
    states = set(",".join(args.getlist("state")).split(","))
    return MoveFilter(
        states=tuple(state for state in MoveState if state.value in states),
        cause=Cause(cause) if cause in set(Cause) else None,
        provider=provider if provider == NO_PROVIDER or known(provider) else None,
        project=args.get("project", type=number), q=args.get("q", "").strip()[:100], silent=args.get("silent") == "1")


# The choices of the list's state field: groups as people ask for them, then the single states.
UNDER_WAY = (MoveState.QUEUED, MoveState.MOVING, MoveState.WAITING)
NOT_BEGUN = (MoveState.INVITED, MoveState.READY)


@dataclass(frozen=True)
class MovePage:
    moves: list[Move]
    total: int
    number: int
    size: int

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // self.size))


def find_moves(session: Session, wanted: MoveFilter, number: int = 1, size: int = PAGE_SIZES[0]) -> MovePage:
    """Page `number` (from 1; beyond the last one gives the last). Those that need action come first, then the newest sign of life."""
    total = count_moves(session, wanted)
    number = max(1, min(number, max(1, -(-total // size))))
    urgent = case({MoveState.STUCK.value: 0, MoveState.MOVING.value: 1, MoveState.WAITING.value: 1, MoveState.QUEUED.value: 1,
                   MoveState.DONE.value: 4}, value=Move.state, else_=2)
    rows = _joined(select(Move), wanted).options(contains_eager(Move.person).contains_eager(Person.project)).order_by(
        urgent, Move.last_sign_at.is_(None), Move.last_sign_at.desc(), Move.id)
    return MovePage(list(session.scalars(rows.limit(size).offset((number - 1) * size))), total, number, size)


def count_moves(session: Session, wanted: MoveFilter) -> int:
    return session.scalar(_joined(select(func.count()).select_from(Move), wanted)) or 0


def all_ids(session: Session, wanted: MoveFilter) -> list[int]:
    """At most BULK_MOST."""
    return list(session.scalars(_joined(select(Move.id), wanted).order_by(Move.id).limit(BULK_MOST)))


def moves_by_id(session: Session, ids: list[int]) -> list[Move]:
    """In the order of the ids; ids that do not exist are left out."""
    found: dict[int, Move] = {}
    for start in range(0, len(ids), 500):
        rows = session.scalars(select(Move).join(Move.person).join(Person.project).where(Move.id.in_(ids[start:start + 500]))
                               .options(contains_eager(Move.person).contains_eager(Person.project)))
        found.update((move.id, move) for move in rows)
    return [found[row] for row in dict.fromkeys(ids) if row in found]


def is_silent(move: Move, at: dt.datetime | None = None) -> bool:
    """The same rule as the filter's, for one row."""
    at = at or now()
    if move.state is MoveState.MOVING:
        return move.last_sign_at is None or move.last_sign_at < at - SILENT_MOVING
    if move.state in (MoveState.QUEUED, MoveState.WAITING):
        due = move.not_before or move.queued_at
        return due is not None and due < at - SILENT_WAITING
    return False


_REFERENCES = re.compile(r"[MC]\d{1,9}(?:[\s·,，、;；]*[MC]\d{1,9})*", re.IGNORECASE)


def references(q: str) -> list[tuple[str, int]]:
    """The numbers that employees are told: M3 of a move, C1 of a check, also "M3 · C1"; none when anything else stands there."""
    if not _REFERENCES.fullmatch(q):
        return []
    return [(kind.upper(), int(number)) for kind, number in re.findall(r"([MCmc])(\d+)", q)]


def _numbered(reference: tuple[str, int]) -> ColumnElement[bool]:
    kind, number = reference
    return Move.id == number if kind == "M" else Person.id.in_(select(Check.person_id).where(Check.id == number))


def _silent(at: dt.datetime) -> ColumnElement[bool]:
    due = func.coalesce(Move.not_before, Move.queued_at)
    return or_(and_(Move.state == MoveState.MOVING, or_(Move.last_sign_at.is_(None), Move.last_sign_at < at - SILENT_MOVING)),
               and_(Move.state.in_((MoveState.QUEUED, MoveState.WAITING)), due < at - SILENT_WAITING))


def _joined(statement: Select[Any], wanted: MoveFilter) -> Select[Any]:
    statement = statement.join(Person, Move.person_id == Person.id).join(Project, Person.project_id == Project.id)
    numbers = references(wanted.q)
    if wanted.project is not None:
        statement = statement.where(Project.id == wanted.project)
    elif not numbers:
        statement = statement.where(Project.state == ProjectState.OPEN)
    if wanted.states:
        statement = statement.where(Move.state.in_(wanted.states))
    if wanted.cause is not None:
        statement = statement.where(Move.cause == wanted.cause.value)
    if wanted.provider is not None:
        provider = func.coalesce(Person.provider, Project.provider)
        statement = statement.where(provider.is_(None) if wanted.provider == NO_PROVIDER else provider == wanted.provider)
    if wanted.q:
        columns = (Person.name, Person.source_address, Person.destination_address)
        statement = statement.where(or_(*(column.icontains(wanted.q, autoescape=True) for column in columns), *map(_numbered, numbers)))
    if wanted.silent:
        statement = statement.where(_silent(now()))
    return statement
