"""What people do to a move (start, pause, resume, relaunch), and what became of it, row by row.

Must not: run anything, or touch what a worker writes (portal/services/leases.py). Always: a change of state is one compare-and-set
UPDATE, so that of two people who press at once one does it and the other is told; each start and relaunch is a new Attempt; a move
whose secret is gone or was refused starts again only after its owner typed a new one.
"""
from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from engine.causes import Cause, Words
from portal.models import Attempt, CheckState, LedgerFolder, Move, MoveState, Person, SetAside, now
from portal.services.checks import latest_check, mailboxes, refuse_untested, secret_since
from portal.services.common import (
    Actor,
    NotGiven,
    ProjectClosed,
    ServiceError,
    WrongState,
    audit,
    changed_rows,
    enqueue_slice,
    is_over,
    one_transaction,
    refuse_if_over,
)
from portal.services.credentials import DESTINATION_SECRET, SECRET_CAUSES, SOURCE_SECRET
from portal.services.endpoints import destination_endpoint, source_endpoint
from portal.services.people import needs

STARTABLE = (MoveState.INVITED, MoveState.READY)
UNDER_WAY = (MoveState.QUEUED, MoveState.MOVING, MoveState.WAITING)

# Waits after these are our own; whoever mended the cause need not sit them out. Every other wait protects an account at a provider.
_OUR_OWN_WAITS = frozenset({Cause.RELAY_UNREACHABLE, Cause.RELAY_REFUSED, Cause.LEDGER_UNWRITABLE, Cause.INCOMPLETE,
                            Cause.WORKER_LOST, Cause.INTERRUPTED, Cause.INTERNAL})


class MustWait(WrongState):
    """A provider asked us to wait; nobody here can shorten that. The move goes on by itself at `until`."""

    def __init__(self, until: dt.datetime) -> None:
        minutes = max(1, -(-int((until - now()).total_seconds()) // 60))
        super().__init__(None, f"邮箱要我们再等 {minutes} 分钟，到时候会自动继续。为了不让账号被锁，不能提前。",
                         f"The provider asked us to wait {minutes} more min; it goes on by itself then. Earlier could get the account "
                         "locked.")
        self.until = until


class SecretMissing(NotGiven):
    """The stored secret is gone, or its server refused it: only its owner can go on, by typing one."""

    def __init__(self, field: str, *, refused: bool, by_admin: bool = False) -> None:
        side_zh, side_en = ("新", "new") if field == DESTINATION_SECRET else ("旧", "old")
        why_zh, why_en = ("没有被接受", "was refused") if refused else ("已经不在了", "is no longer stored")
        who_zh, who_en = ("请管理员在项目里重新填写", "An admin has to enter it in the project again") if by_admin else (
            "要本人打开链接再填一次", "Its owner has to open the link and type it again")
        super().__init__(field, f"{side_zh}邮箱的密码{why_zh}，{who_zh}，才能继续搬。",
                         f"The {side_en} mailbox's password {why_en}. {who_en} before the move can go on.")


@dataclass
class Relaunched:
    """What a relaunch of several did: one entry per move, none forgotten."""

    done: list[Move] = field(default_factory=list)
    refused: list[tuple[Move, Words]] = field(default_factory=list)


@dataclass(frozen=True)
class SetAsideItem:
    """A message that was not moved: `folder` as people write it, `size` in octets, `reason` a Cause, `server_text` redacted."""

    folder: str
    uid: int
    reason: str
    server_text: str
    size: int
    internal_date: str


@one_transaction
def start(session: Session, actor: Actor, move: Move) -> Move:
    """Starts the move, or starts it again where it stopped. Does nothing where it is under way or complete: starting twice copies
    nothing twice. Raises SecretMissing, WrongState, ProjectClosed, NotUsable."""
    session.refresh(move)
    if move.state in UNDER_WAY or _is_complete(move):
        return move
    if actor.is_person and move.state in STARTABLE:
        _refuse_unchecked(session, move.person)
    if not launch(session, actor, move, verb="start"):
        session.refresh(move)  # somebody else started it just now
    return move


@one_transaction
def pause(session: Session, actor: Actor, move: Move) -> Move:
    """Stops the move where it stands. A worker that is at it stops at its next safe point, within seconds. Pausing twice is
    pausing once. What a provider asked us to wait stays known. Raises WrongState where there is nothing to pause."""
    waiting = changed_rows(session, update(Move).where(Move.id == move.id, Move.state.in_((MoveState.QUEUED, MoveState.WAITING))).values(
        state=MoveState.PAUSED, stop_requested=False))
    asked = not waiting and changed_rows(session, update(Move).where(
        Move.id == move.id, Move.state == MoveState.MOVING, Move.stop_requested.is_(False)).values(stop_requested=True))
    session.refresh(move)
    if waiting:
        _end_attempt(session, move, move.cause)
    if waiting or asked:
        audit(session, actor, "pause.move", move, project_id=move.person.project_id, at_once=bool(waiting))
    elif not (move.state is MoveState.PAUSED or move.stop_requested):
        raise WrongState(None, "现在没有在搬，不用暂停。", "Nothing is running that could be paused.")
    return move


@one_transaction
def resume(session: Session, actor: Actor, move: Move) -> Move:
    """Goes on after a pause, a provider's wait not before its end (then WAITING); takes a pause back that the worker has not noticed
    yet. Raises as `start` does."""
    if move.state is MoveState.MOVING:
        refuse_if_over(move.person.project)
    if changed_rows(session, update(Move).where(Move.id == move.id, Move.state == MoveState.MOVING, Move.stop_requested.is_(True))
                    .values(stop_requested=False)):
        session.refresh(move)
        audit(session, actor, "resume.move", move, project_id=move.person.project_id)
        return move
    session.refresh(move)
    if move.state in UNDER_WAY:
        return move
    if move.state is not MoveState.PAUSED:
        raise WrongState(None, "这次搬家没有暂停。", "This move is not paused.")
    launch(session, actor, move, verb="resume")
    return move


@one_transaction
def relaunch(session: Session, actor: Actor, moves: Iterable[Move]) -> Relaunched:
    """Starts each again where it stopped: stuck, paused, done with something set aside, or waiting for what is our own. What cannot
    be started is named with the reason, a provider's wait among them; the others go on."""
    result = Relaunched()
    for move in moves:
        session.refresh(move)
        try:
            _refuse_relaunch(move)
            if launch(session, actor, move, verb="relaunch"):
                result.done.append(move)
                continue
            refusal: ServiceError = _just_launched()
        except ServiceError as error:
            refusal = error
        result.refused.append((move, refusal.words))
    return result


def launch(session: Session, actor: Actor, move: Move, *, verb: str, launched_by: str | None = None) -> bool:
    """Puts the move on the queue with a new Attempt, whatever it stopped at; a provider's wait that is not over is waited for
    first. Part of a service's transaction. False: somebody else changed its state meanwhile. Raises SecretMissing, ProjectClosed,
    NotUsable, TooManyTries and AskedToWait (where no check has passed with its secrets)."""
    person, was = move.person, move.state
    if is_over(person.project):
        raise ProjectClosed(person.project)
    source_endpoint(person)
    destination_endpoint(person.project)
    _refuse_without_secrets(session, move)
    cause, at, until = move.cause, now(), wait_end(move)
    if until is None:
        refuse_untested(session, person)
    goes_on = ({"state": MoveState.WAITING} if until else
               {"state": MoveState.QUEUED, "cause": None, "not_before": None, "tries": 0})
    if not changed_rows(session, update(Move).where(Move.id == move.id, Move.state == was).values(
            outcome=None, stop_requested=False, queued_at=at, finished_at=None, **goes_on)):
        return False
    _end_attempt(session, move, cause)
    number = session.scalar(select(func.coalesce(func.max(Attempt.number), 0)).where(Attempt.move_id == move.id)) or 0
    session.add(Attempt(move_id=move.id, number=number + 1, launched_by=launched_by or actor.launcher,
                        **mailboxes(session, person)))
    session.flush()
    session.refresh(move)
    audit(session, actor, f"{verb}.move", move, project_id=person.project_id, was=was.value, cause=cause, attempt=number + 1)
    if until is None:
        enqueue_slice(session, move.id)
    return True


def wait_end(move: Move) -> dt.datetime | None:
    """Until when a provider asked us to wait with this move; None: it may go on."""
    asked = move.state in (MoveState.WAITING, MoveState.PAUSED) and move.not_before is not None and move.not_before > now()
    return move.not_before if asked and move.cause not in _OUR_OWN_WAITS else None


def _end_attempt(session: Session, move: Move, cause: str | None) -> None:
    """Ends the attempt that is still open, if one is."""
    changed_rows(session, update(Attempt).where(Attempt.move_id == move.id, Attempt.ended_at.is_(None))
                 .values(ended_at=now(), outcome="paused", cause=cause))


def _is_complete(move: Move) -> bool:
    return move.state is MoveState.DONE and move.outcome == "complete"


def _just_launched() -> WrongState:
    return WrongState(None, "已经在搬了，不用再启动。", "It is running already; nothing more to start.")


def _refuse_relaunch(move: Move) -> None:
    if move.state in (MoveState.QUEUED, MoveState.MOVING):
        raise _just_launched()
    if move.state in STARTABLE:
        raise WrongState(None, "本人还没有开始搬家。", "Its owner has not started the move yet.")
    if _is_complete(move):
        raise WrongState(None, "邮件已经全部搬完。", "All mail has been moved.")
    if move.state is MoveState.WAITING and (until := wait_end(move)) is not None:
        raise MustWait(until)


def _refuse_unchecked(session: Session, person: Person) -> None:
    """The owner's first start follows a check that passed; what would fail at the login is not put on a queue."""
    check = latest_check(session, person)
    if check is None or check.state is not CheckState.DONE:
        raise WrongState(None, "先等检查结束，再开始。", "Wait for the check to finish, then start.")
    if check.cause is not None:
        raise WrongState(None, "检查没有通过，先按提示处理，再检查一次。", "The check did not pass. Do what it says, then check again.")


def _refuse_without_secrets(session: Session, move: Move) -> None:
    missing = needs(session, move.person)
    if missing.source_secret:
        raise SecretMissing(SOURCE_SECRET, refused=False)
    if missing.destination_secret:
        raise SecretMissing(DESTINATION_SECRET, refused=False)
    cause = Cause(move.cause) if move.cause in SECRET_CAUSES else None
    if cause is None:
        return
    last = session.scalar(select(Attempt).where(Attempt.move_id == move.id).order_by(Attempt.id.desc()).limit(1))
    stopped_at = (last and (last.ended_at or last.started_at)) or move.last_sign_at or move.created_at
    if not secret_since(session, move.person, cause, stopped_at):
        raise SecretMissing(DESTINATION_SECRET if cause is Cause.DESTINATION_LOGIN else SOURCE_SECRET,
                            refused=cause is not Cause.SECRET_MISSING)


# --- what became of it ----------------------------------------------------------------------------------------------------


def folder_rows(session: Session, move: Move) -> list[LedgerFolder]:
    """In the order in which the folders are moved."""
    return list(session.scalars(select(LedgerFolder).where(LedgerFolder.move_id == move.id).order_by(LedgerFolder.id)))


def set_aside_rows(session: Session, move: Move) -> list[SetAsideItem]:
    """Every message that was set aside, by folder and UID."""
    rows = session.execute(select(SetAside, LedgerFolder).join(LedgerFolder, SetAside.folder_id == LedgerFolder.id)
                           .where(LedgerFolder.move_id == move.id).order_by(LedgerFolder.id, SetAside.uid))
    return [SetAsideItem(folder.source_display or folder.source, row.uid, row.reason, row.server_text, row.size, row.internal_date)
            for row, folder in rows]


def ahead(session: Session, move: Move) -> int:
    """How many moves were queued before this one and still wait for a worker."""
    if move.queued_at is None:
        return 0
    return session.scalar(select(func.count()).select_from(Move).where(
        Move.state == MoveState.QUEUED, Move.queued_at < move.queued_at)) or 0
