"""The blueprint of projects, relays, staff and audit; and what its views share.

Must not: hold a view. Always: a project that does not exist is a 404 with a way back; a closed one can be read, not changed (the
services refuse).
"""
from __future__ import annotations

import io
from typing import IO, Any

from flask import Blueprint, Request, abort, g, render_template
from flask.sansio.blueprints import BlueprintSetupState
from sqlalchemy.orm import Session
from werkzeug.exceptions import NotFound

from portal.models import Project
from portal.security.access import guard

bp = Blueprint("admin", __name__)
guard(bp)


class InMemoryRequest(Request):
    """Uploads stay in memory: a sheet holds passwords, and the usual spool file would put them on the disk (reliability, P12).
    MAX_CONTENT_LENGTH bounds them."""

    def _get_file_stream(self, total_content_length: int | None, content_type: str | None, filename: str | None = None,
                         content_length: int | None = None) -> IO[bytes]:
        return io.BytesIO()


@bp.record_once
def keep_uploads_in_memory(state: BlueprintSetupState) -> None:
    state.app.request_class = InMemoryRequest  # type: ignore[attr-defined]  # a Flask app has one


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
