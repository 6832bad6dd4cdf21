"""Sealed secrets. What is here can be written by the portal and opened only by a worker (portal/security/vault.py)."""
from __future__ import annotations

import datetime as dt
from enum import StrEnum

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped

from portal.models.base import Row


class Owner(StrEnum):
    PERSON = "person"
    PROJECT = "project"
    RELAY = "relay"
    CHECK = "check"  # a project's 【测试】; destroyed when the check ends


class Credential(Row):
    """Bound to (owner_kind, owner_id, field): a sealed value copied to another row does not open there.

    Fields: person: source_secret, destination_secret; project: destination_secret; relay: token; check: secret.
    """

    __tablename__ = "credentials"
    __table_args__ = (UniqueConstraint("owner_kind", "owner_id", "field"),)
    owner_kind: Mapped[Owner]
    owner_id: Mapped[int]
    field: Mapped[str]
    sealed: Mapped[str]
    expires_at: Mapped[dt.datetime | None]
