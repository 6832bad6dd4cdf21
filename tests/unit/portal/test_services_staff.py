"""Staff: invited once, signed in slowly enough for whoever guesses, signed out everywhere when their rights change."""
from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from engine.endpoint import Secret
from portal.models import AuditEvent, Role, Staff, StaffInvitation, now
from portal.security.links import token_sha256
from portal.security.passwords import hash_password
from portal.services.common import SYSTEM, Actor, AlreadyExists, NotUsable, WrongState
from portal.services.staff import (
    InvitationState,
    SignInRefused,
    TooManySignIns,
    authenticate,
    change_password,
    change_role,
    choose_language,
    create_staff,
    end_sessions,
    find_invitation,
    invite,
    set_active,
    take_invitation,
)
from tests.support.portal_app import PortalForTests
from tests.unit.portal.company import Company

GOOD = Secret("correct horse battery")
WRONG = Secret("correct horse batterz")
HERE, THERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture(scope="module")
def good_hash() -> str:
    return hash_password(GOOD)


@pytest.fixture
def company(portal: PortalForTests, good_hash: str) -> Iterator[Company]:
    """With one operator, root@example.com, whose password is GOOD."""
    company = Company(portal)
    create_staff(company.session, SYSTEM, "Root@Example.com", Role.OPERATOR, "Root").password_hash = good_hash
    company.session.commit()
    yield company
    company.close()


def root(company: Company) -> Staff:
    return company.session.scalars(select(Staff)).one()


def sign_in(company: Company, password: Secret = GOOD, email: str = "root@example.com", address: str = HERE) -> Staff:
    return authenticate(company.session, email, password, address)


# --- invitations ----------------------------------------------------------------------------------------------------------


def test_an_invitation_sets_a_password_once(company: Company) -> None:
    staff = create_staff(company.session, SYSTEM, "li@example.com", Role.HELPDESK)
    token = invite(company.session, SYSTEM, staff, company.portal.settings)
    with company.look() as session:
        row = session.scalars(select(StaffInvitation)).one()
        assert row.token_sha256 == token_sha256(token) and dt.timedelta(hours=71) < row.expires_at - now() <= dt.timedelta(hours=72)
    assert find_invitation(company.session, token).staff is staff and staff.password_hash is None
    with pytest.raises(SignInRefused):
        sign_in(company, Secret(""), "li@example.com")
    assert take_invitation(company.session, Actor("system", HERE), token, GOOD) is staff
    assert staff.session_epoch == 1 and sign_in(company, GOOD, "li@example.com") is staff
    assert find_invitation(company.session, token).why is InvitationState.USED
    with pytest.raises(WrongState, match="was used or has expired"):
        take_invitation(company.session, SYSTEM, token, WRONG)
    (event,) = company.events("take.invitation")
    assert (event.actor, event.address) == ("staff:li@example.com", HERE)
    assert token not in str([e.detail for e in company.events("invite.staff")])


def test_a_weak_password_leaves_the_invitation_good(company: Company) -> None:
    token = invite(company.session, SYSTEM, root(company), company.portal.settings)
    with pytest.raises(NotUsable) as caught:
        take_invitation(company.session, SYSTEM, token, Secret("short"))
    assert caught.value.field == "password"
    assert find_invitation(company.session, token).why is InvitationState.OK


def test_a_newer_invitation_ends_the_older_and_time_ends_all(company: Company) -> None:
    staff, settings = root(company), company.portal.settings
    older, newer = invite(company.session, SYSTEM, staff, settings), invite(company.session, SYSTEM, staff, settings)
    assert find_invitation(company.session, older).why is InvitationState.USED
    with company.database.session() as session:
        session.scalars(select(StaffInvitation).where(StaffInvitation.used_at.is_(None))).one().expires_at = now()
    company.session.rollback()
    company.session.expire_all()
    assert find_invitation(company.session, newer).why is InvitationState.EXPIRED
    assert find_invitation(company.session, "x" * 43).why is find_invitation(company.session, "x").why is InvitationState.UNKNOWN
    with pytest.raises(WrongState):
        take_invitation(company.session, SYSTEM, newer, GOOD)


# --- signing in -----------------------------------------------------------------------------------------------------------


def test_right_and_wrong_leave_their_events_and_tell_nothing_apart(company: Company) -> None:
    assert sign_in(company, email=" ROOT@example.com ") is root(company)
    said = set()
    for email, password in (
        ("root@example.com", WRONG),
        ("nobody@example.com", GOOD),
        ("root@example.com", Secret("x" * 1000)),
        ("", GOOD),
    ):
        with pytest.raises(SignInRefused) as caught:
            sign_in(company, password, email, THERE)
        said.add((caught.value.zh, caught.value.en, caught.value.field))
    assert len(said) == 1
    assert [e.actor for e in company.events("refuse.sign_in")][:2] == ["staff:root@example.com", "staff:nobody@example.com"]
    assert len(company.events("sign_in")) == 1
    with company.look() as session:
        assert not any("horse" in str(event.detail) for event in session.scalars(select(AuditEvent)))


def test_after_five_wrong_tries_the_account_waits_from_everywhere(company: Company) -> None:
    for number in range(5):
        with pytest.raises(SignInRefused):
            sign_in(company, WRONG, address=f"198.51.100.{number}")
    with pytest.raises(TooManySignIns) as caught:
        sign_in(company, GOOD, address=THERE)
    assert dt.timedelta(minutes=14) < caught.value.until - now() <= dt.timedelta(minutes=15)
    assert "15 分钟" in caught.value.zh and "15 min" in caught.value.en


def test_after_five_wrong_tries_an_address_waits_for_every_account(company: Company) -> None:
    for number in range(5):
        with pytest.raises(SignInRefused):
            sign_in(company, WRONG, f"guess{number}@example.com")
    with pytest.raises(TooManySignIns):
        sign_in(company)
    assert sign_in(company, address=THERE)


def test_waiting_survives_a_restart_and_ends_by_itself(company: Company) -> None:
    def tries(ago: dt.timedelta) -> None:
        with company.database.session() as session:
            session.add_all(AuditEvent(actor="staff:root@example.com", action="try.sign_in", subject_kind="", address="203.0.113.9",
                                       created_at=now() - ago) for _ in range(5))
        company.session.rollback()

    tries(dt.timedelta(minutes=16))
    assert sign_in(company)
    tries(dt.timedelta(minutes=14))
    with pytest.raises(TooManySignIns) as caught:
        authenticate(company.database.open_session(), "root@example.com", GOOD, THERE)
    assert dt.timedelta(0) < caught.value.until - now() < dt.timedelta(minutes=1, seconds=1)


def test_signing_in_rightly_forgives_ones_own_mistakes(company: Company) -> None:
    for _ in range(3):
        for _ in range(4):
            with pytest.raises(SignInRefused):
                sign_in(company, WRONG)
        assert sign_in(company)


def test_signing_in_rightly_does_not_forgive_guesses_at_others(company: Company) -> None:
    """Given somebody with an account of their own, when they guess at others' between, then the address still waits."""
    for number in range(5):
        with pytest.raises(SignInRefused):
            sign_in(company, WRONG, f"guess{number}@example.com")
        if number < 4:
            assert sign_in(company)
    with pytest.raises(TooManySignIns):
        sign_in(company)


def test_tries_at_the_same_moment_all_count(company: Company) -> None:
    barrier, outcomes = threading.Barrier(8), []

    def guess() -> None:
        session = company.database.open_session()
        barrier.wait(30)
        try:
            authenticate(session, "root@example.com", WRONG, HERE)
        except (SignInRefused, TooManySignIns) as refused:
            outcomes.append(type(refused))
        finally:
            session.close()

    threads = [threading.Thread(target=guess) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (outcomes.count(SignInRefused), outcomes.count(TooManySignIns)) == (5, 3)


def test_a_hash_with_older_costs_is_made_anew(company: Company) -> None:
    import argon2
    old = argon2.PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(GOOD.reveal())
    root(company).password_hash = old
    company.session.commit()
    assert sign_in(company).password_hash != old
    assert "m=19456,t=2,p=1" in str(root(company).password_hash) and sign_in(company)


# --- rights ---------------------------------------------------------------------------------------------------------------


def test_what_changes_somebodys_rights_ends_their_sessions(company: Company) -> None:
    create_staff(company.session, SYSTEM, "second@example.com", Role.OPERATOR)
    staff = company.session.scalars(select(Staff).where(Staff.email == "root@example.com")).one()
    epochs = [staff.session_epoch]
    for act in (lambda: change_role(company.session, SYSTEM, staff, Role.HELPDESK), lambda: end_sessions(company.session, SYSTEM, staff),
                lambda: change_password(company.session, Actor.staff(staff, HERE), staff, GOOD, Secret("another good sentence")),
                lambda: set_active(company.session, SYSTEM, staff, False)):
        act()
        epochs.append(staff.session_epoch)
    assert epochs == [0, 1, 2, 3, 4]
    with pytest.raises(SignInRefused):
        sign_in(company, Secret("another good sentence"))
    with pytest.raises(WrongState):
        invite(company.session, SYSTEM, staff, company.portal.settings)
    assert company.events("change.role")[0].detail == {"was": "operator", "role": "helpdesk"}


def test_changing_the_password_needs_the_old_one_and_counts_as_a_try(company: Company) -> None:
    staff = root(company)
    for _ in range(5):
        with pytest.raises(SignInRefused):
            change_password(company.session, Actor.staff(staff, HERE), staff, WRONG, Secret("another good sentence"))
    with pytest.raises(TooManySignIns):
        change_password(company.session, Actor.staff(staff, HERE), staff, GOOD, Secret("another good sentence"))
    assert staff.session_epoch == 0


def test_a_weak_new_password_is_refused_and_the_old_one_stays(company: Company) -> None:
    staff = root(company)
    with pytest.raises(NotUsable):
        change_password(company.session, Actor.staff(staff, HERE), staff, GOOD, Secret("short"))
    assert staff.session_epoch == 0 and sign_in(company)


def test_somebody_must_be_left_to_run_the_portal(company: Company) -> None:
    staff = root(company)
    for act in (lambda: change_role(company.session, SYSTEM, staff, Role.ADMIN), lambda: set_active(company.session, SYSTEM, staff, False)):
        with pytest.raises(WrongState, match="At least one operator"):
            act()
    change_role(company.session, SYSTEM, staff, Role.OPERATOR)


def test_accounts_are_one_per_address(company: Company) -> None:
    with pytest.raises(AlreadyExists) as caught:
        create_staff(company.session, SYSTEM, "ROOT@example.com", Role.ADMIN)
    assert caught.value.field == "email"
    with pytest.raises(NotUsable):
        create_staff(company.session, SYSTEM, "not an address", Role.ADMIN)


def test_a_language_is_zh_or_en(company: Company) -> None:
    staff = root(company)
    choose_language(company.session, Actor.staff(staff), staff, "en")
    choose_language(company.session, Actor.staff(staff), staff, "en")
    assert staff.language == "en" and len(company.events("choose.language")) == 1
    with pytest.raises(NotUsable):
        choose_language(company.session, Actor.staff(staff), staff, "fr")


@pytest.mark.parametrize(
    ("role", "covers"), [(Role.HELPDESK, [True, False, False]), (Role.ADMIN, [True, True, False]), (Role.OPERATOR, [True] * 3)]
)
def test_roles_cover_those_below(role: Role, covers: list[bool]) -> None:
    assert [role.covers(needed) for needed in Role] == covers
