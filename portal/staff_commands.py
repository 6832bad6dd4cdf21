"""The two acts on staff that need no page: an invitation, and another role; and the database they are done in.

Always through services/staff.py; the link's token is handed to whoever asked and stored nowhere. Must not: leave a wish unmet without a
word; an account that is there keeps its role and its name, and that is said or refused; make a database.
"""
from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from config import Settings
from portal.first_operator import invitation_link
from portal.models import Role, Staff, StaffInvitation
from portal.services.common import SYSTEM, AlreadyExists, NotUsable, plain_name
from portal.services.people import mail_address
from portal.services.staff import change_role, create_staff
from portal.store.db import Database


@dataclass(frozen=True)
class Invitation:
    """`name_kept`: another name was given, and the account's own stays. `is_new`: the account was made for it; where it was not, links of
    before stop working."""

    link: str
    email: str
    name: str
    role: Role
    expires_at: dt.datetime
    is_new: bool
    name_kept: bool


@dataclass(frozen=True)
class RoleChanged:
    email: str
    was: Role
    role: Role


@contextmanager
def migrated_database(url: str) -> Iterator[Database]:
    """The database, closed at the end. Raises NotUsable where its tables are not those of this version. A SQLite file that is not there,
    or is empty, is not opened: that would leave one behind that looks like a database."""
    parsed = make_url(url)
    file = Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None
    if file is not None and not (file.exists() and file.stat().st_size):
        raise _not_migrated(url)
    database = Database(url)
    try:
        if not database.ready():
            raise _not_migrated(url)
        yield database
    finally:
        database.close()


def _not_migrated(url: str) -> NotUsable:
    shown = make_url(url).render_as_string(hide_password=True)
    return NotUsable("database", f"数据库 {shown} 里还没有表，或者表不是这个版本的；先运行 python -m portal migrate",
                     f"The database {shown} has no tables yet, or not those of this version; run python -m portal migrate first.")


def invitation(settings: Settings, database: Database, email: str, name: str, role: Role | None) -> Invitation:
    """For a new member of staff (helpdesk, if no role is given), or for one who has not set a password yet. Raises ServiceError, also
    where the account has another role than was asked for: then nothing is changed, and its links go on working."""
    with database.session() as session:
        known = _find(session, email)
        if known is not None and role not in (None, known.role):
            raise AlreadyExists("role", _has_another_zh(known, role), _has_another_en(known, role))
        staff = known if known is not None and known.password_hash is None else \
            create_staff(session, SYSTEM, email, role or Role.HELPDESK, name)
        link = invitation_link(session, settings, staff)
        expires_at = session.scalars(select(StaffInvitation.expires_at).where(StaffInvitation.staff_id == staff.id)
                                     .order_by(StaffInvitation.id.desc()).limit(1)).one()
        return Invitation(link, staff.email, staff.name, staff.role, expires_at, known is None,
                          name_kept=bool(name) and staff.name != plain_name(name)[:80])


def new_role(database: Database, email: str, role: Role) -> RoleChanged:
    """Ends the person's sessions, but where it is the role already. Raises ServiceError."""
    with database.session() as session:
        staff = _find(session, email)
        if staff is None:
            raise NotUsable("email", f"没有 {email} 这个账号；先邀请：python -m portal invite {email} --role {role}",
                            f"There is no account {email}; invite first: python -m portal invite {email} --role {role}")
        was = staff.role
        if was is not role:
            change_role(session, SYSTEM, staff, role)
        return RoleChanged(staff.email, was, role)


def _find(session: Session, email: str) -> Staff | None:
    return session.scalar(select(Staff).where(Staff.email == mail_address(email, "email")))


def _has_another_zh(staff: Staff, role: Role | None) -> str:
    invite = f"；要照原来的权限再发链接，不写 --role：python -m portal invite {staff.email}" if staff.password_hash is None else ""
    return (f"{staff.email} 已经有账号，权限是 {staff.role}，没有改成 {role}，也没有发链接。要改权限：python -m portal change-role "
            f"{staff.email} {role}{invite}")


def _has_another_en(staff: Staff, role: Role | None) -> str:
    invite = f"; for a new link with the role as it is, leave out --role: python -m portal invite {staff.email}" \
        if staff.password_hash is None else ""
    return (f"{staff.email} has an account already, with the role {staff.role}; it was not changed to {role}, and no link was made. To "
            f"change it: python -m portal change-role {staff.email} {role}{invite}")
