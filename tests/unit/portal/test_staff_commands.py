"""`python -m portal invite` and `change-role`: who was invited as what until when, and nothing that was asked for is dropped in silence."""
from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest
from sqlalchemy import select

from portal.cli import main
from portal.models import Role, Staff, StaffInvitation, now
from portal.services.staff import InvitationState, find_invitation
from portal.staff_commands import _not_migrated
from portal.store.db import migrate, unmigrate
from tests.support.portal_app import PortalForTests

WANG = "wang@example.com"


class Typed:
    """What was printed for one command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


class Terminal:
    def __init__(self, portal: PortalForTests, capsys: pytest.CaptureFixture[str]) -> None:
        self.portal, self._capsys = portal, capsys

    def __call__(self, *words: str) -> Typed:
        code = main(words)
        printed = self._capsys.readouterr()
        return Typed(code, printed.out, printed.err)

    def staff(self) -> Staff | None:
        with self.portal.database.reading() as session:
            found = session.scalar(select(Staff).where(Staff.email == WANG))
            session.expunge_all()
            return found

    def state(self, link: str) -> InvitationState:
        with self.portal.database.reading() as session:
            return find_invitation(session, link.rstrip("\n").rsplit("/", 1)[1]).why


@pytest.fixture
def type_in(portal: PortalForTests, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("INSTANCE_DIR", str(portal.settings.instance_dir))
    monkeypatch.setenv("BASE_URL", "https://move.example.com")
    monkeypatch.setenv("INVITATION_HOURS", "48")
    return Terminal(portal, capsys)


def test_an_invitation_says_for_whom_as_what_and_until_when(type_in: Terminal) -> None:
    done = type_in("invite", "Wang@Example.com", "--role", "admin", "--name", "王芳")
    assert done.code == 0
    assert re.fullmatch(r"https://move\.example\.com/invitation/[\w-]{43}\n", done.out), "the link alone"
    assert type_in.state(done.out) is InvitationState.OK
    assert "邀请 / invitation: wang@example.com 王芳 (新账号 / a new account)\n" in done.err
    assert "权限 / role: admin\n" in done.err
    until = re.search(r"有效到 / one-time link, good until: (.+)\n", done.err)
    assert until
    with type_in.portal.database.reading() as session:
        stored = session.scalars(select(StaffInvitation.expires_at)).one()
    assert dt.datetime.strptime(until[1], "%Y-%m-%d %H:%M %z") == stored.replace(second=0, microsecond=0)
    assert abs(stored - now() - dt.timedelta(hours=48)) < dt.timedelta(minutes=1)
    staff = type_in.staff()
    assert staff and (staff.role, staff.name) == (Role.ADMIN, "王芳")


def test_without_a_role_a_new_person_is_of_the_helpdesk_and_a_known_one_keeps_theirs(type_in: Terminal) -> None:
    assert "role: helpdesk" in type_in("invite", WANG).err
    type_in("change-role", WANG, "admin")
    first = type_in("invite", WANG)
    again = type_in("invite", WANG, "--role", "admin")
    assert "role: admin" in first.err and "role: admin" in again.err
    assert "以前的链接作废 / the account was there, its older links stop working" in again.err
    assert (type_in.state(first.out), type_in.state(again.out)) == (InvitationState.USED, InvitationState.OK)


@pytest.mark.parametrize("with_password", [False, True])
def test_another_role_is_refused_with_the_way_to_change_it(type_in: Terminal, with_password: bool) -> None:
    link = type_in("invite", WANG).out
    if with_password:
        with type_in.portal.database.session() as session:
            session.scalars(select(Staff)).one().password_hash = "scrypt:somebody-took-it"
    refused = type_in("invite", WANG, "--role", "operator")
    assert (refused.code, refused.out) == (1, "")
    zh, en = refused.err.splitlines()
    assert "权限是 helpdesk，没有改成 operator" in zh and "with the role helpdesk; it was not changed to operator" in en
    change = f"python -m portal change-role {WANG} operator"
    assert change in zh and change in en
    assert (f"leave out --role: python -m portal invite {WANG}" in en) is not with_password, "who has a password is invited no more"
    staff = type_in.staff()
    assert staff and staff.role is Role.HELPDESK
    assert type_in.state(link) is InvitationState.OK, "the link of before goes on working"

    changed = type_in(*change.split()[3:])
    assert (changed.code, "helpdesk → operator" in changed.out) == (0, True)
    staff_now = type_in.staff()
    assert staff_now and staff_now.role is Role.OPERATOR and staff_now.session_epoch > staff.session_epoch


def test_a_name_that_is_not_taken_over_is_told(type_in: Terminal) -> None:
    type_in("invite", WANG, "--name", "王芳")
    assert "name was not changed" not in type_in("invite", WANG).err + type_in("invite", WANG, "--name", " 王芳 ").err
    assert "姓名没有改，还是“王芳” / the name was not changed, it is still “王芳”" in type_in("invite", WANG, "--name", "王方").err


def test_a_role_for_nobody_and_the_same_role_and_the_last_operators(type_in: Terminal) -> None:
    nobody = type_in("change-role", WANG, "admin")
    assert (nobody.code, f"python -m portal invite {WANG} --role admin" in nobody.err) == (1, True)
    type_in("invite", WANG, "--role", "operator")
    assert "is operator already" in type_in("change-role", WANG, "operator").out
    last = type_in("change-role", WANG, "helpdesk")
    assert (last.code, "At least one operator must remain" in last.err) == (1, True)


EVERY_ACT = pytest.mark.parametrize("words", [("invite", WANG), ("change-role", WANG, "admin")], ids=lambda words: words[0])


def says_to_migrate(words: tuple[str, ...], database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    printed = capsys.readouterr()
    zh, en = printed.err.splitlines()
    assert printed.out == "" and "先运行 python -m portal migrate" in zh and "run python -m portal migrate first" in en
    assert f"sqlite:///{database}" in zh and f"sqlite:///{database}" in en


@EVERY_ACT
@pytest.mark.parametrize("there", [False, True], ids=["no file", "an empty file"])
def test_before_the_tables_are_made_it_names_the_database_and_makes_none(
        words: tuple[str, ...], there: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    database = tmp_path / "banjia.db"
    monkeypatch.setenv("INSTANCE_DIR", str(tmp_path))
    if there:
        database.touch()
    says_to_migrate(words, database, capsys)
    assert [(path.name, path.stat().st_size) for path in tmp_path.rglob("*.db*")] == ([("banjia.db", 0)] if there else [])


@EVERY_ACT
def test_with_the_tables_of_another_version_it_says_so_and_a_migration_mends_it(
        words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    database = tmp_path / "banjia.db"
    monkeypatch.setenv("INSTANCE_DIR", str(tmp_path))
    monkeypatch.setenv("BASE_URL", "https://move.example.com")
    migrate(f"sqlite:///{database}")
    unmigrate(f"sqlite:///{database}", "-1")
    says_to_migrate(words, database, capsys)
    assert main(["migrate"]) == 0
    main(words)
    assert "portal migrate" not in capsys.readouterr().err


def test_the_database_is_named_without_its_password() -> None:
    refused = _not_migrated("postgresql+psycopg://banjia:geheim@db.example/banjia")
    assert "banjia:***@db.example" in refused.zh and "geheim" not in refused.zh + refused.en


@pytest.mark.parametrize(("words", "says"), [
    (("invite", WANG, "--role", "boss"), ["helpdesk", "admin", "operator"]),
    (("change-role", WANG, "boss"), ["helpdesk", "admin", "operator"]),
    (("up", "--workers", "many"), ["1 到 32", "from 1 to 32"]), (("up", "--workers", "33"), ["1 到 32", "from 1 to 32"]),
])
def test_what_is_not_on_offer_is_answered_with_what_is(words: tuple[str, ...], says: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert all(word in told for word in says) and "value" not in told
