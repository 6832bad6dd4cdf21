"""What the page of one move shows: attempts, folders, set-aside messages, links, stored secrets (that they exist, never what they
are), the last check, and the timeline.

Must not: change anything, or read a sealed value. Always: bounded; a mailbox with a thousand folders or refusals still loads.
"""
from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload, selectinload

from engine.causes import Cause
from portal.admin.audit_log import of_move
from portal.desk.overview import known_cause
from portal.models import (
    Attempt,
    AuditEvent,
    Check,
    CheckState,
    Credential,
    LedgerFolder,
    Link,
    Move,
    MoveState,
    Owner,
    Person,
    SetAside,
    now,
)
from portal.services.checks import latest_check, secret_since
from portal.services.credentials import SECRET_CAUSES

FOLDERS_SHOWN = 1000
SET_ASIDE_SHOWN = 200
LINES_SHOWN = 30  # of one attempt, the newest


@dataclass
class MovePicture:
    """Everything about one move. `refused` counts set-aside messages by reason, over all folders."""

    move: Move
    person: Person
    attempts: list[Attempt] = field(default_factory=list)
    folders: list[LedgerFolder] = field(default_factory=list)
    set_aside: list[tuple[SetAside, LedgerFolder]] = field(default_factory=list)
    refused: dict[Cause, int] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    secrets: dict[str, dt.datetime | None] = field(default_factory=dict)  # field -> destroyed at the latest
    check: Check | None = None
    timeline: list[AuditEvent] = field(default_factory=list)
    mended: bool = False  # it waits for nothing but a relaunch

    @property
    def set_aside_total(self) -> int:
        return sum(self.refused.values())

    def good_links(self) -> list[Link]:
        return [link for link in self.links if link_is_good(link)]


def find_move(session: Session, move_id: int) -> Move | None:
    return session.scalar(select(Move).where(Move.id == move_id).options(joinedload(Move.person).joinedload(Person.project)))


def picture(session: Session, move: Move) -> MovePicture:
    person = move.person
    folders = session.scalars(select(LedgerFolder).where(LedgerFolder.move_id == move.id).order_by(LedgerFolder.id).limit(FOLDERS_SHOWN))
    attempts = session.scalars(select(Attempt).where(Attempt.move_id == move.id).order_by(Attempt.id.desc()).limit(50)
                               .options(selectinload(Attempt.lines)))
    reasons = session.execute(select(SetAside.reason, func.count()).join(LedgerFolder, SetAside.folder_id == LedgerFolder.id)
                              .where(LedgerFolder.move_id == move.id).group_by(SetAside.reason))
    refused: dict[Cause, int] = {}
    for reason, count in reasons:
        refused[known_cause(reason)] = refused.get(known_cause(reason), 0) + count
    links = session.scalars(select(Link).where(Link.person_id == person.id).order_by(Link.id.desc()).limit(20))
    secrets = session.execute(select(Credential.field, Credential.expires_at).where(
        Credential.owner_kind == Owner.PERSON, Credential.owner_id == person.id))
    return MovePicture(move, person, list(attempts), list(folders), _set_aside(session, move), refused, list(links),
                       dict(secrets.all()), latest_check(session, person), of_move(session, move), bool(mended(session, [move])))


def _set_aside(session: Session, move: Move) -> list[tuple[SetAside, LedgerFolder]]:
    rows = session.execute(select(SetAside, LedgerFolder).join(LedgerFolder, SetAside.folder_id == LedgerFolder.id)
                           .where(LedgerFolder.move_id == move.id).order_by(SetAside.id).limit(SET_ASIDE_SHOWN))
    return [(row, folder) for row, folder in rows]


def mended(session: Session, moves: Iterable[Move]) -> set[int]:
    """Of these, the moves that stopped at a password of which a new one has been typed since, and a check has passed with it."""
    asked = {move.person_id: move for move in moves if move.state is MoveState.STUCK and move.cause in SECRET_CAUSES}
    newest = select(func.max(Check.id)).where(Check.person_id.in_(asked)).group_by(Check.person_id)
    passed = [(asked[person_id], at) for person_id, at in session.execute(select(Check.person_id, Check.created_at).where(
        Check.id.in_(newest), Check.state == CheckState.DONE, Check.cause.is_(None))) if person_id is not None]
    ended = {move_id: at for move_id, at in session.execute(
        select(Attempt.move_id, func.max(Attempt.ended_at)).where(Attempt.move_id.in_([move.id for move, _ in passed]))
        .group_by(Attempt.move_id)) if at is not None}
    found = set()
    for move, checked_at in passed:
        stopped_at = ended.get(move.id)
        if stopped_at and checked_at > stopped_at and secret_since(session, move.person, known_cause(move.cause or ""), stopped_at):
            found.add(move.id)
    return found


def link_is_good(link: Link) -> bool:
    return link.revoked_at is None and link.expires_at > now()


def accounted(move: Move) -> int:
    """Messages of which it is known what became of them."""
    return move.moved + move.already_there + move.excluded + move.set_aside
