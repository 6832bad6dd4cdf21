"""A person's server, logins and addresses: chosen, told apart, refused in words."""
from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import select

from engine.endpoint import Security
from portal.models import MoveState, Project
from portal.services.common import Actor, AlreadyExists, NotGiven, NotUsable
from portal.services.endpoints import destination_login, source_endpoint
from portal.services.people import NewPerson, add_person, choose_provider
from portal.services.projects import Server, change_destination
from tests.support.portal_app import PortalForTests
from tests.unit.portal.company import ADMIN, Company


@pytest.fixture
def company(portal: PortalForTests) -> Iterator[Company]:
    company = Company(portal)
    yield company
    company.close()


# --- provider and server --------------------------------------------------------------------------------------------------


def test_where_the_old_mailbox_is(company: Company) -> None:
    person, actor = company.wang, Actor.person(company.wang)
    assert str(source_endpoint(person)) == "imap.old.example:993"
    choose_provider(company.session, actor, person, "exmail")  # another than the project says
    assert source_endpoint(person).host == "imap.exmail.qq.com"
    choose_provider(company.session, actor, person, "generic", " Mail.Own.Example. ", 143)
    assert source_endpoint(person).host == "mail.own.example" and source_endpoint(person).security is Security.STARTTLS
    choose_provider(company.session, actor, person, None)
    assert str(source_endpoint(person)) == "imap.old.example:993"
    assert len(company.events("choose.provider")) == 3


def test_a_secret_never_goes_to_a_server_it_was_not_given_for(company: Company) -> None:
    person = company.ready("li")
    assert person.move.state is MoveState.READY
    choose_provider(company.session, Actor.person(person), person, "generic", "mail.elsewhere.example")
    assert company.credentials() == [("person", person.id, "destination_secret")]
    company.session.refresh(person.move)
    assert person.move.state is MoveState.INVITED


def test_choosing_the_same_again_changes_nothing(company: Company) -> None:
    person = company.ready("li")
    choose_provider(company.session, Actor.person(person), person, None)
    assert len(company.credentials()) == 2 and company.events("choose.provider") == []


@pytest.mark.parametrize(("key", "host", "port", "field"), [
    ("nonsense", None, None, "provider"), ("generic", "not a host", None, "source_host"), ("generic", "a.example", 25, "source_port"),
    ("generic", "a.example", 110, "source_port"), ("generic", "a.example", 995, "source_port"),
    ("generic", "evil.example\r\nX", 993, "source_host"),
])
def test_what_is_no_server_is_refused(company: Company, key: str, host: str | None, port: int | None, field: str) -> None:
    with pytest.raises(NotUsable) as caught:
        choose_provider(company.session, Actor.person(company.wang), company.wang, key, host, port)
    assert caught.value.field == field


def test_without_any_server_the_person_is_told_to_choose(company: Company) -> None:
    with company.database.session() as session:
        project = session.scalars(select(Project)).one()
        project.source_host, project.provider = "", None
    company.session.expire_all()
    with pytest.raises(NotUsable) as caught:
        company.submit(company.wang)
    assert caught.value.field == "provider"


def test_login_names_at_the_new_server(company: Company) -> None:
    person = company.wang
    assert destination_login(person, with_project_secret=False) == "wang@new.example"
    person.destination_login = "wang.new"
    assert destination_login(person, with_project_secret=False) == "wang.new"
    company.session.commit()
    change_destination(company.session, ADMIN, company.project, Server("imap.new.example"), "{address}*migrator")
    assert destination_login(person, with_project_secret=True) == "wang@new.example*migrator"
    change_destination(company.session, ADMIN, company.project, Server("imap.new.example"), "{local}")
    assert destination_login(person, with_project_secret=True) == "wang"


# --- adding ---------------------------------------------------------------------------------------------------------------


def test_addresses_are_lower_case_and_unique_on_both_sides(company: Company) -> None:
    person = add_person(company.session, ADMIN, company.project, NewPerson(" Zhao@Old.Example ", "赵"))
    assert (person.source_address, person.destination_address, person.move.state) == (
        "zhao@old.example",
        "zhao@old.example",
        MoveState.INVITED,
    )
    with pytest.raises(AlreadyExists) as caught:
        add_person(company.session, ADMIN, company.project, NewPerson("ZHAO@old.example"))
    assert caught.value.field == "source_address"
    with pytest.raises(AlreadyExists) as caught:
        add_person(company.session, ADMIN, company.project, NewPerson("z2@old.example", destination_address="zhao@old.example"))
    assert caught.value.field == "destination_address"


@pytest.mark.parametrize(
    "address",
    ["", "wang", "@x.example", "wang@", "a b@x.example", "a@b@c.example", "a\n@x.example", "a@-x.example", '"a"@x.example',
     "wa\u202eng@x.example", "wa\u200bng@x.example", "wang@x\u2060y.example", "wa\x00ng@x.example", "wa\u00adng@x.example"],
)
def test_what_is_no_address_is_refused(company: Company, address: str) -> None:
    with pytest.raises((NotUsable, NotGiven)) as caught:
        add_person(company.session, ADMIN, company.project, NewPerson(address))
    assert caught.value.field == "source_address"


@pytest.mark.parametrize("address", ["wang@公司.cn", "o'brien+x@sub.example.com", "王伟@example.cn"])
def test_unusual_addresses_are_fine(company: Company, address: str) -> None:
    assert add_person(company.session, ADMIN, company.project, NewPerson(address)).source_address == address


def test_names_lose_what_nobody_sees_and_logins_with_it_are_refused(company: Company) -> None:
    person = add_person(company.session, ADMIN, company.project, NewPerson("zhao@old.example", " 赵\u202e\u200b\x00 一\n行 "))
    assert person.name == "赵 一 行"
    for login in ("za\u202eho", "zh\u200bao", "zh\x00ao"):
        with pytest.raises(NotUsable) as caught:
            add_person(company.session, ADMIN, company.project, NewPerson("li@old.example", source_login=login))
        assert caught.value.field == "source_login"
