"""The report of a move as the portal gives it out: to its owner and to the helpdesk, to nobody else; in the page's language."""
from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from sqlalchemy import select

from engine.causes import Cause
from engine.ledger import Entry, FolderRow, Outcome, Repair, RepairRow, Run, SetAsideRow
from engine.report.copy import CopyOutcome
from engine.report_files import Format
from engine.report_files.as_html import content_security_policy
from portal.models import AuditEvent, Role
from portal.store.ledger import SqlLedger
from tests.support.desk_scene import DeskScene
from tests.support.portal_app import PortalForTests
from tests.unit.portal.employee_pages import Someone, invite

FORMS = [form.value for form in Format]


def move_all(someone: Someone, messages: int = 9, runs: int = 1) -> None:
    """As a worker does it: `messages` moved in each of `runs` ranges, one set aside, one repaired."""
    lease = someone.worker_takes()
    ledger = SqlLedger(someone.portal.database, someone.move_id, lease.fence, 60)
    row = ledger.put_folder(FolderRow("&W6JiNw-", "&W6JiNw-", source_display="客户 <b>", target_display="客户 <b>"))
    moved, gap = messages * runs, messages + 5
    attempt = ledger.begin_pass(0.0)
    ledger.write(Entry(
        FolderRow(row.source, row.target, row.id, 7, gap * runs + 9, moved + 1, 8, row.source_display, row.target_display, total=moved + 1,
                  moved=moved, set_aside=1, repaired=1, bytes_moved=moved * 1000, complete=True),
        runs=[Run(gap * n + 1, gap * n + messages, messages, gap * n + 1, Outcome.MOVED, pass_id=attempt) for n in range(runs)],
        set_aside=[SetAsideRow(gap * runs + 5, Cause.X_ITEM, "=cmd|' /C calc'!A0", 1500, "01-Mar-2019 10:22:33 +0800")],
        repairs=[RepairRow(1, Repair.DATE, "NO bad date of wang@old.example")]))
    someone.worker_ends(lease, CopyOutcome.PARTIAL)


@pytest.fixture
def finished(portal: PortalForTests) -> Callable[..., Someone]:
    def make(language: str = "zh", runs: int = 1) -> Someone:
        someone = invite(portal, language=language).started()
        move_all(someone, runs=runs)
        return someone
    return make


# --- the employee -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("language", "holds", "column"), [("zh", "每一封都有着落", "旧文件夹"), ("en", "are accounted for", "Old folder")])
def test_the_finished_page_offers_all_three_in_its_language(finished: Callable[..., Someone], language: str, holds: str,
                                                            column: str) -> None:
    someone = finished(language)
    page = someone.open("/move/done").text
    got = {}
    for form in FORMS:
        assert f'href="/move/done/report.{form}"' in page
        answer = someone.open(f"/move/done/report.{form}")
        assert (answer.status_code, answer.mimetype) == (200, Format(form).content_type)
        assert "no-store" in answer.headers["Cache-Control"]
        got[form] = answer
    assert holds in got["html"].text
    assert got["html"].headers["Content-Security-Policy"] == content_security_policy()
    assert got["html"].headers["Content-Disposition"].startswith("inline")
    assert got["csv"].data.startswith("\ufeff".encode())
    assert column in got["csv"].text
    assert got["csv"].headers["Content-Disposition"].startswith("attachment; filename=banjia-report-M")
    told = json.loads(got["json"].text)
    assert (told["language"], told["proof"], told["totals"]["moved"], told["reference"]) == (language, "holds", 9, f"M{someone.move_id}")
    assert (told["source"], told["destination"]) == ("wang@old.example", "wang@new.example")


def test_no_report_holds_a_secret_or_a_formula_or_a_tag(finished: Callable[..., Someone]) -> None:
    someone = finished()
    for form in FORMS:
        text = someone.open(f"/move/done/report.{form}").text
        assert "abcdefghijklmnop" not in text and "master-of-all" not in text
        assert "bad date of w***@o***" in text
    assert "客户 <b>" not in someone.open("/move/done/report.html").text
    assert ",=cmd" not in someone.open("/move/done/report.csv").text


def test_a_large_report_comes_in_pieces(finished: Callable[..., Someone]) -> None:
    someone = finished(runs=1000)
    answer = someone.browser.get("/move/done/report.csv")
    assert answer.is_streamed
    pieces = list(answer.iter_encoded())
    assert len(pieces) > 4
    assert b"".join(pieces).decode().count("一段邮件") == 1000


def test_before_the_end_there_is_no_report(portal: PortalForTests) -> None:
    someone = invite(portal).started()
    assert someone.open("/move/done/report.html").headers["Location"] == "/move/progress"


def test_nobody_without_a_visit_gets_one(finished: Callable[..., Someone]) -> None:
    someone = finished()
    for form in FORMS:
        answer = someone.portal.client().get(f"/move/done/report.{form}")
        assert answer.status_code == 401
        assert "wang@old.example" not in answer.text


def test_another_person_gets_their_own_and_cannot_ask_for_this_one(finished: Callable[..., Someone]) -> None:
    """The address names no move; the helpdesk's, which does, is closed to visitors."""
    someone = finished()
    other = invite(someone.portal, "zhou").started()
    move_all(other, messages=4)
    told = json.loads(other.open("/move/done/report.json").text)
    assert (told["source"], told["totals"]["moved"]) == ("zhou@old.example", 4)
    for form in FORMS:
        answer = other.browser.get(f"/desk/moves/{someone.move_id}/report.{form}")
        assert answer.status_code == 303
        assert answer.headers["Location"].startswith("/login?next=")
        assert "wang@old.example" not in answer.text


@pytest.mark.parametrize("form", ["xml", "", "html.exe"])
def test_other_forms_do_not_exist(finished: Callable[..., Someone], form: str) -> None:
    assert finished().open(f"/move/done/report.{form}").status_code == 404


# --- the helpdesk -----------------------------------------------------------------------------------------------------------


def test_the_helpdesk_gets_it_and_the_audit_says_so(scene: DeskScene) -> None:
    client = scene.signed_in(Role.HELPDESK)
    move_id = scene.moves["yangfan"]
    page = client.get(f"/desk/moves/{move_id}").text
    for form in FORMS:
        path = f"/desk/moves/{move_id}/report.{form}"
        assert f'href="{path}"' in page
        answer = client.get(path)
        assert (answer.status_code, answer.mimetype) == (200, Format(form).content_type)
    with scene.look() as session:
        events = list(session.scalars(select(AuditEvent).where(AuditEvent.action == "export.report").order_by(AuditEvent.id)))
        assert [(e.subject_kind, e.subject_id, e.detail["format"]) for e in events] == [("move", move_id, form) for form in FORMS]
    assert "下载搬家报告" in client.get(f"/desk/moves/{move_id}").text


def test_a_move_that_is_not_there_has_no_report(scene: DeskScene) -> None:
    assert scene.signed_in(Role.HELPDESK).get("/desk/moves/999999/report.csv").status_code == 404


def test_without_signing_in_nothing_is_given_out_or_noted(scene: DeskScene) -> None:
    answer = scene.signed_in(None).get(f"/desk/moves/{scene.moves['yangfan']}/report.csv")
    assert answer.status_code == 303
    with scene.look() as session:
        assert session.scalar(select(AuditEvent.id).where(AuditEvent.action == "export.report")) is None
