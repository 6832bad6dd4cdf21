"""The people who run moves for others: helpdesk, domain admin, operator."""
from __future__ import annotations

import datetime as dt
from enum import StrEnum

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import Row


class Role(StrEnum):
    HELPDESK = "helpdesk"
    ADMIN = "admin"
    OPERATOR = "operator"

    def covers(self, needed: Role) -> bool:
        order = list(Role)
        return order.index(self) >= order.index(needed)


class Staff(Row):
    __tablename__ = "staff"
    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str] = mapped_column(default="")
    password_hash: Mapped[str | None]  # argon2id; None until the invitation is taken
    role: Mapped[Role]
    active: Mapped[bool] = mapped_column(default=True)
    language: Mapped[str] = mapped_column(default="zh")
    session_epoch: Mapped[int] = mapped_column(default=0)  # raised to end all sessions


class StaffInvitation(Row):
    """A one-time link to set a password (`make run` prints one for the first operator)."""

    __tablename__ = "staff_invitations"
    staff_id: Mapped[int] = mapped_column(ForeignKey("staff.id"), index=True)
    token_sha256: Mapped[str] = mapped_column(unique=True)
    expires_at: Mapped[dt.datetime]
    used_at: Mapped[dt.datetime | None]
