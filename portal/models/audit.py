"""Who did what, when. Rows are only added."""
from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import Row


class AuditEvent(Row):
    __tablename__ = "audit_events"
    actor: Mapped[str]            # "staff:<email>", "person:<id>", "worker:<name>", "system"
    action: Mapped[str] = mapped_column(index=True)  # verb.object, e.g. "relaunch.move"
    subject_kind: Mapped[str]
    subject_id: Mapped[int | None] = mapped_column(index=True)
    project_id: Mapped[int | None] = mapped_column(index=True)
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    address: Mapped[str] = mapped_column(default="")  # the actor's network address
