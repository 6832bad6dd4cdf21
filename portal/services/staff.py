"""Staff: created, invited, signing in, changing their password.

Must not: keep a password or a token. Always: a wrong sign-in takes the same time whether or not the account exists, and is told in
the same words; every try is a row before the password is looked at, so a hundred tries at once count as a hundred; what ends a
person's rights raises `session_epoch`, which ends all their sessions.
"""
from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from config import Settings
from engine.endpoint import Secret
from portal.models import AuditEvent, Role, Staff, StaffInvitation, now
from portal.security.links import looks_like_token, new_token, token_sha256
from portal.security.passwords import LONGEST, hash_password, needs_new_hash, password_matches, why_weak
from portal.services.common import (
    Actor,
    AlreadyExists,
    NotUsable,
    ServiceError,
    WrongState,
    audit,
    changed_rows,
    one_transaction,
    plain_name,
    transaction,
)
from portal.services.people import mail_address
from portal.store.db import alone

WRONG_SIGN_INS = 5
SIGN_IN_WINDOW = dt.timedelta(minutes=15)
_TRY, _SUCCESS, _REFUSAL = "try.sign_in", "sign_in", "refuse.sign_in"


class SignInRefused(ServiceError):
    """Address or password is wrong, or the account is not active; which of them is not told."""

    def __init__(self) -> None:
        super().__init__("password", "邮箱或密码不对。", "The address or the password is wrong.")


class TooManySignIns(ServiceError):
    """Too many wrong tries for this account or from this address; `until` is when the next is looked at."""

    def __init__(self, until: dt.datetime) -> None:
        minutes = max(1, -(-int((until - now()).total_seconds()) // 60))
        super().__init__("password", f"输错太多次，请过 {minutes} 分钟再试。", f"Too many wrong tries. Try again in {minutes} min.")
        self.until = until


class InvitationState(StrEnum):
    OK = "ok"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    USED = "used"


@dataclass(frozen=True)
class InvitationFound:
    """`staff` only when `why` is ok."""

    why: InvitationState
    staff: Staff | None = None


@one_transaction
def create_staff(session: Session, actor: Actor, email: str, role: Role, name: str = "", language: str = "zh") -> Staff:
    """Without a password until the invitation is taken. Raises NotUsable, AlreadyExists."""
    email = mail_address(email, "email")
    if session.scalar(select(Staff.id).where(Staff.email == email)):
        raise AlreadyExists("email", f"{email} 已经有账号了。", f"{email} has an account already.")
    staff = Staff(email=email, role=Role(role), name=plain_name(name)[:80], language="en" if language == "en" else "zh")
    session.add(staff)
    session.flush()
    audit(session, actor, "create.staff", staff, email=email, role=staff.role.value)
    return staff


@one_transaction
def invite(session: Session, actor: Actor, staff: Staff, settings: Settings) -> str:
    """A one-time link's token to set a password; invitations made before stop working. Raises WrongState."""
    if not staff.active:
        raise WrongState(None, "这个账号已经停用。", "This account is not active.")
    changed_rows(session, update(StaffInvitation).where(StaffInvitation.staff_id == staff.id, StaffInvitation.used_at.is_(None))
                 .values(used_at=now()))
    token = new_token()
    expires_at = now() + dt.timedelta(hours=settings.invitation_hours)
    session.add(StaffInvitation(staff_id=staff.id, token_sha256=token_sha256(token), expires_at=expires_at))
    audit(session, actor, "invite.staff", staff, expires_at=expires_at.isoformat())
    return token


def find_invitation(session: Session, token: str) -> InvitationFound:
    """Changes nothing."""
    row = None
    if looks_like_token(token):
        row = session.scalar(select(StaffInvitation).where(StaffInvitation.token_sha256 == token_sha256(token)))
    staff = session.get(Staff, row.staff_id) if row else None
    if row is None or staff is None or not staff.active:
        return InvitationFound(InvitationState.UNKNOWN)
    if row.used_at is not None:
        return InvitationFound(InvitationState.USED)
    if row.expires_at <= now():
        return InvitationFound(InvitationState.EXPIRED)
    return InvitationFound(InvitationState.OK, staff)


def take_invitation(session: Session, actor: Actor, token: str, password: Secret) -> Staff:
    """Sets the password; the invitation is used up. Raises WrongState (unknown, used or expired), NotUsable (weak password)."""
    found = find_invitation(session, token)
    if found.staff is None:
        raise _invitation_gone()
    new_hash = _new_hash(password, found.staff.email)  # slow: before the transaction takes the lock
    with transaction(session):
        if not changed_rows(session, update(StaffInvitation).where(
                StaffInvitation.token_sha256 == token_sha256(token), StaffInvitation.used_at.is_(None),
                StaffInvitation.expires_at > now()).values(used_at=now())):
            raise _invitation_gone()
        _set_password(session, found.staff, new_hash)
        audit(session, Actor.staff(found.staff, actor.address), "take.invitation", found.staff)
    return found.staff


def _invitation_gone() -> WrongState:
    return WrongState(None, "这个邀请链接已经用过或过期，请让管理员再发一个。",
                      "This invitation was used or has expired. Ask an administrator for a new one.")


def authenticate(session: Session, email: str, password: Secret, address: str) -> Staff:
    """Who signs in. `address`: the network address the request came from. Raises SignInRefused, TooManySignIns."""
    email = email.strip().lower()[:254]
    actor = Actor(f"staff:{email}", address)
    with transaction(session):
        alone(session, "sign_in")
        until = max(filter(None, (_blocked_until(session, AuditEvent.actor == actor.name),
                                  _blocked_until(session, AuditEvent.address == address) if address else None)), default=None)
        if until is not None:
            raise TooManySignIns(until)
        audit(session, actor, _TRY)
    staff = session.scalar(select(Staff).where(Staff.email == email))
    stored = staff.password_hash if staff is not None and staff.active else None
    matches = len(password.reveal()) <= LONGEST and password_matches(stored, password)  # without a lock: this takes 50 ms
    with transaction(session):
        if staff is None or stored is None or not matches:
            audit(session, actor, _REFUSAL)
        else:
            session.refresh(staff)
            if needs_new_hash(stored) and staff.password_hash == stored:
                staff.password_hash = hash_password(password)
            audit(session, actor, _SUCCESS, staff)
    if staff is None or stored is None or not matches or not staff.active:
        raise SignInRefused
    return staff


def _blocked_until(session: Session, whose: ColumnElement[bool]) -> dt.datetime | None:
    """When the next try is allowed; None: now. A success takes back the try before it, so that people of one office who sign in
    rightly do not count against each other."""
    since = now() - SIGN_IN_WINDOW
    events = session.execute(select(AuditEvent.action, AuditEvent.created_at, AuditEvent.actor).where(
        AuditEvent.action.in_((_TRY, _SUCCESS)), AuditEvent.created_at > since, whose).order_by(AuditEvent.id)).all()
    wrong: list[tuple[dt.datetime, str]] = []
    for action, at, name in events:
        if action == _TRY:
            wrong.append((at, name))
        else:  # the account's own earlier mistakes are forgiven with it
            wrong = [entry for entry in wrong if entry[1] != name]
    return None if len(wrong) < WRONG_SIGN_INS else wrong[-WRONG_SIGN_INS][0] + SIGN_IN_WINDOW


def change_password(session: Session, actor: Actor, staff: Staff, old: Secret, new: Secret) -> Staff:
    """Ends all sessions of the account; the page begins a new one. Raises SignInRefused, NotUsable, TooManySignIns."""
    authenticate(session, staff.email, old, actor.address)
    new_hash = _new_hash(new, staff.email)
    with transaction(session):
        _set_password(session, staff, new_hash)
        audit(session, actor, "change.password", staff)
    return staff


@one_transaction
def change_role(session: Session, actor: Actor, staff: Staff, role: Role) -> Staff:
    """Raises WrongState when nobody would be left to run the portal."""
    if role is not Role.OPERATOR:
        _refuse_last_operator(session, staff)
    was, staff.role = staff.role, Role(role)
    _end_sessions(session, staff)
    audit(session, actor, "change.role", staff, was=was.value, role=staff.role.value)
    return staff


@one_transaction
def set_active(session: Session, actor: Actor, staff: Staff, active: bool) -> Staff:
    """Raises WrongState when nobody would be left to run the portal."""
    if not active:
        _refuse_last_operator(session, staff)
    staff.active = active
    _end_sessions(session, staff)
    audit(session, actor, "activate.staff" if active else "deactivate.staff", staff)
    return staff


@one_transaction
def choose_language(session: Session, actor: Actor, staff: Staff, language: str) -> None:
    """What this person reads, zh or en."""
    if language not in ("zh", "en"):
        raise NotUsable("language", "只能选中文或英文。", "Choose Chinese or English.")
    if staff.language != language:
        staff.language = language
        audit(session, actor, "choose.language", staff, language=language)


@one_transaction
def end_sessions(session: Session, actor: Actor, staff: Staff) -> None:
    _end_sessions(session, staff)
    audit(session, actor, "end.sessions", staff)


def _refuse_last_operator(session: Session, staff: Staff) -> None:
    others = session.scalar(select(Staff.id).where(Staff.role == Role.OPERATOR, Staff.active.is_(True), Staff.id != staff.id).limit(1))
    if staff.role is Role.OPERATOR and others is None:
        raise WrongState(None, "至少要留一个运维账号。", "At least one operator must remain.")


def _end_sessions(session: Session, staff: Staff) -> None:
    session.flush()
    changed_rows(session, update(Staff).where(Staff.id == staff.id).values(session_epoch=Staff.session_epoch + 1))
    session.refresh(staff)


def _set_password(session: Session, staff: Staff, new_hash: str) -> None:
    staff.password_hash = new_hash
    _end_sessions(session, staff)


def _new_hash(password: Secret, email: str) -> str:
    weak = why_weak(password, email)
    if weak is not None:
        raise NotUsable("password", weak.zh, weak.en)
    return hash_password(password)
