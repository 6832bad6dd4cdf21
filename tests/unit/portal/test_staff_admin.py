"""Preparing a move: projects, servers and their test, a sheet of people, links; relays, staff and the audit."""
from __future__ import annotations

import csv
import datetime as dt
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from flask import request
from flask.testing import FlaskClient
from sqlalchemy import func, select

from portal.admin.readiness import Task, readiness
from portal.models import Attempt, AuditEvent, Check, Credential, Move, MoveState, Owner, Person, Project, Relay, Role, Staff, now
from tests.support.desk_scene import CANARY, MAIN_NAME, TOKEN, DeskScene, send, text_of
from tests.support.portal_app import portal_in

SECRET = "sheet-secret-9f27"
PIN = "ab" * 32


@pytest.fixture
def admin(scene: DeskScene) -> FlaskClient:
    return scene.signed_in(Role.ADMIN)


@pytest.fixture
def operator(scene: DeskScene) -> FlaskClient:
    return scene.signed_in(Role.OPERATOR)


@pytest.fixture
def strict_scene(built_scene: DeskScene, tmp_path: Path) -> Iterator[DeskScene]:
    """Where the operator allows the ports of mail servers only, as is usual."""
    with portal_in(tmp_path / "instance", built_scene.portal.settings.instance_dir, ALLOWED_PORTS="143,993") as portal:
        yield replace(built_scene, portal=portal)


def sheet(*rows: str, header: str = "姓名,旧邮箱,旧邮箱密码,新邮箱,新邮箱密码") -> bytes:
    return "\r\n".join((header, *rows)).encode("utf-8-sig")


def upload(client: FlaskClient, project: int, content: bytes, name: str = "名单.csv", **data: str) -> Any:
    return send(client, f"/projects/{project}/people", sheet=(io.BytesIO(content), name), **data)


def project_row(scene: DeskScene, project: int) -> Project:
    with scene.look() as session:
        row = session.get_one(Project, project)
        session.expunge(row)
        return row


def people_count(scene: DeskScene, project: int) -> int:
    with scene.look() as session:
        return session.scalar(select(func.count()).select_from(Person).where(Person.project_id == project)) or 0


# --- projects -------------------------------------------------------------------------------------------------------------


def test_a_new_project_opens_on_its_task_list(scene: DeskScene, admin: FlaskClient) -> None:
    answer = send(admin, "/projects/new", name="南方仪表", days="30", contact="前台 8001")
    page = text_of(admin.get(answer.location).text)
    for told in ("南方仪表", "还没填", "前台 8001", "要准备的", "名单", "个人链接"):
        assert told in page


@pytest.mark.parametrize(("typed", "field"), [
    ({"name": "", "days": "30"}, "name"), ({"name": MAIN_NAME, "days": "30"}, "name"), ({"name": "新的", "days": "0"}, "days"),
    ({"name": "新的", "days": "一个月"}, "days"), ({"name": "新的", "days": "9999"}, "days"),
])
def test_a_mistake_names_its_field_and_keeps_what_was_typed(admin: FlaskClient, typed: dict[str, str], field: str) -> None:
    page = send(admin, "/projects/new", contact="前台 8001", **typed)
    assert page.status_code == 422
    assert f'id="f-{field}-error"' in page.text
    assert f'href="#f-{field}"' in page.text
    assert 'value="前台 8001"' in page.text
    if typed["name"]:
        assert f'value="{typed["name"]}"' in page.text


def test_a_project_is_ready_only_when_its_servers_were_tested(scene: DeskScene, admin: FlaskClient) -> None:
    """Given a destination that passed its test, when the server is changed, then it counts as not tested."""
    with scene.look() as session:
        tasks = readiness(session, session.get_one(Project, scene.main))
        assert (tasks.source, tasks.destination, tasks.people) == (Task.FAILED, Task.DONE, 13)
        assert readiness(session, session.get_one(Project, scene.bare)).source is Task.MISSING
    send(admin, f"/projects/{scene.main}/destination", destination_host="other.example", destination_port="993",
         destination_security="tls", destination_login_template="{address}")
    with scene.look() as session:
        assert readiness(session, session.get_one(Project, scene.main)).destination is Task.UNTESTED


@pytest.mark.parametrize(("moved", "outcome", "hours", "own_server", "source", "destination"), [
    (12, None, 0, False, Task.USED, Task.USED), (0, "complete", 0, False, Task.USED, Task.USED),
    (12, None, 0, True, Task.UNTESTED, Task.USED), (0, None, 0, False, Task.UNTESTED, Task.UNTESTED),
    (12, None, -2, False, Task.UNTESTED, Task.UNTESTED),
])
def test_servers_that_mail_was_moved_through_need_no_test(scene: DeskScene, admin: FlaskClient, moved: int, outcome: str | None, hours: int,
                                                          own_server: bool, source: Task, destination: Task) -> None:
    """But the mail of before a change proves nothing, nor does that of a person with an old server of their own."""
    with scene.portal.database.session() as session:
        move = session.get_one(Move, scene.moves["emma"])
        move.person.source_host = "imap.elsewhere.example" if own_server else None
        move.attempts.append(Attempt(number=2, launched_by="person", moved=moved, outcome=outcome,
                                     started_at=now() + dt.timedelta(hours=hours)))
    with scene.look() as session:
        tasks = readiness(session, session.get_one(Project, scene.other))
    assert (tasks.source, tasks.destination) == (source, destination)
    page = admin.get(f"/projects/{scene.other}").text
    assert page.count("搬过邮件，连得通") == [source, destination].count(Task.USED)
    assert "可以开始了" not in page, "everybody has begun"


def test_the_window_can_be_moved(scene: DeskScene, admin: FlaskClient) -> None:
    before = project_row(scene, scene.main).closes_at
    assert send(admin, f"/projects/{scene.main}/window", days="60", contact="新联系人").status_code == 303
    assert (project_row(scene, scene.main).closes_at - before).days in (29, 30)
    assert "新联系人" in admin.get(f"/projects/{scene.main}").text


def test_closing_takes_the_name_and_destroys_every_secret(scene: DeskScene, admin: FlaskClient) -> None:
    link = re.search(r'value="[^"]*(/m/[^"]+)"', send(admin, f"/desk/moves/{scene.moves['guojing']}/link").text)
    assert link
    refused = send(admin, f"/projects/{scene.main}/close", typed_name="华东")
    assert refused.status_code == 422
    assert 'id="f-typed_name-error"' in refused.text
    assert send(admin, f"/projects/{scene.main}/close", typed_name=MAIN_NAME).status_code == 303
    with scene.look() as session:
        people = select(Person.id).where(Person.project_id == scene.main)
        assert not session.scalars(select(Credential).where(Credential.owner_kind == Owner.PERSON, Credential.owner_id.in_(people))).all()
    assert "结束" in scene.portal.client().get(link[1]).text
    page = admin.get(f"/projects/{scene.main}").text
    assert "这个项目已经结束" in page
    assert "/close" not in page
    again = send(admin, f"/projects/{scene.main}/source", provider="exmail", source_port="993", source_security="tls")
    assert again.status_code == 422  # what is over is not changed


def test_a_project_that_does_not_exist_says_where_to_look(admin: FlaskClient) -> None:
    for page in ("", "/source", "/destination", "/people", "/people/template.csv", "/tests/1"):
        answer = admin.get(f"/projects/999{page}")
        assert answer.status_code == 404
        assert 'href="/projects"' in answer.text


# --- servers --------------------------------------------------------------------------------------------------------------

SOURCE = {"provider": "", "source_host": "imap.firm.example", "source_port": "993", "source_security": "tls"}


def test_brand_alone_is_enough_for_the_old_server(scene: DeskScene, admin: FlaskClient) -> None:
    answer = send(admin, f"/projects/{scene.bare}/source", provider="qiye163", source_host="", source_port="993", source_security="tls")
    assert answer.status_code == 303
    assert project_row(scene, scene.bare).provider == "qiye163"
    assert "空着就用" in admin.get(f"/projects/{scene.bare}/source").text


@pytest.mark.parametrize(("wrong", "field"), [
    ({"source_host": "not a host"}, "source_host"), ({"source_port": "25"}, "source_port"), ({"source_port": "x"}, "source_port"),
    ({"source_security": "plain"}, "source_security"), ({"source_host": ""}, "provider"), ({"provider": "nobody"}, "provider"),
    ({"source_ca_pem": "no certificate", "source_reason": "lab"}, "source_ca_pem"),
    ({"source_pinned_sha256": "abc", "source_reason": "lab"}, "source_pinned_sha256"),
    ({"source_host": "", "provider": "exmail", "source_pinned_sha256": PIN, "source_reason": "lab"}, "source_host"),
])
def test_a_wrong_server_is_told_at_its_field(strict_scene: DeskScene, wrong: dict[str, str], field: str) -> None:
    admin = strict_scene.signed_in(Role.ADMIN)
    page = send(admin, f"/projects/{strict_scene.bare}/source", **{**SOURCE, **wrong})
    assert page.status_code == 422
    assert f'id="f-{field}-error"' in page.text, text_of(page.text)
    assert project_row(strict_scene, strict_scene.bare).source_host == ""


def test_a_tls_exception_needs_a_reason_and_is_recorded(scene: DeskScene, admin: FlaskClient) -> None:
    refused = send(admin, f"/projects/{scene.bare}/source", **SOURCE, source_pinned_sha256=PIN)
    assert refused.status_code == 422
    assert 'id="f-source_reason-error"' in refused.text
    assert PIN in refused.text  # what was typed stays
    saved = send(admin, f"/projects/{scene.bare}/source", **SOURCE, source_pinned_sha256=PIN, source_reason="旧服务器证书过期")
    assert saved.status_code == 303
    assert "只认指定的公钥" in admin.get(f"/projects/{scene.bare}/source").text
    told = text_of(admin.get("/audit?action=change.source").text)
    assert "旧服务器证书过期" in told
    assert "zhao@moves.example" in told


def test_a_relay_is_chosen_for_the_old_server(scene: DeskScene, admin: FlaskClient) -> None:
    assert send(admin, f"/projects/{scene.bare}/source", **SOURCE, relay=str(scene.relay_id)).status_code == 303
    assert project_row(scene, scene.bare).relay_id == scene.relay_id
    assert "经中继 北京机房" in text_of(admin.get(f"/projects/{scene.bare}").text)
    assert send(admin, f"/projects/{scene.bare}/source", **SOURCE, relay="").status_code == 303
    assert project_row(scene, scene.bare).relay_id is None


def test_the_master_password_is_sealed_and_never_shown(scene: DeskScene, admin: FlaskClient) -> None:
    path = f"/projects/{scene.main}/destination"
    assert send(admin, f"{path}/secret", do="set", destination_secret=SECRET).status_code == 303
    page = admin.get(path).text
    assert "已保存一个统一密码" in page
    assert SECRET not in page
    with scene.look() as session:
        row = session.scalars(select(Credential).where(Credential.owner_kind == Owner.PROJECT)).one()
        assert scene.portal.vault.open(row.sealed, "project", row.owner_id, row.field).reveal() == SECRET
    assert send(admin, f"{path}/secret", do="forget").status_code == 303
    assert "已保存一个统一密码" not in admin.get(path).text


def test_a_test_of_a_server_runs_the_employees_five_steps(scene: DeskScene, admin: FlaskClient) -> None:
    answer = send(admin, f"/projects/{scene.main}/source/test", login="probe@old.example", secret=SECRET)
    assert answer.status_code == 303
    page = admin.get(answer.location).text
    assert "正在测试" in page
    assert "<noscript><meta" in page
    for step in ("找到服务器", "连上服务器", "建立安全连接", "登录邮箱", "看看有哪些文件夹"):
        assert step in page
    live = re.search(r'data-live="([^"]+)"', page)
    assert live
    part = admin.get(unescape(live[1]))
    assert 'data-live-state="on"' in part.text
    assert admin.get(unescape(live[1]), headers={"If-None-Match": part.headers["ETag"]}).status_code == 304
    assert SECRET not in page
    with scene.look() as session:
        check = session.scalars(select(Check).order_by(Check.id.desc())).first()
        assert check
        assert (check.login, check.side, check.launched_by) == ("probe@old.example", "source", "staff:zhao@moves.example")


def test_a_failed_test_says_what_it_means(scene: DeskScene, admin: FlaskClient) -> None:
    page = text_of(admin.get(f"/projects/{scene.main}/source").text)
    for told in ("连接失败", "没通过", "客户端专用密码", "谁来做： 你", "LOGIN Login error, password error"):
        assert told in page
    assert "念给本人听" not in page, "who tests reads it for themselves"
    passed = text_of(admin.get(f"/projects/{scene.main}/destination").text)
    assert "连接通过" in passed
    assert "18,040" in passed


def test_a_test_without_account_or_password_is_refused_and_keeps_the_account(scene: DeskScene, admin: FlaskClient) -> None:
    page = send(admin, f"/projects/{scene.main}/source/test", login="probe@old.example", secret="")
    assert page.status_code == 422
    assert 'id="f-secret-error"' in page.text
    assert 'value="probe@old.example"' in page.text
    assert 'id="f-login-error"' in send(admin, f"/projects/{scene.main}/source/test", login="", secret=SECRET).text


def test_the_test_of_another_project_is_not_to_be_seen(scene: DeskScene, admin: FlaskClient) -> None:
    assert admin.get(f"/projects/{scene.main}/tests/{scene.failed_test}").status_code == 200
    assert admin.get(f"/projects/{scene.other}/tests/{scene.failed_test}").status_code == 404
    assert "test@old.example" not in admin.get(f"/projects/{scene.other}/source?test={scene.failed_test}").text


# --- people ---------------------------------------------------------------------------------------------------------------

TWO = sheet(f"张三,zhang@old.example,{SECRET},zhang@new.example,{SECRET}", "李四,si@old.example,,si@new.example,")


def test_the_template_reads_back_as_an_empty_sheet(scene: DeskScene, admin: FlaskClient) -> None:
    answer = admin.get(f"/projects/{scene.bare}/people/template.csv")
    assert "attachment" in answer.headers["Content-Disposition"]
    looked = upload(admin, scene.bare, answer.data)
    assert looked.status_code == 200
    assert "没有能导入的行" in looked.text


def test_looking_at_a_sheet_takes_nobody_and_shows_no_secret(scene: DeskScene, admin: FlaskClient) -> None:
    page = upload(admin, scene.bare, TWO, do="look")
    told = text_of(page.text)
    for shown in ("看一遍：名单.csv", "导入这 2 人", "张三", "zhang@new.example", "有（不显示）", "一键搬家"):
        assert shown in told
    assert SECRET not in page.text
    assert people_count(scene, scene.bare) == 0
    with admin.session_transaction() as session:
        assert SECRET not in str(dict(session))


def test_a_sheet_never_touches_the_disk(scene: DeskScene) -> None:
    """Given a sheet of 1 MB (servers usually spool such a form into a temporary file), then it is held in memory only."""
    large = sheet(*(f"人{n},p{n}@old.example,{SECRET},p{n}@new.example," for n in range(16_000)))
    assert len(large) > 900_000
    with scene.portal.app.test_request_context("/", method="POST", data={"sheet": (io.BytesIO(large), "a.csv")}):
        stream = request.files["sheet"].stream
        assert isinstance(stream, io.BytesIO)
        assert stream.read() == large


def looked_at(page: str) -> str:
    found = re.search(r'name="looked_at" value="([0-9a-f]{64})"', page)
    assert found
    return found[1]


def test_taking_the_sheet_that_was_looked_at_adds_its_people(scene: DeskScene, admin: FlaskClient) -> None:
    seen = looked_at(upload(admin, scene.bare, TWO, do="look").text)
    done = text_of(upload(admin, scene.bare, TWO, do="take", looked_at=seen).text)
    assert "2 新加" in done
    assert people_count(scene, scene.bare) == 2
    again = upload(admin, scene.bare, TWO, do="look").text
    assert "2 没有变化" in text_of(upload(admin, scene.bare, TWO, do="take", looked_at=looked_at(again)).text)
    assert people_count(scene, scene.bare) == 2


def test_another_file_than_the_one_looked_at_is_only_shown(scene: DeskScene, admin: FlaskClient) -> None:
    seen = looked_at(upload(admin, scene.bare, TWO, do="look").text)
    other = sheet("王五,wu@old.example,,wu@new.example,")
    page = upload(admin, scene.bare, other, do="take", looked_at=seen).text
    assert "这不是刚才看的那个文件" in page
    assert "wu@old.example" in page
    upload(admin, scene.bare, other, do="take")  # without having looked
    assert people_count(scene, scene.bare) == 0


def test_one_press_moves_everybody_whose_password_is_in_the_sheet(scene: DeskScene, admin: FlaskClient) -> None:
    """一键搬家."""
    send(admin, f"/projects/{scene.bare}/source", **SOURCE)
    send(admin, f"/projects/{scene.bare}/destination", destination_host="mail.new.example", destination_port="993",
         destination_security="tls")
    seen = looked_at(upload(admin, scene.bare, TWO, do="look").text)
    done = text_of(upload(admin, scene.bare, TWO, do="take", looked_at=seen, start="1").text)
    assert "1 已开始搬" in done
    with scene.look() as session:
        states = dict(session.execute(select(Person.name, Move.state).join(Move, Move.person_id == Person.id)
                                      .where(Person.project_id == scene.bare)).all())
        assert states == {"张三": MoveState.QUEUED, "李四": MoveState.INVITED}


def test_a_problem_names_row_column_cause_and_what_to_do(scene: DeskScene, admin: FlaskClient) -> None:
    bad = sheet("张三,zhang@old.example,1.23457E+17,zhang@new.example,", "李四,not-an-address,,,", "王五,wu@old.example,,wu@new.example,")
    page = text_of(upload(admin, scene.bare, bad, do="look").text)
    assert re.search(r"2 旧邮箱密码 \(source_secret\) 表格程序把密码变成了数字.*把这一列设成「文本」格式", page)
    assert re.search(r"3 旧邮箱 \(source_address\) 这不是一个邮箱地址", page)
    assert "1.23457E+17" not in page
    assert "导入这 1 人" in page


@pytest.mark.parametrize(("content", "name", "told"), [
    (b"PK\x03\x04zip", "a.xlsx", "CSV UTF-8"), ("姓名,旧邮箱\r\n".encode("utf-16"), "a.csv", "UTF-16"), (b"", "a.csv", "表是空的"),
    ("姓名\r\n张三".encode(), "a.csv", "至少要有「旧邮箱」"),
])
def test_a_file_that_is_no_sheet_says_what_to_save(scene: DeskScene, admin: FlaskClient, content: bytes, name: str, told: str) -> None:
    page = upload(admin, scene.bare, content, name, do="look")
    assert page.status_code == 422
    assert told in page.text
    assert 'id="f-sheet-error"' in page.text


def test_no_file_and_a_file_too_large(scene: DeskScene, admin: FlaskClient) -> None:
    assert 'id="f-sheet-error"' in send(admin, f"/projects/{scene.bare}/people", do="look").text
    assert upload(admin, scene.bare, b"x" * 6_000_000, do="look").status_code == 413


# --- links ----------------------------------------------------------------------------------------------------------------


def test_links_are_handed_out_once_as_a_harmless_sheet(scene: DeskScene, admin: FlaskClient) -> None:
    """Given people without a link, one with a name that a spreadsheet would run, then the file has one working link each; a
    second press hands out nothing."""
    people = sheet("=HYPERLINK(1),zhang@old.example,,,", "李四,si@old.example,,,")
    seen = looked_at(upload(admin, scene.bare, people, do="look").text)
    upload(admin, scene.bare, people, do="take", looked_at=seen)
    answer = send(admin, f"/projects/{scene.bare}/links")
    assert answer.mimetype == "text/csv"
    assert answer.headers["Cache-Control"] == "no-store"
    rows = list(csv.reader(io.StringIO(answer.data.decode("utf-8-sig"))))
    assert [row[1] for row in rows[1:]] == ["zhang@old.example", "si@old.example"]
    assert rows[1][0] == "'=HYPERLINK(1)"
    token = rows[1][4].rsplit("/", 1)[1]
    assert scene.portal.client().get(f"/m/{token}").status_code == 200
    again = send(admin, f"/projects/{scene.bare}/links")
    assert again.status_code == 303
    assert token not in admin.get(again.location).text


# --- relays, staff, audit -------------------------------------------------------------------------------------------------


def test_a_relay_is_added_without_showing_its_token(scene: DeskScene, operator: FlaskClient) -> None:
    typed = {"name": "上海机房", "host": "relay.sh.example", "port": "8443"}
    refused = send(operator, "/relays", **typed, token="not a token")
    assert refused.status_code == 422
    assert 'id="f-token-error"' in refused.text
    assert "not a token" not in refused.text
    assert 'value="上海机房"' in refused.text
    assert send(operator, "/relays", **typed, token=TOKEN).status_code == 303
    page = operator.get("/relays").text
    assert "relay.sh.example:8443" in page
    assert TOKEN not in page


def test_a_relay_in_use_is_not_removed(scene: DeskScene, operator: FlaskClient) -> None:
    send(operator, f"/projects/{scene.bare}/source", **SOURCE, relay=str(scene.relay_id))
    refused = send(operator, f"/relays/{scene.relay_id}/remove")
    assert refused.status_code == 422
    assert "还在用这个中继" in refused.text
    send(operator, f"/projects/{scene.bare}/source", **SOURCE, relay="")
    assert send(operator, f"/relays/{scene.relay_id}/remove").status_code == 303
    with scene.look() as session:
        assert session.scalars(select(Relay)).all() == []
    assert send(operator, f"/relays/{scene.relay_id}/remove").status_code == 404


def test_an_invited_colleague_gets_in_by_the_link(scene: DeskScene, operator: FlaskClient) -> None:
    page = send(operator, "/staff", email="Chen@moves.example", name="陈晨", role="helpdesk", language="zh").text
    link = re.search(r'value="(http[^"]*/invitation/[^"]+)"', page)
    assert link
    assert link[1].startswith(scene.portal.settings.base_url)
    newcomer = scene.portal.client()
    path = link[1].removeprefix(scene.portal.settings.base_url)
    assert send(newcomer, path, password="a sentence of my own, long enough").status_code == 303
    assert newcomer.get("/desk").status_code == 200
    assert newcomer.get("/projects").status_code == 403
    assert link[1] not in operator.get("/staff").text


@pytest.mark.parametrize(("typed", "field"), [
    ({"email": "nonsense", "role": "admin"}, "email"), ({"email": "a@b.example", "role": "king"}, "role"),
    ({"email": "zhao@moves.example", "role": "admin"}, "email"),
])
def test_a_wrong_invitation_is_told_at_its_field(operator: FlaskClient, typed: dict[str, str], field: str) -> None:
    page = send(operator, "/staff", name="陈晨", **typed)
    assert page.status_code == 422
    assert f'id="f-{field}-error"' in page.text
    assert 'value="陈晨"' in page.text


def test_nobody_locks_themselves_out(scene: DeskScene, operator: FlaskClient) -> None:
    refused = send(operator, f"/staff/{scene.staff_ids[Role.OPERATOR]}/active", to="off")
    assert refused.status_code == 422
    assert operator.get("/staff").status_code == 200
    helpdesk = scene.signed_in(Role.HELPDESK)
    assert send(operator, f"/staff/{scene.staff_ids[Role.HELPDESK]}/active", to="off").status_code == 303
    assert helpdesk.get("/desk").status_code == 303
    with scene.look() as session:
        assert not session.get_one(Staff, scene.staff_ids[Role.HELPDESK]).active
    assert send(operator, "/staff/999/active", to="off").status_code == 404


def test_the_audit_is_filtered_and_paged(scene: DeskScene, admin: FlaskClient) -> None:
    everything = text_of(admin.get("/audit").text)
    assert "新建项目" in everything
    only = admin.get(f"/audit?action=create.project&project={scene.main}").text
    assert MAIN_NAME in only
    assert only.count("<tr>") == 2  # the head and one event
    assert "没有符合这些条件的记录" in admin.get("/audit?actor=nobody-at-all").text
    assert "没有符合这些条件的记录" in admin.get("/audit?to=2001-01-01").text
    assert admin.get("/audit?from=nonsense&page=99&project=x&move=y").status_code == 200
    with scene.look() as session:
        total = session.scalar(select(func.count()).select_from(AuditEvent))
    assert f"{total:,} 条" in everything
    assert CANARY not in everything


def test_pages_speak_english_too(scene: DeskScene, operator: FlaskClient) -> None:
    operator.set_cookie("banjia_language", "en")
    chinese = re.compile(r"[\u4e00-\u9fff]")
    ours = ("中文", "周强", "李娜", "赵敏", MAIN_NAME, "还没开始的项目", "北京机房", "信息部 李工，分机 8000", "客户/2023", "收件箱",
            "已发送", "王芳", "马超")
    main, bare = f"/projects/{scene.main}", f"/projects/{scene.bare}"
    moves = [f"/desk/moves/{scene.moves[name]}" for name in ("wangfang", "machao")]
    paths = ["/desk", "/projects", "/projects/new", "/relays", "/staff", "/account", main, f"{main}/source", f"{main}/destination",
             f"{main}/people", f"{bare}/people", "/desk/relaunch", *moves, "/desk/moves?q=zzz", "/audit?actor=zzz", "/desk/moves/9999",
             "/projects/9999"]
    for path in paths:
        text = text_of(re.sub(r"<(title|select)\b.*?</\1>", "", operator.get(path).text, flags=re.S))
        for name in ours:
            text = text.replace(name, "")
        assert not chinese.search(text), (path, chinese.findall(text))
