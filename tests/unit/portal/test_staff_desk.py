"""The helpdesk's day: numbers that lead to lists, one person's page, relaunching one, some, or all with one cause."""
from __future__ import annotations

import re
from html import unescape

import pytest
from sqlalchemy import select

from engine.causes import Cause, explain
from engine.endpoint import Secret
from portal.desk.filters import MoveFilter, count_moves, find_moves, read_filter
from portal.desk.overview import BAR_ORDER, shares
from portal.desk.words import ACTS, DETAILS, detail_value
from portal.models import AuditEvent, Check, CheckState, Credential, Move, MoveState, Owner, Project, Role, now
from portal.services.credentials import DESTINATION_SECRET, SOURCE_SECRET
from portal.services.people import keep_secrets
from portal.services.projects import close_project
from tests.support.desk_scene import BOSS, CANARY, MAIN_NAME, DeskScene, person_of, send, text_of


def shown(page: str) -> int:
    """How many moves the list says it found."""
    found = re.search(r"<h1>[^<]*<small[^>]*>([\d,]+)", page)
    assert found, page[:2000]
    return int(found[1].replace(",", ""))


def new_secret(scene: DeskScene, local: str) -> None:
    """The person typed another password after the move stopped."""
    with scene.portal.database.session() as session:
        typed = {SOURCE_SECRET: Secret(CANARY), DESTINATION_SECRET: Secret(CANARY)}
        keep_secrets(session, person_of(session, scene, local), typed, scene.portal.sealer)


def state(scene: DeskScene, local: str) -> MoveState:
    with scene.look() as session:
        return session.get_one(Move, scene.moves[local]).state


# --- today ----------------------------------------------------------------------------------------------------------------


def test_every_number_of_today_is_the_length_of_the_list_behind_it(scene: DeskScene) -> None:
    client = scene.signed_in(Role.HELPDESK)
    page = client.get("/desk").text
    links = re.findall(r'<a href="(/desk/moves\?[^"]+)">(?:<strong>|<span class="value[^"]*">)?([\d,]+)<', page)
    assert len(links) >= 20
    for href, number in links:
        assert shown(client.get(unescape(href)).text) == int(number.replace(",", "")), href


def test_today_groups_the_stuck_by_cause_and_provider(scene: DeskScene) -> None:
    page = text_of(scene.signed_in(Role.HELPDESK).get("/desk").text)
    assert explain(Cause.NEEDS_AUTH_CODE).title.zh in page
    assert "腾讯企业邮箱" in page
    assert "网易企业邮箱" in page
    assert "其中 4 个要本人处理" in page


def test_without_an_open_project_today_says_what_is_missing(scene: DeskScene) -> None:
    client = scene.signed_in(Role.ADMIN)
    for project in (scene.main, scene.other, scene.bare):
        name = re.search(r"<h1>([^<]+)</h1>", client.get(f"/projects/{project}").text)
        assert name
        assert send(client, f"/projects/{project}/close", typed_name=unescape(name[1])).status_code == 303
    assert "新建项目" in scene.signed_in(Role.ADMIN).get("/desk").text
    assert "请管理员新建项目" in scene.signed_in(Role.HELPDESK).get("/desk").text


def test_the_bar_shows_even_one_among_thousands() -> None:
    pieces = shares({MoveState.DONE: 4000, MoveState.STUCK: 1})
    assert [piece.state for piece in pieces] == [MoveState.DONE, MoveState.STUCK]
    assert pieces[1].width >= 5
    assert sum(piece.width for piece in pieces) == pytest.approx(1000, abs=0.1)
    assert shares({}) == []
    assert set(BAR_ORDER) == set(MoveState)


# --- the list -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("query", "locals_found"), [
    ("state=stuck&cause=needs_auth_code", {"wangfang", "liuyang", "emma"}),
    ("state=stuck&cause=needs_auth_code&provider=exmail", {"wangfang", "liuyang"}),
    ("state=queued,moving,waiting", {"zhaolei", "huangli", "zhoujie", "wumin"}),
    ("silent=1", {"huangli"}),
    ("q=孙", {"sunlihua"}),
    ("q=DANIEL@old", {"daniel"}),
    ("q=%25", set()),
    ("provider=none", set()),
    ("state=nonsense&cause=' or 1=1 --", None),
])
def test_a_filter_finds_exactly_these(scene: DeskScene, query: str, locals_found: set[str] | None) -> None:
    client = scene.signed_in(Role.HELPDESK)
    page = client.get(f"/desk/moves?{query}").text
    expected = {scene.moves[name] for name in (scene.moves if locals_found is None else locals_found)}
    assert set(map(int, re.findall(r'name="id" value="(\d+)"', page))) == expected


@pytest.mark.parametrize("written", ["M{move}", " m{move} ", "M{move} · C{check}", "C{check}", "m{move}，c{check}"])
def test_the_numbers_that_people_are_told_find_them(scene: DeskScene, written: str) -> None:
    with scene.portal.database.session() as session:
        check = Check(person_id=person_of(session, scene, "daniel").id, side="both", steps=[], result={}, launched_by="person")
        session.add(check)
        session.commit()
        number = check.id
    client, move = scene.signed_in(Role.HELPDESK), scene.moves["daniel"]
    page = client.get("/desk/moves", query_string={"q": written.format(move=move, check=number)}).text
    assert re.findall(r'name="id" value="(\d+)"', page) == [str(move)]
    assert f"M{move} · C{number}" in text_of(client.get(f"/desk/moves/{move}").text)


@pytest.mark.parametrize("path", [
    "/desk/moves?project={n}", "/desk/moves?page={n}", "/desk/moves?open={n}", "/desk/relaunch?id={n}", "/audit?project={n}",
    "/audit?move={n}", "/audit?page={n}", "/audit?to=9999-12-31", "/audit?from=0001-01-01", "/projects/1/source?test={n}",
    "/desk/moves/{n}", "/projects/{n}/people"])
@pytest.mark.parametrize("number", ["²", "9" * 20, "99999999999", "٣"])
def test_a_number_that_is_none_is_no_fault(scene: DeskScene, path: str, number: str) -> None:
    client = scene.signed_in(Role.OPERATOR)
    assert client.get(path.format(n=number)).status_code in (200, 404)
    assert send(client, "/desk/relaunch", ids=f"{number},x,").status_code == 200


def test_a_filter_survives_its_own_address(scene: DeskScene) -> None:
    from werkzeug.datastructures import MultiDict

    wanted = MoveFilter((MoveState.STUCK, MoveState.PAUSED), Cause.TLS, "exmail", 3, "王", True)
    assert read_filter(MultiDict(wanted.args())) == MoveFilter((MoveState.PAUSED, MoveState.STUCK), Cause.TLS, "exmail", 3, "王", True)
    assert wanted.without("cause").cause is None
    assert MoveFilter().args() == {}


def test_pages_hold_every_move_once(scene: DeskScene) -> None:
    with scene.look() as session:
        total = count_moves(session, MoveFilter())
        seen = [move.id for number in (1, 2, 3, 4) for move in find_moves(session, MoveFilter(), number, 4).moves]
        assert sorted(seen) == sorted(scene.moves.values())
        assert len(seen) == total
        assert find_moves(session, MoveFilter(), 99, 4).number == 4


def test_a_list_without_rows_says_why_and_what_next(scene: DeskScene) -> None:
    page = scene.signed_in(Role.HELPDESK).get("/desk/moves?q=nobody-is-called-so").text
    assert "没有符合这些条件的搬家" in page
    assert "全部显示" in page


def test_the_selected_row_is_told_beside_the_list(scene: DeskScene) -> None:
    page = scene.signed_in(Role.HELPDESK).get(f"/desk/moves?state=stuck&open={scene.moves['yangfan']}").text
    assert 'id="one"' in page
    beside = page[page.index('id="one"'):]
    assert explain(Cause.DESTINATION_QUOTA).meaning.zh in beside
    assert "[OVERQUOTA] Mailbox is full" in beside


# --- one move -------------------------------------------------------------------------------------------------------------


def test_a_move_tells_everything_but_secrets(scene: DeskScene) -> None:
    page = text_of(scene.signed_in(Role.HELPDESK).get(f"/desk/moves/{scene.moves['machao']}").text)
    for told in ("马超", "machao@old.example", "腾讯企业邮箱", MAIN_NAME, "已完成，有邮件没搬成", "客户/2023", "4010", "47 KB",
                 "message has a header only", "2021-03-12 09:14 +08:00", "旧邮箱没有给出完整内容", "发放个人链接", "加入名单", "最晚"):
        assert told in page, told


def test_what_a_server_said_is_never_markup(scene: DeskScene) -> None:
    page = scene.signed_in(Role.HELPDESK).get(f"/desk/moves/{scene.moves['daniel']}").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_no_staff_page_holds_a_secret(scene: DeskScene) -> None:
    """Given passwords of people, of tests and a relay's token, when every page is opened, then none of them is there."""
    client = scene.signed_in(Role.OPERATOR)
    paths = ["/desk", "/desk/moves", "/projects", "/relays", "/staff", "/audit", "/account", "/desk/relaunch?all=1"]
    paths += [f"/desk/moves/{move}" for move in scene.moves.values()]
    paths += [f"/projects/{scene.main}{page}" for page in ("", "/source", "/destination", "/people")]
    for path in paths:
        page = client.get(path)
        assert page.status_code == 200, path
        assert CANARY not in page.text, path
        assert "k" * 43 not in page.text, path
        assert "v1." not in page.text or "sealed" not in page.text, path


def test_a_move_that_does_not_exist_says_where_to_look(scene: DeskScene) -> None:
    client = scene.signed_in(Role.HELPDESK)
    for method, path in ((client.get, "/desk/moves/9999"), (client.get, "/desk/moves/9999/now")):
        answer = method(path)
        assert answer.status_code == 404
        assert 'href="/desk/moves"' in answer.text
    assert send(client, "/desk/moves/9999/relaunch").status_code == 404


def test_relaunch_waits_for_a_new_password_where_the_old_one_was_refused(scene: DeskScene) -> None:
    """Given a move stuck on its password, then relaunching it says who has to do what; after a new password it works."""
    client, path = scene.signed_in(Role.HELPDESK), f"/desk/moves/{scene.moves['wangfang']}"
    refused = send(client, f"{path}/relaunch")
    assert refused.status_code == 422
    assert "要本人打开链接再填一次" in refused.text
    assert state(scene, "wangfang") is MoveState.STUCK
    assert "要等新密码填好才能继续" in client.get(path).text
    new_secret(scene, "wangfang")
    with scene.portal.database.session() as session:
        session.add(Check(person_id=person_of(session, scene, "wangfang").id, side="both", steps=[], result={}, launched_by="person",
                          state=CheckState.DONE))
        session.commit()
    for page in (client.get(path).text, client.get("/desk/moves?state=stuck").text):
        assert "新密码已填好，检查通过，可以重新开始" in page
    for page in (client.get(path).text, client.get(f"/desk/moves?open={scene.moves['wangfang']}").text):
        assert "谁来做：你，或者本人" in text_of(page).replace("： ", "：")
        assert "念给本人听" not in page and 'class="note cause stop"' not in page, "nobody has to enter anything any more"
    assert "要等新密码填好才能继续" not in client.get(path).text
    assert send(client, f"{path}/relaunch").location == path
    assert state(scene, "wangfang") is MoveState.QUEUED
    assert "重新开始" in text_of(client.get(path).text)


def test_a_providers_wait_cannot_be_cut_short_and_our_own_can(scene: DeskScene) -> None:
    """No button that would only be refused; and what is said of the wait is true."""
    client, path = scene.signed_in(Role.HELPDESK), f"/desk/moves/{scene.moves['zhoujie']}"
    page = client.get(path).text
    assert "邮箱要我们等一等" in page and f'action="{path}/relaunch"' not in page and 'class="note cause wait"' in page
    assert send(client, f"{path}/relaunch").status_code == 422
    with scene.portal.database.session() as session:
        session.get_one(Move, scene.moves["zhoujie"]).cause = Cause.RELAY_UNREACHABLE.value
    page = client.get(path).text
    assert "邮箱要我们等一等" not in page and "自动继续。" in page and f'action="{path}/relaunch"' in page
    assert send(client, f"{path}/relaunch").status_code == 303


@pytest.mark.parametrize("closed", [True, False])
def test_when_the_project_is_over_nothing_is_offered_that_would_be_refused(scene: DeskScene, closed: bool) -> None:
    client, path = scene.signed_in(Role.HELPDESK), f"/desk/moves/{scene.moves['emma']}"
    with scene.portal.database.session() as session:
        project = session.get_one(Project, scene.other)
        if closed:
            close_project(session, BOSS, project)
        else:
            project.closes_at = now()
    page = client.get(path).text
    for act in ("relaunch", "link", "links/revoke"):
        assert f'action="{path}/{act}"' not in page, act
        assert send(client, f"{path}/{act}").status_code in (303, 422), act
    assert "链接都打不开了" in page and ("项目已经结束，不能再搬" if closed else "请管理员在项目里延长时间") in page


def test_pause_and_resume(scene: DeskScene) -> None:
    client, waiting, moving = scene.signed_in(Role.HELPDESK), scene.moves["zhoujie"], scene.moves["zhaolei"]
    assert send(client, f"/desk/moves/{waiting}/pause").status_code == 303
    assert state(scene, "zhoujie") is MoveState.PAUSED
    assert send(client, f"/desk/moves/{waiting}/resume").status_code == 303
    assert state(scene, "zhoujie") is MoveState.WAITING  # until the time that the provider asked for
    assert send(client, f"/desk/moves/{moving}/pause").status_code == 303
    assert "已要求暂停" in client.get(f"/desk/moves/{moving}").text
    refused = send(client, f"/desk/moves/{scene.moves['sunlihua']}/pause")
    assert refused.status_code == 422
    assert "不用暂停" in refused.text


def test_the_language_switch_leads_from_an_answer_back_to_a_page(scene: DeskScene) -> None:
    """Given a page that answers a POST, then the switch on it leads to the staff page it belongs to."""
    client = scene.signed_in(Role.HELPDESK)
    answers = [send(client, f"/desk/moves/{scene.moves['guojing']}/link"), send(client, f"/desk/moves/{scene.moves['wangfang']}/relaunch"),
               send(client, "/desk/relaunch", ids=str(scene.moves["yangfan"])), send(client, "/account/password", current="x", new="y")]
    for answer in answers:
        back = re.search(r'name="back" value="([^"]+)"', answer.text)
        assert back
        assert back[1] != "/"
        assert client.get(unescape(back[1])).status_code == 200, back[1]


def test_an_act_leads_back_only_within_this_site(scene: DeskScene) -> None:
    client, move = scene.signed_in(Role.HELPDESK), scene.moves["zhoujie"]
    assert send(client, f"/desk/moves/{move}/pause", back="/desk/moves?state=paused").location == "/desk/moves?state=paused"
    assert send(client, f"/desk/moves/{move}/resume", back="//evil.example/").location == f"/desk/moves/{move}"


def test_a_new_link_is_shown_once_and_opens(scene: DeskScene) -> None:
    client, path = scene.signed_in(Role.HELPDESK), f"/desk/moves/{scene.moves['guojing']}"
    page = send(client, f"{path}/link").text
    token = re.search(r'value="[^"]*/m/([^"]+)"', page)
    assert token
    assert token[1] not in client.get(path).text
    assert token[1] not in client.get("/desk/moves").text
    assert scene.portal.client().get(f"/m/{token[1]}").status_code == 200
    assert send(client, f"{path}/links/revoke").status_code == 303
    assert "没有能用的链接" in client.get(path).text
    assert "停用" in scene.portal.client().get(f"/m/{token[1]}").text
    with scene.look() as session:
        assert token[1] not in "".join(str(event.detail) for event in session.scalars(select(AuditEvent)))


def test_destroying_the_stored_password(scene: DeskScene) -> None:
    client, move = scene.signed_in(Role.HELPDESK), scene.moves["wangfang"]
    assert send(client, f"/desk/moves/{move}/secrets/destroy").status_code == 303
    page = client.get(f"/desk/moves/{move}").text
    assert "没有保存密码" in page
    assert "销毁保存的密码" in page  # in the timeline
    with scene.look() as session:
        person = person_of(session, scene, "wangfang")
        assert not session.scalars(select(Credential).where(Credential.owner_kind == Owner.PERSON, Credential.owner_id == person.id)).all()


def test_the_live_part_says_when_to_stop_asking(scene: DeskScene) -> None:
    client = scene.signed_in(Role.HELPDESK)
    assert 'data-live-state="on"' in client.get(f"/desk/moves/{scene.moves['zhaolei']}/now").text
    assert 'data-live-state="over"' in client.get(f"/desk/moves/{scene.moves['sunlihua']}/now").text


# --- relaunching many -----------------------------------------------------------------------------------------------------


def ids_to_confirm(page: str) -> str:
    found = re.search(r'name="ids" value="([\d,]+)"', page)
    assert found
    return found[1]


def test_all_with_one_cause_are_named_counted_and_told_one_by_one(scene: DeskScene) -> None:
    """Given three stuck on the same cause of whom one typed a new password, when all are relaunched, then that one is queued
    and the other two are named with what they still need; nobody with another cause is touched."""
    new_secret(scene, "liuyang")
    client = scene.signed_in(Role.HELPDESK)
    ask = client.get("/desk/relaunch?all=1&state=stuck&cause=needs_auth_code")
    assert "重新开始 3 个搬家？" in ask.text
    assert state(scene, "liuyang") is MoveState.STUCK  # asking did nothing
    done = send(client, "/desk/relaunch", ids=ids_to_confirm(ask.text), back="/desk/moves?state=stuck")
    told = text_of(done.text)
    assert "1 个已重新排队，2 个没有" in told
    for name in ("王芳", "刘洋", "Emma Li"):
        assert name in told
    assert state(scene, "liuyang") is MoveState.QUEUED
    assert state(scene, "wangfang") is MoveState.STUCK
    assert state(scene, "yangfan") is MoveState.STUCK
    assert 'href="/desk/moves?state=stuck"' in done.text


def test_the_ticked_ones_are_relaunched_and_nobody_else(scene: DeskScene) -> None:
    client = scene.signed_in(Role.HELPDESK)
    ask = client.get(f"/desk/relaunch?id={scene.moves['yangfan']}&id={scene.moves['machao']}&id=9999&id=x")
    assert "重新开始 2 个搬家？" in ask.text
    send(client, "/desk/relaunch", ids=ids_to_confirm(ask.text))
    assert state(scene, "yangfan") is MoveState.QUEUED
    assert state(scene, "machao") is MoveState.QUEUED
    assert state(scene, "daniel") is MoveState.STUCK
    with scene.look() as session:
        events = session.scalars(select(AuditEvent).where(AuditEvent.action == "relaunch.move")).all()
        assert {event.actor for event in events} == {"staff:li@moves.example"}
        assert len(events) == 2


def test_pressing_twice_relaunches_once(scene: DeskScene) -> None:
    client, ids = scene.signed_in(Role.HELPDESK), str(scene.moves["yangfan"])
    send(client, "/desk/relaunch", ids=ids)
    again = text_of(send(client, "/desk/relaunch", ids=ids).text)
    assert "0 个已重新排队，1 个没有" in again
    assert "已经在搬了" in again


@pytest.mark.parametrize("ids", ["", "x,y", "9999", "1;drop"])
def test_nothing_to_relaunch_says_so(scene: DeskScene, ids: str) -> None:
    client = scene.signed_in(Role.HELPDESK)
    assert "没有可以重新开始的人" in send(client, "/desk/relaunch", ids=ids).text
    assert "一个也没选" in client.get("/desk/relaunch").text


# --- words ----------------------------------------------------------------------------------------------------------------


def test_every_act_that_is_recorded_has_words() -> None:
    """Reads the services (and whoever else writes events) for the acts and details they record."""
    from pathlib import Path

    root = Path(__file__).resolve().parents[3]
    sources = [*(root / "portal").rglob("*.py"), root / "worker.py"]
    text = "\n".join(path.read_text("utf-8") for path in sources if path.exists())
    acts = set(re.findall(r'\baudit\([^"]*?"([a-z]+\.[a-z_]+)"', text)) | {"try.sign_in", "sign_in", "refuse.sign_in"}
    acts |= {f"{verb}.move" for verb in ("start", "resume", "relaunch", "finish", "stop")}
    assert len(acts) > 25
    assert acts <= set(ACTS), acts - set(ACTS)
    assert all(words.zh and words.en for words in (*ACTS.values(), *DETAILS.values()))


def test_raw_words_of_a_detail_are_translated_and_names_are_not() -> None:
    assert [detail_value(value).zh for value in ("done", "complete", "ready", "both", ["source_secret"])] == [
        "已完成", "全部到齐", "可以开始", "旧邮箱和新邮箱", "旧邮箱密码"]
    assert detail_value("bad_secret", "cause") == explain(Cause.BAD_SECRET).title
    assert detail_value("done", "name").zh == "done"
    assert detail_value("2026-12-24T16:30:05.123+00:00").zh == "2026-12-25 00:30（北京时间）"
