"""A project's people: the sheet looked at, then taken; their links handed out.

The uploaded file is parsed in memory and kept nowhere: not on disk, not in the session, not in the page. So taking it after a look
means choosing it again; its SHA-256 in the form shows whether it is still the file that was looked at.
"""
from __future__ import annotations

from typing import Any

from flask import Response, flash, g, redirect, request, url_for
from sqlalchemy import func, select

from portal.admin.blueprint import answer, bp, find_project
from portal.admin.readiness import people_with_link, people_without_link
from portal.auth.routes import problems
from portal.desk.overview import split_by_project
from portal.extensions import services
from portal.language import say
from portal.models import Person, Project, Role
from portal.security.access import actor, needs
from portal.services import imports, sheets
from portal.services.common import ServiceError, is_over

SHOWN_ROWS = 50
SHOWN_PROBLEMS = 200


@bp.get("/projects/<int:project_id>/people")
@needs(Role.ADMIN)
def people(project_id: int) -> Any:
    return _page(find_project(project_id))


@bp.get("/projects/<int:project_id>/people/template.csv")
@needs(Role.ADMIN)
def people_template(project_id: int) -> Response:
    find_project(project_id)
    return _file(sheets.template(), "banjia-people.csv")


@bp.post("/projects/<int:project_id>/people")
@needs(Role.ADMIN)
def upload_people(project_id: int) -> Any:
    """`do` is look or take. Taking a file other than the one that was looked at only shows the new one."""
    project = find_project(project_id)
    file = request.files.get("sheet")
    start = request.form.get("start") == "1"
    if file is None or not file.filename:
        return _page(project, {"sheet": say("请选择文件。", "Choose a file.")}, start=start)
    try:
        sheet = imports.read_sheet(file.stream.read(), file.filename)
    except ServiceError as refused:
        return _page(project, {"sheet": problems(refused)["sheet"]}, start=start)
    if request.form.get("do") != "take" or request.form.get("looked_at") != sheet.sha256:
        return _page(project, sheet=sheet, filename=file.filename, start=start,
                     other_file=request.form.get("do") == "take" and bool(request.form.get("looked_at")))
    try:
        result = imports.commit_people(g.session, actor(), project, sheet, services().sealer, start=start)
    except ServiceError as refused:
        return _page(project, problems(refused), start=start)
    g.back = url_for("admin.people", project_id=project.id)
    return answer("admin/people_taken.html", project=project, result=result, shown=SHOWN_PROBLEMS)


@bp.post("/projects/<int:project_id>/links")
@needs(Role.ADMIN)
def issue_links(project_id: int) -> Any:
    """Answers with the file: the links stand nowhere else, so it can be had once."""
    project = find_project(project_id)
    missing = people_without_link(g.session, project)
    if not missing:
        flash(say("每个人都有能用的链接，没有要发的。", "Everybody has a link that works; none to issue."), "ok")
        return redirect(url_for("admin.people", project_id=project.id), 303)
    try:
        content = imports.export_links(g.session, actor(), project, services().settings, missing)
    except ServiceError as refused:
        return _page(project, problems(refused))
    return _file(content, f"banjia-links-{project.id}.csv")


def _page(project: Project, errors: dict[str, str] | None = None, *, sheet: imports.Sheet | None = None, filename: str = "",
          start: bool = False, other_file: bool = False) -> Any:
    g.back = url_for("admin.people", project_id=project.id)
    total = g.session.scalar(select(func.count()).select_from(Person).where(Person.project_id == project.id)) or 0
    split = split_by_project(g.session).get(project.id, {})
    return answer("admin/people.html", 422 if errors else 200, project=project, errors=errors or {}, sheet=sheet, filename=filename,
                  start=start, other_file=other_file, total=total, by_state=split, with_link=people_with_link(g.session, project),
                  without_link=len(people_without_link(g.session, project)), over=is_over(project), columns=sheets.Column,
                  column_name=sheets.column_name, shown_rows=SHOWN_ROWS, shown_problems=SHOWN_PROBLEMS)


def _file(content: bytes, name: str) -> Response:
    return Response(content, mimetype="text/csv", headers={
        "Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"})
