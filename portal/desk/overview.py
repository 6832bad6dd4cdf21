"""The numbers of the desk's first page: who needs us, why, at which provider; who is silent; how far each project is.

Must not: change anything. Always: every number here is the length of a list that the moves page can show (same conditions,
portal/desk/filters.py), so a number and the list behind its link never disagree.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from engine.causes import Cause, Who, explain
from portal.models import Move, MoveState, Person, Project, ProjectState

# In the order in which a mailbox goes through them; the bar of a project is drawn in this order, from done to not begun.
BAR_ORDER = (MoveState.DONE, MoveState.MOVING, MoveState.QUEUED, MoveState.WAITING, MoveState.PAUSED, MoveState.STUCK,
             MoveState.READY, MoveState.INVITED)


@dataclass(frozen=True)
class Group:
    """How many moves of open projects share all of these."""

    project_id: int
    state: MoveState
    cause: str | None
    provider: str | None
    count: int


@dataclass
class CauseRow:
    """One line of the table cause by provider."""

    cause: Cause
    who: Who
    by_provider: dict[str | None, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.by_provider.values())


@dataclass
class ProjectSplit:
    project: Project
    by_state: dict[MoveState, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.by_state.values())

    def shares(self) -> list[Share]:
        return shares(self.by_state)


@dataclass(frozen=True)
class Share:
    """A piece of a bar that is 1000 units wide."""

    state: MoveState
    count: int
    start: float
    width: float


def shares(by_state: dict[MoveState, int]) -> list[Share]:
    """The pieces of a bar in BAR_ORDER. A piece is never narrower than 6 units: one stuck mailbox among 2,000 must be seen."""
    total, least, place = sum(by_state.values()), 6.0, 0.0
    present = [(state, by_state[state]) for state in BAR_ORDER if by_state.get(state)]
    raw = [max(least, 1000 * count / total) for _, count in present]
    scale = 1000 / sum(raw) if raw else 0
    pieces = []
    for (state, count), width in zip(present, raw, strict=True):
        pieces.append(Share(state, count, round(place, 2), round(width * scale, 2)))
        place += width * scale
    return pieces


@dataclass
class Overview:
    """`stuck` is sorted by how many are affected; `providers` are the columns of that table, the most affected first."""

    projects: list[ProjectSplit]
    stuck: list[CauseRow]
    providers: list[str | None]
    silent: int

    def count(self, *states: MoveState) -> int:
        return sum(split.by_state.get(state, 0) for split in self.projects for state in states)

    @property
    def total(self) -> int:
        return sum(split.total for split in self.projects)

    def stuck_on(self, person: bool) -> int:
        """Stuck moves whose next step is the person's own (or: is not)."""
        return sum(row.total for row in self.stuck if (row.who is Who.USER) is person)


def groups(session: Session) -> list[Group]:
    provider = func.coalesce(Person.provider, Project.provider)
    rows = session.execute(
        select(Project.id, Move.state, Move.cause, provider, func.count())
        .select_from(Move).join(Person, Move.person_id == Person.id).join(Project, Person.project_id == Project.id)
        .where(Project.state == ProjectState.OPEN)
        .group_by(Project.id, Move.state, Move.cause, provider))
    return [Group(*row) for row in rows]


def overview(session: Session, silent: int) -> Overview:
    """`silent`: how many moves give no sign of life (the moves page counts them)."""
    counted = groups(session)
    splits = {p.id: ProjectSplit(p) for p in session.scalars(
        select(Project).where(Project.state == ProjectState.OPEN).order_by(Project.closes_at))}
    for group in counted:
        by_state = splits[group.project_id].by_state
        by_state[group.state] = by_state.get(group.state, 0) + group.count
    stuck, providers = _by_cause(g for g in counted if g.state is MoveState.STUCK)
    return Overview(list(splits.values()), stuck, providers, silent)


def split_by_project(session: Session) -> dict[int, dict[MoveState, int]]:
    """How many moves of each project are in each state; closed projects too."""
    splits: dict[int, dict[MoveState, int]] = {}
    for project_id, state, count in session.execute(
            select(Person.project_id, Move.state, func.count()).join(Person, Move.person_id == Person.id)
            .group_by(Person.project_id, Move.state)):
        splits.setdefault(project_id, {})[state] = count
    return splits


def _by_cause(stuck: Iterable[Group]) -> tuple[list[CauseRow], list[str | None]]:
    rows: dict[Cause, CauseRow] = {}
    columns: dict[str | None, int] = {}
    for group in stuck:
        cause = known_cause(group.cause)
        row = rows.setdefault(cause, CauseRow(cause, explain(cause).who))
        row.by_provider[group.provider] = row.by_provider.get(group.provider, 0) + group.count
        columns[group.provider] = columns.get(group.provider, 0) + group.count
    return (sorted(rows.values(), key=lambda r: (-r.total, r.cause)),
            sorted(columns, key=lambda p: (-columns[p], p or "~")))


def known_cause(text: str | None) -> Cause:
    """A stored cause; what an older version stored and this one does not know counts as unknown."""
    return Cause(text) if text in set(Cause) else Cause.UNKNOWN
