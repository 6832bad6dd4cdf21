"""Given a mailbox in a worker's hands, when the slice ends, breaks off or is lost, then the move says what is true and who acts."""
from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import pytest
from sqlalchemy import select, update

from engine.causes import Cause, Side
from engine.errors import LeaseLost
from engine.progress import Progress
from engine.report.copy import CopyOutcome, CopyReport, FolderReport
from portal.models import Attempt, AuditEvent, Credential, Move, MoveState, Project, ServerLine, now
from portal.services import leases, people, projects
from portal.services.common import SYSTEM
from portal.services.credentials import SOURCE_SECRET
from portal.services.people import NewPerson
from portal.services.projects import Server
from tests.support.portal_app import PortalForTests


@dataclass
class Company:
    portal: PortalForTests
    move_id: int

    def move(self) -> Move:
        with self.portal.database.reading() as session:
            move = session.get_one(Move, self.move_id)
            session.expunge(move)
            return move

    def change(self, **values: object) -> None:
        with self.portal.database.session() as session:
            session.execute(update(Move).where(Move.id == self.move_id).values(**values))

    def claim(self, owner: str = "one") -> leases.Lease:
        with self.portal.database.session() as session:
            lease = leases.claim(session, owner, self.move_id, 60)
        assert lease is not None
        return lease

    def finish(self, lease: leases.Lease, report: CopyReport) -> MoveState:
        with self.portal.database.session() as session:
            return leases.finish_slice(session, "one", lease, report)

    def recover(self) -> leases.Lost:
        with self.portal.database.session() as session:
            return leases.recover_lost(session, "cron")


@pytest.fixture
def company(portal: PortalForTests) -> Company:
    with portal.database.session() as session:
        project = projects.create_project(session, SYSTEM, "公司")
        projects.change_source(session, SYSTEM, project, "generic", Server("imap.old.example"))
        projects.change_destination(session, SYSTEM, project, Server("imap.new.example"))
        person = people.add_person(session, SYSTEM, project, NewPerson("a@old.example"))
        person.move.state = MoveState.QUEUED
        session.add(Credential(owner_kind="person", owner_id=person.id, field=SOURCE_SECRET, sealed="v1.x.x"))
        return Company(portal, person.move.id)


def failed(cause: Cause, **more: object) -> CopyReport:
    return CopyReport(CopyOutcome.FAILED, cause, Side.SOURCE, "NO words", **more)  # type: ignore[arg-type]


def test_one_of_two_gets_the_mailbox(company: Company) -> None:
    company.claim()
    with company.portal.database.session() as session:
        assert leases.claim(session, "two", company.move_id, 60) is None


@pytest.mark.parametrize("values", [{"state": MoveState.PAUSED}, {"state": MoveState.STUCK}, {"stop_requested": True},
                                    {"not_before": dt.datetime(2100, 1, 1, tzinfo=dt.UTC)}])
def test_what_may_not_run_is_not_taken(company: Company, values: dict[str, object]) -> None:
    company.change(**values)
    with company.portal.database.session() as session:
        assert leases.claim(session, "one", company.move_id, 60) is None


def test_a_closed_project_runs_no_more_and_says_so(company: Company) -> None:
    with company.portal.database.session() as session:
        session.execute(update(Project).values(closes_at=now() - dt.timedelta(seconds=1)))
    with company.portal.database.session() as session:
        assert leases.claim(session, "one", company.move_id, 60) is None
    assert company.recover().moves == []
    move = company.move()
    assert (move.state, move.cause) == (MoveState.STUCK, "window_closed")


def test_a_complete_slice_ends_the_move_and_its_secrets(company: Company) -> None:
    assert company.finish(company.claim(), CopyReport(CopyOutcome.COMPLETE)) is MoveState.DONE
    with company.portal.database.reading() as session:
        assert session.scalars(select(Credential)).all() == []
        assert session.scalars(select(Attempt.outcome)).all() == ["complete"]


@pytest.mark.parametrize(("report", "state", "cause"), [
    (CopyReport(CopyOutcome.PAUSED), MoveState.QUEUED, None),
    (CopyReport(CopyOutcome.PAUSED, Cause.THROTTLED, Side.SOURCE, retry_after=90.0), MoveState.WAITING, "throttled"),
    (failed(Cause.SERVER_BUSY), MoveState.WAITING, "server_busy"),
    (failed(Cause.LEDGER_UNWRITABLE), MoveState.WAITING, "ledger_unwritable"),
    (failed(Cause.BAD_SECRET), MoveState.STUCK, "bad_secret"),
    (CopyReport(CopyOutcome.PARTIAL), MoveState.DONE, None),
])
def test_how_a_slice_ends_decides_what_comes_next(company: Company, report: CopyReport, state: MoveState, cause: str | None) -> None:
    assert company.finish(company.claim(), report) is state
    move = company.move()
    assert (move.state, move.cause, move.lease_until) == (state, cause, None)
    if state is MoveState.WAITING:
        assert move.not_before and move.not_before > now()


def test_failures_without_progress_end_with_a_person(company: Company) -> None:
    for _ in range(leases.TRIES):
        company.change(not_before=None)
        state = company.finish(company.claim(), failed(Cause.SERVER_BUSY))
    assert state is MoveState.STUCK


def test_progress_begins_the_count_anew(company: Company) -> None:
    report = failed(Cause.SERVER_BUSY, folders=[FolderReport("INBOX", "INBOX", moved=1)])
    for _ in range(leases.TRIES + 2):
        company.change(not_before=None)
        state = company.finish(company.claim(), report)
    assert state is MoveState.WAITING


def test_a_lost_worker_is_named_and_its_mailbox_given_back(company: Company) -> None:
    lease = company.claim("host-42")
    company.change(lease_until=now() - dt.timedelta(seconds=1))
    assert company.recover().moves == [company.move_id]
    with company.portal.database.reading() as session:
        assert "host-42" in session.scalars(select(ServerLine.text)).one()
        event = session.scalars(select(AuditEvent).where(AuditEvent.action == "recover.move")).one()
        assert event.detail["owner"] == "host-42"
    with pytest.raises(LeaseLost):
        company.finish(lease, CopyReport(CopyOutcome.COMPLETE))
    with company.portal.database.session() as session, pytest.raises(LeaseLost):
        leases.record_progress(session, lease, Progress("INBOX", 1, 1, 1, 1, 0, 0, 0, 1), 60)
    assert company.move().state is MoveState.QUEUED


def test_a_pause_that_was_asked_for_is_kept_when_the_worker_is_lost(company: Company) -> None:
    company.claim()
    company.change(lease_until=now() - dt.timedelta(seconds=1), stop_requested=True)
    company.recover()
    assert company.move().state is MoveState.PAUSED


def test_the_last_lines_of_an_attempt_are_kept(company: Company) -> None:
    lease = company.claim()
    with company.portal.database.session() as session:
        for number in range(leases.LINES_KEPT + 5):
            leases.record_line(session, lease, Side.SOURCE, Cause.SERVER_BUSY, f"line {number}")
    with company.portal.database.reading() as session:
        texts = session.scalars(select(ServerLine.text).order_by(ServerLine.id)).all()
    assert (len(texts), texts[-1]) == (leases.LINES_KEPT, f"line {leases.LINES_KEPT + 4}")


def test_a_test_of_the_old_server_never_uses_the_new_servers_secret(company: Company) -> None:
    """Its own secret had run out in the queue; the project's secret is for another server."""
    import worker
    from engine.endpoint import Secret
    from engine.errors import EngineError
    from portal.models import Check
    from portal.services.projects import set_destination_secret

    portal = company.portal
    with portal.database.session() as session:
        project = session.scalars(select(Project)).one()
        set_destination_secret(session, SYSTEM, project, Secret("of the new server"), portal.sealer)
        check = Check(project_id=project.id, side="source", login="a@old.example", steps=[], result={})
        session.add(check)
        session.flush()
        check_id = check.id
    place = worker.Workplace(portal.settings)
    with place.database.reading() as session, pytest.raises(EngineError) as refused:
        worker._accounts_to_check(place, session, session.get_one(Check, check_id))
    assert refused.value.cause is Cause.SECRET_MISSING
