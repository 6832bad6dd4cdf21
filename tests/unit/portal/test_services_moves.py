"""Start, pause, resume, relaunch: once however often it is pressed, and never with a secret that is gone or was refused."""
from __future__ import annotations

import datetime as dt
import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisDown
from sqlalchemy import func, select, update

from engine.causes import Cause
from engine.endpoint import Secret
from portal.models import Attempt, AuditEvent, LedgerFolder, Move, MoveState, Owner, Person, SetAside, now
from portal.services.common import Actor, ProjectClosed, WrongState
from portal.services.credentials import destroy_credentials
from portal.services.moves import SecretMissing, ahead, folder_rows, pause, relaunch, resume, set_aside_rows, start
from portal.services.projects import close_project, set_destination_secret
from portal.store.db import Database
from tests.support.portal_app import PortalForTests
from tests.unit.portal.company import ADMIN, HELPDESK, Company


@pytest.fixture
def company(portal: PortalForTests) -> Iterator[Company]:
    company = Company(portal)
    yield company
    company.close()


def stuck(company: Company, cause: Cause = Cause.DNS_CONNECT, name: str = "li") -> Person:
    person = company.ready(name)
    start(company.session, Actor.person(person), person.move)
    company.set_move(person, MoveState.STUCK, cause)
    company.queue.slices.clear()
    return person


def refusal(company: Company, person: Person) -> str:
    result = relaunch(company.session, HELPDESK, [person.move])
    assert result.done == [] and [move for move, _ in result.refused] == [person.move]
    return result.refused[0][1].en


# --- start ----------------------------------------------------------------------------------------------------------------


def test_starting_queues_one_attempt_with_its_event(company: Company) -> None:
    person = company.ready("li")
    move = start(company.session, Actor.person(person), person.move)
    assert (move.state, move.cause, move.tries) == (MoveState.QUEUED, None, 0) and move.queued_at is not None
    assert [(a.number, a.launched_by, a.ended_at) for a in company.attempts(person)] == [(1, "person", None)]
    assert company.queue.slices == [move.id]
    (event,) = company.events("start.move")
    assert (event.subject_id, event.project_id, event.detail) == (
        move.id,
        company.project.id,
        {"was": "ready", "cause": None, "attempt": 1},
    )


@pytest.mark.parametrize("state", [MoveState.QUEUED, MoveState.MOVING, MoveState.WAITING])
def test_starting_what_is_under_way_does_nothing(company: Company, state: MoveState) -> None:
    person = company.ready("li")
    start(company.session, Actor.person(person), person.move)
    company.set_move(person, state)
    assert start(company.session, Actor.person(person), person.move).state is state
    assert len(company.attempts(person)) == 1 and len(company.queue.slices) == 1


def test_starting_what_is_complete_does_nothing(company: Company) -> None:
    company.set_move(company.wang, MoveState.DONE, outcome="complete")
    assert start(company.session, Actor.person(company.wang), company.wang.move).state is MoveState.DONE
    assert company.queue.slices == []


def test_a_person_starts_only_after_a_check_that_passed(company: Company) -> None:
    actor, move = Actor.person(company.wang), company.wang.move
    with pytest.raises(WrongState, match="Wait for the check"):
        start(company.session, actor, move)
    check = company.submit(company.wang)
    with pytest.raises(WrongState, match="Wait for the check"):
        start(company.session, actor, move)
    company.end_check(check, Cause.IMAP_DISABLED)
    with pytest.raises(WrongState, match="did not pass"):
        start(company.session, actor, move)
    company.end_check(company.submit(company.wang))
    assert start(company.session, actor, move).state is MoveState.QUEUED


def test_a_move_without_secrets_does_not_start(company: Company) -> None:
    with pytest.raises(SecretMissing) as caught:
        start(company.session, ADMIN, company.wang.move)
    assert caught.value.field == "source_secret"
    company.end_check(company.submit(company.wang, "code", None))
    with pytest.raises(SecretMissing) as caught:
        start(company.session, Actor.person(company.wang), company.wang.move)
    assert caught.value.field == "destination_secret" and company.queue.slices == []


def test_a_dead_redis_loses_no_start(company: Company) -> None:
    person = company.ready("li")
    company.queue.broken = RedisDown("no route")
    assert start(company.session, Actor.person(person), person.move).state is MoveState.QUEUED
    with company.look() as session:
        assert session.scalars(select(Move.state).where(Move.id == person.move.id)).one() is MoveState.QUEUED


# --- several at once ------------------------------------------------------------------------------------------------------


def _press(url: str, move_id: int, verb: str, barrier: Any, results: Any) -> None:
    database = Database(url)
    session = database.open_session()
    move = session.get_one(Move, move_id)
    actor = Actor(f"staff:{multiprocessing.current_process().name}@example.com")
    barrier.wait(90)
    if verb == "start":
        start(session, actor, move)
        results.put("done")
    else:
        result = relaunch(session, actor, [move])
        results.put("done" if result.done else result.refused[0][1].en)
    session.close()
    database.close()


def press_together(company: Company, move_id: int, verb: str, count: int = 2) -> list[str]:
    company.session.rollback()
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(count), spawn.Queue()
    helpers = [
        spawn.Process(target=_press, args=(company.portal.settings.database_url, move_id, verb, barrier, results))
        for _ in range(count)
    ]
    for helper in helpers:
        helper.start()
    said = [results.get(timeout=90) for _ in helpers]
    for helper in helpers:
        helper.join(60)
    return said


@pytest.mark.parametrize(("verb", "make"), [("start", lambda c: c.ready("li")), ("relaunch", stuck)])
def test_pressed_by_two_processes_at_once_it_happens_once(company: Company, verb: str, make: Callable[[Company], Person]) -> None:
    person = make(company)
    before = len(company.attempts(person))
    said = press_together(company, person.move.id, verb)
    assert len(company.attempts(person)) == before + 1
    assert len(company.events(f"{verb}.move")) == 1
    if verb == "relaunch":
        assert sorted(said) == ["It is running already; nothing more to start.", "done"]
    with company.look() as session:
        assert session.scalar(select(func.count()).select_from(Attempt).where(Attempt.ended_at.is_(None))) == 1


# --- pause and resume -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [MoveState.QUEUED, MoveState.WAITING])
def test_a_move_that_waits_pauses_at_once_and_its_attempt_ends(company: Company, state: MoveState) -> None:
    person = company.ready("li")
    start(company.session, Actor.person(person), person.move)
    company.set_move(person, state)
    assert pause(company.session, HELPDESK, person.move).state is MoveState.PAUSED
    assert pause(company.session, HELPDESK, person.move).state is MoveState.PAUSED
    (attempt,) = company.attempts(person)
    assert attempt.outcome == "paused" and attempt.ended_at is not None and len(company.events("pause.move")) == 1
    assert resume(company.session, Actor.person(person), person.move).state is MoveState.QUEUED
    assert [a.number for a in company.attempts(person)] == [1, 2] and len(company.queue.slices) == 2


def test_a_worker_is_asked_to_stop_and_the_wish_can_be_taken_back(company: Company) -> None:
    person = company.ready("li")
    start(company.session, Actor.person(person), person.move)
    company.set_move(person, MoveState.MOVING)
    move = pause(company.session, HELPDESK, person.move)
    assert (move.state, move.stop_requested) == (MoveState.MOVING, True)
    pause(company.session, HELPDESK, move)
    move = resume(company.session, HELPDESK, move)
    assert (move.state, move.stop_requested) == (MoveState.MOVING, False)
    assert len(company.attempts(person)) == 1 and len(company.events("pause.move")) == len(company.events("resume.move")) == 1


def test_the_pause_of_a_closed_project_is_not_taken_back(company: Company) -> None:
    person = company.ready("li")
    start(company.session, Actor.person(person), person.move)
    company.set_move(person, MoveState.MOVING)
    pause(company.session, HELPDESK, person.move)
    close_project(company.session, ADMIN, company.project)
    with pytest.raises(ProjectClosed):
        resume(company.session, HELPDESK, person.move)
    with company.look() as session:
        assert session.get_one(Move, person.move.id).stop_requested


def waiting(company: Company, cause: Cause, minutes: int = 20) -> Person:
    person = company.ready("li")
    start(company.session, Actor.person(person), person.move)
    company.set_move(person, MoveState.WAITING, cause)
    with company.database.session() as session:
        session.execute(update(Move).where(Move.id == person.move.id).values(not_before=now() + dt.timedelta(minutes=minutes), tries=3))
    company.session.rollback()
    company.session.expire_all()
    company.queue.slices.clear()
    return person


@pytest.mark.parametrize("go_on", [
    lambda c, move: resume(c.session, HELPDESK, move), lambda c, move: start(c.session, HELPDESK, move),
    lambda c, move: relaunch(c.session, HELPDESK, [move]),
], ids=["resume", "start", "relaunch"])
@pytest.mark.parametrize("cause", [Cause.THROTTLED, Cause.SERVER_BUSY, Cause.DESTINATION_BUSY])
def test_a_pause_does_not_shorten_what_the_provider_asked_for(
    company: Company, cause: Cause, go_on: Callable[[Company, Move], Any]
) -> None:
    person = waiting(company, cause)
    until = person.move.not_before
    pause(company.session, HELPDESK, person.move)
    go_on(company, person.move)
    assert (person.move.state, person.move.cause, person.move.not_before, person.move.tries) == (MoveState.WAITING, cause, until, 3)
    assert company.queue.slices == [] and len(company.attempts(person)) == 2


def test_a_relaunch_does_not_shorten_what_the_provider_asked_for(company: Company) -> None:
    person = waiting(company, Cause.THROTTLED)
    assert "20 more min" in refusal(company, person)
    assert person.move.state is MoveState.WAITING and person.move.not_before is not None and len(company.attempts(person)) == 1


def test_a_wait_that_is_our_own_ends_with_a_relaunch(company: Company) -> None:
    person = waiting(company, Cause.RELAY_UNREACHABLE)
    assert relaunch(company.session, HELPDESK, [person.move]).done == [person.move]
    assert (person.move.state, person.move.not_before, company.queue.slices) == (MoveState.QUEUED, None, [person.move.id])


def test_a_wait_that_ended_during_the_pause_is_over(company: Company) -> None:
    person = waiting(company, Cause.THROTTLED, minutes=-1)
    pause(company.session, HELPDESK, person.move)
    assert resume(company.session, HELPDESK, person.move).state is MoveState.QUEUED and person.move.not_before is None


@pytest.mark.parametrize("state", [MoveState.INVITED, MoveState.READY, MoveState.STUCK, MoveState.DONE])
def test_what_does_not_run_cannot_pause_or_resume(company: Company, state: MoveState) -> None:
    company.set_move(company.wang, state)
    for verb in (pause, resume):
        with pytest.raises(WrongState):
            verb(company.session, HELPDESK, company.wang.move)


# --- relaunch -------------------------------------------------------------------------------------------------------------


def test_relaunching_a_stuck_move_goes_on_with_a_new_attempt(company: Company) -> None:
    person = stuck(company)
    result = relaunch(company.session, HELPDESK, [person.move])
    assert result.done == [person.move] and result.refused == []
    move = person.move
    assert (move.state, move.cause, move.outcome, move.tries) == (MoveState.QUEUED, None, None, 0)
    first, second = company.attempts(person)
    assert (first.outcome, first.cause, second.number, second.launched_by, second.ended_at) == (
        "failed",
        "dns_connect",
        2,
        HELPDESK.name,
        None,
    )
    assert company.queue.slices == [move.id]
    assert company.events("relaunch.move")[0].detail == {"was": "stuck", "cause": "dns_connect", "attempt": 2}


def test_relaunching_what_waited_long_enough_means_now(company: Company) -> None:
    person = company.ready("li")
    start(company.session, Actor.person(person), person.move)
    company.set_move(person, MoveState.WAITING, Cause.THROTTLED)
    with company.database.session() as session:
        session.execute(update(Move).where(Move.id == person.move.id).values(not_before=now()))
    assert relaunch(company.session, HELPDESK, [person.move]).done == [person.move]
    assert person.move.not_before is None
    assert [(a.number, a.outcome, a.cause) for a in company.attempts(person)] == [(1, "paused", "throttled"), (2, None, None)]


def test_a_whole_list_is_answered_one_by_one(company: Company) -> None:
    """Given moves in every state, when all are selected, then each is either launched or refused with its own words."""
    good, paused = stuck(company, name="good"), company.ready("paused")
    start(company.session, HELPDESK, paused.move)
    pause(company.session, HELPDESK, paused.move)
    running, invited, complete = company.ready("running"), company.person("invited"), company.person("complete")
    start(company.session, HELPDESK, running.move)
    company.set_move(complete, MoveState.DONE, outcome="complete")
    people = [good, paused, running, invited, complete, stuck(company, Cause.BAD_SECRET, "refused")]
    result = relaunch(company.session, HELPDESK, [person.move for person in people])
    assert [move.person.name for move in result.done] == ["good", "paused"]
    said = {move.person.name: words.en for move, words in result.refused}
    assert set(said) == {"running", "invited", "complete", "refused"} and len(set(said.values())) == 4
    assert "running already" in said["running"] and "not started" in said["invited"] and "All mail" in said["complete"]
    assert "was refused" in said["refused"]
    assert all(words.zh for _, words in result.refused)


@pytest.mark.parametrize("cause", [Cause.BAD_SECRET, Cause.NEEDS_AUTH_CODE, Cause.SECRET_MISSING])
def test_a_refused_secret_must_be_typed_again_before_a_relaunch(company: Company, cause: Cause) -> None:
    person = stuck(company, cause)
    assert "Its owner has to open the link and type it again" in refusal(company, person)
    assert company.queue.slices == [] and len(company.attempts(person)) == 1
    company.end_check(company.submit(person, "another code"))
    assert relaunch(company.session, HELPDESK, [person.move]).done == [person.move]


def test_a_secret_refused_at_the_new_mailbox_is_mended_there(company: Company) -> None:
    person = stuck(company, Cause.DESTINATION_LOGIN)
    assert "new mailbox" in refusal(company, person)
    company.end_check(company.submit(person, "another code", None))
    assert "new mailbox" in refusal(company, person), "a new secret for the old mailbox does not help"
    set_destination_secret(company.session, ADMIN, company.project, Secret("master"), company.sealer)
    assert relaunch(company.session, HELPDESK, [person.move]).done == [person.move]


def test_the_owner_starts_again_after_typing_the_secret(company: Company) -> None:
    person = stuck(company, Cause.BAD_SECRET)
    with pytest.raises(SecretMissing, match="was refused"):
        start(company.session, Actor.person(person), person.move)
    company.end_check(company.submit(person, "another code"))
    assert start(company.session, Actor.person(person), person.move).state is MoveState.QUEUED


@pytest.mark.parametrize("cause", [Cause.IMAP_DISABLED, Cause.TWO_FACTOR, Cause.IP_BLOCKED, Cause.DESTINATION_QUOTA])
def test_what_was_mended_at_the_provider_needs_no_new_secret(company: Company, cause: Cause) -> None:
    person = stuck(company, cause)
    assert relaunch(company.session, HELPDESK, [person.move]).done == [person.move]


def test_a_secret_that_is_gone_must_be_typed_again(company: Company) -> None:
    person = stuck(company)
    destroy_credentials(company.session, HELPDESK, Owner.PERSON, person.id, reason="helpdesk")
    assert "is no longer stored" in refusal(company, person)


def test_a_partial_move_can_be_tried_again_with_a_secret(company: Company) -> None:
    person = company.ready("li")
    start(company.session, Actor.person(person), person.move)
    company.set_move(person, MoveState.DONE, outcome="partial")
    assert relaunch(company.session, HELPDESK, [person.move]).done == [person.move]
    assert person.move.outcome is None and person.move.finished_at is None


def test_a_closed_project_starts_nothing_in_words(company: Company) -> None:
    person = stuck(company)
    ready = company.ready("ready")
    close_project(company.session, ADMIN, company.project)
    assert "This move is over" in refusal(company, person)
    with pytest.raises(ProjectClosed):
        start(company.session, Actor.person(ready), ready.move)
    assert company.queue.slices == []


def test_nothing_of_a_refused_relaunch_is_written(company: Company) -> None:
    person = stuck(company, Cause.BAD_SECRET)
    with company.look() as session:
        before = session.scalar(select(func.count()).select_from(AuditEvent))
    refusal(company, person)
    with company.look() as session:
        assert session.scalar(select(func.count()).select_from(AuditEvent)) == before


# --- what became of it ----------------------------------------------------------------------------------------------------


def test_rows_for_the_report(company: Company) -> None:
    with company.database.session() as session:
        inbox = LedgerFolder(
            move_id=company.wang.move.id, source="INBOX", target="INBOX", source_display="收件箱", total=3, moved=2, set_aside=1
        )
        sent = LedgerFolder(move_id=company.wang.move.id, source="&XfJT0ZABkK5O9g-", target="Sent", total=1, set_aside=1)
        session.add_all([inbox, sent])
        session.flush()
        session.add_all([SetAside(folder_id=sent.id, uid=9, reason="x_item", server_text="NO", size=5, internal_date="1-Jan-2020"),
                         SetAside(folder_id=inbox.id, uid=2, reason="quota", server_text="", size=7)])
    assert [row.source_display for row in folder_rows(company.session, company.wang.move)] == ["收件箱", ""]
    aside = set_aside_rows(company.session, company.wang.move)
    assert [(row.folder, row.uid, row.reason, row.size) for row in aside] == [
        ("收件箱", 2, "quota", 7),
        ("&XfJT0ZABkK5O9g-", 9, "x_item", 5),
    ]
    assert folder_rows(company.session, company.person("other").move) == []


def test_how_many_are_ahead(company: Company) -> None:
    people = [company.ready(name) for name in ("a", "b", "c")]
    for person in people:
        start(company.session, HELPDESK, person.move)
    assert [ahead(company.session, person.move) for person in people] == [0, 1, 2]
    company.set_move(people[0], MoveState.MOVING)
    assert ahead(company.session, people[2].move) == 1
