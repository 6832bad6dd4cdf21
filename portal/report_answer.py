"""A move's report as an answer: streamed piece by piece from the move's ledger, in the page's language.

Must not: decide who may have it (the routes' rules do). Always: reads in transactions of its own, so it works after the request's session
is closed; the page to print allows nothing but its own style; no cache keeps it (portal/security/headers.py).
"""
from __future__ import annotations

from itertools import chain

from flask import Response

from engine.report_files import WRITERS, Format, Heading
from engine.report_files.as_html import content_security_policy
from portal.employee.flow import move_reference
from portal.extensions import services
from portal.language import language
from portal.models import Move, now
from portal.services.days import ZONE
from portal.services.endpoints import provider_of
from portal.store.ledger import SqlLedger

FORMS = "any(html,csv,json)"  # the last part of a route
READS_ONLY = 0                # a fence that no lease has: whatever wrote with it would be refused


def report_answer(move: Move, form: Format) -> Response:
    """HTML is shown, to be printed; the others are files."""
    person, reference = move.person, move_reference(move)
    ledger = SqlLedger(services().database, move.id, READS_ONLY, 0)
    pieces = WRITERS[form](ledger, Heading(
        person.source_address, person.destination_address, now().timestamp(), language(), ZONE, provider_of(person).key, reference))
    first = next(pieces)  # what cannot be read at all is an error page, not half a file
    answer = Response(chain((first,), pieces), content_type=f"{form.content_type}; charset=utf-8")
    shown = "inline" if form is Format.HTML else "attachment"
    answer.headers["Content-Disposition"] = f"{shown}; filename=banjia-report-{reference}.{form.value}"
    if form is Format.HTML:
        answer.headers["Content-Security-Policy"] = content_security_policy()
    return answer
