"""Projects: the list, a new one, its task list, its window, its end. The other pages of the blueprint register themselves below.

Routes only parse and answer; the acts are portal/services/projects.py.
"""
from __future__ import annotations

from typing import Any

from flask import flash, g, redirect, request, url_for
from sqlalchemy import select

from portal.admin.blueprint import answer, bp, find_project, whole_number
from portal.admin.readiness import readiness
from portal.auth.routes import problems
from portal.desk.overview import split_by_project
from portal.language import say
from portal.models import Project, ProjectState, Role, now
from portal.security.access import actor, needs
from portal.services import projects as project_service
from portal.services.common import ServiceError, is_over


@bp.get("/projects")
@needs(Role.ADMIN)
def projects() -> Any:
    rows = g.session.scalars(select(Project).order_by(Project.state == ProjectState.CLOSED, Project.closes_at)).all()
    return answer("admin/projects.html", projects=rows, splits=split_by_project(g.session), is_over=is_over)


@bp.get("/projects/new")
@needs(Role.ADMIN)
def new_project() -> Any:
    return answer("admin/new_project.html", typed={"days": project_service.USUAL_DAYS}, errors={}, longest=project_service.LONGEST_DAYS)


@bp.post("/projects/new")
@needs(Role.ADMIN)
def create_project() -> Any:
    try:
        made = project_service.create_project(g.session, actor(), request.form.get("name", ""),
                                              days=whole_number(request.form.get("days"), 0), contact=request.form.get("contact", ""))
    except ServiceError as refused:
        return answer("admin/new_project.html", 422, typed=request.form, errors=problems(refused), longest=project_service.LONGEST_DAYS)
    return redirect(url_for("admin.project", project_id=made.id), 303)


@bp.get("/projects/<int:project_id>")
@needs(Role.ADMIN)
def project(project_id: int) -> Any:
    return _project_page(find_project(project_id))


@bp.post("/projects/<int:project_id>/window")
@needs(Role.ADMIN)
def change_window(project_id: int) -> Any:
    found = find_project(project_id)
    try:
        project_service.change_window(g.session, actor(), found, whole_number(request.form.get("days"), 0),
                                      request.form.get("contact", ""))
    except ServiceError as refused:
        return _project_page(found, problems(refused), 422)
    flash(say("已保存。", "Saved."), "ok")
    return redirect(url_for("admin.project", project_id=found.id), 303)


@bp.post("/projects/<int:project_id>/close")
@needs(Role.ADMIN)
def close_project(project_id: int) -> Any:
    """Typed name: what cannot be undone is not done by a slip."""
    found = find_project(project_id)
    if request.form.get("typed_name", "").strip() != found.name:
        text = say("和项目名不一样，没有结束。请一字不差地输入「{name}」。",
                   "That is not its name, so it was not closed. Type exactly: {name}", name=found.name)
        return _project_page(found, {"typed_name": text}, 422)
    try:
        project_service.close_project(g.session, actor(), found)
    except ServiceError as refused:
        return _project_page(found, problems(refused), 422)
    flash(say("项目已结束，保存的密码全部销毁。", "The project is closed; every stored password is destroyed."), "ok")
    return redirect(url_for("admin.project", project_id=found.id), 303)


def _project_page(found: Project, errors: dict[str, str] | None = None, status: int = 200) -> Any:
    g.back = url_for("admin.project", project_id=found.id)
    days_left = max(0, (found.closes_at - now()).days)
    return answer("admin/project.html", status, project=found, tasks=readiness(g.session, found), over=is_over(found),
                  errors=errors or {}, typed=request.form if errors else {"days": days_left or 1, "contact": found.contact},
                  longest=project_service.LONGEST_DAYS)


from portal.admin import operators, people, servers  # noqa: E402, F401  (they register their views at the blueprint)
