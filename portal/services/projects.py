"""A project: its two servers, its window, its own secret, its relay, its end.

Always: every exception to TLS verification is written to the audit with who made it; a secret is never kept for a server it was not
given for; closing a project destroys every secret in it, in the same transaction.
"""
from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from config import MAIL_PORTS, PortRange
from engine.causes import Cause
from engine.endpoint import Secret
from portal.models import Attempt, Credential, Move, MoveState, Owner, Person, Project, ProjectState, Relay, now
from portal.security.vault import Sealer
from portal.services.common import (
    Actor,
    AlreadyExists,
    NotGiven,
    NotUsable,
    WrongState,
    audit,
    changed_rows,
    one_transaction,
    plain_name,
    refuse_if_over,
)
from portal.services.credentials import (
    DESTINATION_SECRET,
    SOURCE_SECRET,
    as_typed,
    destroy_credentials,
    destroy_project_credentials,
    store_secret,
)
from portal.services.days import day_of, end_of_day
from portal.services.endpoints import checked_host, checked_port, checked_provider, checked_security
from portal.services.relays import checked_ca, checked_name

USUAL_DAYS = 30
LONGEST_DAYS = 180
_PIN = re.compile(r"[0-9a-f]{64}")
_TEMPLATE_FIELD = re.compile(r"\{[^}]*\}?|\}")


@dataclass(frozen=True)
class Server:
    """A server as an admin enters it. `ca_pem` and `pinned_sha256` are the exceptions to TLS verification; a new one needs a
    `reason`, which goes into the audit."""

    host: str
    port: int = 993
    security: str = "tls"
    ca_pem: str | None = None
    pinned_sha256: str | None = None
    reason: str = ""


@one_transaction
def create_project(session: Session, actor: Actor, name: str, *, days: int = USUAL_DAYS, contact: str = "") -> Project:
    """An open project without servers. Raises NotGiven, NotUsable, AlreadyExists."""
    name = checked_name(name)
    if session.scalar(select(Project.id).where(Project.name == name)):
        raise AlreadyExists("name", f"已经有叫「{name}」的项目。", f"There is already a project called {name}.")
    project = Project(name=name, closes_at=_last_day(days), contact=plain_name(contact)[:200])
    session.add(project)
    session.flush()
    audit(session, actor, "create.project", project, project_id=project.id, name=name, closes_at=day_of(project.closes_at))
    return project


def _last_day(days: int) -> dt.datetime:
    """The end of the day that many days from today."""
    if not 1 <= days <= LONGEST_DAYS:
        raise NotUsable("days", f"天数是 1 到 {LONGEST_DAYS}。", f"Days: from 1 to {LONGEST_DAYS}.")
    return end_of_day(now() + dt.timedelta(days=days))


@one_transaction
def change_window(session: Session, actor: Actor, project: Project, days: int, contact: str | None = None) -> Project:
    """The project now ends with the day `days` from today, and with it the time its secrets are kept. Raises NotUsable,
    ProjectClosed (a closed project stays closed; one whose last day has passed may be given more time)."""
    if project.state is not ProjectState.OPEN:
        refuse_if_over(project)
    was = project.closes_at
    project.closes_at = _last_day(days)
    if contact is not None:
        project.contact = plain_name(contact)[:200]
    people = select(Person.id).where(Person.project_id == project.id)
    changed_rows(session, update(Credential).where(Credential.expires_at > now(), or_(
        (Credential.owner_kind == Owner.PERSON) & Credential.owner_id.in_(people),
        (Credential.owner_kind == Owner.PROJECT) & (Credential.owner_id == project.id))).values(
            expires_at=project.closes_at).execution_options(synchronize_session="fetch"))
    audit(session, actor, "change.window", project, project_id=project.id, was=day_of(was), closes_at=day_of(project.closes_at))
    return project


@one_transaction
def change_source(session: Session, actor: Actor, project: Project, provider: str | None, server: Server | None, *,
                  allowed_ports: tuple[PortRange, ...] = MAIL_PORTS) -> Project:
    """The old provider; without a server its usual hosts are used. Raises NotUsable, NotGiven, ProjectClosed."""
    refuse_if_over(project)
    key = checked_provider(provider, "provider")
    if key is None and server is None:
        raise NotGiven("provider", "请选择服务商，或填写服务器。", "Choose the provider or enter a server.")
    usual = Server("")
    if server is not None:
        server = _checked(server, "source", allowed_ports)
        _refuse_unexplained(server, "source", project.source_ca_pem, project.source_pinned_sha256)
    new = server or usual
    before = (project.provider, project.source_host, project.source_port, project.source_security, project.source_ca_pem,
              project.source_pinned_sha256)
    if before == (key, new.host, new.port, new.security, new.ca_pem, new.pinned_sha256):
        return project
    moved = before[:3] != (key, new.host, new.port)
    audit(session, actor, "change.source", project, project_id=project.id, was=f"{project.source_host}:{project.source_port}",
          provider=key, **_shown(new))
    project.provider = key
    project.source_host, project.source_port, project.source_security = new.host, new.port, new.security
    project.source_ca_pem, project.source_pinned_sha256 = new.ca_pem, new.pinned_sha256
    if moved:
        _destroy_peoples(session, actor, project, SOURCE_SECRET)
    return project


@one_transaction
def change_destination(session: Session, actor: Actor, project: Project, server: Server, login_template: str = "{address}", *,
                       allowed_ports: tuple[PortRange, ...] = MAIL_PORTS) -> Project:
    """The new server, and how login names are made there. Raises NotUsable, NotGiven, ProjectClosed."""
    refuse_if_over(project)
    server = _checked(server, "destination", allowed_ports)
    _refuse_unexplained(server, "destination", project.destination_ca_pem, project.destination_pinned_sha256)
    template = login_template.strip() or "{address}"
    if set(_TEMPLATE_FIELD.findall(template)) - {"{address}", "{local}"} or not template.isprintable() or len(template) > 200:
        raise NotUsable("destination_login_template", "登录名里只能用 {address} 和 {local}，例如 {address}*migrator。",
                        "A login name may hold {address} and {local} only, for example {address}*migrator.")
    before = (project.destination_host, project.destination_port, project.destination_security, project.destination_ca_pem,
              project.destination_pinned_sha256, project.destination_login_template)
    if before == (server.host, server.port, server.security, server.ca_pem, server.pinned_sha256, template):
        return project
    moved = before[:2] != (server.host, server.port)
    audit(session, actor, "change.destination", project, project_id=project.id,
          was=f"{project.destination_host}:{project.destination_port}", login_template=template, **_shown(server))
    project.destination_host, project.destination_port, project.destination_security = server.host, server.port, server.security
    project.destination_ca_pem, project.destination_pinned_sha256 = server.ca_pem, server.pinned_sha256
    project.destination_login_template = template
    if moved:
        destroy_credentials(session, actor, Owner.PROJECT, project.id, [DESTINATION_SECRET], reason="other server")
        _destroy_peoples(session, actor, project, DESTINATION_SECRET)
    return project


def _checked(server: Server, side: str, allowed_ports: tuple[PortRange, ...]) -> Server:
    if not server.host.strip():
        raise NotGiven(f"{side}_host", "请填服务器地址。", "Enter the server.")
    pin = (server.pinned_sha256 or "").strip().replace(":", "").lower() or None
    if pin is not None and not _PIN.fullmatch(pin):
        raise NotUsable(f"{side}_pinned_sha256", "公钥指纹是 64 位十六进制（SHA-256）。", "The pinned key is 64 hex digits (SHA-256).")
    return Server(checked_host(server.host, f"{side}_host"), checked_port(server.port, f"{side}_port", allowed_ports),
                  checked_security(server.security, f"{side}_security"), checked_ca(server.ca_pem, f"{side}_ca_pem"), pin,
                  server.reason.strip()[:300])


def _refuse_unexplained(server: Server, side: str, ca_pem: str | None, pinned_sha256: str | None) -> None:
    """An exception that was not there before says why it is made. Raises NotGiven."""
    new = (server.ca_pem and server.ca_pem != ca_pem) or (server.pinned_sha256 and server.pinned_sha256 != pinned_sha256)
    if new and not server.reason:
        raise NotGiven(f"{side}_reason", "例外会降低连接的保护，请写下原因（会记入操作记录）。",
                       "An exception weakens the connection's protection: write down why (it goes into the audit).")


def _shown(server: Server) -> dict[str, object]:
    return {"host": server.host, "port": server.port, "security": server.security, "own_ca": server.ca_pem is not None,
            "pinned": server.pinned_sha256, **({"reason": server.reason} if server.ca_pem or server.pinned_sha256 else {})}


def _destroy_peoples(session: Session, actor: Actor, project: Project, field: str) -> None:
    """Secrets that people gave for another server."""
    for person_id in session.scalars(select(Person.id).where(Person.project_id == project.id)).all():
        destroy_credentials(session, actor, Owner.PERSON, person_id, [field], reason="other server")


@one_transaction
def set_destination_secret(session: Session, actor: Actor, project: Project, secret: Secret, sealer: Sealer) -> None:
    """The password of a master user at the new server: people then need none of their own. Raises NotGiven, NotUsable,
    ProjectClosed."""
    refuse_if_over(project)
    typed = as_typed(secret, DESTINATION_SECRET, inner_blanks=False)
    store_secret(session, Owner.PROJECT, project.id, DESTINATION_SECRET, typed, sealer, project.closes_at)
    audit(session, actor, "set.destination_secret", project, project_id=project.id)


@one_transaction
def forget_destination_secret(session: Session, actor: Actor, project: Project) -> None:
    destroy_credentials(session, actor, Owner.PROJECT, project.id, [DESTINATION_SECRET], reason="forgotten")


@one_transaction
def choose_relay(session: Session, actor: Actor, project: Project, relay: Relay | None) -> None:
    """The old server is reached through this relay from the next slice on; None: directly. Raises ProjectClosed."""
    refuse_if_over(project)
    if project.relay is relay:
        return
    was = project.relay.name if project.relay else None
    project.relay = relay
    audit(session, actor, "choose.relay", project, project_id=project.id, was=was, relay=relay.name if relay else None)


@one_transaction
def close_project(session: Session, actor: Actor, project: Project) -> Project:
    """Ends the project for good: no link works, nothing starts, a worker stops at its next safe point, every secret is destroyed.
    Reports stay. Raises WrongState when it is closed already."""
    if not changed_rows(session, update(Project).where(Project.id == project.id, Project.state == ProjectState.OPEN)
                        .values(state=ProjectState.CLOSED)):
        raise WrongState(None, "这个项目已经结束了。", "This project is closed already.")
    people = select(Person.id).where(Person.project_id == project.id)
    theirs = select(Move.id).where(Move.person_id.in_(people))
    stopped = list(session.scalars(theirs.where(Move.state.in_((MoveState.QUEUED, MoveState.WAITING)))))
    changed_rows(session, update(Move).where(Move.id.in_(stopped)).values(
        state=MoveState.STUCK, cause=Cause.WINDOW_CLOSED.value, not_before=None).execution_options(synchronize_session="fetch"))
    changed_rows(session, update(Attempt).where(Attempt.move_id.in_(stopped), Attempt.ended_at.is_(None)).values(
        ended_at=now(), outcome="failed", cause=Cause.WINDOW_CLOSED.value).execution_options(synchronize_session="fetch"))
    changed_rows(session, update(Move).where(Move.id.in_(theirs), Move.state == MoveState.MOVING).values(
        stop_requested=True).execution_options(synchronize_session="fetch"))
    session.refresh(project)
    audit(session, actor, "close.project", project, project_id=project.id, stopped=len(stopped))
    destroy_project_credentials(session, actor, project, reason="closed")
    return project
