"""Secrets as rows: cleaned as typed, sealed, replaced, destroyed.

Must not: open a sealed value (only a worker can), or let a secret into an event, a log or an error.
Always: one row per owner and field; a new secret replaces the older; every secret has a day on which it is destroyed.
"""
from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections.abc import Iterable

from sqlalchemy import Delete, delete, or_, select
from sqlalchemy.orm import Session

from engine.causes import Cause
from engine.endpoint import Secret
from portal.models import Credential, Move, MoveState, Owner, Person, Project, now
from portal.security.vault import Sealer
from portal.services.common import SYSTEM, Actor, NotGiven, NotUsable, audit, changed_rows, one_transaction

SOURCE_SECRET = "source_secret"
DESTINATION_SECRET = "destination_secret"
RELAY_TOKEN = "token"
CHECK_SECRET = "secret"

LONGEST = 512  # characters

# The stored secret is of no use any more, or gone: only its owner can help, by typing one.
SECRET_CAUSES = frozenset({Cause.BAD_SECRET, Cause.NEEDS_AUTH_CODE, Cause.DESTINATION_LOGIN, Cause.SECRET_MISSING})

_FULL_WIDTH = re.compile("[\uff01-\uff5e]")


def _is_blank(character: str) -> bool:
    """Blanks of any width, zero-width characters, byte-order marks, direction marks, line ends."""
    return unicodedata.category(character) in ("Zs", "Zl", "Zp", "Cf", "Cc")


def as_typed(secret: Secret, field: str, *, inner_blanks: bool) -> Secret:
    """The secret without what copying adds at both ends; blanks inside go only where the provider shows its codes in groups.
    Raises NotGiven, NotUsable (with `field`)."""
    text = secret.reveal()
    start, end = 0, len(text)
    while start < end and _is_blank(text[start]):
        start += 1
    while end > start and _is_blank(text[end - 1]):
        end -= 1
    text = text[start:end]
    if inner_blanks:
        text = "".join(c for c in text if not _is_blank(c))
    if not text:
        raise NotGiven(field, "这里还没有填。", "This is still empty.")
    if len(text) > LONGEST:
        raise NotUsable(field, f"太长了，最多 {LONGEST} 个字符。只粘贴密码本身。",
                        f"Too long (at most {LONGEST} characters). Paste the code only.")
    if any(unicodedata.category(c) == "Cc" or 0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise NotUsable(field, "里面有换行或看不见的符号。只粘贴密码本身。",
                        "It holds a line break or a hidden character. Paste the code only.")
    if _FULL_WIDTH.search(text):
        raise NotUsable(field, "里面有全角字符。请把输入法切换到半角再填一次。",
                        "It holds full-width characters. Switch your keyboard to half-width and type it again.")
    return Secret(text)


def store_secret(session: Session, owner: Owner, owner_id: int, field: str, secret: Secret, sealer: Sealer,
                 expires_at: dt.datetime | None) -> Credential:
    """Seals `secret` in place of the owner's older one. Part of a service's transaction; the service writes the event."""
    session.execute(_of(owner, owner_id, [field]))
    row = Credential(owner_kind=owner, owner_id=owner_id, field=field, sealed=sealer.seal(secret, owner.value, owner_id, field),
                     expires_at=expires_at)
    session.add(row)
    session.flush()
    return row


def find_credential(session: Session, owner: Owner, owner_id: int, field: str) -> Credential | None:
    """None also when its day has passed."""
    row = session.scalar(select(Credential).where(Credential.owner_kind == owner, Credential.owner_id == owner_id,
                                                  Credential.field == field))
    return None if row is None or (row.expires_at is not None and row.expires_at <= now()) else row


@one_transaction
def destroy_credentials(session: Session, actor: Actor, owner: Owner, owner_id: int, fields: Iterable[str] | None = None, *,
                        reason: str) -> int:
    """Destroys the owner's secrets (`fields`: only these). `reason` is a word for the event: done, closed, replaced, ended.
    Returns how many there were."""
    project_id = _project_of(session, owner, owner_id)
    gone = changed_rows(session, _of(owner, owner_id, fields))
    if gone:
        event = audit(session, actor, "destroy.credentials", project_id=project_id, reason=reason, count=gone)
        event.subject_kind, event.subject_id = owner.value, owner_id
    return gone


@one_transaction
def destroy_project_credentials(session: Session, actor: Actor, project: Project, *, reason: str) -> int:
    """The project's own secrets and those of all its people."""
    people = select(Person.id).where(Person.project_id == project.id)
    gone = changed_rows(session, delete(Credential).where(Credential.owner_kind == Owner.PERSON, Credential.owner_id.in_(people))
                        .execution_options(synchronize_session="fetch"))
    gone += changed_rows(session, _of(Owner.PROJECT, project.id, None))
    audit(session, actor, "destroy.credentials", project, project_id=project.id, reason=reason, count=gone)
    return gone


@one_transaction
def purge_expired(session: Session) -> int:
    """Destroys every secret whose day has passed, and those that a finished move no longer needs. Run by the
    reconciler."""
    finished = select(Credential.id).join(Person, Person.id == Credential.owner_id).join(Move, Move.person_id == Person.id).where(
        Credential.owner_kind == Owner.PERSON, Move.state == MoveState.DONE, Credential.created_at <= Move.finished_at)
    overdue = list(session.scalars(select(Credential).where(or_(Credential.expires_at <= now(), Credential.id.in_(finished)))))
    for row in overdue:
        session.delete(row)
    if overdue:
        audit(session, SYSTEM, "purge.credentials", count=len(overdue), owners=sorted({f"{r.owner_kind}:{r.owner_id}" for r in overdue}))
    return len(overdue)


def _of(owner: Owner, owner_id: int, fields: Iterable[str] | None) -> Delete:
    statement = delete(Credential).where(Credential.owner_kind == owner, Credential.owner_id == owner_id)
    return statement if fields is None else statement.where(Credential.field.in_(list(fields)))


def _project_of(session: Session, owner: Owner, owner_id: int) -> int | None:
    if owner is Owner.PROJECT:
        return owner_id
    return session.scalar(select(Person.project_id).where(Person.id == owner_id)) if owner is Owner.PERSON else None
