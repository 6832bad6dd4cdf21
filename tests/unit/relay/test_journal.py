"""The log's lines."""
from __future__ import annotations

import io
import json
import logging

from relay.journal import Journal, LibraryWords, unhandled


def test_a_line_is_one_json_object_whatever_it_holds() -> None:
    stream = io.StringIO()
    Journal("json", stream).event("session", client="a", detail='x\n"y"\u202e', missing=None, bytes_up=3)
    assert stream.getvalue().count("\n") == 1 and stream.getvalue().isascii()
    row = json.loads(stream.getvalue())
    assert row["event"] == "session" and row["detail"] == 'x\n"y"\u202e' and row["bytes_up"] == 3 and "missing" not in row


def test_a_text_line_cannot_be_split_or_extended() -> None:
    stream = io.StringIO()
    Journal("text", stream).event("ready", listen=["127.0.0.1:1", "[::1]:2"], detail="a b=c\nevent=forged", empty="")
    line = stream.getvalue()
    assert line.count("\n") == 1 and "listen=127.0.0.1:1,[::1]:2" in line and 'detail="a b=c\\nevent=forged"' in line and 'empty=""' in line


def test_errors_nobody_caught_and_library_warnings_show_no_text() -> None:
    stream = io.StringIO()
    journal = Journal("json", stream)
    try:
        raise RuntimeError("rt1.canary.secret")
    except RuntimeError as error:
        unhandled(journal, {"message": "rt1.canary.secret", "exception": error})
    LibraryWords(journal).emit(logging.LogRecord("asyncio", logging.WARNING, "", 1, "%r failed", ("rt1.canary.secret",), None))
    assert "canary" not in stream.getvalue() and "RuntimeError" in stream.getvalue() and "%r failed" in stream.getvalue()
