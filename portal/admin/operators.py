"""What operators keep: relays and staff; and the audit, which admins read too.

Routes only parse and answer; the acts are portal/services/relays.py and staff.py. A token or an invitation is shown once or never.
"""
from __future__ import annotations

import datetime as dt
from typing import Any

from flask import abort, flash, g, redirect, request, url_for
from sqlalchemy import select
from sqlalchemy.orm import Session

from engine.endpoint import Secret
from portal.admin.audit_log import AuditFilter, actions, read_audit, subjects
from portal.admin.blueprint import answer, bp, whole_number
from portal.auth.routes import problems
from portal.desk.filters import number
from portal.desk.words import ACTS
from portal.extensions import services
from portal.language import say
from portal.models import Project, Relay, Role, Staff, StaffInvitation
from portal.security.access import actor, needs, staff
from portal.services import relays as relay_service
from portal.services import staff as staff_service
from portal.services.common import ServiceError

RELAY_PORT = 8443


@bp.get("/relays")
@needs(Role.OPERATOR)
def relays() -> Any:
    return _relays()


@bp.post("/relays")
@needs(Role.OPERATOR)
def add_relay() -> Any:
    typed = request.form
    try:
        relay_service.create_relay(g.session, actor(), typed.get("name", ""), typed.get("host", ""), whole_number(typed.get("port"), 0),
                                   Secret(typed.get("token", "")), services().sealer, typed.get("ca_pem", "").strip() or None)
    except ServiceError as refused:
        return _relays(problems(refused), 422)
    flash(say("中继已添加。在项目的「旧邮箱」里选它。", "The relay is added. Choose it under a project’s old server."), "ok")
    return redirect(url_for("admin.relays"), 303)


@bp.post("/relays/<int:relay_id>/remove")
@needs(Role.OPERATOR)
def remove_relay(relay_id: int) -> Any:
    relay = g.session.get(Relay, relay_id)
    if relay is None:
        abort(404)
    try:
        relay_service.remove_relay(g.session, actor(), relay)
    except ServiceError as refused:
        return _relays(problems(refused), 422)
    flash(say("中继已移除，令牌已销毁。", "The relay is removed and its token destroyed."), "ok")
    return redirect(url_for("admin.relays"), 303)


def _relays(errors: dict[str, str] | None = None, status: int = 200) -> Any:
    g.back = url_for("admin.relays")
    used: dict[int, list[str]] = {}
    for relay_id, name in g.session.execute(select(Project.relay_id, Project.name).where(Project.relay_id.is_not(None))):
        used.setdefault(relay_id, []).append(name)
    return answer("admin/relays.html", status, relays=g.session.scalars(select(Relay).order_by(Relay.name)).all(), used=used,
                  errors=errors or {}, typed=request.form if errors else {"port": RELAY_PORT})


@bp.get("/staff")
@needs(Role.OPERATOR)
def staff_list() -> Any:
    return _staff()


@bp.post("/staff")
@needs(Role.OPERATOR)
def invite_staff() -> Any:
    """The answer is the only page that ever shows the invitation's link."""
    typed = request.form
    if typed.get("role") not in set(Role):
        return _staff({"role": say("请选权限。", "Choose a role.")}, 422)
    try:
        member = staff_service.create_staff(g.session, actor(), typed.get("email", ""), Role(typed["role"]), typed.get("name", ""),
                                            typed.get("language", "zh"))
        token = staff_service.invite(g.session, actor(), member, services().settings)
    except ServiceError as refused:
        return _staff(problems(refused), 422)
    return _show_invitation(member, token)


@bp.post("/staff/<int:staff_id>/invite")
@needs(Role.OPERATOR)
def invite_again(staff_id: int) -> Any:
    member = _find_staff(staff_id)
    try:
        token = staff_service.invite(g.session, actor(), member, services().settings)
    except ServiceError as refused:
        return _staff(problems(refused), 422)
    return _show_invitation(member, token)


@bp.post("/staff/<int:staff_id>/active")
@needs(Role.OPERATOR)
def set_staff_active(staff_id: int) -> Any:
    member, active = _find_staff(staff_id), request.form.get("to") == "on"
    if member.id == staff().id:
        return _staff({"": say("不能停用自己。请另一位运维来做。", "You cannot deactivate yourself; ask another operator.")}, 422)
    try:
        staff_service.set_active(g.session, actor(), member, active)
    except ServiceError as refused:
        return _staff(problems(refused), 422)
    flash(say("已启用。", "Activated.") if active else say("已停用，登录全部结束。", "Deactivated; every session has ended."), "ok")
    return redirect(url_for("admin.staff_list"), 303)


def _staff(errors: dict[str, str] | None = None, status: int = 200) -> Any:
    g.back = url_for("admin.staff_list")
    members = g.session.scalars(select(Staff).order_by(Staff.active.desc(), Staff.email)).all()
    return answer("admin/staff.html", status, members=members, errors=errors or {},
                  typed=request.form if errors else {"role": Role.HELPDESK.value, "language": "zh"})


def _find_staff(staff_id: int) -> Staff:
    session: Session = g.session
    member = session.get(Staff, staff_id)
    if member is None:
        abort(404)
    return member


def _show_invitation(member: Staff, token: str) -> Any:
    g.back = url_for("admin.staff_list")
    expires_at = g.session.scalar(select(StaffInvitation.expires_at).where(StaffInvitation.staff_id == member.id)
                                  .order_by(StaffInvitation.id.desc()).limit(1))
    return answer("admin/invitation_made.html", member=member, expires_at=expires_at,
                  link=f"{services().settings.base_url}{url_for('auth.invitation', token=token)}")


@bp.get("/audit")
@needs(Role.ADMIN)
def audit() -> Any:
    args = request.args
    wanted = AuditFilter(args.get("actor", "").strip()[:100], args.get("action", ""), args.get("project", type=number),
                         args.get("move", type=number), _day(args.get("from")), _day(args.get("to")))
    page = read_audit(g.session, wanted, args.get("page", 1, type=number))
    kept = {key: value for key, value in args.items() if value and key != "page"}
    return answer("admin/audit.html", page=page, wanted=wanted, names=subjects(g.session, page.events),
                  actions=sorted({*actions(g.session)}, key=lambda action: (action not in ACTS, action)),
                  projects=g.session.scalars(select(Project).order_by(Project.name)).all(),
                  url=lambda page_number: url_for("admin.audit", **{**kept, "page": page_number}))


def _day(text: str | None) -> dt.date | None:
    try:
        day = dt.date.fromisoformat(text or "")
        return day if 1970 <= day.year < 9000 else None
    except ValueError:
        return None
