"""The employee's way, page by page: link, provider, prepare, password, review, help. The pages that wait are in live.py.

Must not: decide anything (services do) or query. Always: a GET changes nothing; every act is a POST that ends in a redirect, or in
the same page with what must be corrected; nothing that was typed as a secret is ever sent back.
"""
from __future__ import annotations

from typing import Any

from flask import Blueprint, flash, g, redirect, render_template, request, session, url_for

from engine.causes import Cause, Side, Words, explain
from engine.endpoint import Secret
from engine.providers.catalogue import GENERIC
from engine.providers.detect import detect
from portal.employee.findings import findings
from portal.employee.flow import OVER, STAGES, check_reference, last_attempt, move_reference, place_of
from portal.employee.guidance import guides, is_web_password, provider_choices, secret_hint
from portal.employee.visit import (
    Visit,
    another_person,
    begin_visit,
    current_visit,
    end_visit,
    for_visitors,
    forget_visit,
    masked,
    page_owner,
)
from portal.extensions import services
from portal.language import back_path, own_path, prefer, words
from portal.models import Check, CheckState, Move, MoveState, Owner, Person, now
from portal.services import links, moves, people
from portal.services.checks import CheckRunning, TooManyTries, checked_sides, latest_check, refuse_if_tried_too_often
from portal.services.common import Actor, ProjectClosed, ServiceError, is_over
from portal.services.credentials import DESTINATION_SECRET, SECRET_CAUSES, SOURCE_SECRET, find_credential
from portal.services.endpoints import provider_key, provider_of, source_login

bp = Blueprint("employee", __name__)
bp.add_app_template_global(page_owner, "page_owner")


@bp.context_processor
def on_every_page() -> dict[str, Any]:
    if request.method == "POST" and "back" not in g and back_path() == "/":
        g.back = url_for("employee.index")
    return {"visit": current_visit(), "stages": STAGES, "move_reference": move_reference, "check_reference": check_reference}


# --- the personal link ----------------------------------------------------------------------------------------------------


@bp.get("/m/<token>")
def link(token: str) -> Any:
    """Greets, and changes nothing: mail scanners open links too."""
    found = links.find_link(g.session, token)
    if found.person is None:
        return _no_link(found)
    prefer(found.person.language)
    return render_template("employee/link.html", person=found.person, project=found.person.project, move=found.person.move,
                           token=token, masked=masked)


@bp.post("/m/<token>")
def begin(token: str) -> Any:
    """Trades the link for a visit; from here on no address holds the token."""
    found = links.find_link(g.session, token)
    if found.person is None or found.link is None:
        return _no_link(found)
    try:
        links.begin(g.session, Actor.person(found.person, request.remote_addr or ""), found.link)
    except links.LinkNotUsable:
        return _no_link(links.find_link(g.session, token))
    answer: Any = redirect(place_of(g.session, found.person.move).url(), 303)
    begin_visit(answer, found.link.id, now().timestamp())
    return answer


def _no_link(found: links.LinkFound) -> Any:
    unknown = found.why is links.LinkState.UNKNOWN
    return render_template("employee/no_link.html", why=links.LinkNotUsable(found.why), contact=found.contact), 404 if unknown else 410


@bp.get("/move")
@for_visitors
def index(visit: Visit) -> Any:
    return redirect(place_of(g.session, visit.move).url(), 303)


@bp.get("/move/over")
@for_visitors
def over(visit: Visit) -> Any:
    """The project is closed or its last day is over, and the move did not come to its end."""
    place = place_of(g.session, visit.move)
    if place != OVER:
        return redirect(place.url(), 303)
    return render_template("employee/over.html", contact=visit.person.project.contact, begun=last_attempt(visit.move) is not None)


@bp.get("/move/another")
@for_visitors
def another(visit: Visit) -> Any:
    """What a form of another person's page was answered with, in the other language."""
    return another_person(visit)


@bp.post("/move/leave")
def leave() -> Any:
    """For computers that others use too."""
    visit = current_visit()
    if visit is not None and not visit.owns_page():
        return another_person(visit), 409
    if visit is not None:
        links.leave(g.session, visit.actor, visit.link)
        forget_visit()
    answer: Any = redirect(url_for("employee.left"), 303)
    end_visit(answer)
    return answer


@bp.get("/move/left")
def left() -> str:
    return render_template("employee/left.html")


# --- a refusal is told again in the other language ------------------------------------------------------------------------

_REFUSED = "refused"


def _refused(endpoint: str, visit: Visit, error: ServiceError) -> dict[str, str]:
    """What the page says of it; and what it says again when the language switch on that answer leads back to it."""
    session[_REFUSED] = [endpoint, visit.person.id, error.field or "", error.words.zh, error.words.en]
    g.back = url_for(endpoint, refused="1")
    return {error.field or "": words(error.words)}


def _refused_before(endpoint: str, visit: Visit) -> dict[str, str]:
    kept = session.pop(_REFUSED, None) if _REFUSED in session else None
    if "refused" not in request.args or not isinstance(kept, list) or kept[:2] != [endpoint, visit.person.id]:
        return {}
    return {str(kept[2]): words(Words(str(kept[3]), str(kept[4])))}


# --- provider -------------------------------------------------------------------------------------------------------------


@bp.get("/move/provider")
@for_visitors
def provider(visit: Visit) -> Any:
    if is_over(visit.person.project):
        return redirect(place_of(g.session, visit.move).url(), 303)
    person = visit.person
    return _provider_page(person, {"provider": provider_key(person) or "", "source_host": person.source_host or "",
                                   "source_port": str(person.source_port or "")},
                          _refused_before("employee.provider", visit))


@bp.post("/move/provider")
@for_visitors
def choose_provider(visit: Visit) -> Any:
    typed = {name: request.form.get(name, "").strip() for name in ("provider", "source_host", "source_port")}
    own_server = typed["provider"] == GENERIC
    try:
        if not typed["provider"]:
            raise ServiceError("provider", "请选一个。不确定就选最后一项。", "Choose one. If you are not sure, take the last.")
        people.choose_provider(g.session, visit.actor, visit.person, typed["provider"], typed["source_host"] if own_server else None,
                               _port(typed["source_port"]) if own_server else None, allowed_ports=services().settings.allowed_ports)
    except ProjectClosed:
        return redirect(place_of(g.session, visit.move).url(), 303)
    except ServiceError as refused:
        return _provider_page(visit.person, typed, _refused("employee.provider", visit, refused)), 422
    return redirect(url_for("employee.prepare"), 303)


def _port(text: str) -> int | None:
    if text and not (text.isdecimal() and len(text) <= 5 and 0 < int(text) < 65536):
        raise ServiceError("source_port", "端口是一个数字，一般是 993。", "The port is a number, usually 993.")
    return int(text) if text else None


def _provider_page(person: Person, typed: dict[str, str], errors: dict[str, str]) -> str:
    evidence = None
    if not typed["provider"] and not errors:
        evidence = detect(person.source_address, mx_lookup=services().mx_lookup)
        typed = {**typed, "provider": evidence.provider or ""}
    usual, others = provider_choices()
    return render_template("employee/provider.html", person=person, usual=usual, others=others, typed=typed, errors=errors,
                           evidence=evidence, problem=bool(errors), generic=GENERIC)


# --- prepare and password -------------------------------------------------------------------------------------------------


@bp.get("/move/prepare")
@for_visitors
def prepare(visit: Visit) -> Any:
    if is_over(visit.person.project):
        return redirect(place_of(g.session, visit.move).url(), 303)
    known = provider_of(visit.person)
    return render_template("employee/prepare.html", person=visit.person, provider=known, mine=guides(known, mine=True),
                           others=guides(known, mine=False))


@bp.get("/move/credentials")
@for_visitors
def credentials(visit: Visit) -> Any:
    if is_over(visit.person.project):
        return redirect(place_of(g.session, visit.move).url(), 303)
    if visit.move.state in people.RUNNING or (visit.move.state is MoveState.DONE and visit.move.outcome == "complete"):
        return redirect(place_of(g.session, visit.move).url(), 303)
    return _credentials_page(visit, _refused_before("employee.credentials", visit))


@bp.post("/move/credentials")
@for_visitors
def submit_credentials(visit: Visit) -> Any:
    login = request.form.get("source_login", "").strip()
    try:
        check = people.submit_secrets(g.session, visit.actor, visit.person, _secret("source_secret"), _secret("destination_secret"),
                                      services().sealer, source_login=login if login not in ("", source_login(visit.person)) else None)
    except (CheckRunning, ProjectClosed):
        return redirect(place_of(g.session, visit.move).url(), 303)
    except TooManyTries:
        return _credentials_page(visit, {}), 429
    except ServiceError as refused:
        if refused.field == "provider":
            flash(words(refused.words), "stop")
            return redirect(url_for("employee.provider"), 303)
        return _credentials_page(visit, _refused("employee.credentials", visit, refused)), 422
    return redirect(url_for("employee.check", check_id=check.id), 303)


def _secret(field: str) -> Secret | None:
    typed = request.form.get(field, "")
    return Secret(typed) if typed else None


def _credentials_page(visit: Visit, errors: dict[str, str]) -> str:
    person, known = visit.person, provider_of(visit.person)
    needed = people.needs(g.session, person)
    refused = _refused_secret(latest_check(g.session, person), visit)
    wait = None
    try:
        refuse_if_tried_too_often(g.session, person, checked_sides(g.session, person))
    except TooManyTries as tries:
        wait = tries
    tell = refused if not errors and not wait else None
    asks_destination = needed.destination_secret or refused is Cause.DESTINATION_LOGIN or "destination_secret" in errors
    return render_template(
        "employee/credentials.html", person=person, provider=known, needed=needed, errors=errors, problem=bool(errors),
        hint=secret_hint(known), web_password=is_web_password(known), login=source_login(person),
        new_login=request.form.get("source_login", ""),
        login_error="source_login" in errors, asks_destination=asks_destination, wait=wait,
        refused=explain(tell, known.key) if tell else None,
        refused_field=tell and (DESTINATION_SECRET if tell is Cause.DESTINATION_LOGIN else SOURCE_SECRET), sides=Side)


def _refused_secret(check: Check | None, visit: Visit) -> Cause | None:
    """The cause that brings the person back to this page: what the newest check said, else what stopped the move."""
    attempt = last_attempt(visit.move)
    stopped = visit.move.cause if visit.move.state is MoveState.STUCK and attempt is not None else None
    newest = check.cause if check is not None and check.state is CheckState.DONE else None
    for text in (newest, stopped):
        if text in SECRET_CAUSES:
            return Cause(text)
    return None


# --- review and start -----------------------------------------------------------------------------------------------------


@bp.get("/move/review")
@for_visitors
def review(visit: Visit) -> Any:
    check = latest_check(g.session, visit.person)
    if is_over(visit.person.project) or check is None or check.state is not CheckState.DONE or check.cause is not None \
            or not _startable(visit.move):
        return redirect(place_of(g.session, visit.move).url(), 303)
    return render_template("employee/review.html", person=visit.person, move=visit.move, check=check,
                           found=findings(check, provider_of(visit.person)), logins=_logins(visit.person))


def _logins(person: Person) -> dict[str, str]:
    """The names that are used to sign in, which the person must see before anything moves."""
    own = find_credential(g.session, Owner.PERSON, person.id, DESTINATION_SECRET) is not None
    return {"source": source_login(person), "destination": person.destination_login if own and person.destination_login
            else person.destination_address}


def _startable(move: Move) -> bool:
    return move.state in (MoveState.READY, MoveState.STUCK, MoveState.PAUSED) or (
        move.state is MoveState.DONE and move.outcome == "partial")


@bp.post("/move/start")
@for_visitors
def start(visit: Visit) -> Any:
    """Also continues what was stuck or paused; pressed twice it does nothing twice."""
    try:
        moves.start(g.session, visit.actor, visit.move)
    except ServiceError as refused:
        flash(words(refused.words), "stop")
        if refused.field in ("source_secret", "destination_secret"):
            return redirect(url_for("employee.credentials"), 303)
        return redirect(place_of(g.session, visit.move).url(), 303)
    return redirect(url_for("employee.progress"), 303)


# --- help -----------------------------------------------------------------------------------------------------------------


@bp.get("/move/help")
def help_page() -> str:
    """The same place on every page (WCAG 3.2.6); also without a visit."""
    visit = current_visit()
    check = latest_check(g.session, visit.person) if visit else None
    return render_template("employee/help.html", check=check, back=own_path(request.args.get("back"), url_for("employee.index")))
