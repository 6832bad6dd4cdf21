"""A person's secrets: cleaned, sealed, replaced and checked; what cannot be one is refused in words that do not repeat it."""
from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from sqlalchemy import func, select

from engine.causes import Cause
from engine.endpoint import Secret
from portal.models import AuditEvent, Check, CheckState, Credential, MoveState, now
from portal.services.checks import CheckRunning
from portal.services.common import Actor, NotGiven, NotUsable, ProjectClosed, WrongState
from portal.services.credentials import as_typed
from portal.services.endpoints import source_login
from portal.services.people import choose_provider, needs, submit_secrets
from portal.services.projects import change_source, close_project, set_destination_secret
from tests.support.portal_app import PortalForTests
from tests.unit.portal.company import ADMIN, Company

CANARY = "kanarie-7731-xq"


@pytest.fixture
def company(portal: PortalForTests) -> Iterator[Company]:
    company = Company(portal)
    yield company
    company.close()


# --- what was typed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("typed", "kept"), [
    ("abcdefgh", "abcdefgh"), ("  abcd\n", "abcd"), ("\u200babcd\ufeff", "abcd"), ("\u3000abcd\u00a0", "abcd"), ("ab cd", "ab cd"),
    ("\u2068abcd\u2069", "abcd"), ("密 码", "密 码"), (" \tp@ss w0rd\r\n", "p@ss w0rd"),
])
def test_what_copying_adds_at_both_ends_goes(typed: str, kept: str) -> None:
    assert as_typed(Secret(typed), "source_secret", inner_blanks=False).reveal() == kept


def test_inner_blanks_go_only_where_codes_are_shown_in_groups() -> None:
    assert as_typed(Secret(" abcd efgh\u00a0ijkl "), "source_secret", inner_blanks=True).reveal() == "abcdefghijkl"


@pytest.mark.parametrize(
    ("typed", "error"),
    [
        ("", NotGiven),
        (" \u200b\u3000", NotGiven),
        ("ab\ncd", NotUsable),
        ("ab\x00cd", NotUsable),
        ("x" * 513, NotUsable),
        ("ＡＢＣｄ", NotUsable),
        ("ab\ud800cd", NotUsable),
    ],
)
def test_what_cannot_be_a_secret_is_refused_without_repeating_it(typed: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        as_typed(Secret(typed), "source_secret", inner_blanks=False)
    assert caught.value.field == "source_secret"  # type: ignore[attr-defined]
    assert "ＡＢＣ" not in str(caught.value) + caught.value.zh  # type: ignore[attr-defined]


def test_the_providers_groups_are_joined_on_submission(company: Company) -> None:
    """Google shows app passwords as four groups of four."""
    change_source(company.session, ADMIN, company.project, "gws", None)
    company.submit(company.wang, "abcd efgh ijkl mnop", "new password")
    assert company.opened(company.wang, "source_secret") == "abcdefghijklmnop"
    assert company.opened(company.wang, "destination_secret") == "new password"


# --- submitting -----------------------------------------------------------------------------------------------------------


def test_submitting_seals_replaces_checks_and_queues(company: Company) -> None:
    first = company.submit(company.wang, CANARY, "first-new")
    company.end_check(first, Cause.IMAP_DISABLED)
    second = company.submit(company.wang, CANARY + "2", None)
    assert company.credentials() == [("person", company.wang.id, "destination_secret"), ("person", company.wang.id, "source_secret")]
    assert company.opened(company.wang, "source_secret") == CANARY + "2"
    assert company.opened(company.wang, "destination_secret") == "first-new"
    assert (first.side, second.side, second.state, second.launched_by) == ("both", "both", CheckState.QUEUED, "person")
    assert company.queue.checks == [first.id, second.id]
    assert [event.detail["fields"] for event in company.events("submit.secrets")] == [
        ["destination_secret", "source_secret"],
        ["source_secret"],
    ]


def test_no_secret_stands_anywhere_but_sealed(company: Company) -> None:
    company.submit(company.wang, CANARY, CANARY + "-new")
    with company.look() as session:
        events = session.scalars(select(AuditEvent)).all()
        assert not any("kanarie" in f"{event.detail}{event.actor}{event.action}" for event in events)
    company.database.forget_deleted()
    files = company.portal.settings.instance_dir.glob("banjia.db*")
    assert not any(b"kanarie" in path.read_bytes() for path in files)


def test_a_secret_ends_with_the_project(company: Company) -> None:
    company.submit(company.wang)
    with company.look() as session:
        assert {row.expires_at for row in session.scalars(select(Credential))} == {company.project.closes_at}


def test_only_the_source_is_checked_while_no_secret_for_the_new_mailbox_is_known(company: Company) -> None:
    assert company.submit(company.wang, "code", None).side == "source"
    assert needs(company.session, company.wang).destination_secret
    other = company.person("other")
    set_destination_secret(company.session, ADMIN, company.project, Secret("master"), company.sealer)
    assert company.submit(other, "code", None).side == "both"
    assert not needs(company.session, other) and not needs(company.session, company.wang)


def test_a_destination_secret_alone_needs_a_stored_source_secret(company: Company) -> None:
    with pytest.raises(NotGiven) as caught:
        company.submit(company.wang, None, "new")
    assert caught.value.field == "source_secret" and company.credentials() == []
    company.end_check(company.submit(company.wang, "code", "wrong"), Cause.DESTINATION_LOGIN)
    assert company.submit(company.wang, None, "right").side == "both"
    assert company.opened(company.wang, "source_secret") == "code" and company.opened(company.wang, "destination_secret") == "right"


def test_nothing_at_all_is_refused(company: Company) -> None:
    company.end_check(company.submit(company.wang))
    with pytest.raises(NotGiven):
        company.submit(company.wang, None, None)


def test_a_login_name_of_its_own_is_kept_and_taken_back(company: Company) -> None:
    person = Actor.person(company.wang)
    check = submit_secrets(company.session, person, company.wang, Secret("code"), None, company.sealer, source_login=" w.wang ")
    assert source_login(company.wang) == "w.wang"
    company.end_check(check)
    with pytest.raises(NotUsable):
        submit_secrets(company.session, person, company.wang, Secret("code"), None, company.sealer, source_login="a\r\nb")
    submit_secrets(company.session, person, company.wang, Secret("code"), None, company.sealer, source_login="")
    assert source_login(company.wang) == "wang@old.example"


def test_a_check_that_still_waits_is_given_back_and_runs_with_the_newest_secret(company: Company) -> None:
    first = company.submit(company.wang, "one")
    again = company.submit(company.wang, "two")
    assert again.id == first.id and company.opened(company.wang, "source_secret") == "two"
    with company.look() as session:
        assert session.scalar(select(func.count()).select_from(Check)) == 1


def test_while_a_check_runs_another_is_refused_and_nothing_changes(company: Company) -> None:
    check = company.submit(company.wang, "one")
    with company.database.session() as session:
        row = session.get_one(Check, check.id)
        row.state, row.started_at = CheckState.RUNNING, now()
    with pytest.raises(CheckRunning):
        company.submit(company.wang, "two")
    assert company.opened(company.wang, "source_secret") == "one"
    with company.database.session() as session:
        session.get_one(Check, check.id).started_at = now() - dt.timedelta(minutes=10)  # its worker died
    assert company.submit(company.wang, "two").id != check.id


@pytest.mark.parametrize("state", [MoveState.QUEUED, MoveState.MOVING, MoveState.WAITING])
def test_a_running_move_keeps_its_secrets_and_its_server(company: Company, state: MoveState) -> None:
    company.end_check(company.submit(company.wang, "one"))
    company.set_move(company.wang, state)
    with pytest.raises(WrongState, match="Pause it first"):
        company.submit(company.wang, "two")
    with pytest.raises(WrongState):
        choose_provider(company.session, Actor.person(company.wang), company.wang, "qq")
    assert company.opened(company.wang, "source_secret") == "one" and company.wang.provider is None


def test_a_complete_move_takes_no_secret_and_a_closed_project_neither(company: Company) -> None:
    company.set_move(company.wang, MoveState.DONE, outcome="complete")
    with pytest.raises(WrongState, match="nothing more is needed"):
        company.submit(company.wang)
    other = company.person("other")
    close_project(company.session, ADMIN, company.project)
    with pytest.raises(ProjectClosed, match=r"Questions: Li, ext\. 8000"):
        company.submit(other)
    assert company.credentials() == []
