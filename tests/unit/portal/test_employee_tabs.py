"""One browser, two people: a page that was made for the one never acts on, nor refreshes with, what belongs to the other."""
from __future__ import annotations

import re

import pytest

from portal.models import Credential, Move, Person
from tests.support.portal_app import PortalForTests, form_token
from tests.unit.portal.employee_pages import Someone, form_owner, invite

SECRET = "abcdefghijklmnop"


def _moved_in(portal: PortalForTests) -> tuple[Someone, Someone]:
    """Both in the first one's browser; the second one's visit is the one that is open."""
    first, second = invite(portal, "frida"), invite(portal, "gustav")
    first.begin()
    first.open("/move/credentials")
    second.browser = first.browser
    second.begin()
    return first, second


def test_a_secret_typed_on_the_page_of_another_person_is_not_kept(portal: PortalForTests) -> None:
    first, second = _moved_in(portal)
    answer = first.submit("/move/credentials", source_secret=SECRET, source_login="frida")
    assert answer.status_code == 409 and SECRET not in answer.text
    assert "这一页是给 fr***@old.example 的" in answer.text and "gustav@old.example" in answer.text and "没有保存任何内容" in answer.text
    assert 'class="button" href="/move"' in answer.text
    with portal.database.reading() as session:
        assert session.query(Credential).filter_by(owner_kind="person").count() == 0
        assert session.get_one(Person, second.person_id).source_login is None


@pytest.mark.parametrize("path", ["/move/provider", "/move/credentials", "/move/check", "/move/start", "/move/pause", "/move/resume",
                                  "/move/leave"])
@pytest.mark.parametrize("owner", ["other", "none", "made up"])
def test_no_form_of_another_person_acts(portal: PortalForTests, path: str, owner: str) -> None:
    first, second = _moved_in(portal)
    second.open("/move/provider")
    fields = {"other": {"whose": form_owner(first.page)}, "none": {}, "made up": {"whose": f"{second.person_id}.x"}}[owner]
    answer = first.browser.post(path, data={"csrf_token": form_token(first.page), **fields, "provider": "qq", "source_secret": SECRET})
    assert answer.status_code == 409 and "没有保存任何内容" in answer.text and "gustav@old.example" in answer.text
    assert ("fr***@old.example" in answer.text) is (owner == "other")
    assert second.open("/move/provider").status_code == 200
    with portal.database.reading() as session:
        assert {person.provider for person in session.query(Person)} == {"exmail"}


def test_the_words_of_the_refusal_are_there_in_english_and_survive_the_switch(portal: PortalForTests) -> None:
    first, _ = _moved_in(portal)
    answer = first.submit("/move/start")
    back = re.search(r'name="back" value="([^"]+)"', answer.text)
    assert back
    first.page = answer.text
    first.submit("/language", to="en", back=back[1].replace("&amp;", "&"))
    page = first.open(back[1].replace("&amp;", "&"))
    assert page.status_code == 200 and "This page is for fr***@old.example" in page.text and "Nothing was saved" in page.text


@pytest.mark.parametrize("path", ["/move/provider", "/move/prepare", "/move/credentials", "/move/review", "/move/progress", "/move/help"])
def test_every_form_of_a_page_says_whose_it_is(portal: PortalForTests, path: str) -> None:
    someone = invite(portal).ready()
    if path == "/move/progress":
        someone.open("/move/review")
        someone.submit("/move/start")
    page = someone.open(path).text
    forms = re.findall(r'<form[^>]*action="(/move/[^"]+)".*?</form>', page, re.S)
    assert "/move/leave" in forms
    assert page.count('name="whose"') == page.count('name="csrf_token"')


def test_a_page_that_refreshes_itself_says_so_and_stops_when_another_person_came(portal: PortalForTests) -> None:
    first, second = invite(portal, "frida").started(), invite(portal, "gustav")
    first.follow()
    live = re.search(r'data-live="([^"]+)"', first.page)
    assert live and first.open(live[1]).status_code == 200
    tag = first.open(live[1]).headers["ETag"]
    second.browser = first.browser
    second.begin()
    answer = first.open(live[1], headers={"If-None-Match": tag})
    assert answer.status_code == 200 and 'data-live-state="over"' in answer.text
    assert "这一页是给 fr***@old.example 的" in answer.text and "ETag" not in answer.headers
    with portal.database.reading() as session:
        assert session.get_one(Move, second.move_id).queued_at is None


def test_an_unchanged_state_of_another_person_is_not_taken_for_unchanged(portal: PortalForTests) -> None:
    first, second = invite(portal, "frida").started(), invite(portal, "gustav").started()
    tag = first.open("/move/progress/live").headers["ETag"]
    assert second.open("/move/progress/live", headers={"If-None-Match": tag}).status_code == 200


# --- the login name -------------------------------------------------------------------------------------------------------


def test_the_login_name_is_sent_only_when_it_is_to_change(portal: PortalForTests) -> None:
    someone = invite(portal)
    with portal.database.session() as session:
        session.get_one(Person, someone.person_id).source_login = "wang.old"
    someone.begin()
    someone.open("/move/credentials")
    field = re.search(r'<input id="f-source_login"[^>]*>', someone.page)
    assert field and 'value=""' in field[0] and 'autocomplete="off"' in field[0] and "wang.old" in someone.page
    assert someone.submit("/move/credentials", source_secret=SECRET, source_login="").status_code == 303
    with portal.database.reading() as session:
        assert session.get_one(Person, someone.person_id).source_login == "wang.old"


def test_the_review_shows_a_login_name_that_is_not_the_address(portal: PortalForTests) -> None:
    someone = invite(portal).ready()
    assert "登录名" not in someone.open("/move/review").text
    with portal.database.session() as session:
        session.get_one(Person, someone.person_id).source_login = "liu@elsewhere.example"
    page = someone.open("/move/review").text
    assert "旧邮箱的登录名" in page and "liu@elsewhere.example" in page
