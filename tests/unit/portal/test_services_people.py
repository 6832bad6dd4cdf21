"""A person's provider and secrets: cleaned, sealed, replaced, checked; refused in words, and never tried a third time."""
from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from sqlalchemy import func, select

from engine.causes import Cause, Side
from engine.endpoint import Secret, Security
from engine.report import Step
from portal.models import AuditEvent, Check, CheckState, Credential, Move, MoveState, Project, now
from portal.services.checks import AskedToWait, CheckRunning, TooManyTries, check_again, find_check, latest_check, start_project_test
from portal.services.common import Actor, AlreadyExists, NotGiven, NotUsable, ProjectClosed, WrongState
from portal.services.credentials import as_typed
from portal.services.endpoints import destination_login, source_endpoint, source_login
from portal.services.people import NewPerson, add_person, choose_provider, needs, submit_secrets
from portal.services.projects import Server, change_destination, change_source, close_project, create_project, set_destination_secret
from tests.support.portal_app import PortalForTests
from tests.unit.portal.company import ADMIN, OLD, Company

CANARY = "kanarie-7731-xq"
HOUR = dt.timedelta(hours=1)


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
    from portal.services.moves import start
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


def test_without_any_server_the_person_is_told_to_choose(portal: PortalForTests) -> None:
    company = Company(portal)
    with company.database.session() as session:
        project = session.scalars(select(Project)).one()
        project.source_host, project.provider = "", None
    company.session.expire_all()
    with pytest.raises(NotUsable) as caught:
        company.submit(company.wang)
    assert caught.value.field == "provider"
    company.close()


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
