"""The personal link: what it shows before anything is begun, what begins, and what ends a visit."""
from __future__ import annotations

import datetime as dt

import pytest

from engine.report.copy import CopyOutcome
from portal.models import AuditEvent, Link, Move, Person, now
from portal.services import links, projects
from portal.services.common import SYSTEM
from tests.support.portal_app import PortalForTests, form_token, portal_in
from tests.unit.portal.employee_pages import invite


def test_opening_the_link_greets_and_changes_nothing(portal: PortalForTests) -> None:
    someone = invite(portal)
    for answer in (someone.open(f"/m/{someone.token}"), someone.browser.head(f"/m/{someone.token}")):
        assert answer.status_code == 200
        assert "banjia-visit" not in str(answer.headers.getlist("Set-Cookie"))
    assert "王小明" in someone.page and "wa***@old.example" in someone.page
    assert "wang@old.example" not in someone.page
    for promise in ("不会改动或删除", "加密保存", "搬完就销毁", "不会搬出两份"):
        assert promise in someone.page
    with portal.database.reading() as session:
        assert session.query(Link).one().begun_at is None
        assert session.query(AuditEvent).filter(AuditEvent.action == "begin.link").count() == 0


@pytest.mark.parametrize(("language", "aside", "heading", "unsaid"), [
    ("zh", 0, "王小明，邮件搬完了</h1>", ("大约 5 分钟", "请在这天之前搬完", "把旧邮件搬到新邮箱")),
    ("zh", 3, "王小明，邮件搬完了，有 3 封没搬成</h1>", ("大约 5 分钟", "请在这天之前搬完", "我们保存的密码已经销毁")),
    ("en", 0, "王小明, your mail has been moved</h1>", ("About 5 minutes", "Please finish by", "let’s move")),
])
def test_the_link_of_a_finished_move_says_so_and_offers_the_result(portal: PortalForTests, language: str, aside: int, heading: str,
                                                                   unsaid: tuple[str, ...]) -> None:
    someone = invite(portal, language=language).started()
    lease = someone.worker_takes()
    someone.ledger(set_aside=aside)
    someone.worker_progresses(lease, 148)
    with portal.database.session() as session:
        session.get_one(Move, someone.move_id).set_aside = aside
    someone.worker_ends(lease, CopyOutcome.PARTIAL if aside else CopyOutcome.COMPLETE)
    page = someone.open(f"/m/{someone.token}").text
    assert heading in page and not [words for words in unsaid if words in page]
    assert "看搬家结果" in page or "See the result" in page


def test_the_link_of_a_move_on_its_way_asks_for_no_preparation(portal: PortalForTests) -> None:
    someone = invite(portal).started()
    for take in (False, True):
        if take:
            someone.worker_takes()
        page = someone.open(f"/m/{someone.token}").text
        assert "邮件正在搬" in page and "看进度" in page and "大约 5 分钟" not in page


def test_begin_trades_the_link_for_a_visit_without_token_in_the_address(portal: PortalForTests) -> None:
    someone = invite(portal)
    someone.open(f"/m/{someone.token}")
    answer = someone.submit(f"/m/{someone.token}")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/move/prepare")
    cookie = next(c for c in answer.headers.getlist("Set-Cookie") if c.startswith("banjia-visit="))
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Max-Age=1800" in cookie
    assert someone.token not in cookie
    with portal.database.reading() as session:
        assert session.query(Link).one().begun_at is not None


def test_cookies_are_host_bound_and_secure_over_https(portal: PortalForTests, tmp_path) -> None:
    with portal_in(tmp_path / "https", portal.settings.instance_dir, BASE_URL="https://move.example.com") as secure:
        someone = invite(secure)
        browser = someone.browser
        page = browser.get(f"/m/{someone.token}", base_url="https://move.example.com")
        assert page.headers["Strict-Transport-Security"].startswith("max-age=31536000")
        answer = browser.post(f"/m/{someone.token}", data={"csrf_token": form_token(page.text)}, base_url="https://move.example.com")
        assert answer.status_code == 303
        for cookie in page.headers.getlist("Set-Cookie") + answer.headers.getlist("Set-Cookie"):
            assert cookie.startswith("__Host-") and "Secure" in cookie and "Path=/" in cookie


def test_begin_without_a_form_token_is_refused(portal: PortalForTests) -> None:
    someone = invite(portal)
    answer = someone.browser.post(f"/m/{someone.token}")
    assert answer.status_code == 400 and "什么都没有改变" in answer.text
    assert someone.browser.get("/move/prepare").status_code == 401


@pytest.mark.parametrize(("headers", "status"), [
    ({"Sec-Fetch-Site": "cross-site"}, 403), ({"Sec-Fetch-Site": "same-site"}, 403), ({"Origin": "https://evil.example"}, 403),
    ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, 303), ({"Origin": "null"}, 303), ({"Origin": "http://localhost"}, 303)])
def test_a_form_sent_by_another_site_is_refused(portal: PortalForTests, headers: dict[str, str], status: int) -> None:
    someone = invite(portal)
    someone.open(f"/m/{someone.token}")
    answer = someone.browser.post(f"/m/{someone.token}", data={"csrf_token": form_token(someone.page)}, headers=headers)
    assert answer.status_code == status


@pytest.mark.parametrize(("spoil", "status", "text", "advice"), [
    ("unknown", 404, "没有这个链接", "再点一次链接"), ("expired", 410, "已经过期", "要一个新的链接"),
    ("revoked", 410, "已经停用", "打开最新的那一个"),
    ("closed", 410, "已经结束", "还有邮件要搬")])
def test_a_link_that_is_no_good_says_why_and_whom_to_ask(portal: PortalForTests, spoil: str, status: int, text: str, advice: str) -> None:
    someone = invite(portal)
    token = someone.token if spoil != "unknown" else "x" * 43
    with portal.database.session() as session:
        person = session.get_one(Person, someone.person_id)
        if spoil == "expired":
            person.links[0].expires_at = now() - dt.timedelta(seconds=1)
        elif spoil == "revoked":
            links.revoke_links(session, SYSTEM, person)
        elif spoil == "closed":
            projects.close_project(session, SYSTEM, person.project)
    for answer in (someone.open(f"/m/{token}"), someone.browser.post(f"/m/{token}", data={"csrf_token": form_token(someone.page)})):
        assert answer.status_code == status
        assert text in answer.text and "接下来" in answer.text and advice in answer.text
        assert ("再点一次链接" in answer.text) is (spoil == "unknown"), "of no use to whoever has an old link"
        assert ("ext. 8021" in answer.text) is (spoil != "unknown")


def test_revoking_a_link_ends_its_visits_at_once(portal: PortalForTests) -> None:
    someone = invite(portal)
    someone.begin()
    assert someone.open("/move/prepare").status_code == 200
    with portal.database.session() as session:
        links.revoke_links(session, SYSTEM, session.get_one(Person, someone.person_id))
    answer = someone.open("/move/prepare")
    assert answer.status_code == 401 and "请重新打开你的链接" in answer.text


def test_leaving_ends_the_visit(portal: PortalForTests) -> None:
    someone = invite(portal)
    someone.begin()
    someone.open("/move/prepare")
    assert someone.submit("/move/leave").headers["Location"] == "/move/left"
    assert someone.open("/move/prepare").status_code == 401


def test_a_visit_cookie_that_was_altered_counts_for_nothing(portal: PortalForTests) -> None:
    someone = invite(portal)
    someone.begin()
    someone.browser.set_cookie("banjia-visit", "MQ.aaaa.bbbb")
    assert someone.open("/move/prepare").status_code == 401


def test_one_person_never_sees_another(portal: PortalForTests) -> None:
    first, second = invite(portal, "first").ready(), invite(portal, "second")
    second.begin()
    answer = second.open(f"/move/check/{first.check_row().id}")
    assert answer.status_code == 303 and "first@" not in answer.text
    assert second.open(f"/move/check/{first.check_row().id}/live").status_code == 404


@pytest.mark.parametrize("path", ["/move", "/move/provider", "/move/prepare", "/move/credentials", "/move/check/1", "/move/review",
                                  "/move/progress", "/move/done", "/move/done/set-aside.csv"])
def test_without_a_visit_every_page_asks_for_the_link(portal: PortalForTests, path: str) -> None:
    answer = portal.client().get(path)
    assert answer.status_code == 401 and "请重新打开你的链接" in answer.text
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_language_is_the_persons_until_they_choose(portal: PortalForTests) -> None:
    someone = invite(portal, language="en")
    someone.open(f"/m/{someone.token}", headers={"Accept-Language": "zh-CN"})
    assert '<html lang="en">' in someone.page and "Moving never changes" in someone.page
    answer = someone.submit("/language", to="zh", back=f"/m/{someone.token}")
    assert answer.headers["Location"] == f"/m/{someone.token}"
    someone.open(f"/m/{someone.token}")
    assert '<html lang="zh-CN">' in someone.page
