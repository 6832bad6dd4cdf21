"""Personal links: known once, looked at freely, begun once, ended at will."""
from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from sqlalchemy import select, update

from portal.models import Link, Project, now
from portal.security.links import token_sha256
from portal.services.common import Actor, ProjectClosed
from portal.services.links import LinkNotUsable, LinkState, begin, find_link, issue_link, link_url, revoke_links
from portal.services.projects import close_project
from tests.support.portal_app import PortalForTests
from tests.unit.portal.company import ADMIN, HELPDESK, Company


@pytest.fixture
def company(portal: PortalForTests) -> Iterator[Company]:
    company = Company(portal)
    yield company
    company.close()


def issue(company: Company) -> str:
    return issue_link(company.session, HELPDESK, company.wang, company.portal.settings)


def test_only_the_hash_of_a_token_is_kept_and_no_event_holds_it(company: Company) -> None:
    token = issue(company)
    with company.look() as session:
        link = session.scalars(select(Link)).one()
        assert link.token_sha256 == token_sha256(token)
        assert now() + dt.timedelta(days=29) < link.expires_at <= company.project.closes_at
    (event,) = company.events("issue.link")
    assert (event.actor, event.address, event.subject_kind, event.subject_id) == (
        HELPDESK.name,
        HELPDESK.address,
        "person",
        company.wang.id,
    )
    assert token not in str(event.detail)
    assert link_url(company.portal.settings, token) == f"http://127.0.0.1:8000/m/{token}"


def test_looking_changes_nothing(company: Company) -> None:
    token = issue(company)
    found = find_link(company.session, token)
    assert found.why is LinkState.OK and found.person is company.wang and found.contact == "Li, ext. 8000"
    with company.look() as session:
        assert session.scalars(select(Link.begun_at)).one() is None
    assert company.events("begin.link") == []


def test_beginning_is_noted_every_time_and_dated_once(company: Company) -> None:
    token = issue(company)
    person = Actor.person(company.wang, "192.0.2.33")
    link = find_link(company.session, token).link
    assert link is not None
    assert begin(company.session, person, link) is company.wang
    with company.look() as session:
        first = session.scalars(select(Link.begun_at)).one()
    begin(company.session, person, link)
    with company.look() as session:
        assert session.scalars(select(Link.begun_at)).one() == first is not None
    assert [event.address for event in company.events("begin.link")] == ["192.0.2.33"] * 2


@pytest.mark.parametrize("token", ["", "x", "a" * 43, "../../etc/passwd", "\ud800" * 43])
def test_an_unknown_token_finds_nothing(company: Company, token: str) -> None:
    found = find_link(company.session, token)
    assert (found.why, found.person, found.link) == (LinkState.UNKNOWN, None, None)


def test_expired_revoked_and_closed_links_refuse_with_words(company: Company) -> None:
    expired, revoked, closed = issue(company), issue(company), issue(company)
    with company.database.session() as session:
        session.execute(update(Link).where(Link.token_sha256 == token_sha256(expired)).values(expires_at=now()))
        session.execute(update(Link).where(Link.token_sha256 == token_sha256(revoked)).values(revoked_at=now()))
    for token, why in ((expired, LinkState.EXPIRED), (revoked, LinkState.REVOKED), (closed, LinkState.CLOSED)):
        link = company.session.scalars(select(Link).where(Link.token_sha256 == token_sha256(token))).one()
        if why is LinkState.CLOSED:
            close_project(company.session, ADMIN, company.project)
        assert find_link(company.session, token).why is why
        with pytest.raises(LinkNotUsable) as caught:
            begin(company.session, Actor.person(company.wang), link)
        assert caught.value.why is why and caught.value.zh and caught.value.en
    with pytest.raises(ProjectClosed, match="This move is over"):
        issue(company)


def test_a_link_ends_with_its_project(company: Company) -> None:
    token = issue(company)
    with company.database.session() as session:
        session.execute(update(Project).values(closes_at=now() + dt.timedelta(days=2)))
    late = issue(company)
    with company.look() as session:
        end = session.scalars(select(Link.expires_at).where(Link.token_sha256 == token_sha256(late))).one()
        assert end <= now() + dt.timedelta(days=2)
    with company.database.session() as session:
        session.execute(update(Project).values(closes_at=now()))
    company.session.rollback()
    company.session.expire_all()
    assert find_link(company.session, token).why is LinkState.CLOSED


def test_revoking_ends_all_good_links_of_one_person(company: Company) -> None:
    tokens = [issue(company), issue(company)]
    other = issue_link(company.session, HELPDESK, company.person("other"), company.portal.settings)
    assert revoke_links(company.session, HELPDESK, company.wang) == 2
    assert revoke_links(company.session, HELPDESK, company.wang) == 0
    assert [find_link(company.session, token).why for token in (*tokens, other)] == [LinkState.REVOKED, LinkState.REVOKED, LinkState.OK]
    assert len(company.events("revoke.links")) == 1
