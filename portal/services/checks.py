"""Live checks: asked for here, run by a worker, read by the pages.

Must not: connect to anything. Always: a mailbox is not tried more than twice an hour with what its server refused, counted over the
checks (and attempts) themselves, so that nobody's account is locked because of us (facts: providers, limits; reliability, P3).
"""
from __future__ import annotations

import datetime as dt

from sqlalchemy import select
from sqlalchemy.orm import Session

from engine.causes import Cause, Side
from engine.endpoint import Secret
from engine.providers.catalogue import provider
from portal.models import Attempt, Check, CheckState, Move, Owner, Person, Project, now
from portal.security.vault import Sealer
from portal.services.common import Actor, NotGiven, ServiceError, WrongState, audit, enqueue_check, one_transaction, refuse_if_over
from portal.services.credentials import (
    CHECK_SECRET,
    DESTINATION_SECRET,
    SECRET_CAUSES,
    SOURCE_SECRET,
    as_typed,
    find_credential,
    store_secret,
)
from portal.services.endpoints import checked_login, destination_endpoint, project_source, provider_of
from portal.store.db import alone

BOTH = "both"
WRONG_TRIES = 2
TRIES_WINDOW = dt.timedelta(hours=1)
STALE_CHECK = dt.timedelta(minutes=3)  # a check takes 15 s at most; what runs longer lost its worker
TEST_SECRET_LIFE = dt.timedelta(minutes=30)

# What a server says when a login was refused: each is one more towards locking the account.
_WRONG = {
    Side.SOURCE: frozenset({Cause.BAD_SECRET, Cause.NEEDS_AUTH_CODE, Cause.TWO_FACTOR, Cause.SECURE_LOGIN}),
    Side.DESTINATION: frozenset({Cause.DESTINATION_LOGIN}),
}


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
        enqueue_check(session, pending.id)
        return pending
    check = Check(person_id=person.id, side=side, steps=[], result={}, launched_by=actor.launcher)
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
    """Raises TooManyTries when the server of a side that would be tried has refused twice within the hour. Counted per mailbox
    address, over all projects."""
    limit = min(WRONG_TRIES, provider_of(person).limits.wrong_logins_per_hour)
    for tried in (Side.SOURCE, Side.DESTINATION):
        if side in (tried.value, BOTH):
            _refuse_after(_wrong_times(session, person, tried), limit, tried)


def _refuse_after(times: list[dt.datetime], limit: int, side: Side) -> None:
    if len(times) >= limit:
        raise TooManyTries(sorted(times)[-limit] + TRIES_WINDOW, side)


def _wrong_times(session: Session, person: Person, side: Side) -> list[dt.datetime]:
    since = now() - TRIES_WINDOW
    same_mailbox = (Person.source_address == person.source_address if side is Side.SOURCE
                    else Person.destination_address == person.destination_address)
    checks = session.scalars(select(Check.finished_at).join(Person, Person.id == Check.person_id).where(
        same_mailbox, Check.cause.in_(_WRONG[side]), Check.finished_at > since))
    attempts = session.scalars(select(Attempt.ended_at).join(Move, Move.id == Attempt.move_id).join(
        Person, Person.id == Move.person_id).where(same_mailbox, Attempt.cause.in_(_WRONG[side]), Attempt.ended_at > since))
    return [time for time in (*checks, *attempts) if time is not None]


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
    check; without one the project's own destination secret is used. Raises NotGiven, NotUsable, TooManyTries, ProjectClosed."""
    refuse_if_over(project)
    side = Side(side)
    login = checked_login(login, "login")
    alone(session, f"check {login}")
    if side is Side.DESTINATION:
        destination_endpoint(project)
    else:
        project_source(project, login)
    if secret or side is Side.SOURCE or not find_credential(session, Owner.PROJECT, project.id, DESTINATION_SECRET):
        inner_blanks = side is Side.SOURCE and provider(project.provider).inner_blanks
        secret = as_typed(secret or Secret(""), CHECK_SECRET, inner_blanks=inner_blanks)
    _refuse_after(_wrong_tests(session, project, side, login), WRONG_TRIES, side)
    check = Check(project_id=project.id, side=side.value, login=login, steps=[], result={}, launched_by=actor.launcher)
    session.add(check)
    session.flush()
    if secret:
        store_secret(session, Owner.CHECK, check.id, CHECK_SECRET, secret, sealer, now() + TEST_SECRET_LIFE)
    audit(session, actor, "test.project", check, project_id=project.id, side=side.value, login=login)
    enqueue_check(session, check.id)
    return check


def _wrong_tests(session: Session, project: Project, side: Side, login: str) -> list[dt.datetime]:
    times = session.scalars(select(Check.finished_at).where(
        Check.project_id == project.id, Check.side == side.value, Check.login == login, Check.cause.in_(_WRONG[side]),
        Check.finished_at > now() - TRIES_WINDOW))
    return [time for time in times if time is not None]
