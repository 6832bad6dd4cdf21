"""After the end of a project, and of a visit: nobody is invited to type what would be thrown away."""
from __future__ import annotations

import pytest

from portal.models import Person
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
