"""Many people at once: a sheet's people added or updated, their moves started, their links handed out.

Must not: write a sheet to disk, or repeat a secret in a problem, an event or a log. Always: one bad row never stops the others; the
same sheet again changes nothing that already stands; a secret that its owner typed is never replaced by one from a sheet, unless the
server refused it.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from config import Settings
from engine.causes import Cause
from engine.endpoint import Secret
from engine.providers.catalogue import provider
from portal.models import AuditEvent, MoveState, Owner, Person, Project
from portal.security.vault import Sealer
from portal.services.checks import BOTH, latest_check, refuse_if_tried_too_often
from portal.services.common import Actor, AlreadyExists, ServiceError, WrongState, audit, one_transaction, refuse_if_over, transaction
from portal.services.credentials import DESTINATION_SECRET, SECRET_CAUSES, SOURCE_SECRET, as_typed, find_credential
from portal.services.days import day_of
from portal.services.endpoints import checked_login
from portal.services.links import issue_link, link_end, link_url
from portal.services.moves import STARTABLE, launch
from portal.services.people import NewPerson, add_person, find_person, keep_secrets
from portal.services.sheets import Problem, Sheet, SheetRow, csv_bytes, read_sheet

__all__ = ["Imported", "Problem", "Sheet", "SheetRow", "commit_people", "export_links", "read_sheet"]

ROWS_AT_ONCE = 100  # a second or so on SQLite, where everybody who writes waits

# A secret is replaced only where the move waits for somebody; one that runs keeps what it runs with, one that is done needs none.
_TAKES_SECRETS = (*STARTABLE, MoveState.STUCK, MoveState.PAUSED)


@dataclass
class Imported:
    """Counts of people; `started` of moves put on the queue; every problem, those found while reading included."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    started: int = 0
    problems: list[Problem] = field(default_factory=list)

    def count(self, change: str) -> None:
        setattr(self, change, getattr(self, change) + 1)


def commit_people(session: Session, actor: Actor, project: Project, sheet: Sheet, sealer: Sealer, *, start: bool = False) -> Imported:
    """Adds and updates the sheet's people. `start`: also puts the moves on the queue whose secrets the sheet holds (一键搬家).
    One transaction per ROWS_AT_ONCE rows, so that others can write meanwhile; what was broken off is finished by the same sheet
    again. Raises ProjectClosed, at the first row or when the project is closed meanwhile."""
    result = Imported(problems=list(sheet.problems))
    with transaction(session):
        refuse_if_over(project)
        again = _was_imported(session, project, sheet)
    for first in range(0, len(sheet.rows), ROWS_AT_ONCE):
        with transaction(session):
            refuse_if_over(project)
            _commit_rows(session, actor, project, sheet.rows[first:first + ROWS_AT_ONCE], sealer, result, start=start, again=again)
    with transaction(session):
        audit(session, actor, "import.people", project, project_id=project.id, sha256=sheet.sha256, rows=len(sheet.rows),
              added=result.added, updated=result.updated, unchanged=result.unchanged, started=result.started,
              problems=len(result.problems))
    result.problems.sort(key=lambda problem: problem.row)
    return result


def _commit_rows(session: Session, actor: Actor, project: Project, rows: list[SheetRow], sealer: Sealer, result: Imported, *,
                 start: bool, again: bool) -> None:
    for row in rows:
        try:
            with session.begin_nested():
                person, change = _take(session, actor, project, row, sealer, again)
            result.count(change)
            if start and (row.source_secret or row.destination_secret):
                with session.begin_nested():
                    result.started += _start(session, actor, person)
        except ServiceError as error:
            result.problems.append(Problem.of(row.number, error))


def _was_imported(session: Session, project: Project, sheet: Sheet) -> bool:
    """Whether this very file was taken before."""
    earlier = session.scalars(select(AuditEvent.detail).where(AuditEvent.action == "import.people", AuditEvent.project_id == project.id))
    return any(detail.get("sha256") == sheet.sha256 for detail in earlier)


def _take(session: Session, actor: Actor, project: Project, row: SheetRow, sealer: Sealer, again: bool) -> tuple[Person, str]:
    """The person of the row, and what happened to them: added, updated or unchanged."""
    secrets = _typed(project, row)
    person = find_person(session, project, row.source_address)
    change = "unchanged"
    if person is None:
        person = add_person(session, actor, project, NewPerson(
            row.source_address, row.name, row.source_login, row.destination_address, row.destination_login, row.language))
        change = "added"
    elif changes := _differences(session, person, row):
        for name, value in changes.items():
            setattr(person, name, value)
        audit(session, actor, "update.person", person, project_id=project.id, fields=sorted(changes))
        change = "updated"
    wanted = {name: secret for name, secret in secrets.items() if change == "added" or _wanted(session, person, name, again)}
    if wanted:
        keep_secrets(session, person, wanted, sealer)
        audit(session, actor, "submit.secrets", person, project_id=project.id, fields=sorted(wanted))
        change = "updated" if change == "unchanged" else change
    return person, change


def _typed(project: Project, row: SheetRow) -> dict[str, Secret]:
    typed = {}
    if row.source_secret:
        typed[SOURCE_SECRET] = as_typed(row.source_secret, SOURCE_SECRET, inner_blanks=provider(project.provider).inner_blanks)
    if row.destination_secret:
        typed[DESTINATION_SECRET] = as_typed(row.destination_secret, DESTINATION_SECRET, inner_blanks=False)
    return typed


def _differences(session: Session, person: Person, row: SheetRow) -> dict[str, str]:
    """What the row says otherwise; an empty cell says nothing. Raises WrongState, AlreadyExists, NotUsable."""
    said = {"name": row.name, "language": row.language,
            "source_login": checked_login(row.source_login, "source_login") if row.source_login else "",
            "destination_login": checked_login(row.destination_login, "destination_login") if row.destination_login else "",
            "destination_address": row.destination_address if row.destination_said else ""}
    changes = {name: value for name, value in said.items() if value and value != (getattr(person, name) or "")}
    if "destination_address" in changes:
        if person.move.state not in STARTABLE:
            raise WrongState("destination_address", "已经开始搬了，新邮箱不能再改。",
                             "The move has begun; its new mailbox cannot be changed.")
        if session.scalar(select(Person.id).where(Person.project_id == person.project_id,
                                                  Person.destination_address == row.destination_address)):
            raise AlreadyExists("destination_address", "已经有人要搬到这个新邮箱。", "Somebody is already moving to this new mailbox.")
    return changes


def _wanted(session: Session, person: Person, name: str, again: bool) -> bool:
    """Whether the sheet's secret is taken. The same file again brings nothing new; another file may correct what came from a
    sheet, or what was refused."""
    if person.move.state not in _TAKES_SECRETS:
        return False
    stored = find_credential(session, Owner.PERSON, person.id, name) is not None
    refused = _refused(session, person)
    if again:
        return not stored and not refused
    return not stored or refused or not _typed_by_owner(session, person)


def _refused(session: Session, person: Person) -> bool:
    check = latest_check(session, person)
    causes = {person.move.cause, check.cause if check else None} - {None}
    return any(cause in SECRET_CAUSES and cause != Cause.SECRET_MISSING for cause in causes)


def _typed_by_owner(session: Session, person: Person) -> bool:
    actor = session.scalar(select(AuditEvent.actor).where(
        AuditEvent.action == "submit.secrets", AuditEvent.subject_kind == "person", AuditEvent.subject_id == person.id)
        .order_by(AuditEvent.id.desc()).limit(1))
    return actor is not None and actor.startswith("person:")


def _start(session: Session, actor: Actor, person: Person) -> bool:
    """Starts a move that nobody started yet, or one that was stuck on its secret and now has another."""
    move = person.move
    if move.state is MoveState.STUCK and move.cause in SECRET_CAUSES:
        refuse_if_tried_too_often(session, person, BOTH)
    elif move.state not in STARTABLE:
        return False
    return launch(session, actor, move, verb="start", launched_by="import")


@one_transaction
def export_links(session: Session, actor: Actor, project: Project, settings: Settings, people: Iterable[Person] | None = None) -> bytes:
    """A CSV with a new personal link for everyone (`people`: only those) whose move is not complete; for a mail merge. Whoever
    holds this file can act as these people: the event says who made it. Raises ProjectClosed."""
    refuse_if_over(project)
    chosen = [person for person in (project.people if people is None else people)
              if person.project_id == project.id and not (person.move.state is MoveState.DONE and person.move.outcome == "complete")]
    rows: list[list[object]] = [["姓名/name", "旧邮箱/source_address", "新邮箱/destination_address", "语言/language",
                                 "链接/link", "有效期至/good until"]]
    for person in chosen:
        token = issue_link(session, actor, person, settings)
        rows.append([person.name, person.source_address, person.destination_address, person.language, link_url(settings, token),
                     day_of(link_end(project, settings))])
    audit(session, actor, "export.links", project, project_id=project.id, count=len(chosen))
    return csv_bytes(rows)
