"""What is refused before or beside a page's own work: a page in words with its own number, never a fault."""
from __future__ import annotations

import re

import pytest
from sqlalchemy.exc import OperationalError

from tests.support.portal_app import PortalForTests, form_token
from tests.unit.portal.employee_pages import form_owner, invite

PATHS = ["/move/credentials", "/move/start", "/move/leave", "/language", "/m/" + "x" * 43]


@pytest.mark.parametrize("path", PATHS)
def test_a_form_without_its_token_is_answered_with_a_page_during_a_visit(portal: PortalForTests, path: str) -> None:
    someone = invite(portal).ready()
    for data in ({}, {"csrf_token": "x"}):
        answer = someone.browser.post(path, data=data)
        assert answer.status_code == 400 and "什么都没有改变" in answer.text and "wang@" not in answer.text


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {"Origin": "http://["}])
def test_a_form_of_another_site_is_answered_with_a_page_during_a_visit(portal: PortalForTests, path: str, headers: dict[str, str]) -> None:
    someone = invite(portal).ready()
    someone.open("/move/review")
    answer = someone.browser.post(path, data={"csrf_token": form_token(someone.page)}, headers=headers)
    assert answer.status_code == 403 and "请求来自别的网站" in answer.text


def test_a_form_whose_session_is_gone_is_answered_with_a_page_and_leads_back(portal: PortalForTests) -> None:
    someone = invite(portal).ready()
    someone.open("/move/review")
    someone.browser.delete_cookie("banjia")
    answer = someone.submit("/move/start")
    assert answer.status_code == 400 and "刷新后再试一次" in answer.text
    assert 'name="back" value="/move"' in answer.text and someone.follow().request.path == "/move/review"


@pytest.mark.parametrize("path", ["/move", "/move/review", "/move/help"])
def test_a_database_that_does_not_answer_gives_the_page_of_a_fault(portal: PortalForTests, path: str,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    someone = invite(portal).ready()

    def gone() -> None:
        raise OperationalError("select", {}, OSError("disk gone"))

    monkeypatch.setattr(portal.app.extensions["banjia"].database, "open_session", gone)
    answer = someone.open(path)
    assert answer.status_code == 500 and "我们这边出错了" in answer.text and "disk gone" not in answer.text


@pytest.mark.parametrize("number", ["0", "9223372036854775808", "9" * 30, "9" * 5000, "²", "-1", "9007199254740993"])
def test_a_number_that_no_row_has_is_a_page_that_is_not_there(portal: PortalForTests, number: str) -> None:
    someone = invite(portal).ready()
    for path in (f"/move/check/{number}", f"/move/check/{number}/live", f"/desk/moves/{number}", f"/projects/{number}"):
        assert someone.open(path).status_code == 404, path


@pytest.mark.parametrize("port", ["²", "9" * 5000, "-1", "0", "65536", "9 9", "1e3"])
def test_a_port_that_is_none_is_explained(portal: PortalForTests, port: str) -> None:
    someone = invite(portal, provider=None)
    someone.begin()
    someone.open("/move/provider")
    answer = someone.submit("/move/provider", provider="generic", source_host="imap.old.example", source_port=port)
    assert answer.status_code == 422 and "端口是一个数字" in answer.text


def test_a_port_in_the_wide_digits_of_a_chinese_keyboard_is_taken(portal: PortalForTests) -> None:
    someone = invite(portal, provider=None)
    someone.begin()
    someone.open("/move/provider")
    assert someone.submit("/move/provider", provider="generic", source_host="imap.old.example", source_port="９９３").status_code == 303


# --- the language switch on the answer to a form --------------------------------------------------------------------------


def test_a_refusal_is_still_told_after_the_language_was_switched(portal: PortalForTests) -> None:
    someone = invite(portal)
    someone.begin()
    for path, typed, zh, en in (("/move/provider", {"provider": "nobody"}, "没有这个服务商", "no such provider"),
                                ("/move/credentials", {"source_secret": ""}, "这里还没有填", "")):
        someone.open(path)
        answer = someone.submit(path, **typed)
        assert answer.status_code == 422 and zh in answer.text
        back = re.search(r'name="back" value="([^"]+)"', answer.text)
        assert back
        someone.submit("/language", to="en", back=back[1])
        page = someone.open(back[1])
        assert page.status_code == 200 and 'role="alert"' in page.text and "<title>Error: " in page.text
        assert en in page.text.lower() and zh not in page.text
        assert 'role="alert"' not in someone.open(path).text, "told once"
        someone.submit("/language", to="zh", back=path)


@pytest.mark.parametrize("path", ["/move/provider", "/move/credentials", "/move/check", "/move/start", "/move/pause", "/move/leave"])
def test_the_switch_leads_to_a_page_that_opens(portal: PortalForTests, path: str) -> None:
    someone = invite(portal)
    someone.begin()
    someone.open("/move/prepare")
    owner = form_owner(someone.page)
    for data in ({"csrf_token": form_token(someone.page), "whose": owner}, {"csrf_token": form_token(someone.page)}, {}):
        answer = someone.browser.post(path, data=data)
        if answer.status_code >= 400:
            back = re.search(r'name="back" value="([^"]+)"', answer.text)
            assert back and someone.browser.get(back[1].replace("&amp;", "&"), follow_redirects=True).status_code == 200
        if path == "/move/leave":
            someone.begin()
