"""What never stands in a log: personal links, invitations, relay tokens, passwords that slipped into a text.

`mask` is the rule, `MaskFilter` applies it to messages and tracebacks, `install` puts it on every handler and on the loggers of the
web server. Secrets are kept out of texts in the first place (engine.endpoint.Secret); this is the second net.
"""
from __future__ import annotations

import logging
import re

_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # the path of a personal link, whatever follows it
    (re.compile(r"(/m/)[^/\s\"'?#<>]+"), r"\1***"),
    # relay tokens rt1.<client>.<secret>, sealed texts v1.<key>.<...>
    (re.compile(r"\brt1\.([A-Za-z0-9_-]{1,64})\.[A-Za-z0-9_-]{16,}"), r"rt1.\1.***"),
    (re.compile(r"\bv1\.([0-9a-f]{12})\.[A-Za-z0-9_=-]{16,}"), r"v1.\1.***"),
    # any token of 256 bits or more: invitations, session ids
    (re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43,}(?![A-Za-z0-9_-])"), "***"),
    # name=value and "name": "value" with a telling name
    (re.compile(r"(?i)([\"']?\b[\w-]*(?:password|passwd|secret|token|authorization|cookie)\b[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s&,;]+)"),
     r"\1***"),
    # user:password@ in an URL
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s/@]+@"), r"\1:***@"),
    # what an IMAP or POP3 command says after these words
    (re.compile(r"\b(LOGIN|AUTHENTICATE|PASS)(\s+)\S.*"), r"\1\2***"),
)

_WEB_LOGGERS = ("gunicorn.access", "gunicorn.error", "werkzeug", "rq.worker", "alembic")


def mask(text: str) -> str:
    for pattern, instead in _RULES:
        text = pattern.sub(instead, text)
    return text


class MaskFilter(logging.Filter):
    """Replaces the record's finished message; the arguments are dropped so that no later handler formats them again."""

    _traceback = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = mask(record.getMessage())
        record.args = None
        if record.exc_info and not record.exc_text:
            record.exc_text = self._traceback.formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = mask(record.exc_text)
        if record.stack_info:
            record.stack_info = mask(record.stack_info)
        return True


def install() -> None:
    """Safe to call again after handlers were added."""
    root = logging.getLogger()
    for target in (*root.handlers, *(logging.getLogger(name) for name in _WEB_LOGGERS)):
        if not any(isinstance(present, MaskFilter) for present in target.filters):
            target.addFilter(MaskFilter())
