"""Who may open which staff page: rules as decorators, read where the view is read.

Owns: the rules (`open_to_anyone`, `needs`), who is asking (`staff`, `actor`), and what happens to somebody who may not.
Must not: decide what a page shows, or look at anything but the role.
Always: a view of a guarded blueprint without a rule is answered to nobody (403), so that forgetting the rule cannot open a page;
a signed-in person who is refused leaves an audit event; the role is read from the database at every request (portal/auth/sessions.py).
A test walks the whole URL map with every role (tests/unit/portal/test_staff_access.py).
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar, cast

from flask import Blueprint, abort, current_app, g, redirect, render_template, request, url_for
from flask_login import current_user
from werkzeug.exceptions import Forbidden

from portal.models import Role, Staff
from portal.services.common import Actor, audit, transaction

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True)
class AccessRule:
    """`role` None: also without signing in, because of `reason`. `keeps_awake` False: a page that asks again by itself, which
    must not keep a forgotten session alive."""

    role: Role | None
    reason: str = ""
    keeps_awake: bool = True


def rule_of(view: Callable[..., Any] | None) -> AccessRule | None:
    return cast("AccessRule | None", getattr(view, "access_rule", None))


def open_to_anyone(reason: str) -> Callable[[View], View]:
    """The view answers without signing in. The reason is for whoever reviews the view."""

    def mark(view: View) -> View:
        view.access_rule = AccessRule(None, reason)  # type: ignore[attr-defined]
        return view

    return mark


def needs(role: Role, *, keeps_awake: bool = True) -> Callable[[View], View]:
    """The view answers staff whose role covers `role` (helpdesk < admin < operator)."""

    def mark(view: View) -> View:
        @wraps(view)
        def checked(*args: Any, **kwargs: Any) -> Any:
            if not current_user.is_authenticated:
                return _to_sign_in() if keeps_awake else abort(401)
            if not staff().role.covers(role):
                _refuse(role)
            return view(*args, **kwargs)

        checked.access_rule = AccessRule(role, keeps_awake=keeps_awake)  # type: ignore[attr-defined]
        return cast(View, checked)

    return mark


def guard(blueprint: Blueprint) -> None:
    """Every view of `blueprint` must carry a rule; who is refused is told which role it takes and where to go on."""

    @blueprint.before_request
    def must_have_a_rule() -> None:
        if rule_of(current_app.view_functions.get(request.endpoint or "")) is None:
            abort(403)

    @blueprint.errorhandler(Forbidden)
    def forbidden(_error: Forbidden) -> tuple[str, int]:
        rule = rule_of(current_app.view_functions.get(request.endpoint or ""))
        return render_template("desk/forbidden.html", needed=rule.role if rule else None), 403


def staff() -> Staff:
    """Who is signed in. Only for views that carry `needs`."""
    return cast(Staff, current_user.staff)


def actor() -> Actor:
    """The same person as the audit names them."""
    return Actor.staff(staff(), request.remote_addr or "")


def may(role: Role) -> bool:
    """For templates: whether the person asking has at least this role."""
    return bool(current_user.is_authenticated) and staff().role.covers(role)


def _to_sign_in() -> Any:
    if request.method not in ("GET", "HEAD"):
        return redirect(url_for("auth.sign_in", ended="1"), 303)
    wanted = request.full_path.rstrip("?")
    return redirect(url_for("auth.sign_in", next=wanted), 303)


def _refuse(role: Role) -> None:
    with transaction(g.session):
        audit(g.session, actor(), "refuse.page", page=request.endpoint, method=request.method, has=staff().role.value, needs=role.value)
    abort(403)
