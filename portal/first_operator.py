"""The first person who may sign in: made where there is none, and invited by a one-time link.

Always through services/staff.py; the link's token is printed to the terminal of whoever started the portal and stored nowhere.
"""
from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from config import Settings
from portal.models import Role, Staff
from portal.services.common import SYSTEM
from portal.services.staff import create_staff, invite
from portal.store.db import Database

FIRST_OPERATOR = "operator@localhost"


@dataclass(frozen=True)
class FirstOperator:
    """The login name of the operator who is longest there; `link` only as long as no operator has set a password."""

    login: str
    link: str | None = None


def first_operator(settings: Settings) -> FirstOperator:
    """Makes the first operator where there is none. A link is fresh; older ones stop working."""
    database = Database(settings.database_url)
    try:
        with database.session() as session:
            operators = select(Staff).where(Staff.role == Role.OPERATOR, Staff.active.is_(True)).order_by(Staff.id).limit(1)
            if known := session.scalar(operators.where(Staff.password_hash.is_not(None))):
                return FirstOperator(known.email)
            staff = session.scalar(operators) or create_staff(session, SYSTEM, FIRST_OPERATOR, Role.OPERATOR)
            return FirstOperator(staff.email, invitation_link(session, settings, staff))
    finally:
        database.close()


def invitation_link(session: Session, settings: Settings, staff: Staff) -> str:
    """One-time, to set a password; links made before stop working. Raises ServiceError."""
    return f"{settings.base_url}/invitation/{invite(session, SYSTEM, staff, settings)}"
