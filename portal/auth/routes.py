"""Staff sign in, sign out, look after their account, and take an invitation.

Routes only parse and answer: passwords, throttling and audit are portal/services/staff.py, the session is portal/auth/sessions.py.
Always: a refused sign-in says the same whatever was wrong; GET changes nothing (mail scanners open invitation links).
"""
from __future__ import annotations

from typing import Any

from flask import Blueprint, flash, g, redirect, render_template, request, url_for
from flask.sansio.blueprints import BlueprintSetupState
from flask_login import current_user

from engine.endpoint import Secret
from portal.auth.sessions import begin_session, end_session
from portal.language import LANGUAGES, own_path, remember_language, say, words
from portal.models import Role, Staff
from portal.security.access import actor, guard, may, needs, open_to_anyone, staff
from portal.security.passwords import SHORTEST
from portal.services import staff as staff_service
from portal.services.common import Actor, ServiceError

bp = Blueprint("auth", __name__)
guard(bp)

ROLE_WORDS = {Role.HELPDESK: ("服务台", "Helpdesk"), Role.ADMIN: ("管理员", "Admin"), Role.OPERATOR: ("运维", "Operator")}


def role_words(role: Role) -> str:
    return say(*ROLE_WORDS[role])


@bp.record_once
def name_for_templates(state: BlueprintSetupState) -> None:
    """What every staff template may ask; globals, because macros see nothing else."""
    state.app.jinja_env.globals.update(may=may, Role=Role, role_words=role_words, shortest_password=SHORTEST, signed_in=signed_in)


def signed_in() -> Staff | None:
    """Asked by a template that shows it, never before: an error page must not need the database."""
    return current_user.staff if current_user.is_authenticated else None


@bp.get("/login")
@open_to_anyone("nobody is signed in yet")
def sign_in() -> Any:
    wanted = own_path(request.args.get("next"), "")
    if current_user.is_authenticated:
        return redirect(wanted or url_for("desk.today"), 303)
    return render_template("auth/sign_in.html", email="", next=wanted, ended="ended" in request.args, errors={})


@bp.post("/login")
@open_to_anyone("nobody is signed in yet")
def take_sign_in() -> Any:
    email, wanted = request.form.get("email", "").strip(), own_path(request.form.get("next"), "")
    try:
        member = staff_service.authenticate(g.session, email, Secret(request.form.get("password", "")), request.remote_addr or "")
    except ServiceError as refused:
        page = render_template("auth/sign_in.html", email=email, next=wanted, ended=False, errors=problems(refused))
        return page, 429 if isinstance(refused, staff_service.TooManySignIns) else 422
    begin_session(member)
    return redirect(wanted or url_for("desk.today"), 303)


@bp.post("/logout")
@open_to_anyone("signing out twice, or after the session ended, is not an error")
def sign_out() -> Any:
    """Ends every session of the person, at the server too: a copied cookie is worth nothing afterwards (ASVS 5: 7.4.1)."""
    if current_user.is_authenticated:
        staff_service.end_sessions(g.session, actor(), staff())
    end_session()
    return redirect(url_for("auth.sign_in"), 303)


@bp.get("/account")
@needs(Role.HELPDESK)
def account() -> str:
    return render_template("auth/account.html", errors={})


@bp.post("/account/password")
@needs(Role.HELPDESK)
def change_password() -> Any:
    """The new password ends the person's other sessions; this one is begun anew."""
    current, new = Secret(request.form.get("current", "")), Secret(request.form.get("new", ""))
    try:
        member = staff_service.change_password(g.session, actor(), staff(), current, new)
    except ServiceError as refused:
        text = words(refused.words)
        if isinstance(refused, staff_service.SignInRefused):
            text = say("现在的密码不对。", "The current password is wrong.")
        at_current = isinstance(refused, staff_service.SignInRefused | staff_service.TooManySignIns)
        g.back = url_for("auth.account")
        return render_template("auth/account.html", errors={"current" if at_current else "new": text}), 422
    begin_session(member)
    flash(say("密码已更换，别的设备上的登录都已结束。", "Your password is changed; you are signed out everywhere else."), "ok")
    return redirect(url_for("auth.account"), 303)


@bp.post("/account/language")
@needs(Role.HELPDESK)
def choose_language() -> Any:
    wanted = request.form.get("to", "")
    if wanted not in LANGUAGES:
        g.back = url_for("auth.account")
        return render_template("auth/account.html", errors={"to": say("请选中文或英文。", "Choose Chinese or English.")}), 422
    staff_service.choose_language(g.session, actor(), staff(), wanted)
    answer = redirect(url_for("auth.account"), 303)
    remember_language(answer, wanted)  # type: ignore[arg-type]  # a Flask redirect is a Flask response
    return answer


@bp.get("/invitation/<token>")
@open_to_anyone("the one-time link stands for the password that is about to be set")
def invitation(token: str) -> Any:
    return _invitation(token, {})


@bp.post("/invitation/<token>")
@open_to_anyone("the one-time link stands for the password that is about to be set")
def take_invitation(token: str) -> Any:
    try:
        member = staff_service.take_invitation(g.session, Actor("system", request.remote_addr or ""), token,
                                               Secret(request.form.get("password", "")))
    except ServiceError as refused:
        return _invitation(token, problems(refused), 422)
    begin_session(member)
    flash(say("密码已设好，欢迎。", "Your password is set. Welcome."), "ok")
    return redirect(url_for("desk.today"), 303)


def _invitation(token: str, errors: dict[str, str], status: int = 200) -> Any:
    found = staff_service.find_invitation(g.session, token)
    if found.staff is None:
        return render_template("auth/invitation_gone.html"), 410
    return render_template("auth/invitation.html", member=found.staff, token=token, errors=errors), status


def problems(refused: ServiceError) -> dict[str, str]:
    """A refusal as the form macros want it: {field or "": text}."""
    return {refused.field or "": words(refused.words)}
