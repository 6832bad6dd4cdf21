"""The pages that wait for a worker: check, progress; and the report at the end.

Always: the page and the fragment that refreshes it are the same template; the fragment's ETag is made of the state, so an unchanged
state costs 304; what has ended says so, and the page stops asking.
"""
from __future__ import annotations

import hashlib
from typing import Any

from flask import Response, flash, g, make_response, redirect, render_template, request, url_for

from engine.causes import Cause, explain
from engine.providers.catalogue import step as find_step
from engine.report.steps import StepState
from engine.report_files import Format
from portal.employee.findings import check_steps, expected_messages, findings, folder_lines, folder_name, internal_day, set_aside_words
from portal.employee.flow import last_attempt, place_of
from portal.employee.forecast import pace_of
from portal.employee.guidance import guide
from portal.employee.routes import bp
from portal.employee.visit import Visit, another_person, current_visit, for_visitors
from portal.language import language, say, words
from portal.models import Check, CheckState, MoveState, now
from portal.report_answer import FORMS, report_answer
from portal.services import checks, moves
from portal.services.common import ServiceError
from portal.services.credentials import SECRET_CAUSES
from portal.services.endpoints import provider_of
from portal.services.sheets import csv_bytes

SHOWN_SET_ASIDE = 100  # on the page; the file has all
SLOW_SECONDS, VERY_SLOW_SECONDS = 15, 60


# --- check ----------------------------------------------------------------------------------------------------------------


@bp.get("/move/check/<int:check_id>")
@for_visitors
def check(visit: Visit, check_id: int) -> Any:
    found = checks.find_check(g.session, visit.person, check_id)
    if found is None:
        return redirect(place_of(g.session, visit.move).url(), 303)
    return render_template("employee/check.html", **_check_values(visit, found))


@bp.get("/move/check/<int:check_id>/live")
def check_live(check_id: int) -> Any:
    return _live(lambda visit: _check_fragment(visit, check_id))


@bp.post("/move/check")
@for_visitors
def check_again(visit: Visit) -> Any:
    """With the secrets that are stored, after something was mended at the provider."""
    try:
        asked = checks.check_again(g.session, visit.actor, visit.person)
    except checks.CheckRunning:
        return redirect(place_of(g.session, visit.move).url(), 303)
    except ServiceError as refused:
        if not isinstance(refused, checks.TooManyTries):
            flash(words(refused.words), "stop")
        if refused.field in ("source_secret", "destination_secret"):
            return redirect(url_for("employee.credentials"), 303)
        return redirect(place_of(g.session, visit.move).url(), 303)
    return redirect(url_for("employee.check", check_id=asked.id), 303)


def _check_fragment(visit: Visit, check_id: int) -> Response:
    found = checks.find_check(g.session, visit.person, check_id)
    if found is None:
        return Response(status=404)
    values = _check_values(visit, found)
    return _fragment("employee/_check.html", values, (found.id, found.state, found.steps, found.cause, values["slow"]))


def _check_values(visit: Visit, found: Check) -> dict[str, Any]:
    over = found.state is CheckState.DONE
    waited = 0.0 if over else (now() - found.created_at).total_seconds()
    steps = check_steps(found)
    newest = checks.latest_check(g.session, visit.person)
    return {
        "person": visit.person, "move": visit.move, "check": found, "over": over, "ok": over and found.cause is None,
        "steps": steps,
        "failed_step": next((line for lines in steps.values() for line in lines if line.state is StepState.FAILED), None),
        "slow": (waited > SLOW_SECONDS) + (waited > VERY_SLOW_SECONDS), "provider": provider_of(visit.person),
        "found": findings(found, provider_of(visit.person)) if over and found.cause is None else None,
        "failure": _failure(visit, found.cause) if over and found.cause else None, "newest": newest is None or newest.id == found.id,
    }


def _failure(visit: Visit, cause_text: str | None) -> dict[str, Any]:
    """A cause with its words, the step that mends it at this provider, and which button leads back."""
    cause = Cause(cause_text) if cause_text in set(Cause) else Cause.UNKNOWN
    known = provider_of(visit.person)
    explanation = explain(cause, known.key)
    mend = find_step(explanation.step, known.key)
    return {"cause": cause, "explanation": explanation, "guide": guide(mend, known) if mend else None,
            "secret": cause in SECRET_CAUSES, "destination": cause is Cause.DESTINATION_LOGIN}


# --- progress -------------------------------------------------------------------------------------------------------------


@bp.get("/move/progress")
@for_visitors
def progress(visit: Visit) -> Any:
    if visit.move.state is MoveState.DONE:
        return redirect(url_for("employee.done"), 303)
    if visit.move.state in (MoveState.INVITED, MoveState.READY):
        return redirect(place_of(g.session, visit.move).url(), 303)
    return render_template("employee/progress.html", **_progress_values(visit))


@bp.get("/move/progress/live")
def progress_live() -> Any:
    return _live(_progress_fragment)


@bp.post("/move/pause")
@for_visitors
def pause(visit: Visit) -> Any:
    return _act(visit, moves.pause)


@bp.post("/move/resume")
@for_visitors
def resume(visit: Visit) -> Any:
    return _act(visit, moves.resume)


def _act(visit: Visit, service: Any) -> Any:
    try:
        service(g.session, visit.actor, visit.move)
    except ServiceError as refused:
        flash(words(refused.words), "stop")
        if refused.field in ("source_secret", "destination_secret"):
            return redirect(url_for("employee.credentials"), 303)
    return redirect(place_of(g.session, visit.move).url(), 303)


def _progress_fragment(visit: Visit) -> Response:
    values = _progress_values(visit)
    move, pace = visit.move, values["pace"]
    return _fragment("employee/_progress.html", values, (
        move.id, move.state, move.cause, pace,
        move.current_folder, move.last_sign_at, move.not_before, move.stop_requested, values["ahead"],
        [(row.id, row.total, row.moved, row.already_there, row.set_aside, row.complete) for row in values["folders"]]))


def _progress_values(visit: Visit) -> dict[str, Any]:
    move = visit.move
    attempt = last_attempt(move)
    return {
        "person": visit.person, "move": move, "pace": pace_of(move, expected_messages(checks.latest_check(g.session, visit.person))),
        "over": move.state in (MoveState.DONE, MoveState.STUCK, MoveState.PAUSED),
        "folders": moves.folder_rows(g.session, move), "provider": provider_of(visit.person), "folder_lines": folder_lines,
        "ahead": moves.ahead(g.session, move) if move.state is MoveState.QUEUED else 0,
        "failure": _failure(visit, move.cause) if move.cause and move.state in (MoveState.STUCK, MoveState.WAITING) else None,
        "server_text": attempt.server_text if attempt and move.state is MoveState.STUCK else "",
    }


# --- the fragments --------------------------------------------------------------------------------------------------------


def _live(answer: Any) -> Any:
    """For the page's own script: no visit, no page; asking does not keep a visit alive."""
    g.polling = True
    visit = current_visit()
    if visit is None:
        return Response(status=401)
    if "whose" in request.args and not visit.owns_page():
        return another_person(visit, "employee/_stopped.html")
    return answer(visit)


def _fragment(template: str, values: dict[str, Any], state: tuple[Any, ...]) -> Response:
    tag = hashlib.sha256(repr((language(), *state)).encode()).hexdigest()[:20]
    answer = Response(status=304) if tag in request.if_none_match else make_response(render_template(template, **values))
    answer.set_etag(tag)
    answer.headers["Cache-Control"] = "no-store"
    return answer


# --- report ---------------------------------------------------------------------------------------------------------------


@bp.get("/move/done")
@for_visitors
def done(visit: Visit) -> Any:
    if visit.move.state is not MoveState.DONE:
        return redirect(place_of(g.session, visit.move).url(), 303)
    move = visit.move
    return render_template(
        "employee/done.html", person=visit.person, move=move, pace=pace_of(move), folders=moves.folder_rows(g.session, move),
        aside=moves.set_aside_rows(g.session, move)[:SHOWN_SET_ASIDE], folder_lines=folder_lines, set_aside_words=set_aside_words,
        internal_day=internal_day, folder_name=folder_name, provider=provider_of(visit.person))


@bp.get("/move/done/set-aside.csv")
@for_visitors
def set_aside_file(visit: Visit) -> Any:
    """What could not be moved, for the old provider's support."""
    head = [say("文件夹", "Folder"), say("日期", "Date"), say("大小（字节）", "Size (octets)"), "UID", say("原因", "Reason"),
            say("服务器的原话", "Server’s words")]
    lines = [[line.folder, line.internal_date, line.size, line.uid, set_aside_words(line.reason), line.server_text]
             for line in moves.set_aside_rows(g.session, visit.move)]
    return Response(csv_bytes([head, *lines]), mimetype="text/csv",
                    headers={"Content-Disposition": "attachment; filename=banjia-set-aside.csv"})


@bp.get(f"/move/done/report.<{FORMS}:form>")
@for_visitors
def report_file(visit: Visit, form: str) -> Any:
    """What became of every message: to print, for a spreadsheet, for a program."""
    if visit.move.state is not MoveState.DONE:
        return redirect(place_of(g.session, visit.move).url(), 303)
    return report_answer(visit.move, Format(form))
