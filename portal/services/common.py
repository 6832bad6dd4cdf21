"""What every service shares: who acts, what may go wrong, the audit event, the transaction, and work to put on a queue after it.

Services are the only code that changes state. Each one is one transaction: `@one_transaction` begins it, commits when the outermost
service returns, rolls back when it raises; a service called by another joins it. The audit event is written in it. Work for the queues
is put after the commit, never before; when Redis does not answer, the rows stand and the reconciler puts the work later, so nobody
sees an error for it.
"""
from __future__ import annotations

import functools
import logging
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

from redis.exceptions import RedisError
from sqlalchemy import CursorResult, Delete, Update
from sqlalchemy.orm import Session

from engine.causes import Words
from portal.models import AuditEvent, Base, Person, Project, Staff, now
from portal.store.db import Queue, begin_writing

log = logging.getLogger(__name__)

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Actor:
    """Who does it: "person:<id>", "staff:<email>", "worker:<name>" or "system"; `address` is their network address."""

    name: str
    address: str = ""

    @classmethod
    def person(cls, person: Person, address: str = "") -> Actor:
        return cls(f"person:{person.id}", address)

    @classmethod
    def staff(cls, staff: Staff, address: str = "") -> Actor:
        return cls(f"staff:{staff.email}", address)

    @property
    def is_person(self) -> bool:
        return self.name.startswith("person:")

    @property
    def launcher(self) -> str:
        """As `Attempt.launched_by` and `Check.launched_by` name them."""
        return "person" if self.is_person else self.name


SYSTEM = Actor("system")


class ServiceError(Exception):
    """An act that was refused, in words for the person who asked. `field` is the form field it is about, if one is."""

    def __init__(self, field: str | None, zh: str, en: str) -> None:
        super().__init__(en)
        self.field = field
        self.words = Words(zh, en)

    @property
    def zh(self) -> str:
        return self.words.zh

    @property
    def en(self) -> str:
        return self.words.en

    def in_(self, language: str) -> str:
        return self.words.in_(language)


class NotGiven(ServiceError):
    """A field that must be filled in is empty."""


class NotUsable(ServiceError):
    """A field holds what cannot be used."""


class AlreadyExists(ServiceError):
    """There is one like this already."""


class WrongState(ServiceError):
    """The act does not fit what is going on; often somebody else was quicker."""


class ProjectClosed(ServiceError):
    """The project is closed or its last day is over."""

    def __init__(self, project: Project) -> None:
        contact_zh = f"有问题请联系：{project.contact}。" if project.contact else ""
        contact_en = f" Questions: {project.contact}." if project.contact else ""
        super().__init__(None, f"这次搬家已经结束，不能再开始。{contact_zh}",
                         f"This move is over; nothing can be started any more.{contact_en}")


# --- what people type ------------------------------------------------------------------------------------------------------


def has_hidden(text: str) -> bool:
    """Whether it holds what nobody sees: direction marks, zero-width and control characters, line ends, lone surrogates."""
    return any(unicodedata.category(c) in _HIDDEN for c in text)


def plain_name(text: str) -> str:
    """A name in one line without hidden characters: with them it would be shown as something else than it is."""
    return " ".join("".join(" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c) not in _HIDDEN).split())


# --- transaction ----------------------------------------------------------------------------------------------------------


@dataclass
class _Transaction:
    checks: list[int]
    moves: list[int]


@contextmanager
def transaction(session: Session) -> Iterator[None]:
    """One transaction that may write. Inside another one it is part of that."""
    if "transaction" in session.info:
        yield
        return
    begin_writing(session)
    wanted = session.info["transaction"] = _Transaction([], [])
    try:
        yield
        session.commit()
    except BaseException:
        session.rollback()
        raise
    finally:
        del session.info["transaction"]
    _put_on_queues(session.info.get("queue"), wanted)


def one_transaction(service: Callable[Concatenate[Session, P], T]) -> Callable[Concatenate[Session, P], T]:
    """Makes a service run in `transaction(session)`; its first argument is the session."""

    @functools.wraps(service)
    def run(session: Session, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with transaction(session):
            return service(session, *args, **kwargs)

    return run


def enqueue_check(session: Session, check_id: int) -> None:
    """After the commit of the running service."""
    _running(session).checks.append(check_id)


def enqueue_slice(session: Session, move_id: int) -> None:
    """After the commit of the running service."""
    _running(session).moves.append(move_id)


def _running(session: Session) -> _Transaction:
    running = session.info["transaction"]
    assert isinstance(running, _Transaction)
    return running


def _put_on_queues(queue: Queue | None, wanted: _Transaction) -> None:
    if queue is None:
        return
    try:
        if wanted.checks:
            queue.enqueue_checks(wanted.checks)
        if wanted.moves:
            queue.enqueue_slices(wanted.moves)
    except RedisError as problem:
        log.warning("the queue did not answer (%s); %d checks and %d moves wait for the reconciler",
                    type(problem).__name__, len(wanted.checks), len(wanted.moves))


def changed_rows(session: Session, statement: Update | Delete) -> int:
    """Runs a compare-and-set UPDATE or a DELETE; returns how many rows it changed. 0: somebody else was quicker."""
    result = session.execute(statement)
    assert isinstance(result, CursorResult)
    return result.rowcount


# --- audit ----------------------------------------------------------------------------------------------------------------


def audit(session: Session, actor: Actor, action: str, subject: Base | None = None, *, project_id: int | None = None,
          **detail: Any) -> AuditEvent:
    """Adds the event `verb.object`. `detail` holds ids, names of fields and old values, never a secret or a token."""
    kind, row_id = ("", None) if subject is None else (type(subject).__name__.lower(), getattr(subject, "id", None))
    event = AuditEvent(actor=actor.name, action=action, subject_kind=kind, subject_id=row_id, project_id=project_id,
                       detail=detail, address=actor.address)
    session.add(event)
    return event


def refuse_if_over(project: Project) -> None:
    """Raises ProjectClosed when the project was closed or its last day has passed."""
    if is_over(project):
        raise ProjectClosed(project)


def is_over(project: Project) -> bool:
    return project.state != "open" or project.closes_at <= now()
