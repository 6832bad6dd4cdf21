"""A move: what is happening with one person's mailbox, and every attempt at it.

`fence` grows by one each time a worker takes the lease; whatever a worker writes is conditional on its own fence, so a worker
that was thought dead can never write beside its successor.
"""
from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.models.base import Row

if TYPE_CHECKING:
    from portal.models.people import Person


class MoveState(StrEnum):
    INVITED = "invited"    # nothing done yet by the person
    READY = "ready"        # checked; the person has not pressed "start"
    QUEUED = "queued"      # started; the next slice may run at not_before
    MOVING = "moving"      # a worker holds the lease
    WAITING = "waiting"    # the server asked us to wait; goes on by itself at not_before
    PAUSED = "paused"      # a person paused it
    STUCK = "stuck"        # has a cause; a person must act
    DONE = "done"          # outcome says complete or partial


RUNNABLE = (MoveState.QUEUED, MoveState.WAITING, MoveState.MOVING)


class Move(Row):
    __tablename__ = "moves"
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"), unique=True)
    state: Mapped[MoveState] = mapped_column(default=MoveState.INVITED, index=True)
    cause: Mapped[str | None] = mapped_column(index=True)
    outcome: Mapped[str | None]  # complete | partial, when done
    # lease
    fence: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[str | None]
    lease_until: Mapped[dt.datetime | None]
    not_before: Mapped[dt.datetime | None]
    stop_requested: Mapped[bool] = mapped_column(default=False)  # pause asked while a worker runs
    # progress, written by the worker; bytes are octets
    folders_total: Mapped[int] = mapped_column(default=0)
    messages_total: Mapped[int] = mapped_column(default=0)
    bytes_total: Mapped[int] = mapped_column(BigInteger, default=0)
    moved: Mapped[int] = mapped_column(default=0)
    already_there: Mapped[int] = mapped_column(default=0)
    excluded: Mapped[int] = mapped_column(default=0)
    set_aside: Mapped[int] = mapped_column(default=0)
    bytes_moved: Mapped[int] = mapped_column(BigInteger, default=0)
    current_folder: Mapped[str] = mapped_column(default="")
    last_sign_at: Mapped[dt.datetime | None]
    queued_at: Mapped[dt.datetime | None]
    started_at: Mapped[dt.datetime | None]
    finished_at: Mapped[dt.datetime | None]
    tries: Mapped[int] = mapped_column(default=0)  # consecutive failed slices; reset by progress or relaunch
    append_seconds_peak: Mapped[float] = mapped_column(default=0.0)  # slowest answered APPEND so far

    person: Mapped[Person] = relationship(back_populates="move")
    attempts: Mapped[list[Attempt]] = relationship(back_populates="move", order_by="Attempt.id")


class Attempt(Row):
    """From one start or relaunch until done, stuck or paused; spans many slices."""

    __tablename__ = "attempts"
    move_id: Mapped[int] = mapped_column(ForeignKey("moves.id"), index=True)
    number: Mapped[int]
    launched_by: Mapped[str]  # "person", "staff:<email>", "import"
    slices: Mapped[int] = mapped_column(default=0)
    started_at: Mapped[dt.datetime | None]
    ended_at: Mapped[dt.datetime | None]
    outcome: Mapped[str | None]  # complete | partial | failed | paused
    cause: Mapped[str | None]
    server_text: Mapped[str] = mapped_column(default="")  # redacted
    side: Mapped[str | None]
    moved: Mapped[int] = mapped_column(default=0)
    source_mailbox: Mapped[str | None] = mapped_column(index=True)  # server and login that were tried (services/endpoints.py)
    destination_mailbox: Mapped[str | None] = mapped_column(index=True)

    move: Mapped[Move] = relationship(back_populates="attempts")
    lines: Mapped[list[ServerLine]] = relationship(back_populates="attempt", order_by="ServerLine.id")


class ServerLine(Row):
    """What a server said when something went wrong, redacted, for the helpdesk."""

    __tablename__ = "server_lines"
    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempts.id"), index=True)
    side: Mapped[str]
    cause: Mapped[str]
    text: Mapped[str]

    attempt: Mapped[Attempt] = relationship(back_populates="lines")


class CheckState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"


class Check(Row):
    """A live check: of a person's old (and new) mailbox, or of a project's server by 【测试】. `steps` and `result` are what
    engine.check reported, as JSON; `cause` is set when it failed."""

    __tablename__ = "checks"
    person_id: Mapped[int | None] = mapped_column(ForeignKey("people.id"), index=True)
    project_id: Mapped[int | None] = mapped_column(ForeignKey("projects.id"), index=True)
    side: Mapped[str] = mapped_column(default="source")  # source | destination | both
    login: Mapped[str | None]  # a project test's account name
    state: Mapped[CheckState] = mapped_column(default=CheckState.QUEUED)
    steps: Mapped[list[Any]] = mapped_column(default=list)
    result: Mapped[dict[str, Any]] = mapped_column(default=dict)
    cause: Mapped[str | None]
    server_text: Mapped[str] = mapped_column(default="")  # redacted
    started_at: Mapped[dt.datetime | None]
    finished_at: Mapped[dt.datetime | None]
    launched_by: Mapped[str] = mapped_column(default="person")
    source_mailbox: Mapped[str | None] = mapped_column(index=True)  # server and login that were tried (services/endpoints.py)
    destination_mailbox: Mapped[str | None] = mapped_column(index=True)
