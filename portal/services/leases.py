"""What a worker changes: taking and giving back a mailbox, its progress, how a slice ended, how a check went.

The lease is the mutual exclusion (RQ is not: facts, reliability 0.4): `claim` raises the fence by one, and everything that a worker
changes of a move or its ledger afterwards is conditional on that fence (a server's line for the helpdesk is not). The machines'
clocks decide only when somebody may try to take a mailbox; the fence decides who may write.
"""
from __future__ import annotations

import datetime as dt
import random
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from engine.causes import Cause, Retry, Side, explain
from engine.errors import LeaseLost
from engine.progress import Progress
from engine.report.copy import CopyOutcome, CopyReport
from portal.models import (
    RUNNABLE,
    Attempt,
    Check,
    CheckState,
    LedgerFolder,
    Move,
    MoveState,
    Owner,
    Person,
    Project,
    ProjectState,
    ServerLine,
    now,
)
from portal.services.checks import STALE_CHECK
from portal.services.common import Actor, audit, changed_rows, enqueue_slice, one_transaction
from portal.services.credentials import destroy_credentials

TRIES = 6                                  # failed slices in a row before a person is asked
BACKOFF = (30, 60, 300, 900, 1800)         # seconds before the next try, each with up to a fifth more at random
LINES_KEPT = 200                           # server lines of one attempt
AUTOMATIC = frozenset({Retry.WAIT, Retry.HINT, Retry.RECONNECT, Retry.NOW})


@dataclass(frozen=True)
class Lease:
    """A mailbox in a worker's hands."""

    move_id: int
    fence: int
    attempt_id: int
    first_slice: bool  # of this attempt


@one_transaction
def claim(session: Session, owner: str, move_id: int, lease_seconds: int) -> Lease | None:
    """Takes the mailbox if it may run now and nobody holds it; None otherwise (a second entry of the same mailbox, paused, too
    early). Exactly one of any number of callers gets it."""
    at = now()
    open_projects = select(Person.id).join(Project).where(Project.state == ProjectState.OPEN, Project.closes_at > at)
    taken = changed_rows(session, update(Move).where(
        Move.id == move_id, Move.state.in_(RUNNABLE), Move.person_id.in_(open_projects), Move.stop_requested.is_(False),
        or_(Move.not_before.is_(None), Move.not_before <= at), or_(Move.lease_until.is_(None), Move.lease_until < at),
    ).values(state=MoveState.MOVING, fence=Move.fence + 1, lease_owner=owner, lease_until=at + dt.timedelta(seconds=lease_seconds),
             last_sign_at=at, not_before=None, cause=None, started_at=func.coalesce(Move.started_at, at)))
    if not taken:
        return None
    move = session.get_one(Move, move_id, populate_existing=True)
    attempt = _open_attempt(session, move)
    attempt.slices += 1
    attempt.started_at = attempt.started_at or at
    session.flush()
    return Lease(move_id, move.fence, attempt.id, attempt.slices == 1)


def _open_attempt(session: Session, move: Move) -> Attempt:
    attempt = session.scalar(select(Attempt).where(Attempt.move_id == move.id).order_by(Attempt.id.desc()).limit(1))
    if attempt is None or attempt.ended_at is not None:
        attempt = Attempt(move_id=move.id, number=(attempt.number if attempt else 0) + 1, launched_by="system", slices=0)
        session.add(attempt)
    return attempt


@one_transaction
def renew(session: Session, lease: Lease, lease_seconds: int) -> bool:
    """Keeps the lease. Returns whether a person asked for a pause. Raises LeaseLost."""
    _held(session, lease, lease_until=now() + dt.timedelta(seconds=lease_seconds))
    return bool(session.scalar(select(Move.stop_requested).where(Move.id == lease.move_id)))


@one_transaction
def record_progress(session: Session, lease: Lease, at: Progress, lease_seconds: int) -> bool:
    """The totals as they stand. Returns whether a person asked for a pause. Raises LeaseLost."""
    _held(session, lease, lease_until=now() + dt.timedelta(seconds=lease_seconds), last_sign_at=now(),
          current_folder=at.folder, folders_total=at.folders_total, messages_total=at.messages_total, bytes_total=at.bytes_total,
          moved=at.moved, already_there=at.already_there, excluded=at.excluded, set_aside=at.set_aside, bytes_moved=at.bytes_moved)
    return bool(session.scalar(select(Move.stop_requested).where(Move.id == lease.move_id)))


@one_transaction
def record_line(session: Session, lease: Lease, side: Side, cause: Cause, text: str) -> None:
    """What a server said (redacted by the engine), for the helpdesk; the last LINES_KEPT of an attempt."""
    session.add(ServerLine(attempt_id=lease.attempt_id, side=side.value, cause=cause.value, text=text))
    session.flush()
    kept = select(ServerLine.id).where(ServerLine.attempt_id == lease.attempt_id).order_by(ServerLine.id.desc()).limit(LINES_KEPT)
    session.execute(delete(ServerLine).where(ServerLine.attempt_id == lease.attempt_id, ServerLine.id.not_in(kept.scalar_subquery())))


@one_transaction
def finish_slice(session: Session, worker: str, lease: Lease, report: CopyReport) -> MoveState:
    """Stores how the slice ended and gives the mailbox back. Returns its new state. Raises LeaseLost."""
    _held(session, lease)  # first: it locks the row, and what is read below stays true until the end
    move = session.get_one(Move, lease.move_id, populate_existing=True)
    provider = move.person.provider or move.person.project.provider
    changes = _next_state(move, report, provider, reset_tries=any(f.moved for f in report.folders))
    _held(session, lease, lease_owner=None, lease_until=None, last_sign_at=now(), **_totals(session, lease.move_id), **changes)
    state = MoveState(changes["state"])
    attempt = session.get_one(Attempt, lease.attempt_id)
    attempt.moved += sum(f.moved for f in report.folders)
    if report.cause is not None:
        attempt.cause, attempt.side = report.cause.value, report.side.value if report.side else None
        attempt.server_text = report.server_text or report.detail
        session.add(ServerLine(attempt_id=attempt.id, side=attempt.side or "", cause=report.cause.value, text=attempt.server_text))
    if state in (MoveState.DONE, MoveState.STUCK, MoveState.PAUSED):
        attempt.ended_at = now()
        attempt.outcome = changes.get("outcome") or {MoveState.STUCK: "failed", MoveState.PAUSED: "paused"}[state]
        if state is MoveState.DONE:
            attempt.cause, attempt.server_text = None, ""
        actor = Actor(f"worker:{worker}")
        audit(session, actor, f"{'finish' if state is MoveState.DONE else 'stop'}.move", move, project_id=move.person.project_id,
              outcome=attempt.outcome, cause=changes["cause"], attempt=attempt.number)
        if state is MoveState.DONE:
            destroy_credentials(session, actor, Owner.PERSON, move.person_id, reason="done")
    if state is MoveState.QUEUED:
        enqueue_slice(session, move.id)
    return state


def _next_state(move: Move, report: CopyReport, provider: str | None, *, reset_tries: bool) -> dict[str, Any]:
    """Columns of the move after this report."""
    at, tries = now(), 0 if reset_tries else move.tries
    if report.outcome in (CopyOutcome.COMPLETE, CopyOutcome.PARTIAL):
        return {"state": MoveState.DONE, "outcome": report.outcome.value, "cause": None, "finished_at": at, "tries": 0,
                "current_folder": "", "stop_requested": False}
    if move.stop_requested:  # a wait that the server stated outlives the pause
        told = {"cause": report.cause.value, "not_before": at + dt.timedelta(seconds=report.retry_after)} if (
            report.cause is not None and report.retry_after is not None) else {"cause": None}
        return {"state": MoveState.PAUSED, "stop_requested": False, "tries": tries, **told}
    if report.outcome is CopyOutcome.PAUSED and report.cause is None:
        return {"state": MoveState.QUEUED, "cause": None, "queued_at": at, "tries": 0 if reset_tries else tries}
    cause = report.cause or Cause.INTERNAL
    wait = report.retry_after
    if report.outcome is CopyOutcome.PAUSED and wait is not None:  # the server said so: not counted as a try
        return {"state": MoveState.WAITING, "cause": cause.value, "not_before": at + dt.timedelta(seconds=wait), "tries": tries}
    by_itself = explain(cause, provider).retry in AUTOMATIC or cause is Cause.LEDGER_UNWRITABLE  # a database may come back
    if by_itself and tries + 1 < TRIES:
        wait = BACKOFF[min(tries, len(BACKOFF) - 1)] * random.uniform(1.0, 1.2)  # noqa: S311  # jitter, not a secret
        return {"state": MoveState.WAITING, "cause": cause.value, "not_before": at + dt.timedelta(seconds=wait), "tries": tries + 1}
    return {"state": MoveState.STUCK, "cause": cause.value, "tries": 0}


def _totals(session: Session, move_id: int) -> dict[str, int]:
    """The move's counters from its ledger, so that the last page agrees with the folders to the message."""
    columns = ("moved", "already_there", "excluded", "set_aside", "bytes_moved")
    sums = session.execute(select(*(func.coalesce(func.sum(getattr(LedgerFolder, c)), 0) for c in columns),
                                  func.coalesce(func.sum(LedgerFolder.total), 0), func.count()).where(
                                      LedgerFolder.move_id == move_id)).one()
    totals = dict(zip((*columns, "messages_total", "folders_total"), map(int, sums), strict=True))
    current = session.get_one(Move, move_id)
    totals["messages_total"] = max(totals["messages_total"], current.messages_total)
    totals["folders_total"] = max(totals["folders_total"], current.folders_total)
    return totals


def _held(session: Session, lease: Lease, **values: Any) -> None:
    """Updates the move where the fence is still ours; raises LeaseLost where it is not."""
    if not changed_rows(session, update(Move).where(Move.id == lease.move_id, Move.fence == lease.fence,
                                                    Move.state == MoveState.MOVING).values(values or {"fence": lease.fence})):
        raise LeaseLost(f"move {lease.move_id}: fence {lease.fence} is not the newest")


# --- checks ---------------------------------------------------------------------------------------------------------------


@one_transaction
def begin_check(session: Session, check_id: int) -> Check | None:
    """Takes a check that waits; None when another worker was quicker or it is over."""
    if not changed_rows(session, update(Check).where(Check.id == check_id, Check.state == CheckState.QUEUED)
                        .values(state=CheckState.RUNNING, started_at=now())):
        return None
    return session.get_one(Check, check_id, populate_existing=True)


@one_transaction
def record_steps(session: Session, check_id: int, steps: list[dict[str, Any]]) -> None:
    session.execute(update(Check).where(Check.id == check_id, Check.state == CheckState.RUNNING).values(steps=steps))


@one_transaction
def finish_check(session: Session, worker: str, check_id: int, steps: list[dict[str, Any]], result: dict[str, Any],
                 cause: Cause | None, server_text: str) -> None:
    """Stores what was found. A person's mailbox that passed is READY; a test's secret is destroyed, and so is a person's secret
    that was refused as wrong: it is of no use to anybody."""
    ended = changed_rows(session, update(Check).where(Check.id == check_id, Check.state != CheckState.DONE).values(
        state=CheckState.DONE, steps=steps, result=result, cause=cause.value if cause else None, server_text=server_text,
        finished_at=now()))
    if not ended:
        return
    check = session.get_one(Check, check_id, populate_existing=True)
    actor = Actor(f"worker:{worker}")
    if check.project_id is not None:
        destroy_credentials(session, actor, Owner.CHECK, check.id, reason="ended")
    if check.person_id is not None:
        if cause is None:
            session.execute(update(Move).where(Move.person_id == check.person_id, Move.state == MoveState.INVITED)
                            .values(state=MoveState.READY))
        elif cause in (Cause.BAD_SECRET, Cause.NEEDS_AUTH_CODE):
            destroy_credentials(session, actor, Owner.PERSON, check.person_id, ["source_secret"], reason="refused")
        elif cause is Cause.DESTINATION_LOGIN:
            destroy_credentials(session, actor, Owner.PERSON, check.person_id, ["destination_secret"], reason="refused")


# --- what was lost --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lost:
    """Rows that should have an entry in a queue."""

    moves: list[int]
    checks: list[int]


def _end_what_is_over(session: Session, actor: Actor, at: dt.datetime) -> None:
    """Moves that wait in a project whose last day has passed would wait for ever: a person is told."""
    over = select(Person.id).join(Project).where(or_(Project.state != ProjectState.OPEN, Project.closes_at <= at))
    for move in session.scalars(select(Move).where(Move.state.in_((MoveState.QUEUED, MoveState.WAITING)),
                                                   Move.person_id.in_(over)).with_for_update()).all():
        move.state, move.cause, move.not_before = MoveState.STUCK, Cause.WINDOW_CLOSED.value, None
        for attempt in session.scalars(select(Attempt).where(Attempt.move_id == move.id, Attempt.ended_at.is_(None))):
            attempt.ended_at, attempt.outcome, attempt.cause = at, "failed", Cause.WINDOW_CLOSED.value
        audit(session, actor, "stop.move", move, project_id=move.person.project_id, cause=Cause.WINDOW_CLOSED.value)


@one_transaction
def recover_lost(session: Session, worker: str) -> Lost:
    """Gives mailboxes back whose worker gave no sign of life, ends checks that died; returns what is due now. The caller puts on
    the queues what is not there."""
    at = now()
    actor = Actor(f"worker:{worker}")
    lost = select(Move).where(Move.state == MoveState.MOVING, Move.lease_until < at).with_for_update()
    for move in session.scalars(lost).all():
        tries, owner = move.tries + 1, move.lease_owner  # the UPDATE below takes the owner off the row and off `move`
        stuck = tries >= TRIES
        given_back = changed_rows(session, update(Move).where(Move.id == move.id, Move.fence == move.fence, Move.lease_until < at).values(
            state=MoveState.STUCK if stuck else MoveState.PAUSED if move.stop_requested else MoveState.QUEUED, stop_requested=False,
            cause=Cause.INTERNAL.value if stuck else None, fence=Move.fence + 1, lease_owner=None, lease_until=None,
            tries=0 if stuck else tries, queued_at=at))
        if given_back:
            audit(session, actor, "recover.move", move, project_id=move.person.project_id, owner=owner, tries=tries)
            attempt = _open_attempt(session, move)
            session.flush()
            session.add(ServerLine(attempt_id=attempt.id, side="", cause=Cause.WORKER_LOST.value,
                                   text=f"{owner} gave no sign of life"))
            if stuck:
                attempt.ended_at, attempt.outcome, attempt.cause = at, "failed", Cause.INTERNAL.value
    session.execute(update(Check).where(Check.state == CheckState.RUNNING, Check.started_at < at - STALE_CHECK).values(
        state=CheckState.DONE, cause=Cause.WORKER_LOST.value, finished_at=at))
    _end_what_is_over(session, actor, at)
    due = or_(Move.not_before.is_(None), Move.not_before <= at)
    moves = session.scalars(select(Move.id).where(Move.state.in_((MoveState.QUEUED, MoveState.WAITING)), due)).all()
    checks = session.scalars(select(Check.id).where(Check.state == CheckState.QUEUED)).all()
    return Lost(list(moves), list(checks))
