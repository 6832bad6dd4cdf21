"""一键搬家: a sheet taken, taken again, corrected; moves started; links handed out."""
from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from engine.causes import Cause, Side
from engine.report.steps import Step
from portal.models import AuditEvent, Check, Link, Move, MoveState, Person
from portal.services import imports
from portal.services.common import Actor, ProjectClosed
from portal.services.days import day_of
from portal.services.imports import Imported, commit_people, export_links, read_sheet
from portal.services.links import LinkState, find_link
from portal.services.moves import pause, start
from portal.services.projects import close_project
from tests.support.portal_app import PortalForTests
from tests.unit.portal.company import ADMIN, Company

PLAIN = "姓名,旧邮箱,新邮箱\n王伟,wang@old.example,wang@new.example\n李娜,li@old.example,li@new.example\n"
SECRETS = ("姓名,旧邮箱,旧邮箱密码,新邮箱,新邮箱密码\n"
           "王伟,wang@old.example,kanarie-w1,wang@new.example,kanarie-w2\n"
           "李娜,li@old.example,kanarie-l1,li@new.example,kanarie-l2\n")


@pytest.fixture
def company(portal: PortalForTests) -> Iterator[Company]:
    company = Company(portal)
    yield company
    company.close()


def take(company: Company, text: str, *, begin: bool = False) -> Imported:
    return commit_people(company.session, ADMIN, company.project, read_sheet(text.encode(), "p.csv"), company.sealer, start=begin)


def counts(result: Imported) -> tuple[int, int, int, int, int]:
    return result.added, result.updated, result.unchanged, result.started, len(result.problems)


def named(company: Company, name: str) -> Person:
    return company.session.scalars(select(Person).where(Person.source_address == f"{name}@old.example")).one()


def test_people_are_added_and_the_same_sheet_again_changes_nothing(company: Company) -> None:
    assert counts(take(company, PLAIN)) == (2, 0, 0, 0, 0)
    assert counts(take(company, PLAIN)) == (0, 0, 2, 0, 0)
    with company.look() as session:
        assert session.scalars(select(Move.state)).all() == [MoveState.INVITED] * 2
    assert [event.detail["rows"] for event in company.events("import.people")] == [2, 2]
    assert len(company.events("import.people")[0].detail["sha256"]) == 64


def test_a_changed_cell_updates_an_empty_one_says_nothing(company: Company) -> None:
    take(company, PLAIN)
    changed = "姓名,旧邮箱,新邮箱,语言,旧邮箱登录名\n王大伟,wang@old.example,,en,w.wang\n,li@old.example,li2@new.example,,\n"
    assert counts(take(company, changed)) == (0, 2, 0, 0, 0)
    wang, li = named(company, "wang"), named(company, "li")
    assert (wang.name, wang.language, wang.source_login) == ("王大伟", "en", "w.wang")
    assert (li.name, li.language, li.destination_address) == ("李娜", "zh", "li2@new.example")
    assert [event.detail["fields"] for event in company.events("update.person")] == [
        ["language", "name", "source_login"],
        ["destination_address"],
    ]


def test_an_empty_new_mailbox_leaves_the_one_that_is_known(company: Company) -> None:
    take(company, PLAIN)
    assert counts(take(company, "旧邮箱\nwang@old.example\n")) == (0, 0, 1, 0, 0)
    assert named(company, "wang").destination_address == "wang@new.example"


def test_all_at_once_secrets_are_sealed_and_moves_are_queued(company: Company) -> None:
    assert counts(take(company, SECRETS, begin=True)) == (2, 0, 0, 2, 0)
    wang, li = named(company, "wang"), named(company, "li")
    assert company.opened(wang, "source_secret") == "kanarie-w1" and company.opened(li, "destination_secret") == "kanarie-l2"
    assert company.queue.slices == [wang.move.id, li.move.id] and company.queue.checks == []
    assert [(a.number, a.launched_by) for a in company.attempts(wang)] == [(1, "import")]
    assert counts(take(company, SECRETS, begin=True)) == (0, 0, 2, 0, 0)
    assert len(company.queue.slices) == 2 and len(company.attempts(wang)) == 1


def test_taken_first_and_started_later_with_the_same_sheet(company: Company) -> None:
    assert counts(take(company, SECRETS)) == (2, 0, 0, 0, 0) and company.queue.slices == []
    assert counts(take(company, SECRETS, begin=True)) == (0, 0, 2, 2, 0)


def test_a_secret_is_nowhere_but_sealed(company: Company) -> None:
    take(company, SECRETS.replace("kanarie-l1", '"kanarie\nl1"').replace("li@new", "no address"), begin=True)
    with company.look() as session:
        assert not any("kanarie" in str(event.detail) for event in session.scalars(select(AuditEvent)))
    company.database.forget_deleted()
    assert not any(b"kanarie" in path.read_bytes() for path in company.portal.settings.instance_dir.glob("banjia.db*"))


def test_one_bad_row_never_stops_the_others(company: Company) -> None:
    text = (
        SECRETS
        + "赵,zhao@old.example,ＡＢＣ,zhao@new.example,x\n钱,qian@old.example,code,wang@new.example,x\n"
        + "孙,sun@old.example,code,sun@new.example,\n"
    )
    result = take(company, text, begin=True)
    assert (result.added, result.started) == (3, 2)
    assert [(p.row, p.column) for p in result.problems] == [
        (4, "旧邮箱密码 (source_secret)"), (5, "新邮箱 (destination_address)"), (6, "新邮箱密码 (destination_secret)")]
    assert "new mailbox's password" in result.problems[2].cause.en
    with company.look() as session:
        assert sorted(session.scalars(select(Person.name)).all()) == sorted(["王伟", "李娜", "孙"])
    assert "ＡＢＣ" not in str(result.problems)


def test_people_without_secrets_in_a_mixed_sheet_wait_for_their_owner(company: Company) -> None:
    text = "旧邮箱,旧邮箱密码,新邮箱密码\na@old.example,code,new\nb@old.example,,\n"
    assert counts(take(company, text, begin=True)) == (2, 0, 0, 1, 0)
    assert named(company, "b").move.state is MoveState.INVITED


# --- corrections ----------------------------------------------------------------------------------------------------------


def test_a_corrected_sheet_replaces_what_came_from_a_sheet_but_not_what_its_owner_typed(company: Company) -> None:
    take(company, SECRETS)
    company.submit(named(company, "li"), "typed by li", None)
    assert counts(take(company, SECRETS.replace("kanarie-w1", "better").replace("kanarie-l1", "older"))) == (0, 1, 1, 0, 0)
    assert company.opened(named(company, "wang"), "source_secret") == "better"
    assert company.opened(named(company, "li"), "source_secret") == "typed by li"


def test_a_refused_secret_is_corrected_by_another_sheet_and_starts_again(company: Company) -> None:
    take(company, SECRETS, begin=True)
    wang = named(company, "wang")
    company.set_move(wang, MoveState.STUCK, Cause.BAD_SECRET)
    assert counts(take(company, SECRETS, begin=True)) == (0, 0, 2, 0, 1), "the same file holds the secret that was refused"
    assert wang.move.state is MoveState.STUCK and company.opened(wang, "source_secret") == "kanarie-w1"
    assert counts(take(company, SECRETS.replace("kanarie-w1", "second"), begin=True)) == (0, 1, 1, 1, 0)
    assert [a.number for a in company.attempts(wang)] == [1, 2]


def test_a_sheet_is_not_a_way_around_two_tries(company: Company) -> None:
    take(company, SECRETS, begin=True)
    wang = named(company, "wang")
    for code in ("second", "third"):
        company.set_move(wang, MoveState.STUCK, Cause.BAD_SECRET)
        result = take(company, SECRETS.replace("kanarie-w1", code), begin=True)
    assert result.started == 0 and "try again in" in result.problems[0].cause.en
    assert wang.move.state is MoveState.STUCK


def test_a_sheet_starts_nobody_whose_tries_are_used(company: Company) -> None:
    take(company, PLAIN)
    wang = named(company, "wang")
    for cause in (Cause.BAD_SECRET, Cause.UNKNOWN):
        company.end_check(company.submit(wang), cause, at=(Side.SOURCE, Step.LOGIN))
    result = take(company, SECRETS, begin=True)
    assert result.started == 1 and "try again in" in result.problems[0].cause.en
    assert wang.move.state is MoveState.INVITED


@pytest.mark.parametrize("state", [MoveState.QUEUED, MoveState.MOVING, MoveState.WAITING, MoveState.DONE])
def test_what_runs_or_is_done_takes_no_secret_from_a_sheet(company: Company, state: MoveState) -> None:
    take(company, SECRETS, begin=True)
    wang = named(company, "wang")
    company.set_move(wang, state, outcome="complete" if state is MoveState.DONE else None)
    assert counts(take(company, SECRETS.replace("kanarie-w1", "other"), begin=True)) == (0, 0, 2, 0, 0)
    assert company.opened(wang, "source_secret") == "kanarie-w1" and len(company.attempts(wang)) == 1


def test_a_paused_move_is_not_started_by_a_sheet(company: Company) -> None:
    take(company, SECRETS, begin=True)
    wang = named(company, "wang")
    pause(company.session, ADMIN, wang.move)
    assert take(company, SECRETS.replace("kanarie-w1", "other"), begin=True).started == 0
    assert wang.move.state is MoveState.PAUSED


def test_the_new_mailbox_of_a_move_that_began_stays(company: Company) -> None:
    take(company, SECRETS, begin=True)
    result = take(company, PLAIN.replace("wang@new", "wang2@new"))
    assert counts(result) == (0, 0, 1, 0, 1) and "cannot be changed" in result.problems[0].cause.en
    assert named(company, "wang").destination_address == "wang@new.example"


def test_a_closed_project_takes_nobody(company: Company) -> None:
    close_project(company.session, ADMIN, company.project)
    with pytest.raises(ProjectClosed):
        take(company, PLAIN)
    with pytest.raises(ProjectClosed):
        export_links(company.session, ADMIN, company.project, company.portal.settings)


def test_hundreds_of_people_are_taken_and_started(company: Company) -> None:
    text = "旧邮箱,旧邮箱密码,新邮箱密码\n" + "".join(f"p{n}@old.example,code{n},new{n}\n" for n in range(300))
    assert counts(take(company, text, begin=True)) == (300, 0, 0, 300, 0)
    assert len(company.queue.slices) == 300


def test_others_write_while_a_long_sheet_is_taken_and_what_broke_off_is_finished_by_the_same_sheet(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "旧邮箱,旧邮箱密码,新邮箱密码\n" + "".join(f"p{n}@old.example,code{n},new{n}\n" for n in range(7))
    monkeypatch.setattr(imports, "ROWS_AT_ONCE", 3)
    real, seen = imports._commit_rows, []

    def broken_off(session: Session, *args: Any, **kwargs: Any) -> None:
        with company.look() as other:
            seen.append(other.scalar(select(func.count()).select_from(Person)))
        if len(seen) == 3:
            raise OperationalError("INSERT", {}, Exception("database is locked"))
        real(session, *args, **kwargs)

    monkeypatch.setattr(imports, "_commit_rows", broken_off)
    with pytest.raises(OperationalError):
        take(company, text, begin=True)
    assert seen == [0, 3, 6] and len(company.queue.slices) == 6 and company.events("import.people") == []
    assert counts(take(company, text, begin=True)) == (1, 0, 6, 1, 0)
    assert len(company.queue.slices) == 7 and len(company.events("import.people")) == 1


# --- links ----------------------------------------------------------------------------------------------------------------


def test_exported_links_work_and_stand_nowhere_else(company: Company) -> None:
    take(company, PLAIN.replace("王伟", "=cmd|' /C calc'!A0"))
    company.set_move(named(company, "li"), MoveState.DONE, outcome="complete")
    data = export_links(company.session, ADMIN, company.project, company.portal.settings)
    header, row = list(csv.reader(io.StringIO(data.decode("utf-8-sig"))))
    assert header[1] == "旧邮箱/source_address" and row[0] == "'=cmd|' /C calc'!A0" and row[1] == "wang@old.example"
    assert row[5] == day_of(company.project.closes_at)  # as pages write it
    token = row[4].removeprefix("http://127.0.0.1:8000/m/")
    found = find_link(company.session, token)
    assert found.why is LinkState.OK and found.person is named(company, "wang")
    with company.look() as session:
        assert session.scalar(select(func.count()).select_from(Link)) == 1
        assert not any(token in str(event.detail) for event in session.scalars(select(AuditEvent)))
    assert company.events("export.links")[0].detail == {"count": 1}


def test_links_for_chosen_people_only_and_of_this_project(company: Company) -> None:
    take(company, PLAIN)
    data = export_links(company.session, ADMIN, company.project, company.portal.settings, [named(company, "li")])
    assert data.decode("utf-8-sig").count("/m/") == 1 and "li@old.example" in data.decode("utf-8-sig")


def test_an_exported_sheet_of_links_is_no_sheet_of_secrets(company: Company) -> None:
    take(company, SECRETS)
    assert b"kanarie" not in export_links(company.session, ADMIN, company.project, company.portal.settings)


def test_a_person_can_go_on_by_hand_after_an_import(company: Company) -> None:
    take(company, SECRETS)
    wang = named(company, "wang")
    company.end_check(company.submit(wang, "mine", None))
    assert start(company.session, Actor.person(wang), wang.move).state is MoveState.QUEUED
    with company.look() as session:
        assert session.scalar(select(func.count()).select_from(Check)) == 1
