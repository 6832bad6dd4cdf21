"""Staff sign in, stay signed in, sign out, take an invitation."""
from __future__ import annotations

import datetime as dt
import re

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from engine.endpoint import Secret
from portal.auth.sessions import ABSOLUTE
from portal.models import Role, Staff, StaffInvitation, now
from portal.services.common import Actor
from portal.services.staff import create_staff, invite, set_active, take_invitation
from tests.support.desk_scene import BOSS, EMAILS, PASSWORD, send, text_of
from tests.support.portal_app import PortalForTests, form_token


@pytest.fixture
def li(portal: PortalForTests) -> int:
    """A helpdesk person with a password."""
    with portal.database.open_session() as session:
        member = create_staff(session, BOSS, EMAILS[Role.HELPDESK], Role.HELPDESK, "李娜")
        take_invitation(session, Actor("system"), invite(session, BOSS, member, portal.settings), Secret(PASSWORD))
        return member.id


def sign_in(client: FlaskClient, email: str = EMAILS[Role.HELPDESK], password: str = PASSWORD, path: str = "/login"):  # type: ignore[no-untyped-def]
    token = form_token(client.get(path).text)
    wanted = re.search(r'name="next" value="([^"]*)"', client.get(path).text)
    return client.post("/login", data={"csrf_token": token, "email": email, "password": password, "next": wanted[1] if wanted else ""})


def test_the_right_password_leads_to_the_page_that_was_asked_for(portal: PortalForTests, li: int) -> None:
    client = portal.client()
    asked = client.get("/desk/moves?state=stuck")
    assert asked.status_code == 303
    answer = sign_in(client, path=asked.location)
    assert answer.location == "/desk/moves?state=stuck"
    assert client.get("/desk").status_code == 200


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_sign_in_never_leads_to_another_site(portal: PortalForTests, li: int, elsewhere: str) -> None:
    client = portal.client()
    token = form_token(client.get("/login").text)
    answer = client.post("/login", data={"csrf_token": token, "email": EMAILS[Role.HELPDESK], "password": PASSWORD, "next": elsewhere})
    assert answer.location == "/desk"


def test_a_refusal_does_not_tell_whether_the_account_exists(portal: PortalForTests, li: int) -> None:
    wrong = sign_in(portal.client(), password="not the password at all")
    nobody = sign_in(portal.client(), email="nobody@moves.example", password="not the password at all")
    assert wrong.status_code == nobody.status_code == 422
    assert text_of(wrong.text).replace(EMAILS[Role.HELPDESK], "") == text_of(nobody.text).replace("nobody@moves.example", "")
    assert "not the password at all" not in wrong.text
    assert f'value="{EMAILS[Role.HELPDESK]}"' in wrong.text  # what was typed stays, but for the password


def test_after_five_wrong_tries_even_the_right_password_waits(portal: PortalForTests, li: int) -> None:
    client = portal.client()
    for _ in range(5):
        assert sign_in(client, password="wrong wrong wrong").status_code == 422
    answer = sign_in(client)
    assert answer.status_code == 429
    assert "分钟" in answer.text
    assert client.get("/desk").status_code == 303


def test_signing_in_begins_a_fresh_session(portal: PortalForTests, li: int) -> None:
    """Given a session that somebody else may have planted, then nothing of it survives the sign-in."""
    client = portal.client()
    client.get("/login")
    with client.session_transaction() as planted:
        planted["planted"] = "by another"
        before = planted["csrf_token"]
    sign_in(client)
    with client.session_transaction() as fresh:
        assert "planted" not in fresh
        assert fresh.get("csrf_token") != before


def test_a_forgotten_session_ends_by_itself(portal: PortalForTests, li: int) -> None:
    client = portal.client()
    sign_in(client)
    idle = portal.settings.staff_session_minutes * 60
    with client.session_transaction() as session:
        session["staff_seen"] -= idle + 1
    assert client.get("/desk").status_code == 303


def test_a_busy_session_ends_after_a_working_day(portal: PortalForTests, li: int) -> None:
    client = portal.client()
    sign_in(client)
    with client.session_transaction() as session:
        session["staff_begun"] -= int(ABSOLUTE.total_seconds()) + 1
    assert client.get("/desk").status_code == 303


def test_pages_keep_a_session_alive_but_what_asks_by_itself_does_not(portal: PortalForTests, li: int) -> None:
    """Given a session 50 minutes old, when only a page's script asks, then it still ends in time; a page that was opened renews it."""
    client = portal.client()
    sign_in(client)
    for path, renewed in (("/desk/moves/1/now", False), ("/desk", True)):
        with client.session_transaction() as session:
            session["staff_seen"] = old = int(now().timestamp()) - 50 * 60
        client.get(path)
        with client.session_transaction() as session:
            assert (session["staff_seen"] > old) is renewed, path


def test_an_act_after_the_session_ended_says_that_nothing_was_done(portal: PortalForTests, li: int) -> None:
    client = portal.client()
    sign_in(client)
    token = form_token(client.get("/account").text)
    with client.session_transaction() as session:
        session["staff_seen"] -= 12 * 3600
    answer = client.post("/account/language", data={"csrf_token": token, "to": "en"})
    assert answer.status_code == 303
    assert "没有执行" in client.get(answer.location).text


def test_signing_out_ends_a_copied_cookie_too(portal: PortalForTests, li: int) -> None:
    client, thief = portal.client(), portal.client()
    sign_in(client)
    cookie = client.get_cookie("banjia")
    assert cookie is not None
    thief.set_cookie("banjia", cookie.value)
    assert thief.get("/desk").status_code == 200
    send_from_account(client, "/logout")
    assert thief.get("/desk").status_code == 303


def send_from_account(client: FlaskClient, path: str, **data: str):  # type: ignore[no-untyped-def]
    return client.post(path, data={"csrf_token": form_token(client.get("/account").text), **data})


def test_a_deactivated_account_is_out_at_once(portal: PortalForTests, li: int) -> None:
    client = portal.client()
    sign_in(client)
    with portal.database.open_session() as session:
        set_active(session, BOSS, session.get_one(Staff, li), False)
    assert client.get("/desk").status_code == 303
    assert sign_in(client).status_code == 422


def test_changing_the_password_ends_the_other_sessions(portal: PortalForTests, li: int) -> None:
    here, there = portal.client(), portal.client()
    sign_in(here)
    sign_in(there)
    wrong = send_from_account(here, "/account/password", current="wrong", new="another sentence to remember")
    assert wrong.status_code == 422
    assert 'id="f-current-error"' in wrong.text
    weak = send_from_account(here, "/account/password", current=PASSWORD, new="short")
    assert 'id="f-new-error"' in weak.text
    assert send_from_account(here, "/account/password", current=PASSWORD, new="another sentence to remember").status_code == 303
    assert here.get("/desk").status_code == 200
    assert there.get("/desk").status_code == 303


def test_the_language_is_kept_with_the_account(portal: PortalForTests, li: int) -> None:
    client = portal.client()
    sign_in(client)
    assert "今天" in client.get("/desk").text
    send_from_account(client, "/account/language", to="en")
    assert "Today" in client.get("/desk").text
    elsewhere = portal.client()
    sign_in(elsewhere)
    assert "Today" in elsewhere.get("/desk").text


# --- invitation -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def token(portal: PortalForTests) -> str:
    with portal.database.open_session() as session:
        return invite(session, BOSS, create_staff(session, BOSS, "new@moves.example", Role.ADMIN, "新人"), portal.settings)


def test_opening_an_invitation_changes_nothing(portal: PortalForTests, token: str) -> None:
    """Mail scanners open every link, some twice."""
    for _ in range(2):
        page = portal.client().get(f"/invitation/{token}")
        assert page.status_code == 200
        assert "新人" in page.text
    with portal.database.reading() as session:
        assert session.scalars(select(StaffInvitation.used_at)).one() is None


def test_an_invitation_sets_a_password_once(portal: PortalForTests, token: str) -> None:
    client = portal.client()
    weak = send(client, f"/invitation/{token}", password="short")
    assert weak.status_code == 422
    assert 'id="f-password-error"' in weak.text
    assert send(client, f"/invitation/{token}", password="a new sentence to remember").status_code == 303
    assert client.get("/projects").status_code == 200
    assert portal.client().get(f"/invitation/{token}").status_code == 410
    again = send(portal.client(), f"/invitation/{token}", password="somebody else's password")
    assert again.status_code == 410
    assert sign_in(portal.client(), email="new@moves.example", password="a new sentence to remember").status_code == 303


def test_an_old_or_unknown_invitation_says_what_to_do(portal: PortalForTests, token: str) -> None:
    with portal.database.session() as session:
        session.scalars(select(StaffInvitation)).one().expires_at = now() - dt.timedelta(seconds=1)
    for path in (f"/invitation/{token}", "/invitation/" + "a" * 43, "/invitation/x"):
        page = portal.client().get(path)
        assert page.status_code == 410
        assert 'href="/login"' in page.text
