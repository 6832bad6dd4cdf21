"""The revision that lets visits be left: links outlive it, there and back."""
from __future__ import annotations

from sqlalchemy import inspect

from portal.models import Link
from portal.store.db import migrate, unmigrate
from tests.support.portal_app import PortalForTests
from tests.unit.portal.employee_pages import invite


def test_links_of_the_schema_before_stay_good_and_nobody_has_left_them(portal: PortalForTests) -> None:
    someone = invite(portal)
    url = portal.settings.database_url
    unmigrate(url, "0002")
    assert "left_at" not in {column["name"] for column in inspect(portal.database.engine).get_columns("links")}
    assert not portal.database.ready()
    migrate(url)
    assert portal.database.ready()
    with portal.database.reading() as session:
        assert session.query(Link).one().left_at is None
    assert someone.begin() == "/move/prepare" and someone.open("/move/prepare").status_code == 200
