"""Checks of a person's secrets: a wrong one is never tried a third time, whoever asks and by whatever road; a server that wants patience
gets it; and the test of a project's servers."""
from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from engine.causes import Cause, Side
from engine.endpoint import Secret
from engine.report.steps import Step
from portal.models import Check, CheckState, Credential, Move, MoveState, Project, now
from portal.services.checks import AskedToWait, CheckRunning, TooManyTries, check_again, find_check, latest_check, start_project_test
from portal.services.common import Actor, NotGiven, WrongState
from portal.services.moves import start
from portal.services.people import NewPerson, add_person
from portal.services.projects import Server, change_source, create_project, set_destination_secret
from tests.support.portal_app import PortalForTests
from tests.unit.portal.company import ADMIN, OLD, Company

HOUR = dt.timedelta(hours=1)


@pytest.fixture
def company(portal: PortalForTests) -> Iterator[Company]:
    company = Company(portal)
    yield company
    company.close()


# --- two tries ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", [Cause.BAD_SECRET, Cause.NEEDS_AUTH_CODE, Cause.TWO_FACTOR, Cause.SECURE_LOGIN])
def test_after_two_wrong_tries_the_third_waits_an_hour(company: Company, cause: Cause) -> None:
    company.end_check(company.submit(company.wang, "wrong 1"), cause, ago=dt.timedelta(minutes=50))
    company.end_check(company.submit(company.wang, "wrong 2"), cause, ago=dt.timedelta(minutes=1))
    with pytest.raises(TooManyTries) as caught:
        company.submit(company.wang, "third")
    assert dt.timedelta(minutes=9) < caught.value.until - now() < dt.timedelta(minutes=10)
    assert caught.value.field == "source_secret" and "10" in caught.value.zh and "10 min" in caught.value.en
    assert company.opened(company.wang, "source_secret") == "wrong 2", "nothing is stored by a refused submission"


def test_tries_older_than_an_hour_and_other_causes_do_not_count(company: Company) -> None:
    company.end_check(company.submit(company.wang), Cause.BAD_SECRET, ago=HOUR + dt.timedelta(seconds=1))
    company.end_check(company.submit(company.wang), Cause.BAD_SECRET)
    for cause in (Cause.IMAP_DISABLED, Cause.DNS_CONNECT, None):
        company.end_check(company.submit(company.wang), cause)
    assert company.submit(company.wang)


def test_each_side_counts_its_own_wrong_tries(company: Company) -> None:
    for _ in range(2):
        company.end_check(company.submit(company.wang, "code", "wrong"), Cause.DESTINATION_LOGIN)
    with pytest.raises(TooManyTries) as caught:
        company.submit(company.wang, None, "again")
    assert caught.value.side is Side.DESTINATION and caught.value.field == "destination_secret" and "新邮箱" in caught.value.zh


def test_the_same_mailbox_in_another_project_shares_its_tries(company: Company) -> None:
    for _ in range(2):
        company.end_check(company.submit(company.wang), Cause.BAD_SECRET)
    second = create_project(company.session, ADMIN, "Second")
    change_source(company.session, ADMIN, second, "generic", Server("imap.old.example"))
    twin = add_person(company.session, ADMIN, second, NewPerson("wang@old.example"))
    with pytest.raises(TooManyTries):
        company.submit(twin)


def test_refused_moves_count_as_tries_too(company: Company) -> None:
    person = company.ready("li")
    start(company.session, Actor.person(person), person.move)
    company.set_move(person, MoveState.STUCK, Cause.BAD_SECRET)
    company.end_check(company.submit(person), Cause.BAD_SECRET)
    with pytest.raises(TooManyTries):
        company.submit(person)


@pytest.mark.parametrize("cause", [Cause.UNKNOWN, Cause.IMAP_DISABLED, Cause.ACCOUNT_EXPIRED_LOCKED])
def test_whatever_a_server_says_to_a_login_is_a_try(company: Company, cause: Cause) -> None:
    for _ in range(2):
        company.end_check(company.submit(company.wang), cause, at=(Side.SOURCE, Step.LOGIN))
    with pytest.raises(TooManyTries):
        company.submit(company.wang)


def test_what_fails_before_or_after_the_login_is_no_try(company: Company) -> None:
    for step in (Step.TLS, Step.FOLDERS, Step.TLS):
        company.end_check(company.submit(company.wang), Cause.UNKNOWN, at=(Side.SOURCE, step))
    assert company.submit(company.wang)


@pytest.mark.parametrize(("cause", "side"), [(Cause.THROTTLED, Side.SOURCE), (Cause.IP_BLOCKED, Side.SOURCE),
                                             (Cause.TOO_MANY_CONNECTIONS, Side.SOURCE), (Cause.DESTINATION_BUSY, Side.DESTINATION)])
def test_a_server_that_wants_patience_is_left_alone_for_a_while(company: Company, cause: Cause, side: Side) -> None:
    check = company.submit(company.wang)
    company.end_check(check, cause, ago=dt.timedelta(minutes=4), at=(side, Step.CONNECT))
    for again in (lambda: check_again(company.session, Actor.person(company.wang), company.wang), lambda: company.submit(company.wang)):
        with pytest.raises(AskedToWait, match="in 1 min") as caught:
            again()
        assert caught.value.side is side and "1 分钟" in caught.value.zh
    company.end_check(check, cause, ago=dt.timedelta(minutes=6), at=(side, Step.CONNECT))
    assert company.submit(company.wang)


def test_a_server_that_says_how_long_is_left_alone_that_long(company: Company) -> None:
    company.end_check(company.submit(company.wang), Cause.THROTTLED, ago=HOUR, at=(Side.SOURCE, Step.CONNECT), retry_after=5400)
    with pytest.raises(AskedToWait, match="in 30 min"):
        company.submit(company.wang)


def test_a_paused_moves_wait_holds_for_its_checks(company: Company) -> None:
    person = company.ready("li")
    company.set_move(person, MoveState.PAUSED, Cause.THROTTLED)
    with company.database.session() as session:
        session.get_one(Move, person.move.id).not_before = now() + dt.timedelta(minutes=20)
    company.session.rollback()
    company.session.expire_all()
    with pytest.raises(AskedToWait, match="in 20 min"):
        company.submit(person)


# --- checking again -------------------------------------------------------------------------------------------------------


def test_check_again_uses_what_is_stored_for_causes_that_were_mended_elsewhere(company: Company) -> None:
    company.end_check(company.submit(company.wang), Cause.IMAP_DISABLED)
    again = check_again(company.session, Actor.person(company.wang), company.wang)
    assert again.state is CheckState.QUEUED and company.queue.checks[-1] == again.id
    assert latest_check(company.session, company.wang) is again


def test_check_again_does_not_try_a_refused_secret(company: Company) -> None:
    with pytest.raises(NotGiven):
        check_again(company.session, Actor.person(company.wang), company.wang)
    company.end_check(company.submit(company.wang), Cause.BAD_SECRET)
    with pytest.raises(WrongState, match="enter it again"):
        check_again(company.session, Actor.person(company.wang), company.wang)


def test_nobody_reads_anothers_check_by_its_number(company: Company) -> None:
    check = company.submit(company.wang)
    assert find_check(company.session, company.wang, check.id) is check
    assert find_check(company.session, company.person("other"), check.id) is None



# --- 【测试】 --------------------------------------------------------------------------------------------------------------


def test_a_project_test_has_a_secret_of_its_own(company: Company) -> None:
    check = start_project_test(company.session, ADMIN, company.project, Side.SOURCE, "probe@old.example", Secret(" code "), company.sealer)
    assert (check.project_id, check.person_id, check.side, check.login) == (company.project.id, None, "source", "probe@old.example")
    assert company.credentials() == [("check", check.id, "secret")] and company.queue.checks == [check.id]
    with company.look() as session:
        row = session.scalars(select(Credential)).one()
        assert company.portal.vault.open(row.sealed, "check", check.id, "secret").reveal() == "code"
        assert row.expires_at is not None and row.expires_at < now() + HOUR
    assert company.events("test.project")[0].detail == {"side": "source", "login": "probe@old.example"}


def test_a_test_of_the_new_server_may_use_the_projects_own_secret(company: Company) -> None:
    with pytest.raises(NotGiven):
        start_project_test(company.session, ADMIN, company.project, Side.DESTINATION, "probe@new.example", None, company.sealer)
    set_destination_secret(company.session, ADMIN, company.project, Secret("master"), company.sealer)
    check = start_project_test(company.session, ADMIN, company.project, Side.DESTINATION, "probe@new.example", None, company.sealer)
    assert check.side == "destination" and company.credentials() == [("project", company.project.id, "destination_secret")]


def test_a_project_test_is_not_a_way_to_guess_passwords(company: Company) -> None:
    def probe() -> Check:
        return start_project_test(company.session, ADMIN, company.project, Side.SOURCE, "boss@old.example", Secret("guess"), company.sealer)

    for _ in range(2):
        company.end_check(probe(), Cause.BAD_SECRET)
    with pytest.raises(TooManyTries):
        probe()


def test_one_mailbox_one_count_over_tests_spellings_projects_and_people(company: Company) -> None:
    def probe(project: Project, login: str) -> Check:
        return start_project_test(company.session, ADMIN, project, Side.SOURCE, login, Secret("guess"), company.sealer)

    second = create_project(company.session, ADMIN, "Second")
    change_source(company.session, ADMIN, second, "generic", OLD)
    company.end_check(probe(company.project, "wang@old.example"), Cause.BAD_SECRET)
    company.end_check(probe(second, "WANG@Old.example"), Cause.UNKNOWN, at=(Side.SOURCE, Step.LOGIN))
    for project in (company.project, second):
        with pytest.raises(TooManyTries):
            probe(project, "Wang@OLD.example")
    with pytest.raises(TooManyTries):
        company.submit(company.wang)
    other = company.person("other")
    other.source_login = "Wang@old.example"
    company.session.commit()
    with pytest.raises(TooManyTries):
        company.submit(other)
    assert company.submit(company.person("third"))


def test_tests_of_one_mailbox_run_one_after_another(company: Company) -> None:
    start_project_test(company.session, ADMIN, company.project, Side.SOURCE, "boss@old.example", Secret("1"), company.sealer)
    with pytest.raises(CheckRunning):
        start_project_test(company.session, ADMIN, company.project, Side.SOURCE, "BOSS@old.example", Secret("2"), company.sealer)
