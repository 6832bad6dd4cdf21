"""An employee's visit: from pressing "begin" on the personal link until half an hour of silence, half a day, or leaving.

Owns the cookie: signed, apart from the staff's session, holding the link's id and when the visit began. Must not: look at a token
after the visit has begun. Always: bound to one person; a link that is revoked, expired or left ends its visits at the next request; a
page that asks again by itself does not keep a visit alive (reliability: P1).
"""
from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar, cast

from flask import Response, after_this_request, current_app, g, render_template, request, url_for
from itsdangerous import BadSignature, URLSafeSerializer, URLSafeTimedSerializer

from portal.extensions import services
from portal.language import prefer
from portal.models import Link, Move, Person, now
from portal.services.common import Actor

View = TypeVar("View", bound=Callable[..., Any])

ABSOLUTE = dt.timedelta(hours=12)  # however busy, as for staff (ASVS 5: 7.3.2)
_RENEW_AFTER = 30  # seconds


@dataclass(frozen=True)
class Visit:
    """Whose pages these are."""

    link: Link

    @property
    def person(self) -> Person:
        return self.link.person

    @property
    def move(self) -> Move:
        return self.link.person.move

    def owns_page(self) -> bool:
        """Whether the page that this request comes from was made for this person: one browser may hold the pages of several,
        but only one visit."""
        return _person_of_page() == self.person.id

    @property
    def actor(self) -> Actor:
        return Actor.person(self.person, request.remote_addr or "")


def begin_visit(response: Response, link_id: int, begun: float) -> None:
    settings = services().settings
    response.set_cookie(_cookie(), _signer().dumps([link_id, begun]), max_age=settings.session_minutes * 60, secure=settings.secure_cookies,
                        httponly=True, samesite="Lax", path="/")


def end_visit(response: Response) -> None:
    response.delete_cookie(_cookie(), secure=services().settings.secure_cookies, httponly=True, samesite="Lax", path="/")


def current_visit() -> Visit | None:
    """Of this request; None when there is none or it is over."""
    if "visit" not in g:
        g.visit = _load()
    return cast("Visit | None", g.visit)


def forget_visit() -> None:
    """For the end of a visit, and for pages that must not read the database: an error page may be shown because it does not answer."""
    g.visit = None


def for_visitors(view: View) -> View:
    """The view gets the visit as its first argument; without one, people are told to open their link again."""

    @wraps(view)
    def visited(*args: Any, **kwargs: Any) -> Any:
        visit = current_visit()
        if visit is None:
            return render_template("employee/visit_over.html"), 401
        if request.method == "POST" and not visit.owns_page():
            return another_person(visit), 409
        return view(visit, *args, **kwargs)

    return cast(View, visited)


# --- whose page -----------------------------------------------------------------------------------------------------------


def page_owner() -> str:
    """For whom this page is, signed: every form carries it, so that it never acts on somebody else's visit. "" without a visit."""
    visit = g.get("visit")
    return str(_page_signer().dumps(visit.person.id)) if visit is not None else ""


def _person_of_page() -> int | None:
    try:
        return cast(int, _page_signer().loads(request.values.get("whose", "")))
    except BadSignature:
        return None


def another_person(visit: Visit, template: str = "employee/other_person.html") -> str:
    """The page that says for whom the one before was made, and whose visit this is."""
    owner = _person_of_page()
    other = g.session.get(Person, owner) if owner not in (None, visit.person.id) else None
    g.back = url_for("employee.another", whose=request.values.get("whose")) if other else url_for("employee.index")
    return render_template(template, other=masked(other.source_address) if other else "", person=visit.person.source_address)


def masked(address: str) -> str:
    """Enough to know one's own address by, and no more: zh***@old.example."""
    local, _, domain = address.rpartition("@")
    return f"{local[:2 if len(local) > 3 else 1]}***@{domain}"


def _page_signer() -> URLSafeSerializer:
    return URLSafeSerializer(current_app.config["SECRET_KEY"], salt="banjia employee page")


# --- the cookie -----------------------------------------------------------------------------------------------------------


def _load() -> Visit | None:
    cookie = request.cookies.get(_cookie())
    if not cookie:
        return None
    try:
        held, signed_at = _signer().loads(cookie, max_age=services().settings.session_minutes * 60, return_timestamp=True)
        link_id, begun = int(held[0]), float(held[1])
    except (BadSignature, TypeError, ValueError, LookupError):
        return None
    link = g.session.get(Link, link_id)
    if link is None or link.revoked_at is not None or link.expires_at <= now() or now().timestamp() - begun > ABSOLUTE.total_seconds():
        return None
    if link.left_at is not None and begun <= link.left_at.timestamp():
        return None
    prefer(link.person.language)
    if "polling" not in g and (now() - signed_at).total_seconds() > _RENEW_AFTER:
        @after_this_request
        def renew(response: Response) -> Response:  # after the session may have broken: touches no row
            if g.visit is not None:
                begin_visit(response, link_id, begun)
            return response
    return Visit(link)


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(current_app.config["SECRET_KEY"], salt="banjia employee visit")


def _cookie() -> str:
    return "__Host-banjia-visit" if services().settings.secure_cookies else "banjia-visit"
