"""The desk: today's numbers, the list of moves, one move, and relaunching one, some, or all with one cause.

Routes only parse and answer; the acts are portal/services/moves.py, links.py and credentials.py. Always: everything works without
JavaScript; a bulk act names its count before it happens and says for each row how it went; no page holds a secret.
"""
from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, flash, g, redirect, render_template, request, url_for
from flask.sansio.blueprints import BlueprintSetupState
from sqlalchemy import select
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import NotFound

from engine.folders.mapping import explain_note
from engine.providers.catalogue import providers
from engine.report_files import Format
from portal.auth.routes import problems
from portal.desk import words as desk_words
from portal.desk.filters import (
    BULK_MOST,
    NO_PROVIDER,
    PAGE_SIZES,
    MoveFilter,
    all_ids,
    count_moves,
    find_moves,
    is_silent,
    moves_by_id,
    number,
    read_filter,
)
from portal.desk.overview import BAR_ORDER, overview, shares
from portal.desk.reading import accounted, find_move, link_is_good, mended, picture
from portal.employee.findings import rule_words
from portal.employee.flow import check_reference, move_reference
from portal.extensions import services
from portal.language import own_path, say, words
from portal.models import Move, MoveState, Owner, Project, ProjectState, Role
from portal.report_answer import FORMS, report_answer
from portal.security.access import actor, guard, needs
from portal.services import credentials, links, moves, reports
from portal.services.common import ServiceError

bp = Blueprint("desk", __name__)
guard(bp)


@bp.record_once
def name_for_templates(state: BlueprintSetupState) -> None:
    """What the desk's and the admins' templates may ask; globals, because macros see nothing else."""
    state.app.jinja_env.globals.update(
        desk=desk_words, accounted=accounted, is_silent=is_silent, link_is_good=link_is_good, shares=shares, MoveState=MoveState,
        BAR_ORDER=BAR_ORDER, move_reference=move_reference, check_reference=check_reference,
        NO_PROVIDER=NO_PROVIDER, rule_words=rule_words, explain_note=explain_note)


@bp.get("/desk")
@needs(Role.HELPDESK)
def today() -> str:
    silent = count_moves(g.session, MoveFilter(silent=True))
    return render_template("desk/today.html", view=overview(g.session, silent))


@bp.get("/desk/moves")
@needs(Role.HELPDESK)
def moves_page() -> str:
    wanted = read_filter(request.args)
    size = request.args.get("size", PAGE_SIZES[0], type=number)
    page = find_moves(g.session, wanted, request.args.get("page", 1, type=number), size if size in PAGE_SIZES else PAGE_SIZES[0])
    chosen = find_move(g.session, request.args.get("open", 0, type=number))
    return render_template("desk/moves.html", page=page, wanted=wanted, chosen=chosen, view=picture(g.session, chosen) if chosen else None,
                           mended=mended(g.session, page.moves), projects=_projects(), **_choices(),
                           url=lambda page_number: url_for("desk.moves_page", **wanted.args(), page=page_number))


@bp.get("/desk/moves/<int:move_id>")
@needs(Role.HELPDESK)
def move_page(move_id: int) -> Any:
    return _move_page(_find(move_id))


@bp.get("/desk/moves/<int:move_id>/now")
@needs(Role.HELPDESK, keeps_awake=False)
def move_now(move_id: int) -> str:
    """The part of a move's page that changes by itself, for the page's script."""
    return render_template("desk/_now.html", move=_find(move_id))


@bp.get(f"/desk/moves/<int:move_id>/report.<{FORMS}:form>")
@needs(Role.HELPDESK)
def report_file(move_id: int, form: str) -> Any:
    """What became of every message; that it was taken stands in the audit."""
    move = _find(move_id)
    reports.note_export(g.session, actor(), move, form)
    return report_answer(_find(move_id), Format(form))


@bp.post("/desk/moves/<int:move_id>/relaunch")
@needs(Role.HELPDESK)
def relaunch_one(move_id: int) -> Any:
    move = _find(move_id)
    result = moves.relaunch(g.session, actor(), [move])
    if result.refused:
        return _move_page(move, {"": words(result.refused[0][1])}, 422)
    return _back(move, say("已重新排队，很快会继续。", "Queued again; it goes on soon."))


@bp.post("/desk/moves/<int:move_id>/pause")
@needs(Role.HELPDESK)
def pause(move_id: int) -> Any:
    return _act(move_id, moves.pause, say("好，会在下一个安全的地方停下，已经搬好的都保留。",
                                          "It stops at the next safe point. What has been moved stays."))


@bp.post("/desk/moves/<int:move_id>/resume")
@needs(Role.HELPDESK)
def resume(move_id: int) -> Any:
    return _act(move_id, moves.resume, say("继续搬了。", "It goes on."))


def _act(move_id: int, service: Any, done: str) -> Any:
    move = _find(move_id)
    try:
        service(g.session, actor(), move)
    except ServiceError as refused:
        return _move_page(move, problems(refused), 422)
    return _back(move, done)


@bp.post("/desk/moves/<int:move_id>/link")
@needs(Role.HELPDESK)
def new_link(move_id: int) -> Any:
    """The answer is the only page that ever shows this link."""
    move = _find(move_id)
    try:
        token = links.issue_link(g.session, actor(), move.person, services().settings)
    except ServiceError as refused:
        return _move_page(move, problems(refused), 422)
    g.back = url_for("desk.move_page", move_id=move.id)
    return render_template("desk/new_link.html", move=move, link=links.link_url(services().settings, token))


@bp.post("/desk/moves/<int:move_id>/links/revoke")
@needs(Role.HELPDESK)
def revoke_links(move_id: int) -> Any:
    move = _find(move_id)
    ended = links.revoke_links(g.session, actor(), move.person)
    return _back(move, say("{n} 个链接已停用，打不开了。", "{n} links withdrawn; they no longer open.", n=ended) if ended
                 else say("没有还能用的链接。", "There was no link left that worked."))


@bp.post("/desk/moves/<int:move_id>/secrets/destroy")
@needs(Role.HELPDESK)
def destroy_secrets(move_id: int) -> Any:
    move = _find(move_id)
    gone = credentials.destroy_credentials(g.session, actor(), Owner.PERSON, move.person_id, reason="helpdesk")
    if not gone:
        return _back(move, say("本来就没有保存密码。", "There was no stored password."))
    return _back(move, say("保存的密码已销毁。要继续搬，请本人再填一次。",
                           "The stored password is destroyed. To go on, the person enters it again."))


@bp.get("/desk/relaunch")
@needs(Role.HELPDESK)
def ask_relaunch() -> Any:
    """Names what would be relaunched. Either the rows that were ticked (`id`), or all that the filter finds (`all`)."""
    wanted = read_filter(request.args)
    whole = request.args.get("all") == "1"
    ids = all_ids(g.session, wanted) if whole else request.args.getlist("id", type=number)[:BULK_MOST]
    chosen = moves_by_id(g.session, ids)
    back = url_for("desk.moves_page", **wanted.args())
    return render_template("desk/relaunch_ask.html", chosen=chosen, wanted=wanted, whole=whole, back=back, most=BULK_MOST)


@bp.post("/desk/relaunch")
@needs(Role.HELPDESK)
def relaunch_many() -> Any:
    ids = MultiDict(("id", text) for text in request.form.get("ids", "").split(",")).getlist("id", type=number)[:BULK_MOST]
    result = moves.relaunch(g.session, actor(), moves_by_id(g.session, ids))
    back = own_path(request.form.get("back"), url_for("desk.moves_page"))
    g.back = back
    return render_template("desk/relaunch_done.html", result=result, back=back)


@bp.errorhandler(NotFound)
def gone(_error: NotFound) -> tuple[str, int]:
    return render_template("desk/gone.html"), 404


def _find(move_id: int) -> Move:
    move = find_move(g.session, move_id)
    if move is None:
        abort(404)
    return move


def _move_page(move: Move, errors: dict[str, str] | None = None, status: int = 200) -> Any:
    g.session.refresh(move)
    g.back = url_for("desk.move_page", move_id=move.id)
    return render_template("desk/move.html", view=picture(g.session, move), move=move, errors=errors or {}), status


def _back(move: Move, done: str) -> Any:
    flash(done, "ok")
    return redirect(own_path(request.form.get("back"), url_for("desk.move_page", move_id=move.id)), 303)


def _projects() -> list[Project]:
    return list(g.session.scalars(select(Project).order_by(Project.state == ProjectState.CLOSED, Project.name)))


def _choices() -> dict[str, Any]:
    return {"providers": sorted(providers().items()), "sizes": PAGE_SIZES}
