"""The blueprint of projects, relays, staff and audit; and what its views share.

Must not: hold a view. Always: a project that does not exist is a 404 with a way back; a closed one can be read, not changed (the
services refuse).
"""
from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, g, render_template
from sqlalchemy.orm import Session
from werkzeug.exceptions import NotFound

from portal.models import Project
from portal.security.access import guard

bp = Blueprint("admin", __name__)
guard(bp)


@bp.errorhandler(NotFound)
def gone(_error: NotFound) -> tuple[str, int]:
    return render_template("admin/gone.html"), 404


def find_project(project_id: int) -> Project:
    session: Session = g.session
    project = session.get(Project, project_id)
    if project is None:
        abort(404)
    return project


def whole_number(text: str | None, otherwise: int) -> int:
    """A number as typed (full-width digits too); what is none becomes `otherwise`, which the service then refuses or takes."""
    text = (text or "").strip()
    return int(text) if text.isdecimal() and len(text) < 10 else otherwise


def answer(template: str, status: int = 200, **values: Any) -> tuple[str, int]:
    return render_template(template, **values), status
