"""Personal links: issued, found, begun, revoked.

Always: only the SHA-256 of a token is stored, so a token is known once, to whoever asked for the link; finding a link changes
nothing (mail scanners open it); a link never outlives its project.
"""
from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from config import Settings
from portal.models import Link, Person, Project, now
from portal.security.links import looks_like_token, new_token, token_sha256
from portal.services.common import Actor, WrongState, audit, changed_rows, is_over, one_transaction, refuse_if_over
from portal.services.days import day_of, end_of_day


class LinkState(StrEnum):
    OK = "ok"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    REVOKED = "revoked"
    CLOSED = "closed"  # the project is over


@dataclass(frozen=True)
class LinkFound:
    """`person` and `link` only when `why` is ok. `contact` is whom to ask, also when the link has run out."""

    why: LinkState
    person: Person | None = None
    link: Link | None = None
    contact: str = ""


class LinkNotUsable(WrongState):
    """The link ran out, was revoked, or its project is over."""

    def __init__(self, why: LinkState) -> None:
        words = {
            LinkState.EXPIRED: ("这个链接已经过期，请让负责搬家的同事再发一个。",
                                "This link has expired. Ask whoever runs the move for a new one."),
            LinkState.REVOKED: ("这个链接已经停用，请用最新收到的那一个。", "This link was withdrawn. Use the newest one you received."),
            LinkState.CLOSED: ("这次搬家已经结束。", "This move is over."),
        }
        super().__init__(None, *words.get(why, ("没有这个链接，请核对是否复制完整。",
              "There is no such link; check that all of it was copied.")))
        self.why = why


@one_transaction
def issue_link(session: Session, actor: Actor, person: Person, settings: Settings) -> str:
    """A new link for the person; older ones stay good until they expire or are revoked. Returns the token. Raises ProjectClosed."""
    refuse_if_over(person.project)
    token = new_token()
    expires_at = link_end(person.project, settings)
    session.add(Link(person_id=person.id, token_sha256=token_sha256(token), expires_at=expires_at))
    audit(session, actor, "issue.link", person, project_id=person.project_id, expires_at=day_of(expires_at))
    return token


def link_end(project: Project, settings: Settings) -> dt.datetime:
    """When a link issued now expires: at the end of a day."""
    return min(end_of_day(now() + dt.timedelta(days=settings.link_days)), project.closes_at)


def link_url(settings: Settings, token: str) -> str:
    """Made from BASE_URL, never from what a request says its host is."""
    return f"{settings.base_url}/m/{token}"


def find_link(session: Session, token: str) -> LinkFound:
    """Changes nothing."""
    link = None
    if looks_like_token(token):
        link = session.scalar(select(Link).where(Link.token_sha256 == token_sha256(token)))
    if link is None:
        return LinkFound(LinkState.UNKNOWN)
    why, contact = _state(link), link.person.project.contact
    return LinkFound(why, link.person, link, contact) if why is LinkState.OK else LinkFound(why, contact=contact)


def _state(link: Link) -> LinkState:
    if link.revoked_at is not None:
        return LinkState.REVOKED
    if is_over(link.person.project):
        return LinkState.CLOSED
    return LinkState.EXPIRED if link.expires_at <= now() else LinkState.OK


@one_transaction
def begin(session: Session, actor: Actor, link: Link) -> Person:
    """The person pressed "begin". Every exchange of a link for a session leaves an event. Raises LinkNotUsable."""
    session.refresh(link)
    why = _state(link)
    if why is not LinkState.OK:
        raise LinkNotUsable(why)
    changed_rows(session, update(Link).where(Link.id == link.id, Link.begun_at.is_(None)).values(begun_at=now()))
    audit(session, actor, "begin.link", link.person, project_id=link.person.project_id, link=link.id)
    return link.person


@one_transaction
def leave(session: Session, actor: Actor, link: Link) -> None:
    """Ends every visit that was begun with the link so far; the link itself stays good."""
    link.left_at = now()
    audit(session, actor, "leave.visit", link.person, project_id=link.person.project_id, link=link.id)


@one_transaction
def revoke_links(session: Session, actor: Actor, person: Person) -> int:
    """Ends all links of the person that are still good. Returns how many there were."""
    ended = changed_rows(session, update(Link).where(Link.person_id == person.id, Link.revoked_at.is_(None), Link.expires_at > now())
                         .values(revoked_at=now()))
    if ended:
        audit(session, actor, "revoke.links", person, project_id=person.project_id, count=ended)
    return ended
