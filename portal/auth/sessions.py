"""The session of a staff member: begun at sign-in, ended by idling, by age, by sign-out or from another device.

Owns: what the signed cookie holds for staff (id, epoch, when begun, when last used) and when that stops counting.
Must not: check passwords (portal/services/staff.py), or share anything with an employee's session: signing in clears the cookie.
Always: the person, their role and `active` are read from the database at every request; raising `session_epoch` ends every
session of that person at once (ASVS 5: 7.2.4, 7.3, 7.4).
"""
from __future__ import annotations

import datetime as dt

from flask import Flask, current_app, g, request, session
from flask_login import LoginManager, UserMixin, login_user, logout_user

from portal.models import Staff, now
from portal.security.access import rule_of

ABSOLUTE = dt.timedelta(hours=12)  # however busy, once a working day everybody signs in again (ASVS 5: 7.3.2)
_BEGUN, _SEEN = "staff_begun", "staff_seen"

login_manager = LoginManager()
login_manager.session_protection = None  # it binds to the address, and phones change theirs; our limits stand below


class SignedIn(UserMixin):  # type: ignore[misc]  # Flask-Login has no types
    """A staff row as Flask-Login wants it; the id carries the epoch, so an old cookie stops matching."""

    def __init__(self, staff: Staff) -> None:
        self.staff = staff

    def get_id(self) -> str:
        return f"{self.staff.id}:{self.staff.session_epoch}"


def init_sessions(app: Flask) -> None:
    login_manager.init_app(app)


def begin_session(staff: Staff) -> None:
    """Signs `staff` in on a fresh session: nothing of the one before it survives (session fixation, CWE-384)."""
    session.clear()
    session.permanent = True
    session[_BEGUN] = session[_SEEN] = int(now().timestamp())
    login_user(SignedIn(staff))


def end_session() -> None:
    logout_user()
    session.clear()


@login_manager.user_loader  # type: ignore[untyped-decorator]  # Flask-Login has no types
def _load(user_id: str) -> SignedIn | None:
    number, _, epoch = user_id.partition(":")
    if "session" not in g or not number.isdigit() or not epoch.isdigit() or not _still_good():
        return None  # also where a request was refused before it got a session of the database
    staff = g.session.get(Staff, int(number))
    if staff is None or not staff.active or staff.session_epoch != int(epoch):
        return None
    return SignedIn(staff)


def _still_good() -> bool:
    """Whether the session is young and busy enough; a page that a person asked for counts as being busy."""
    at = int(now().timestamp())
    begun, seen = session.get(_BEGUN), session.get(_SEEN)
    idle = current_app.extensions["banjia"].settings.staff_session_minutes * 60
    if not isinstance(begun, int) or not isinstance(seen, int) or at - begun > ABSOLUTE.total_seconds() or at - seen > idle:
        return False
    rule = rule_of(current_app.view_functions.get(request.endpoint or ""))
    if rule is not None and rule.keeps_awake and at - seen >= 30:
        session[_SEEN] = at
    return True
