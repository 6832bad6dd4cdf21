"""A person whose mailbox moves, and the personal links that let them do it."""
from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.models.base import Row

if TYPE_CHECKING:
    from portal.models.moves import Move
    from portal.models.projects import Project


class Person(Row):
    """`provider` and the `source_*` fields override the project's when the employee says so (page "provider")."""

    __tablename__ = "people"
    __table_args__ = (UniqueConstraint("project_id", "source_address"),)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), index=True)
    name: Mapped[str] = mapped_column(default="")
    source_address: Mapped[str]
    source_login: Mapped[str | None]       # None: the address
    destination_address: Mapped[str]
    destination_login: Mapped[str | None]  # None: the project's template
    provider: Mapped[str | None]
    source_host: Mapped[str | None]
    source_port: Mapped[int | None]
    language: Mapped[str] = mapped_column(default="zh")

    project: Mapped[Project] = relationship(back_populates="people")
    move: Mapped[Move] = relationship(back_populates="person", uselist=False)
    links: Mapped[list[Link]] = relationship(back_populates="person", order_by="Link.id")


class Link(Row):
    """A personal link. Only the SHA-256 of its token is kept; many uses until it expires or is revoked."""

    __tablename__ = "links"
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"), index=True)
    token_sha256: Mapped[str] = mapped_column(unique=True)
    expires_at: Mapped[dt.datetime]
    revoked_at: Mapped[dt.datetime | None]
    begun_at: Mapped[dt.datetime | None]  # first POST
    left_at: Mapped[dt.datetime | None]   # visits that began before are over

    person: Mapped[Person] = relationship(back_populates="links")
