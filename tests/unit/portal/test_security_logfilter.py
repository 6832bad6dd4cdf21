"""What a log shows when a secret slipped into a message, an argument or a traceback."""
from __future__ import annotations

import io
import logging

import pytest

from portal.security.links import looks_like_token, new_token, token_sha256
from portal.security.logfilter import MaskFilter, install, mask

TOKEN = "I8wIzj-h4x5gXb9DobHXe2iqo6gog4xd7jD2gbJB6mU"  # a constant: every test process collects the same names


@pytest.mark.parametrize(("text", "shown"), [
    (f'"GET /m/{TOKEN} HTTP/1.1" 200', '"GET /m/*** HTTP/1.1" 200'),
    ("GET /m/short?x=1", "GET /m/***?x=1"),
    (f"https://move.example.com/m/{TOKEN}", "https://move.example.com/m/***"),
    (f"GET /invitation/{TOKEN}", "GET /invitation/***"),
    ("token rt1.hq." + "a" * 43, "token rt1.hq.***"),
    ("sealed v1.0123456789ab.QUJDREVGR0hJSktMTU5P", "sealed v1.0123456789ab.***"),
    ("a1 LOGIN wang@example.com hunter2", "a1 LOGIN ***"),
    ("a1 AUTHENTICATE PLAIN AGEAYg==", "a1 AUTHENTICATE ***"),
    ("password=hunter2&next=/desk", "password=***&next=/desk"),
    ('{"source_secret": "hunter 2", "id": 3}', '{"source_secret": ***, "id": 3}'),
    ("postgresql://banjia:hunter2@db/x", "postgresql://banjia:***@db/x"),
    ("moved 12 of 40 in INBOX for move 7", "moved 12 of 40 in INBOX for move 7"),
    ("login refused by imap.example.com: NO [AUTHENTICATIONFAILED]", "login refused by imap.example.com: NO [AUTHENTICATIONFAILED]"),
])
def test_mask(text: str, shown: str) -> None:
    assert mask(text) == shown


def _logger(name: str) -> tuple[logging.Logger, io.StringIO]:
    out = io.StringIO()
    logger = logging.getLogger(name)
    handler = logging.StreamHandler(out)
    handler.addFilter(MaskFilter())
    logger.handlers, logger.propagate = [handler], False
    return logger, out


def test_arguments_and_tracebacks_are_masked_too() -> None:
    logger, out = _logger("test.mask")
    try:
        raise ValueError(f"no page for /m/{TOKEN} password=hunter2")
    except ValueError:
        logger.exception("asked for %s", f"/m/{TOKEN}", stack_info=True)
    text = out.getvalue()
    assert "asked for /m/***" in text and "ValueError: no page for /m/***" in text
    assert TOKEN not in text and "hunter2" not in text


def test_access_log_of_the_web_server_is_masked() -> None:
    """gunicorn hands its atoms over as one mapping."""
    logger, out = _logger("gunicorn.access")
    install()
    install()
    assert sum(isinstance(f, MaskFilter) for f in logger.filters) == 1
    logger.warning('%(h)s "%(r)s" %(s)s', {"h": "192.0.2.1", "r": f"GET /m/{TOKEN} HTTP/1.1", "s": "200"})
    assert out.getvalue() == '192.0.2.1 "GET /m/*** HTTP/1.1" 200\n'


def test_tokens_are_long_random_and_stored_as_a_hash() -> None:
    tokens = {new_token() for _ in range(200)}
    assert len(tokens) == 200 and all(looks_like_token(token) for token in tokens)
    assert not looks_like_token("x") and not looks_like_token(TOKEN + "=") and not looks_like_token("../" + TOKEN[:40])
    assert len(token_sha256(TOKEN)) == 64 and token_sha256("\ud800")
