"""Projects and relays: servers checked, exceptions audited, secrets never carried to another server, everything destroyed at the end."""
from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from sqlalchemy import select, update

from config import PortRange
from engine.endpoint import Secret
from portal.models import Attempt, Credential, Move, MoveState, Owner, Person, Project, ProjectState, Relay, now
from portal.services.common import Actor, AlreadyExists, NotGiven, NotUsable, ProjectClosed, WrongState
from portal.services.credentials import destroy_credentials, find_credential, purge_expired, store_secret
from portal.services.days import ZONE
from portal.services.moves import start
from portal.services.projects import (
    Server,
    change_destination,
    change_source,
    change_window,
    choose_relay,
    close_project,
    create_project,
    forget_destination_secret,
    set_destination_secret,
)
from portal.services.relays import change_relay, create_relay, remove_relay
from tests.support.certificates import authority
from tests.support.portal_app import PortalForTests
from tests.unit.portal.company import ADMIN, NEW, OLD, Company

TOKEN = "rt1.hq." + "k" * 43


@pytest.fixture
def company(portal: PortalForTests) -> Iterator[Company]:
    company = Company(portal)
    yield company
    company.close()


@pytest.fixture(scope="module")
def ca_pem() -> str:
    return authority().pem


# --- servers --------------------------------------------------------------------------------------------------------------


def test_a_project_has_a_name_of_its_own_and_an_end(company: Company) -> None:
    with pytest.raises(AlreadyExists):
        create_project(company.session, ADMIN, " Example ")
    for name in ("", "  ", "x" * 81, "a\u202eb"):
        with pytest.raises((NotGiven, NotUsable)):
            create_project(company.session, ADMIN, name)
    for days in (0, 181):
        with pytest.raises(NotUsable) as caught:
            create_project(company.session, ADMIN, "Other", days=days)
        assert caught.value.field == "days"
    project = create_project(company.session, ADMIN, "Other", days=7)
    assert dt.timedelta(days=7) <= project.closes_at - now() < dt.timedelta(days=8) and project.state is ProjectState.OPEN
    last = project.closes_at.astimezone(ZONE)
    assert (last.hour, last.minute, last.second) == (23, 59, 59)
    assert company.events("create.project")[-1].detail["closes_at"] == last.date().isoformat()


@pytest.mark.parametrize(("server", "field"), [
    (Server(""), "destination_host"), (Server("no host"), "destination_host"), (Server("a.example", 25), "destination_port"),
    (Server("a.example", 993, "plain"), "destination_security"), (Server("a.example", ca_pem="nonsense"), "destination_ca_pem"),
    (Server("a.example", pinned_sha256="abc"), "destination_pinned_sha256"),
])
def test_a_server_is_checked_field_by_field(company: Company, server: Server, field: str) -> None:
    with pytest.raises((NotGiven, NotUsable)) as caught:
        change_destination(company.session, ADMIN, company.project, server)
    assert caught.value.field == field and caught.value.zh and caught.value.en
    assert company.project.destination_host == NEW.host


@pytest.mark.parametrize("template", ["{password}", "{address", "{}", "a\r\nb", "x" * 201])
def test_a_login_template_holds_address_and_local_only(company: Company, template: str) -> None:
    with pytest.raises(NotUsable) as caught:
        change_destination(company.session, ADMIN, company.project, NEW, template)
    assert caught.value.field == "destination_login_template"


def test_ports_are_those_that_the_operator_allows(company: Company) -> None:
    with pytest.raises(NotUsable, match="143, 993"):
        change_source(company.session, ADMIN, company.project, None, Server("a.example", 2993))
    change_source(company.session, ADMIN, company.project, None, Server("a.example", 2993), allowed_ports=(PortRange(2000, 3000),))
    assert company.project.source_port == 2993


def test_tls_exceptions_are_stored_and_named_in_the_audit(company: Company, ca_pem: str) -> None:
    pin = "AB:" * 31 + "AB"
    change_source(
        company.session,
        ADMIN,
        company.project,
        "generic",
        Server("a.example", ca_pem=ca_pem, pinned_sha256=pin, reason=" 内网自签 "),
    )
    assert company.project.source_ca_pem == ca_pem.strip() + "\n" and company.project.source_pinned_sha256 == "ab" * 32
    detail = company.events("change.source")[-1].detail
    assert (detail["own_ca"], detail["pinned"], detail["was"], detail["reason"]) == (True, "ab" * 32, "imap.old.example:993", "内网自签")
    assert "BEGIN" not in str(detail)


def test_an_exception_needs_a_reason_once(company: Company, ca_pem: str) -> None:
    for change, field in ((lambda s: change_source(company.session, ADMIN, company.project, "generic", s), "source_reason"),
                          (lambda s: change_destination(company.session, ADMIN, company.project, s), "destination_reason")):
        with pytest.raises(NotGiven) as caught:
            change(Server("a.example", ca_pem=ca_pem))
        assert caught.value.field == field
        change(Server("a.example", ca_pem=ca_pem, reason="lab"))
        change(Server("a.example", 143, "starttls", ca_pem=ca_pem))


def test_saying_the_same_again_is_no_event(company: Company, ca_pem: str) -> None:
    server = Server("a.example", ca_pem=ca_pem, reason="lab")
    for _ in range(2):
        change_source(company.session, ADMIN, company.project, "generic", server)
        change_destination(company.session, ADMIN, company.project, server)
        choose_relay(company.session, ADMIN, company.project, None)
    assert len(company.events("change.source")) == len(company.events("change.destination")) == 2  # one of them by the fixture
    assert company.events("choose.relay") == []


def test_a_project_names_its_source_somehow(company: Company) -> None:
    with pytest.raises(NotGiven) as caught:
        change_source(company.session, ADMIN, company.project, None, None)
    assert caught.value.field == "provider"
    with pytest.raises(NotUsable):
        change_source(company.session, ADMIN, company.project, "nonsense", None)
    change_source(company.session, ADMIN, company.project, "exmail", None)
    assert (company.project.provider, company.project.source_host) == ("exmail", "")


def test_secrets_given_for_a_server_are_not_kept_for_another(company: Company) -> None:
    set_destination_secret(company.session, ADMIN, company.project, Secret("master"), company.sealer)
    person = company.ready("li")
    change_source(company.session, ADMIN, company.project, "generic", Server(OLD.host, pinned_sha256="ab" * 32, reason="lab"))
    assert len(company.credentials()) == 3, "the same server with another exception is the same server"
    change_source(company.session, ADMIN, company.project, "generic", Server("other.example"))
    assert company.credentials() == [("person", person.id, "destination_secret"), ("project", company.project.id, "destination_secret")]
    change_destination(company.session, ADMIN, company.project, Server("elsewhere.example"))
    assert company.credentials() == []


# --- the project's own secret, its window, its end ------------------------------------------------------------------------


def test_the_projects_own_secret_is_sealed_for_the_project(company: Company) -> None:
    set_destination_secret(company.session, ADMIN, company.project, Secret(" master key "), company.sealer)
    with company.look() as session:
        row = session.scalars(select(Credential)).one()
        assert company.portal.vault.open(row.sealed, "project", company.project.id, "destination_secret").reveal() == "master key"
        assert row.expires_at == company.project.closes_at
    assert "master" not in str(company.events("set.destination_secret")[0].detail)
    forget_destination_secret(company.session, ADMIN, company.project)
    assert company.credentials() == []


def test_a_longer_window_keeps_the_secrets_longer(company: Company) -> None:
    company.submit(company.wang)
    change_window(company.session, ADMIN, company.project, 60, contact="Zhao")
    with company.look() as session:
        assert {row.expires_at for row in session.scalars(select(Credential))} == {company.project.closes_at}
    assert company.project.contact == "Zhao" and company.project.closes_at - now() > dt.timedelta(days=59)


def test_a_project_past_its_last_day_can_be_given_more_time_a_closed_one_not(company: Company) -> None:
    with company.database.session() as session:
        session.execute(update(Project).values(closes_at=now() - dt.timedelta(days=1)))
    company.session.rollback()
    with pytest.raises(ProjectClosed):
        company.person("late")
    change_window(company.session, ADMIN, company.project, 5)
    assert company.person("late")
    close_project(company.session, ADMIN, company.project)
    with pytest.raises(ProjectClosed):
        change_window(company.session, ADMIN, company.project, 5)


def test_closing_stops_everything_and_destroys_every_secret(company: Company) -> None:
    """Given moves in every state and secrets of people and project, when the project closes, then none can run and no secret stands."""
    set_destination_secret(company.session, ADMIN, company.project, Secret("master"), company.sealer)
    people = {state: company.ready(state.value) for state in (MoveState.QUEUED, MoveState.WAITING, MoveState.MOVING, MoveState.READY)}
    for state, person in people.items():
        if state is not MoveState.READY:
            start(company.session, Actor.person(person), person.move)
            company.set_move(person, state)
    other = create_project(company.session, ADMIN, "Other")
    set_destination_secret(company.session, ADMIN, other, Secret("other master"), company.sealer)
    close_project(company.session, ADMIN, company.project)
    assert company.credentials() == [("project", other.id, "destination_secret")]
    with company.look() as session:
        rows = {move.person_id: move for move in session.scalars(select(Move))}
        for state in (MoveState.QUEUED, MoveState.WAITING):
            move = rows[people[state].id]
            assert (move.state, move.cause) == (MoveState.STUCK, "window_closed")
            assert session.scalars(select(Attempt.outcome).where(Attempt.move_id == move.id)).all() == ["failed"]
        assert (rows[people[MoveState.MOVING].id].state, rows[people[MoveState.MOVING].id].stop_requested) == (MoveState.MOVING, True)
        assert rows[people[MoveState.READY].id].state is MoveState.READY
    assert company.events("close.project")[0].detail == {"stopped": 2}
    with pytest.raises(WrongState, match="closed already"):
        close_project(company.session, ADMIN, company.project)


# --- destroying -----------------------------------------------------------------------------------------------------------


def test_destroying_names_how_many_and_why_and_once(company: Company) -> None:
    company.submit(company.wang)
    worker = Actor("worker:w1")
    assert destroy_credentials(company.session, worker, Owner.PERSON, company.wang.id, ["source_secret"], reason="refused") == 1
    assert destroy_credentials(company.session, worker, Owner.PERSON, company.wang.id, reason="done") == 1
    assert destroy_credentials(company.session, worker, Owner.PERSON, company.wang.id, reason="done") == 0
    events = company.events("destroy.credentials")
    assert [(e.actor, e.subject_kind, e.subject_id, e.project_id, e.detail["reason"], e.detail["count"]) for e in events] == [
        ("worker:w1", "person", company.wang.id, company.project.id, reason, 1) for reason in ("refused", "done")]


def test_what_has_had_its_day_is_purged_and_was_no_longer_found_before(company: Company) -> None:
    company.submit(company.wang)
    with company.database.session() as session:
        store_secret(session, Owner.CHECK, 5, "secret", Secret("probe"), company.sealer, now() - dt.timedelta(seconds=1))
    assert find_credential(company.session, Owner.CHECK, 5, "secret") is None
    assert purge_expired(company.session) == 1
    assert purge_expired(company.session) == 0
    assert [owner for owner, _, _ in company.credentials()] == ["person", "person"]
    assert company.events("purge.credentials")[0].detail == {"count": 1, "owners": ["check:5"]}


def test_secrets_of_a_finished_move_are_purged_but_not_those_typed_since(company: Company) -> None:
    person = company.ready("li")
    company.set_move(person, MoveState.DONE, outcome="partial")
    company.end_check(company.submit(person, "newer", None))
    assert purge_expired(company.session) == 1, "the destination's, typed before the end"
    assert company.credentials() == [("person", person.id, "source_secret")] and company.opened(person, "source_secret") == "newer"


# --- relays ---------------------------------------------------------------------------------------------------------------


def test_a_relay_keeps_its_token_sealed(company: Company, ca_pem: str) -> None:
    relay = create_relay(company.session, ADMIN, "北京", "relay.example", 8443, Secret(f" {TOKEN}\n"), company.sealer, ca_pem)
    with company.look() as session:
        row = session.scalars(select(Credential)).one()
        assert company.portal.vault.open(row.sealed, "relay", relay.id, "token").reveal() == TOKEN and row.expires_at is None
    assert TOKEN not in str([event.detail for event in company.events("create.relay")])
    choose_relay(company.session, ADMIN, company.project, relay)
    with company.look() as session:
        assert session.scalars(select(Project.relay_id)).one() == relay.id
    assert company.events("choose.relay")[0].detail == {"was": None, "relay": "北京"}


@pytest.mark.parametrize(("name", "host", "port", "token", "field"), [
    ("", "r.example", 8443, TOKEN, "name"), ("x", "no host", 8443, TOKEN, "host"), ("x", "r.example", 0, TOKEN, "port"),
    ("x", "r.example", 8443, "", "token"), ("x", "r.example", 8443, TOKEN[:-1], "token"),
])
def test_a_relay_is_checked_field_by_field(company: Company, name: str, host: str, port: int, token: str, field: str) -> None:
    with pytest.raises((NotGiven, NotUsable)) as caught:
        create_relay(company.session, ADMIN, name, host, port, Secret(token), company.sealer)
    assert caught.value.field == field and (not token or token not in str(caught.value))
    assert company.session.scalars(select(Relay)).all() == []


def test_a_token_is_never_sent_to_a_new_place(company: Company) -> None:
    relay = create_relay(company.session, ADMIN, "r", "relay.example", 8443, Secret(TOKEN), company.sealer)
    with pytest.raises(NotGiven) as caught:
        change_relay(company.session, ADMIN, relay, "elsewhere.example", 8443, None, company.sealer)
    assert caught.value.field == "token" and relay.host == "relay.example"
    change_relay(company.session, ADMIN, relay, "relay.example", 8443, None, company.sealer)
    other = "rt1.hq." + "z" * 43
    change_relay(company.session, ADMIN, relay, "elsewhere.example", 9443, Secret(other), company.sealer)
    with company.look() as session:
        row = session.scalars(select(Credential)).one()
        assert company.portal.vault.open(row.sealed, "relay", relay.id, "token").reveal() == other


def test_a_relay_in_use_stays(company: Company) -> None:
    relay = create_relay(company.session, ADMIN, "r", "relay.example", 8443, Secret(TOKEN), company.sealer)
    with pytest.raises(AlreadyExists):
        create_relay(company.session, ADMIN, "r", "relay2.example", 8443, Secret(TOKEN), company.sealer)
    choose_relay(company.session, ADMIN, company.project, relay)
    with pytest.raises(WrongState, match="Example still goes through"):
        remove_relay(company.session, ADMIN, relay)
    choose_relay(company.session, ADMIN, company.project, None)
    remove_relay(company.session, ADMIN, relay)
    with company.look() as session:
        assert session.scalars(select(Relay)).all() == [] and company.credentials() == []
        assert session.scalars(select(Person)).all() == []
