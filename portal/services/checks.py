"""Live checks: asked for here, run by a worker, read by the pages.

Must not: connect to anything. Always: a mailbox is not tried more than twice an hour with what its server refused, and not while its
server wants patience; counted over the checks and attempts themselves, per server and login as the server counts them, so that
nobody's account is locked because of us (facts: providers, limits; reliability, P3).
"""
from __future__ import annotations

import datetime as dt
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from engine.causes import Cause, Side
from engine.endpoint import Secret
from engine.providers.catalogue import provider
from engine.report.steps import Step, StepState
from portal.models import Attempt, Check, CheckState, Owner, Person, Project, now
from portal.security.vault import Sealer
from portal.services.common import (
    Actor,
    NotGiven,
    NotUsable,
    ServiceError,
    WrongState,
    audit,
    enqueue_check,
    one_transaction,
    refuse_if_over,
)
from portal.services.credentials import (
    CHECK_SECRET,
    DESTINATION_SECRET,
    SECRET_CAUSES,
    SOURCE_SECRET,
    as_typed,
    find_credential,
    store_secret,
)
from portal.services.endpoints import (
    checked_login,
    destination_endpoint,
    destination_login,
    mailbox,
    project_source,
    provider_of,
    source_endpoint,
    source_login,
)
from portal.store.db import alone

BOTH = "both"
WRONG_TRIES = 2
TRIES_WINDOW = dt.timedelta(hours=1)
SHORTEST_PATIENCE, LONGEST_PATIENCE = dt.timedelta(minutes=5), dt.timedelta(days=1)
STALE_CHECK = dt.timedelta(minutes=3)  # a check takes 15 s at most; what runs longer lost its worker
TEST_SECRET_LIFE = dt.timedelta(minutes=30)

# What a server says when a login was refused: each is one more towards locking the account.
_WRONG = {
    Side.SOURCE: frozenset({Cause.BAD_SECRET, Cause.NEEDS_AUTH_CODE, Cause.TWO_FACTOR, Cause.SECURE_LOGIN}),
    Side.DESTINATION: frozenset({Cause.DESTINATION_LOGIN}),
}
# What a move that copied nothing may have been told at its login; an attempt does not say at which step it failed.
_PERHAPS_AT_LOGIN = frozenset({
    Cause.UNKNOWN, Cause.IMAP_DISABLED, Cause.ACCOUNT_EXPIRED_LOCKED, Cause.OAUTH_ONLY, Cause.X_CLIENT, Cause.NEEDS_ID, Cause.THROTTLED,
    Cause.TOO_MANY_CONNECTIONS, Cause.IP_BLOCKED, Cause.DESTINATION_BUSY, Cause.DESTINATION_REFUSED})
# Whose server wants to be left alone for a while.
_PATIENCE: dict[str, Side] = {Cause.THROTTLED: Side.SOURCE, Cause.IP_BLOCKED: Side.SOURCE, Cause.TOO_MANY_CONNECTIONS: Side.SOURCE,
                              Cause.DESTINATION_BUSY: Side.DESTINATION}


class TooManyTries(ServiceError):
    """The mailbox was tried too often with what its server refused; `until` is when it may be tried again."""

    def __init__(self, until: dt.datetime, side: Side) -> None:
        which_zh, which_en = ("新", "new") if side is Side.DESTINATION else ("旧", "old")
        minutes = max(1, -(-int((until - now()).total_seconds()) // 60))
        field = DESTINATION_SECRET if side is Side.DESTINATION else SOURCE_SECRET
        super().__init__(field, f"{which_zh}邮箱已经拒绝了 {WRONG_TRIES} 次。为了不让账号被锁，请过 {minutes} 分钟再试；"
                                "这段时间可以先核对该填哪一种密码。",
                         f"Your {which_en} mailbox has refused {WRONG_TRIES} times. So that the account is not locked, try again in "
                         f"{minutes} min; meanwhile check which password it wants.")
        self.until = until
        self.side = side


class AskedToWait(ServiceError):
    """The server of a side wants patience; `until` is when it may be tried again."""

    def __init__(self, until: dt.datetime, side: Side) -> None:
        which_zh, which_en = ("新", "new") if side is Side.DESTINATION else ("旧", "old")
        minutes = max(1, -(-int((until - now()).total_seconds()) // 60))
        super().__init__(DESTINATION_SECRET if side is Side.DESTINATION else SOURCE_SECRET,
                         f"{which_zh}邮箱的服务器嫌登录太频繁，要我们等一等。请过 {minutes} 分钟再试，现在再试账号可能被锁。",
                         f"The server of your {which_en} mailbox finds the logins too frequent and wants us to wait. Try again in "
                         f"{minutes} min; trying now could get the account locked.")
        self.until = until
        self.side = side


class CheckRunning(WrongState):
    """An earlier check of the same mailbox has not ended."""

    def __init__(self) -> None:
        super().__init__(None, "上一次检查还没有结束，请等几秒。", "The last check has not finished; wait a few seconds.")


def latest_check(session: Session, person: Person) -> Check | None:
    return session.scalar(select(Check).where(Check.person_id == person.id).order_by(Check.id.desc()).limit(1))


def find_check(session: Session, person: Person, check_id: int) -> Check | None:
    """A check of this person's, or None: nobody reads another's by its number."""
    return session.scalar(select(Check).where(Check.person_id == person.id, Check.id == check_id))


@one_transaction
def check_again(session: Session, actor: Actor, person: Person) -> Check:
    """Checks with the secrets that are stored: for causes that were mended at the provider. Raises ProjectClosed, NotGiven (no
    stored secret), TooManyTries, CheckRunning, WrongState (the secret itself was refused: it must be typed again)."""
    refuse_if_over(person.project)
    alone(session, f"check {person.source_address}")
    stored = find_credential(session, Owner.PERSON, person.id, SOURCE_SECRET)
    if stored is None:
        raise NotGiven(SOURCE_SECRET, "没有保存的密码了，请再填一次。", "There is no stored password; enter it again.")
    last = latest_check(session, person)
    if (last is not None and last.cause in SECRET_CAUSES and last.state is CheckState.DONE
            and not secret_since(session, person, Cause(last.cause), last.finished_at or last.created_at)):
        raise WrongState(SOURCE_SECRET, "邮箱没有接受这个密码，请再填一次。", "The mailbox did not accept this password; enter it again.")
    return ask_check(session, actor, person)


def ask_check(session: Session, actor: Actor, person: Person) -> Check:
    """Puts a check of everything that is known. Part of a service's transaction. A check that still waits for a worker is
    given back instead of a second one: it reads the secrets when it runs."""
    side = checked_sides(session, person)
    refuse_if_tried_too_often(session, person, side)
    pending = _pending(session, person)
    if pending is not None:
        pending.side = side
        for column, tried in mailboxes(session, person).items():
            setattr(pending, column, tried)
        enqueue_check(session, pending.id)
        return pending
    check = Check(person_id=person.id, side=side, steps=[], result={}, launched_by=actor.launcher, **mailboxes(session, person))
    session.add(check)
    session.flush()
    audit(session, actor, "ask.check", check, project_id=person.project_id, person=person.id, side=side)
    enqueue_check(session, check.id)
    return check


def checked_sides(session: Session, person: Person) -> str:
    """"both" when a secret for the new mailbox is known (the person's or the project's), else "source"."""
    known = (find_credential(session, Owner.PERSON, person.id, DESTINATION_SECRET)
             or find_credential(session, Owner.PROJECT, person.project_id, DESTINATION_SECRET))
    return BOTH if known and person.project.destination_host else Side.SOURCE.value


def _pending(session: Session, person: Person) -> Check | None:
    """A check that waits for a worker. Raises CheckRunning while one runs."""
    last = latest_check(session, person)
    if last is None or last.state is CheckState.DONE:
        return None
    if last.state is CheckState.RUNNING:
        if (last.started_at or last.created_at) > now() - STALE_CHECK:
            raise CheckRunning
        return None
    return last


def refuse_if_tried_too_often(session: Session, person: Person, side: str) -> None:
    """Raises TooManyTries when the server of a side that would be tried has refused twice within the hour, AskedToWait while it
    wants patience. Counted per server and login, over all projects, checks, tests and moves."""
    limit = min(WRONG_TRIES, provider_of(person).limits.wrong_logins_per_hour)
    known = mailboxes(session, person)
    for tried in (Side.SOURCE, Side.DESTINATION):
        if side in (tried.value, BOTH):
            _refuse_after(_tries(session, tried, known[f"{tried}_mailbox"], person), limit, tried)
    move = person.move
    if move.not_before is not None and move.not_before > now() and move.cause in _PATIENCE:
        raise AskedToWait(move.not_before, Side.DESTINATION if move.cause == Cause.DESTINATION_BUSY else Side.SOURCE)


def refuse_untested(session: Session, person: Person) -> None:
    """The same for a move that is to be launched: for each side of which no check has passed since its secret was stored."""
    passed = session.execute(select(Check.side, Check.finished_at, Check.created_at).where(
        Check.person_id == person.id, Check.state == CheckState.DONE, Check.cause.is_(None))).all()
    for side in Side:
        stored = find_credential(session, Owner.PERSON, person.id, SOURCE_SECRET if side is Side.SOURCE else DESTINATION_SECRET)
        if stored is None and side is Side.DESTINATION:
            stored = find_credential(session, Owner.PROJECT, person.project_id, DESTINATION_SECRET)
        if stored is not None and not any(
                row.side in (side.value, BOTH) and (row.finished_at or row.created_at) >= stored.created_at for row in passed):
            refuse_if_tried_too_often(session, person, side.value)


def mailboxes(session: Session, person: Person) -> dict[str, str | None]:
    """The columns that say which mailboxes a check or an attempt of this person tries; None: not known yet."""
    own = find_credential(session, Owner.PERSON, person.id, DESTINATION_SECRET)
    found: dict[str, str | None] = {"source_mailbox": None, "destination_mailbox": None}
    with suppress(NotUsable):
        found["source_mailbox"] = mailbox(source_endpoint(person), source_login(person))
    with suppress(NotUsable):
        found["destination_mailbox"] = mailbox(destination_endpoint(person.project),
                                               destination_login(person, with_project_secret=own is None))
    return found


@dataclass
class _Tries:
    """When a mailbox refused a login within the hour, and until when its server wants patience."""

    refused: list[dt.datetime]
    patience: list[dt.datetime]


def _refuse_after(tries: _Tries, limit: int, side: Side) -> None:
    if len(tries.refused) >= limit:
        raise TooManyTries(sorted(tries.refused)[-limit] + TRIES_WINDOW, side)
    if tries.patience and max(tries.patience) > now():
        raise AskedToWait(max(tries.patience), side)


def _tries(session: Session, side: Side, tried: str | None, person: Person | None = None) -> _Tries:
    """What became of the mailbox `tried`, whatever its role was, and of this person's `side`."""
    tries, hour, day = _Tries([], []), now() - TRIES_WINDOW, now() - LONGEST_PATIENCE
    person_id, move_id = (person.id, person.move.id) if person else (0, 0)  # nobody's
    tried = tried or ""
    checks = session.execute(select(
        Check.person_id, Check.side, Check.source_mailbox, Check.destination_mailbox, Check.cause, Check.steps, Check.result,
        Check.finished_at).where(Check.finished_at > day, Check.cause.is_not(None), or_(
            Check.source_mailbox == tried, Check.destination_mailbox == tried, Check.person_id == person_id)))
    attempts = session.execute(select(
        Attempt.move_id, Attempt.source_mailbox, Attempt.destination_mailbox, Attempt.cause, Attempt.side, Attempt.moved,
        Attempt.ended_at).where(Attempt.ended_at > hour, Attempt.outcome == "failed", or_(
            Attempt.source_mailbox == tried, Attempt.destination_mailbox == tried, Attempt.move_id == move_id)))
    for check in checks:
        for role in _roles(check, tried, side if person and check.person_id == person_id else None):
            if check.finished_at > hour and _refused_login(check, role):
                tries.refused.append(check.finished_at)
            if _PATIENCE.get(check.cause) is role:
                wait = (check.result.get(role.value) or {}).get("retry_after") or 0
                tries.patience.append(check.finished_at + max(SHORTEST_PATIENCE, min(dt.timedelta(seconds=wait), LONGEST_PATIENCE)))
    for attempt in attempts:
        for role in _roles(attempt, tried, side if person and attempt.move_id == move_id else None):
            at_login = attempt.side == role.value and not attempt.moved and attempt.cause in _PERHAPS_AT_LOGIN
            if attempt.cause in _WRONG[role] or at_login:
                tries.refused.append(attempt.ended_at)
    return tries


def _roles(row: Any, tried: str, own: Side | None) -> list[Side]:
    """As which sides the row tried the mailbox."""
    return [role for role in Side if role is own or getattr(row, f"{role}_mailbox") == tried]


def _refused_login(check: Any, role: Side) -> bool:
    result = check.result.get(role.value) or {}
    failed = (result.get("outcome") == "failed" and result.get("step") == Step.LOGIN) or any(
        step.get("side") == role and step.get("step") == Step.LOGIN and step.get("state") == StepState.FAILED for step in check.steps)
    return failed or check.cause in _WRONG[role]


def secret_since(session: Session, person: Person, cause: Cause, when: dt.datetime) -> bool:
    """Whether a secret that answers `cause` was stored after `when`."""
    owners = [(Owner.PERSON, person.id, DESTINATION_SECRET), (Owner.PROJECT, person.project_id, DESTINATION_SECRET)]
    if cause is not Cause.DESTINATION_LOGIN:
        owners = [(Owner.PERSON, person.id, SOURCE_SECRET)] + (owners if cause is Cause.SECRET_MISSING else [])
    stored = (find_credential(session, *owner) for owner in owners)
    return any(row is not None and row.created_at > when for row in stored)


@one_transaction
def start_project_test(session: Session, actor: Actor, project: Project, side: Side, login: str, secret: Secret | None,
                       sealer: Sealer) -> Check:
    """【测试】: signs in at one of the project's servers with an account that the admin names. The secret lives as long as the
    check; without one the project's own destination secret is used. Raises NotGiven, NotUsable, TooManyTries,
    AskedToWait, CheckRunning, ProjectClosed."""
    refuse_if_over(project)
    side = Side(side)
    login = checked_login(login, "login")
    tried = mailbox(destination_endpoint(project) if side is Side.DESTINATION else project_source(project, login), login)
    alone(session, f"check {tried}")
    if secret or side is Side.SOURCE or not find_credential(session, Owner.PROJECT, project.id, DESTINATION_SECRET):
        inner_blanks = side is Side.SOURCE and provider(project.provider).inner_blanks
        secret = as_typed(secret or Secret(""), CHECK_SECRET, inner_blanks=inner_blanks)
    _refuse_after(_tries(session, side, tried), WRONG_TRIES, side)
    column = {f"{side}_mailbox": tried}
    if session.scalar(select(Check.id).where(Check.project_id.is_not(None), Check.state != CheckState.DONE,
                                             Check.created_at > now() - STALE_CHECK).filter_by(**column).limit(1)):
        raise CheckRunning
    check = Check(project_id=project.id, side=side.value, login=login, steps=[], result={}, launched_by=actor.launcher, **column)
    session.add(check)
    session.flush()
    if secret:
        store_secret(session, Owner.CHECK, check.id, CHECK_SECRET, secret, sealer, now() + TEST_SECRET_LIFE)
    audit(session, actor, "test.project", check, project_id=project.id, side=side.value, login=login)
    enqueue_check(session, check.id)
    return check
