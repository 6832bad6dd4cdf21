"""How the Flask app of the portal is put together (portal.create_app calls it; apart from it so that the tables load without Flask).

Must not: hold a page or a rule. Always: one SQLAlchemy session per request (g.session), which services commit; nothing is connected
before the first request; debug mode is refused (an interactive traceback shows secrets: CWE-489).
"""
from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask, g, request, url_for
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import IntegerConverter, Map

from config import Settings
from engine.providers.detect import lookup_mx
from portal.extensions import Services, csrf
from portal.language import init_language
from portal.public.errors import init_errors
from portal.queueing import WorkQueue
from portal.security import logfilter
from portal.security.headers import init_headers
from portal.security.keyfiles import ensure_secret_key
from portal.security.vault import Sealer
from portal.store.db import Database


class RowId(IntegerConverter):
    """`<int:…>` in an address is the number of a row: what no database could hold is a page that is not there."""

    regex = "[1-9][0-9]{0,15}"
    part_isolating = True

    def __init__(self, url_map: Map) -> None:
        super().__init__(url_map, max=2**53)


class _RowNumber(IntegerConverter):
    """`<int:...>` in a route, small enough for a row's id; anything else is no page."""

    def __init__(self, map: Map, **options: Any) -> None:
        super().__init__(map, **{"max": 999_999_999, **options})


def create_app(settings: Settings, *, mx_lookup: Callable[[str], list[str]] | None = None) -> Flask:
    """The WSGI app. Needs the vault's public key file; makes the key that signs sessions when it is missing.
    `mx_lookup`: another way to find the MX hosts of a domain than DNS."""
    app = Flask("portal")
    app.url_map.converters["int"] = _RowNumber
    _configure(app, settings, ensure_secret_key(settings.secret_key_file))
    queue = WorkQueue(settings.redis_url)
    app.extensions["banjia"] = Services(settings, Database(settings.database_url, queue=queue), queue,
                                        Sealer.from_file(settings.vault_public_key_file), mx_lookup or lookup_mx)
    logfilter.install()
    _give_each_request_a_session(app)  # first: the page that says why a request was refused may be somebody's
    init_headers(app, https=settings.secure_cookies)
    csrf.init_app(app)
    init_language(app)
    init_errors(app)
    _name_static_files(app)
    _register_pages(app)
    return app


def _configure(app: Flask, settings: Settings, secret_key: bytes) -> None:
    secure = settings.secure_cookies
    app.config.update(
        SECRET_KEY=secret_key,
        SESSION_COOKIE_NAME="__Host-banjia" if secure else "banjia",
        SESSION_COOKIE_SECURE=secure, SESSION_COOKIE_HTTPONLY=True, SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=dt.timedelta(hours=12),
        MAX_CONTENT_LENGTH=settings.upload_bytes, MAX_FORM_MEMORY_SIZE=settings.upload_bytes,
        WTF_CSRF_TIME_LIMIT=None,    # a page may stay open while its reader changes settings elsewhere
        WTF_CSRF_SSL_STRICT=False,   # it wants a Referer, which we forbid; portal/security/headers.py looks at the origin
    )
    app.url_map.converters["int"] = RowId
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    if settings.trusted_proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=settings.trusted_proxies, x_proto=settings.trusted_proxies,  # type: ignore[method-assign]
                                x_host=0)

    @app.before_request
    def refuse_debugger() -> None:
        if app.debug:
            raise RuntimeError("debug mode shows secrets to whoever causes an error; start the portal without it")


def _give_each_request_a_session(app: Flask) -> None:
    @app.before_request
    def open_session() -> None:
        if request.endpoint != "static":
            g.session = app.extensions["banjia"].database.open_session()

    @app.teardown_appcontext
    def close_session(_error: BaseException | None) -> None:
        session = g.pop("session", None)
        if session is not None:
            session.rollback()
            session.close()


def _name_static_files(app: Flask) -> None:
    """`static_url("banjia.css")` carries a hash of the content, so that browsers may keep the file for good."""
    folder = Path(app.static_folder or "")
    versions: dict[str, str] = {}

    def static_url(name: str) -> str:
        if name not in versions:
            versions[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()[:12]
        return url_for("static", filename=name, v=versions[name])

    app.jinja_env.globals["static_url"] = static_url


def _register_pages(app: Flask) -> None:
    """One blueprint per audience. Imported here: the pages import what this module puts together."""
    from portal.admin import routes as _admin_pages  # noqa: F401  # adds them to the blueprint
    from portal.admin.blueprint import bp as admin
    from portal.auth.routes import bp as auth
    from portal.auth.sessions import init_sessions
    from portal.desk.routes import bp as desk
    from portal.employee import live  # noqa: F401  # adds the pages that wait to the same blueprint
    from portal.employee.routes import bp as employee
    from portal.public.routes import bp as public

    for blueprint in (public, employee, auth, desk, admin):
        app.register_blueprint(blueprint)
    init_sessions(app)
