"""The front page, the language switch, robots.txt, and what machines ask: /healthz and /readyz."""
from __future__ import annotations

import logging
from typing import Any

from flask import Blueprint, Response, g, jsonify, redirect, render_template, request
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from portal.extensions import services
from portal.language import LANGUAGES, own_path, remember_language

log = logging.getLogger(__name__)
bp = Blueprint("public", __name__)


@bp.get("/")
def front() -> str:
    return render_template("public/front.html", base_url=services().settings.base_url)


@bp.post("/language")
def choose_language() -> Any:
    """The switch on every page: remembers the choice in a cookie and goes back to where it was pressed."""
    answer = redirect(own_path(request.form.get("back")), 303)
    wanted = request.form.get("to", "")
    if wanted in LANGUAGES:
        remember_language(answer, wanted)  # type: ignore[arg-type]  # a Flask redirect is a Flask response
    return answer


@bp.get("/robots.txt")
def robots() -> Response:
    return Response("User-agent: *\nDisallow: /\n", mimetype="text/plain")


@bp.get("/healthz")
def alive() -> Any:
    """The process answers."""
    return jsonify(status="ok")


@bp.get("/readyz")
def ready() -> Any:
    """The database answers and has this version's tables. Redis is told but not required: without it work waits, pages do not."""
    shared = services()
    try:
        database = "ok" if shared.database.ready() else "old tables"
    except SQLAlchemyError as problem:
        log.warning("the database is not ready: %s", type(problem).__name__)
        database = "unreachable"
    try:
        redis = "ok" if shared.queue.alive() else "unreachable"
    except RedisError:
        redis = "unreachable"
    return jsonify(status="ok" if database == "ok" else "not ready", database=database, redis=redis), 200 if database == "ok" else 503


@bp.after_app_request
def say_language(response: Response) -> Response:
    if "language" in g:
        response.headers["Content-Language"] = "zh-CN" if g.language == "zh" else "en"
    return response
