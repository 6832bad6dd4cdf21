"""After the end of a project, and of a visit: nobody is invited to type what would be thrown away."""
from __future__ import annotations

import pytest
from itsdangerous import TimestampSigner, URLSafeTimedSerializer

from portal.models import AuditEvent, Person, now
from portal.services import projects
from portal.services.common import SYSTEM
from tests.support.portal_app import PortalForTests
from tests.unit.portal.employee_pages import Someone, invite


def _close(portal: PortalForTests, someone: Someone) -> None:
    with portal.database.session() as session:
        projects.close_project(session, SYSTEM, session.get_one(Person, someone.person_id).project)


@pytest.mark.parametrize("path", ["/move", "/move/provider", "/move/prepare", "/move/credentials", "/move/review"])
def test_a_closed_project_asks_for_nothing(portal: PortalForTests, path: str) -> None:
    someone = invite(portal).ready()
    _close(portal, someone)
    assert someone.open(path).headers["Location"] == "/move/over"
    page = someone.open("/move/over")
    assert page.status_code == 200 and "这次搬家已经结束" in page.text and "ext. 8021" in page.text
    assert "/move/credentials" not in page.text and "/move/prepare" not in page.text


def test_an_act_after_the_end_leads_to_the_page_that_says_so(portal: PortalForTests) -> None:
    someone = invite(portal).ready()
    someone.open("/move/review")
    _close(portal, someone)
    for path in ("/move/start", "/move/check"):
        assert someone.submit(path).headers["Location"] == "/move/over"
    someone.open("/move/over")
    for path, typed in (("/move/provider", {"provider": "qq"}), ("/move/credentials", {"source_secret": "abcdefghijklmnop"})):
        assert someone.submit(path, **typed).headers["Location"] == "/move/over"


def test_a_move_that_the_end_stopped_says_what_has_arrived(portal: PortalForTests) -> None:
    someone = invite(portal).started()
    _close(portal, someone)
    assert someone.follow().request.path == "/move/over"
    assert 'href="/move/progress"' in someone.page


def test_the_page_of_the_end_is_not_for_an_open_project(portal: PortalForTests) -> None:
    someone = invite(portal).ready()
    assert someone.open("/move/over").headers["Location"] == "/move/review"


# --- the end of a visit ---------------------------------------------------------------------------------------------------


def test_leaving_ends_the_visit_at_the_server_also_for_a_copied_cookie(portal: PortalForTests) -> None:
    someone = invite(portal)
    someone.begin()
    someone.open("/move/prepare")
    cookie = someone.browser.get_cookie("banjia-visit")
    assert cookie
    someone.submit("/move/leave")
    thief = portal.client()
    thief.set_cookie("banjia-visit", cookie.value)
    assert thief.get("/move/prepare").status_code == 401
    assert someone.begin() == "/move/prepare" and someone.open("/move/prepare").status_code == 200
    with portal.database.reading() as session:
        assert session.query(AuditEvent).filter_by(action="leave.visit").count() == 1


def test_a_visit_lasts_half_a_day_however_busy(portal: PortalForTests) -> None:
    someone = invite(portal)
    someone.begin()
    signer = URLSafeTimedSerializer(portal.app.config["SECRET_KEY"], salt="banjia employee visit")
    link_id, begun = signer.loads(someone.browser.get_cookie("banjia-visit").value)  # type: ignore[union-attr]
    for hours, status in ((11.9, 200), (12.1, 401)):
        someone.browser.set_cookie("banjia-visit", signer.dumps([link_id, begun - hours * 3600]))
        assert someone.open("/move/prepare").status_code == status
    for spoilt in (link_id, [link_id], [link_id, "x"], None):
        someone.browser.set_cookie("banjia-visit", signer.dumps(spoilt))
        assert someone.open("/move/prepare").status_code == 401


def test_leaving_an_older_visit_does_not_renew_its_cookie(portal: PortalForTests) -> None:
    someone = invite(portal)
    someone.begin()
    someone.open("/move/prepare")

    class Earlier(TimestampSigner):
        def get_timestamp(self) -> int:
            return super().get_timestamp() - 60

    signer = URLSafeTimedSerializer(portal.app.config["SECRET_KEY"], salt="banjia employee visit", signer=Earlier)
    someone.browser.set_cookie("banjia-visit", signer.dumps([1, now().timestamp() - 60]))
    answer = someone.submit("/move/leave")
    assert answer.headers["Location"] == "/move/left" and someone.browser.get_cookie("banjia-visit") is None


def test_going_on_does_not_make_a_visit_younger(portal: PortalForTests) -> None:
    someone = invite(portal)
    someone.begin()
    begun = now().timestamp() - 3600

    class Earlier(TimestampSigner):
        def get_timestamp(self) -> int:
            return super().get_timestamp() - 60

    signer = URLSafeTimedSerializer(portal.app.config["SECRET_KEY"], salt="banjia employee visit", signer=Earlier)
    someone.browser.set_cookie("banjia-visit", signer.dumps([1, begun]))
    renewed = someone.open("/move/prepare").headers.getlist("Set-Cookie")
    assert any("banjia-visit" in cookie for cookie in renewed)
    assert signer.loads(someone.browser.get_cookie("banjia-visit").value) == [1, begun]  # type: ignore[union-attr]
