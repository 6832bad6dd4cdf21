"""How gunicorn serves the portal: its settings (module-level names, as gunicorn reads them) and the application it loads.

    gunicorn --config python:portal.webserver "portal.webserver:application()"

One process with threads: pages are small and poll; several processes would only multiply the connections to SQLite. No access log
of gunicorn's own (it would hold personal links), no control socket (gunicorn 25.1 and later open one by default).
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from config import load_settings

if TYPE_CHECKING:
    from flask import Flask

bind = load_settings().bind
worker_class = "gthread"
workers = 1
threads = 8
timeout = 60            # seconds without a sign of life before the process is replaced
graceful_timeout = 10   # seconds for running requests at a stop
keepalive = 15
limit_request_line = 4094
limit_request_fields = 64
accesslog = None
control_socket_disable = True
proc_name = "banjia-web"


def application() -> Flask:
    from portal import create_app

    return create_app(load_settings())
