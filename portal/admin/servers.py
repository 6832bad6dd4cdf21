"""A project's old and new server: entered, tested with one account, reached directly or through a relay.

Always: an exception to TLS verification is a choice of its own, with a reason; a secret that was typed is never shown again, not even
in the form that is sent back with an error.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import abort, flash, g, make_response, redirect, request, url_for
from sqlalchemy import select
from sqlalchemy.orm import Session

from engine.causes import Side
from engine.endpoint import Secret
from engine.providers.catalogue import provider, providers
from portal.admin.blueprint import answer, bp, find_project, whole_number
from portal.admin.readiness import has_own_secret, latest_test
from portal.auth.routes import problems
from portal.desk.filters import number
from portal.desk.words import explained
from portal.employee.findings import check_steps, warning_text
from portal.extensions import services
from portal.language import language, say
from portal.models import Check, CheckState, Project, Relay, Role
from portal.security.access import actor, needs
from portal.services import checks
from portal.services import projects as project_service
from portal.services.common import ServiceError, is_over
from portal.services.projects import Server


@bp.get("/projects/<int:project_id>/source")
@needs(Role.ADMIN)
def source(project_id: int) -> Any:
    return _page(find_project(project_id), Side.SOURCE)


@bp.get("/projects/<int:project_id>/destination")
@needs(Role.ADMIN)
def destination(project_id: int) -> Any:
    return _page(find_project(project_id), Side.DESTINATION)


@bp.post("/projects/<int:project_id>/source")
@needs(Role.ADMIN)
def save_source(project_id: int) -> Any:
    project = find_project(project_id)
    typed = request.form
    relay_id = typed.get("relay", type=number)
    relay = g.session.get(Relay, relay_id) if relay_id else None
    server = _server(typed, "source")
    has_exception = bool(server.ca_pem or server.pinned_sha256)
    try:
        project_service.change_source(g.session, actor(), project, typed.get("provider") or None,
                                      server if server.host or has_exception else None, allowed_ports=services().settings.allowed_ports)
        if project.relay is not relay:
            project_service.choose_relay(g.session, actor(), project, relay)
    except ServiceError as refused:
        return _page(project, Side.SOURCE, problems(refused), typed)
    return _saved(project, Side.SOURCE)


@bp.post("/projects/<int:project_id>/destination")
@needs(Role.ADMIN)
def save_destination(project_id: int) -> Any:
    project = find_project(project_id)
    try:
        project_service.change_destination(g.session, actor(), project, _server(request.form, "destination"),
                                           request.form.get("destination_login_template", ""),
                                           allowed_ports=services().settings.allowed_ports)
    except ServiceError as refused:
        return _page(project, Side.DESTINATION, problems(refused), request.form)
    return _saved(project, Side.DESTINATION)


@bp.post("/projects/<int:project_id>/destination/secret")
@needs(Role.ADMIN)
def save_destination_secret(project_id: int) -> Any:
    """The master user's password, so that nobody needs one of their own at the new server."""
    project = find_project(project_id)
    try:
        if request.form.get("do") == "forget":
            project_service.forget_destination_secret(g.session, actor(), project)
            flash(say("统一密码已销毁。", "The master password is destroyed."), "ok")
        else:
            project_service.set_destination_secret(g.session, actor(), project, Secret(request.form.get("destination_secret", "")),
                                                   services().sealer)
            flash(say("统一密码已加密保存。", "The master password is sealed and stored."), "ok")
    except ServiceError as refused:
        return _page(project, Side.DESTINATION, problems(refused))
    return redirect(url_for("admin.destination", project_id=project.id), 303)


@bp.post("/projects/<int:project_id>/<any(source, destination):side>/test")
@needs(Role.ADMIN)
def test_server(project_id: int, side: str) -> Any:
    """【测试】: the employee's five steps with one account."""
    project = find_project(project_id)
    typed = Secret(request.form.get("secret", ""))
    try:
        test = checks.start_project_test(g.session, actor(), project, Side(side), request.form.get("login", ""), typed or None,
                                         services().sealer)
    except ServiceError as refused:
        return _page(project, Side(side), _at_test(refused), test_login=request.form.get("login", ""))
    return redirect(url_for(f"admin.{side}", project_id=project.id, test=test.id, _anchor="test"), 303)


@bp.get("/projects/<int:project_id>/tests/<int:check_id>")
@needs(Role.ADMIN, keeps_awake=False)
def test_now(project_id: int, check_id: int) -> Any:
    """The part of the page that changes while a test runs."""
    test = _find_test(find_project(project_id), check_id)
    if test is None:
        abort(404)
    page = make_response(answer("admin/_test.html", **_test_values(test)))
    states = "".join(str(step.get("state", ""))[:1] for step in test.steps)
    page.set_etag(f"{test.id}-{test.state.value}-{states}-{language()}")
    return page.make_conditional(request)


def _page(project: Project, side: Side, errors: dict[str, str] | None = None, typed: Mapping[str, Any] | None = None,
          test_login: str = "") -> Any:
    if errors:
        g.back = url_for(f"admin.{side.value}", project_id=project.id)
    test_id = request.args.get("test", type=number)
    test = _find_test(project, test_id) if test_id else latest_test(g.session, project, side)
    return answer(f"admin/{side.value}.html", 422 if errors else 200, project=project, typed=typed or _stored(project, side),
                  errors=errors or {}, over=is_over(project), test_login=test_login or (test.login if test else ""),
                  relays=g.session.scalars(select(Relay).order_by(Relay.name)).all(), providers=sorted(providers().items()),
                  own_secret=has_own_secret(g.session, project), known=provider(project.provider),
                  **(_test_values(test) if test else {"test": None}))


def _stored(project: Project, side: Side) -> dict[str, Any]:
    fields = ("host", "port", "security", "ca_pem", "pinned_sha256")
    stored = {f"{side.value}_{name}": getattr(project, f"{side.value}_{name}") for name in fields}
    return {**stored, "provider": project.provider, "relay": project.relay_id,
            "destination_login_template": project.destination_login_template}


def _server(typed: Mapping[str, str], side: str) -> Server:
    return Server(typed.get(f"{side}_host", "").strip(), whole_number(typed.get(f"{side}_port"), 0),
                  typed.get(f"{side}_security", ""), typed.get(f"{side}_ca_pem", "").strip() or None,
                  typed.get(f"{side}_pinned_sha256", "").strip() or None, typed.get(f"{side}_reason", ""))


def _saved(project: Project, side: Side) -> Any:
    flash(say("已保存。现在用一个账号测试一下。", "Saved. Now test it with one account."), "ok")
    return redirect(url_for(f"admin.{side.value}", project_id=project.id, _anchor="test"), 303)


def _at_test(refused: ServiceError) -> dict[str, str]:
    """The test form has its own field for the secret, whatever the service calls it."""
    field = {"source_secret": "secret", "destination_secret": "secret"}.get(refused.field or "", refused.field or "")
    return {field: next(iter(problems(refused).values()))}


def _find_test(project: Project, check_id: int) -> Check | None:
    """A test of this project's, or None: nobody reads another's by its number."""
    session: Session = g.session
    return session.scalar(select(Check).where(Check.id == check_id, Check.project_id == project.id))


def _test_values(test: Check) -> dict[str, Any]:
    project = g.session.get_one(Project, test.project_id)
    key, over = project.provider, test.state is CheckState.DONE
    ok = over and test.cause is None
    found = test.result.get(test.side) or {}
    return {"test": test, "test_over": over, "test_ok": ok, "steps": check_steps(test)[Side(test.side)], "found": found if ok else None,
            "warnings": [text for row in found.get("warnings", []) if (text := warning_text(row, provider(key)))],
            "failure": explained(test.cause, key) if over else None}
