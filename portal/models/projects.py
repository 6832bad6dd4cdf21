"""A project: one company's change of provider; and the relays a project may go through."""
from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.models.base import Row

if TYPE_CHECKING:
    from portal.models.people import Person


class ProjectState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"


class Project(Row):
    """Servers are kept as columns: a project has exactly one source and one destination. `*_ca_pem` and `*_pinned_sha256` are the
    explicit TLS exceptions (audited). `destination_login_template` may hold {address} and {local}; with a destination secret of
    the project itself it names a master user, e.g. `{address}*migrator`."""

    __tablename__ = "projects"
    name: Mapped[str] = mapped_column(unique=True)
    state: Mapped[ProjectState] = mapped_column(default=ProjectState.OPEN)
    closes_at: Mapped[dt.datetime]
    provider: Mapped[str | None]  # key in engine/providers; None: not known yet
    source_host: Mapped[str] = mapped_column(default="")
    source_port: Mapped[int] = mapped_column(default=993)
    source_security: Mapped[str] = mapped_column(default="tls")
    source_ca_pem: Mapped[str | None]
    source_pinned_sha256: Mapped[str | None]
    relay_id: Mapped[int | None] = mapped_column(ForeignKey("relays.id"))
    destination_host: Mapped[str] = mapped_column(default="")
    destination_port: Mapped[int] = mapped_column(default=993)
    destination_security: Mapped[str] = mapped_column(default="tls")
    destination_ca_pem: Mapped[str | None]
    destination_pinned_sha256: Mapped[str | None]
    destination_login_template: Mapped[str] = mapped_column(default="{address}")
    contact: Mapped[str] = mapped_column(default="")  # whom an employee calls; shown on /move/help

    relay: Mapped[Relay | None] = relationship()
    people: Mapped[list[Person]] = relationship(back_populates="project", order_by="Person.id")


class Relay(Row):
    """A relay of ours; its token is a Credential of kind `relay`, field `token`."""

    __tablename__ = "relays"
    name: Mapped[str] = mapped_column(unique=True)
    host: Mapped[str]
    port: Mapped[int] = mapped_column(default=8443)
    ca_pem: Mapped[str | None]
