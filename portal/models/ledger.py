"""The ledger's tables: what became of every source message of a move (engine/ledger.py says what the rows mean)."""
from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import Row


class LedgerFolder(Row):
    __tablename__ = "ledger_folders"
    __table_args__ = (UniqueConstraint("move_id", "source"),)
    move_id: Mapped[int] = mapped_column(ForeignKey("moves.id"), index=True)
    source: Mapped[str]  # wire name at the source (modified UTF-7)
    source_uidvalidity: Mapped[int] = mapped_column(BigInteger, default=0)
    source_uidnext: Mapped[int] = mapped_column(BigInteger, default=0)
    source_messages: Mapped[int] = mapped_column(default=0)
    target: Mapped[str]  # wire name at the destination
    target_uidvalidity: Mapped[int] = mapped_column(BigInteger, default=0)
    source_display: Mapped[str] = mapped_column(default="")  # for people
    target_display: Mapped[str] = mapped_column(default="")
    role: Mapped[str | None]
    total: Mapped[int] = mapped_column(default=0)
    moved: Mapped[int] = mapped_column(default=0)
    already_there: Mapped[int] = mapped_column(default=0)
    excluded: Mapped[int] = mapped_column(default=0)
    vanished: Mapped[int] = mapped_column(default=0)
    set_aside: Mapped[int] = mapped_column(default=0)
    bytes_moved: Mapped[int] = mapped_column(BigInteger, default=0)
    repaired: Mapped[int] = mapped_column(default=0, server_default="0")
    gone: Mapped[int] = mapped_column(default=0, server_default="0")  # moved, and deleted at the source since
    flags_updated: Mapped[int] = mapped_column(default=0, server_default="0")
    source_modseq: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")  # flags are carried over up to here; 0: not told
    unproven_from: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")  # at the destination: not read back from here on
    rule: Mapped[str | None]  # why the folder is left out
    note: Mapped[str | None]  # how its name was changed
    complete: Mapped[bool] = mapped_column(default=False)  # the manifest was reconciled for source_uidnext


class LedgerRun(Row):
    __tablename__ = "ledger_runs"
    folder_id: Mapped[int] = mapped_column(ForeignKey("ledger_folders.id"), index=True)
    source_first: Mapped[int] = mapped_column(BigInteger)
    source_last: Mapped[int] = mapped_column(BigInteger)
    count: Mapped[int]
    target_first: Mapped[int] = mapped_column(BigInteger)
    outcome: Mapped[str]
    pass_id: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")  # attempts.id; 0: found there


class LedgerIntent(Row):
    __tablename__ = "ledger_intents"
    folder_id: Mapped[int] = mapped_column(ForeignKey("ledger_folders.id"), index=True)
    uids: Mapped[list[Any]]
    target_uidvalidity: Mapped[int] = mapped_column(BigInteger)
    target_uidnext: Mapped[int] = mapped_column(BigInteger)
    begun_at: Mapped[float]
    flags: Mapped[bytes | None]  # as they were at the source then; NULL: an older version did not say


class SetAside(Row):
    __tablename__ = "set_aside"
    __table_args__ = (UniqueConstraint("folder_id", "uid"),)
    folder_id: Mapped[int] = mapped_column(ForeignKey("ledger_folders.id"), index=True)
    uid: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str]       # a Cause
    server_text: Mapped[str]  # redacted
    size: Mapped[int] = mapped_column(BigInteger, default=0)
    internal_date: Mapped[str] = mapped_column(default="")
    noticed_at: Mapped[dt.datetime | None]


class LedgerRepair(Row):
    __tablename__ = "ledger_repairs"
    __table_args__ = (UniqueConstraint("folder_id", "uid"),)
    folder_id: Mapped[int] = mapped_column(ForeignKey("ledger_folders.id"), index=True)
    uid: Mapped[int] = mapped_column(BigInteger)
    repair: Mapped[str]  # engine.ledger.Repair
    words: Mapped[str]   # redacted


class LedgerFlags(Row):
    __tablename__ = "ledger_flags"
    folder_id: Mapped[int] = mapped_column(ForeignKey("ledger_folders.id"), index=True)
    first_uid: Mapped[int] = mapped_column(BigInteger)
    last_uid: Mapped[int] = mapped_column(BigInteger)
    data: Mapped[bytes]
