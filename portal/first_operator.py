"""The first person who may sign in: made where there is none, and invited by a one-time link.

Always through services/staff.py; the link's token is printed to the terminal of whoever started the portal and stored nowhere.
"""
from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from config import Settings
from portal.models import Role, Staff
from portal.services.common import SYSTEM
from portal.services.staff import create_staff, invite
from portal.store.db import Database

FIRST_OPERATOR = "operator@localhost"


def first_operator_link(settings: Settings) -> str | None:
    """A fresh one-time link as long as no operator has set a password; None afterwards. Older links stop working."""
    database = Database(settings.database_url)
    try:
        with database.session() as session:
            operators = select(Staff).where(Staff.role == Role.OPERATOR, Staff.active.is_(True))
            if session.scalar(operators.where(Staff.password_hash.is_not(None)).limit(1)):
                return None
            staff = session.scalar(operators.order_by(Staff.id).limit(1))
            return _invitation(session, settings, staff or create_staff(session, SYSTEM, FIRST_OPERATOR, Role.OPERATOR))
    finally:
        database.close()


def invitation_link(settings: Settings, database: Database, email: str, name: str, role: Role) -> str:
    """A one-time link for a new member of staff, or for one who has not set a password yet. Raises ServiceError."""
    with database.session() as session:
        known = session.scalar(select(Staff).where(Staff.email == email.strip().lower(), Staff.password_hash.is_(None)))
        return _invitation(session, settings, known or create_staff(session, SYSTEM, email, role, name))


def _invitation(session: Session, settings: Settings, staff: Staff) -> str:
    return f"{settings.base_url}/invitation/{invite(session, SYSTEM, staff, settings)}"
