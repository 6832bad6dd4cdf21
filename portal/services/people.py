"""A person: added, their provider chosen, their secrets taken.

Must not: show or return a stored secret. Always: addresses are lower case and unique within a project; a secret is sealed before it
touches the database; after a new secret comes a check.
"""
from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from config import MAIL_PORTS, PortRange
from engine.endpoint import Secret
from portal.models import Check, Move, MoveState, Owner, Person, Project
from portal.security.vault import Sealer
from portal.services.checks import ask_check, checked_sides, refuse_if_tried_too_often
from portal.services.common import (
    Actor,
    AlreadyExists,
    NotGiven,
    NotUsable,
    ServiceError,
    WrongState,
    audit,
    changed_rows,
    has_hidden,
    one_transaction,
    plain_name,
    refuse_if_over,
)
from portal.services.credentials import DESTINATION_SECRET, SOURCE_SECRET, as_typed, destroy_credentials, find_credential, store_secret
from portal.services.endpoints import checked_host, checked_login, checked_port, checked_provider, provider_of, source_endpoint
from portal.store.db import alone

RUNNING = (MoveState.QUEUED, MoveState.MOVING, MoveState.WAITING)
_ADDRESS = re.compile(r"[^\s@\"(),:;<>\[\\\]\x00-\x1f\x7f]{1,64}@(?=.{1,253}$)([^\W_]([\w-]{0,62}))(\.[^\W_]([\w-]{0,62}))*")


@dataclass(frozen=True)
class NewPerson:
    """What is known of a person when they are added; empty: not said. `destination_address` empty: the same as the source's."""

    source_address: str
    name: str = ""
    source_login: str = ""
    destination_address: str = ""
    destination_login: str = ""
    language: str = "zh"


@dataclass(frozen=True)
class Needed:
    """Which secrets are still missing before a move can run."""

    source_secret: bool
    destination_secret: bool

    def __bool__(self) -> bool:
        return self.source_secret or self.destination_secret


def mail_address(text: str, field: str) -> str:
    """The address in lower case. Raises NotGiven, NotUsable."""
    address = text.strip().strip("\u200b\ufeff").lower()
    if not address:
        raise NotGiven(field, "这里要填邮箱地址。", "An address is needed here.")
    if has_hidden(address) or not _ADDRESS.fullmatch(address):
        raise NotUsable(field, "这不是一个邮箱地址，例如 wang@example.com。", "That is not a mail address; an example: wang@example.com.")
    return address


@one_transaction
def add_person(session: Session, actor: Actor, project: Project, new: NewPerson) -> Person:
    """The person and their move. Raises NotUsable, AlreadyExists, ProjectClosed."""
    refuse_if_over(project)
    source = mail_address(new.source_address, "source_address")
    destination = mail_address(new.destination_address or source, "destination_address")
    if find_person(session, project, source):
        raise AlreadyExists("source_address", f"名单里已经有 {source}。", f"{source} is already on the list.")
    if session.scalar(select(Person.id).where(Person.project_id == project.id, Person.destination_address == destination)):
        raise AlreadyExists("destination_address", f"已经有人要搬到 {destination}。一个新邮箱只能接收一个旧邮箱。",
                            f"Somebody is already moving to {destination}. A new mailbox takes one old mailbox.")
    person = Person(project_id=project.id, name=plain_name(new.name), source_address=source, destination_address=destination,
                    source_login=checked_login(new.source_login, "source_login") if new.source_login.strip() else None,
                    destination_login=checked_login(new.destination_login, "destination_login") if new.destination_login.strip() else None,
                    language="en" if new.language == "en" else "zh")
    person.move = Move()
    session.add(person)
    session.flush()
    audit(session, actor, "add.person", person, project_id=project.id, source=source, destination=destination)
    return person


def find_person(session: Session, project: Project, source_address: str) -> Person | None:
    return session.scalar(select(Person).where(Person.project_id == project.id, Person.source_address == source_address.lower()))


@one_transaction
def choose_provider(session: Session, actor: Actor, person: Person, provider_key: str | None, host: str | None = None,
                    port: int | None = None, *, allowed_ports: tuple[PortRange, ...] = MAIL_PORTS) -> None:
    """Who the old provider is, in the person's words; None takes the choice back. A secret given for another server is destroyed:
    it was meant for that server. Raises NotUsable, WrongState (the move runs), ProjectClosed."""
    refuse_if_over(person.project)
    key = checked_provider(provider_key, "provider")
    host = checked_host(host, "source_host") if host and host.strip() else None
    if host is not None:
        port = checked_port(port or 993, "source_port", allowed_ports)
    if (key, host, port if host else None) == (person.provider, person.source_host, person.source_port):
        return
    _refuse_while_running(person)
    before = _server(person)
    person.provider, person.source_host, person.source_port = key, host, port if host else None
    session.flush()
    audit(session, actor, "choose.provider", person, project_id=person.project_id, provider=key, host=host, port=person.source_port)
    if _server(person) != before:
        destroy_credentials(session, actor, Owner.PERSON, person.id, [SOURCE_SECRET], reason="other server")
        changed_rows(session, update(Move).where(Move.id == person.move.id, Move.state == MoveState.READY)
                     .values(state=MoveState.INVITED))


def _server(person: Person) -> str:
    try:
        return str(source_endpoint(person))
    except ServiceError:
        return ""


def needs(session: Session, person: Person) -> Needed:
    """The project's own destination secret (a master user) spares everybody theirs."""
    destination = (find_credential(session, Owner.PROJECT, person.project_id, DESTINATION_SECRET)
                   or find_credential(session, Owner.PERSON, person.id, DESTINATION_SECRET))
    return Needed(find_credential(session, Owner.PERSON, person.id, SOURCE_SECRET) is None, destination is None)


@one_transaction
def submit_secrets(session: Session, actor: Actor, person: Person, source_secret: Secret | None,
                   destination_secret: Secret | None, sealer: Sealer, source_login: str | None = None) -> Check:
    """Takes what was typed, seals it in place of what was there, and asks for a check. Empty fields leave what is stored.
    Raises NotGiven, NotUsable, TooManyTries, CheckRunning, WrongState, ProjectClosed; then nothing is stored."""
    refuse_if_over(person.project)
    alone(session, f"check {person.source_address}")
    _refuse_while_running(person)
    needed = needs(session, person)
    typed: dict[str, Secret] = {}
    if source_secret or needed.source_secret:
        typed[SOURCE_SECRET] = as_typed(source_secret or Secret(""), SOURCE_SECRET, inner_blanks=provider_of(person).inner_blanks)
    if destination_secret:
        typed[DESTINATION_SECRET] = as_typed(destination_secret, DESTINATION_SECRET, inner_blanks=False)
    if not typed:
        raise NotGiven(SOURCE_SECRET, "请填密码。", "Enter the password.")
    source_endpoint(person)
    if source_login is not None:
        person.source_login = checked_login(source_login, "source_login") if source_login.strip() else None
    keep_secrets(session, person, typed, sealer)
    refuse_if_tried_too_often(session, person, checked_sides(session, person))
    audit(session, actor, "submit.secrets", person, project_id=person.project_id, fields=sorted(typed))
    return ask_check(session, actor, person)


def keep_secrets(session: Session, person: Person, typed: dict[str, Secret], sealer: Sealer) -> None:
    """Seals what was typed until the project's last day at most. Part of a service's transaction."""
    for field, secret in typed.items():
        store_secret(session, Owner.PERSON, person.id, field, secret, sealer, person.project.closes_at)


def _refuse_while_running(person: Person) -> None:
    if person.move.state in RUNNING:
        raise WrongState(None, "正在搬家，现在不能改。要改请先暂停。", "The move is running; nothing can be changed now. Pause it first.")
    if person.move.state is MoveState.DONE and person.move.outcome == "complete":
        raise WrongState(None, "邮件已经全部搬完，不用再填。", "All mail has been moved; nothing more is needed.")
