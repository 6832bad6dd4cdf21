"""The staff's pages in a real Chromium: from a number to a relaunch, a project from nothing to links; keyboard, no JavaScript,
small screens, both languages, dark, axe.

The worker's part is played by the services that it calls; everything else is what people get.
"""
from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy import select, update
from werkzeug.serving import make_server

from engine.endpoint import Secret
from portal.models import Check, Move, Role, now
from portal.services import leases
from portal.services.credentials import DESTINATION_SECRET, SOURCE_SECRET
from portal.services.people import keep_secrets
from tests.browser.conftest import too_small, too_wide
from tests.support.desk_scene import EMAILS, PASSWORD, DeskScene, build_desk_scene, person_of
from tests.support.portal_app import portal_in

PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 800}
WAIT = 15_000  # milliseconds; the machine may be busy
SHEET = """姓名,旧邮箱,旧邮箱密码,新邮箱,新邮箱密码
张三,zhang@old.example,one-secret,zhang@new.example,two-secret
李四,si@old.example,,si@new.example,
"""
STEPS = ("name", "connect", "tls", "login", "folders")


@dataclass
class Site:
    """A portal that a browser can reach, with a company in the middle of its move."""

    scene: DeskScene
    url: str


@pytest.fixture
def site(tmp_path: Path, built_template: Path, built: DeskScene) -> Iterator[Site]:
    with portal_in(tmp_path / "instance", built_template) as portal:
        server = make_server("127.0.0.1", 0, portal.app, threaded=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        built.portal = portal
        yield Site(built, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join(10)


@pytest.fixture(scope="module")
def built_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("desk") / "instance"


@pytest.fixture(scope="module")
def built(built_template: Path, instance_template: Path) -> DeskScene:
    with portal_in(built_template, instance_template) as portal:
        return build_desk_scene(portal)


Open = Callable[..., Page]
_REFUSED = "Failed to load resource: the server responded with a status of 4"  # pages that are meant to be refused


@pytest.fixture
def open_page(chromium: Browser, site: Site) -> Iterator[Open]:
    """A page in a browser of its own, somebody with `role` signed in. What the page's console complains of (a refused script or
    style, too) fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_one(role: Role | None = Role.HELPDESK, **options: Any) -> Page:
        context = chromium.new_context(**{"viewport": DESK, "locale": "zh-CN", "base_url": site.url, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") and _REFUSED not in m.text else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if role is not None:
            page.goto("/login")
            page.get_by_label(re.compile("邮箱地址|Email")).fill(EMAILS[role])
            page.get_by_label(re.compile("密码|Password")).fill(PASSWORD)
            page.locator("main button").click()
            page.wait_for_url("**/desk")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not complaints


def sound(page: Page) -> None:
    """Nothing that axe finds, and no scrolling sideways; on a phone, nothing too small for a finger."""
    found = Axe().run(page).response["violations"]
    assert not found, (page.url, [(rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in found])
    assert too_wide(page) <= 0, page.url
    if page.viewport_size and page.viewport_size["width"] <= PHONE["width"]:
        assert not too_small(page), page.url


# --- the helpdesk's way ---------------------------------------------------------------------------------------------------


def test_from_a_number_of_today_to_everybody_relaunched(site: Site, open_page: Open) -> None:
    """Given two of Tencent's stuck on the wrong password, one of whom typed a new one, then a few presses lead from the table of
    causes to the one who goes on and the one who is told about."""
    with site.scene.portal.database.session() as session:
        typed = {SOURCE_SECRET: Secret("new"), DESTINATION_SECRET: Secret("new")}
        keep_secrets(session, person_of(session, site.scene, "liuyang"), typed, site.scene.portal.sealer)
    page = open_page()
    sound(page)
    page.get_by_role("row", name=re.compile("这里要填")).get_by_role("link", name="2").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("2 个")
    page.get_by_role("link", name=re.compile("王芳")).click()
    beside = page.locator("#one")
    expect(beside).to_contain_text("念给本人听")
    expect(beside).to_contain_text("客户端专用密码")
    sound(page)
    page.get_by_role("button", name="这个原因的 2 个全部重新开始").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("重新开始 2 个搬家？")
    sound(page)
    page.get_by_role("button", name="重新开始这 2 个").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("1 个已重新排队，1 个没有")
    expect(page.get_by_role("row", name=re.compile("王芳"))).to_contain_text("要本人打开链接再填一次")
    expect(page.get_by_role("row", name=re.compile("刘洋"))).to_contain_text("已重新排队")
    sound(page)


def test_ticking_and_relaunching_without_javascript(site: Site, open_page: Open) -> None:
    page = open_page(java_script_enabled=False)
    page.goto("/desk/moves?state=stuck")
    expect(page.get_by_text("选中本页")).to_be_hidden()
    page.get_by_label("选中 杨帆").check()
    page.get_by_label("选中 daniel@old.example").check()
    page.get_by_role("button", name="重新开始所选").click()
    page.get_by_role("button", name="重新开始这 2 个").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("2 个已重新排队")
    page.get_by_role("link", name="回到名单").click()
    expect(page).to_have_url(re.compile(r"/desk/moves\?state=stuck$"))
    expect(page.get_by_label("选中 杨帆")).to_have_count(0)


def test_picking_rows_tells_how_many(site: Site, open_page: Open) -> None:
    page = open_page()
    page.goto("/desk/moves?state=stuck")
    page.get_by_label("选中本页").check()
    expect(page.get_by_role("button", name="重新开始所选")).to_contain_text("(6)")
    page.get_by_label("选中 杨帆").uncheck()
    expect(page.get_by_role("button", name="重新开始所选")).to_contain_text("(5)")
    expect(page.get_by_label("选中本页")).not_to_be_checked()


def test_filtering_by_keyboard_alone(site: Site, open_page: Open) -> None:
    page = open_page()
    page.goto("/desk/moves")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="跳到正文")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("状态")).to_be_focused()
    page.get_by_label("姓名、邮箱或编号").focus()
    page.keyboard.type("孙丽")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("1 个")
    page.get_by_role("link", name=re.compile("孙丽华")).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#one")).to_be_in_viewport()


def test_a_moving_mailbox_updates_itself_and_leaves_the_reader_alone(site: Site, open_page: Open) -> None:
    """Given an open page with something opened and focused, when the worker goes on, then the count changes and nothing else."""
    page = open_page()
    page.goto(f"/desk/moves/{site.scene.moves['zhaolei']}")
    page.evaluate("window.same = true")
    page.get_by_text("销毁保存的密码", exact=True).click()
    page.get_by_role("button", name="销毁", exact=True).focus()
    with site.scene.portal.database.session() as session:
        session.execute(update(Move).where(Move.id == site.scene.moves["zhaolei"]).values(moved=15_000, last_sign_at=now()))
    expect(page.locator(".progress-wide span")).to_have_text("15,000 / 18,040", timeout=WAIT)
    assert page.evaluate("window.same === true")
    expect(page.get_by_role("button", name="销毁", exact=True)).to_be_focused()


def test_a_new_link_can_be_copied_and_opened(site: Site, open_page: Open) -> None:
    page = open_page()
    page.goto(f"/desk/moves/{site.scene.moves['guojing']}")
    page.get_by_role("button", name="新链接").click()
    expect(page.get_by_role("button", name="复制链接")).to_be_visible()
    sound(page)
    link = page.get_by_label("个人链接").input_value()
    visitor = open_page(None, viewport=PHONE)
    visitor.goto(link.replace("http://127.0.0.1:8000", site.url))
    expect(visitor.get_by_role("heading", level=1)).to_be_visible()
    page.get_by_role("link", name="好了").click()
    assert link not in page.content()


# --- the admin's way ------------------------------------------------------------------------------------------------------


def passed(steps: tuple[str, ...]) -> list[dict[str, str]]:
    return [{"side": "source", "step": step, "state": "ok"} for step in steps]


def worker_tests(site: Site) -> int:
    """A worker takes the newest test and passes its first two steps; returns its id."""
    with site.scene.portal.database.open_session() as session:
        check_id = session.scalars(select(Check.id).order_by(Check.id.desc())).first()
        assert check_id
        leases.begin_check(session, check_id)
        leases.record_steps(session, check_id, passed(STEPS[:2]))
    return check_id


def test_a_project_from_nothing_to_people_on_their_way(site: Site, open_page: Open, tmp_path: Path) -> None:
    page = open_page(Role.ADMIN)
    page.goto("/projects")
    page.get_by_role("link", name="新建项目").click()
    page.get_by_label("项目名称").fill("南方仪表")
    page.get_by_role("button", name="新建项目").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("南方仪表")
    sound(page)

    page.get_by_role("link", name="旧邮箱", exact=True).click()
    page.get_by_label("旧邮箱服务商").select_option(label="网易企业邮箱")
    page.get_by_role("button", name="保存").click()
    page.get_by_label("账号").fill("probe@old.example")
    page.get_by_label(re.compile("客户端授权密码")).fill("probe-secret")
    page.get_by_role("button", name="测试", exact=True).click()
    expect(page.get_by_text("正在测试")).to_be_visible()
    page.evaluate("window.same = true")
    check_id = worker_tests(site)
    expect(page.locator(".steps li.ok")).to_have_count(2, timeout=WAIT)
    with site.scene.portal.database.open_session() as session:
        found = {"outcome": "ok", "folders": 9, "messages": 1200, "bytes": 9_000_000}
        leases.finish_check(session, "test", check_id, passed(STEPS), {"source": found}, None, "")
    expect(page.get_by_text("连接通过", exact=True)).to_be_visible(timeout=WAIT)
    expect(page.get_by_text("1,200")).to_be_visible()
    assert page.evaluate("window.same === true")
    sound(page)

    page.get_by_role("link", name="南方仪表").click()
    page.get_by_role("link", name="新邮箱", exact=True).click()
    page.get_by_label("服务器地址").fill("mail.new.example")
    page.get_by_role("button", name="保存").first.click()
    page.get_by_role("link", name="南方仪表").click()
    page.get_by_role("link", name="名单", exact=True).click()
    sheet = tmp_path / "名单.csv"
    sheet.write_text(SHEET, encoding="gb18030")
    page.get_by_label(re.compile("名单文件")).set_input_files(sheet)
    page.get_by_role("button", name="看一遍").click()
    expect(page.get_by_role("row", name=re.compile("张三"))).to_contain_text("有（不显示）")
    assert "one-secret" not in page.content()
    sound(page)
    page.get_by_label(re.compile("再选一次")).set_input_files(sheet)
    page.get_by_label(re.compile("一键搬家")).check()
    page.get_by_role("button", name="导入这 2 人").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("导入完成")
    sound(page)
    page.get_by_role("link", name="下一步：发个人链接").click()
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile("给 2 人发链接")).click()
    handed_out = Path(download.value.path()).read_text("utf-8-sig")
    assert handed_out.count("/m/") == 2
    expect(page.get_by_text("每个人都有了")).to_be_visible(timeout=WAIT)  # the page showed itself anew
    page.goto("/desk/moves?q=zhang@old.example")
    expect(page.get_by_role("row", name=re.compile("张三"))).to_contain_text("排队中")


def test_an_error_takes_the_focus_and_leads_to_its_field(site: Site, open_page: Open) -> None:
    page = open_page(Role.ADMIN)
    page.goto("/projects/new")
    page.get_by_label("员工有问题找谁").fill("前台 8001")
    page.get_by_role("button", name="新建项目").click()
    expect(page.locator("#problems")).to_be_focused()
    expect(page.get_by_label("员工有问题找谁")).to_have_value("前台 8001")
    page.locator("#problems a").first.click()
    expect(page.get_by_label("项目名称")).to_be_focused()
    sound(page)


# --- every page -----------------------------------------------------------------------------------------------------------


def all_pages(scene: DeskScene) -> list[str]:
    main, bare = f"/projects/{scene.main}", f"/projects/{scene.bare}"
    moves = [f"/desk/moves/{scene.moves[name]}" for name in ("wangfang", "huangli", "machao", "guojing")]
    return ["/desk", "/desk/moves", f"/desk/moves?state=stuck&open={scene.moves['yangfan']}", "/desk/moves?q=zzz", *moves,
            "/desk/relaunch?all=1&state=stuck", "/desk/relaunch", "/desk/moves/9999", "/projects", "/projects/new", main, f"{main}/source",
            f"{main}/destination", f"{main}/people", bare, f"{bare}/source", f"{bare}/destination", f"{bare}/people", "/projects/9999",
            "/relays", "/staff", "/audit", "/audit?actor=zzz", "/account"]


@pytest.mark.parametrize(("viewport", "locale", "scheme"), [(PHONE, "zh-CN", "light"), (DESK, "en-GB", "dark"), (DESK, "zh-CN", "light")],
                         ids=["phone-zh", "desk-en-dark", "desk-zh"])
def test_every_page_is_sound(site: Site, open_page: Open, viewport: dict[str, int], locale: str, scheme: str) -> None:
    page = open_page(Role.OPERATOR, viewport=viewport, locale=locale, color_scheme=scheme)
    for path in all_pages(site.scene):
        page.goto(path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        sound(page)


def test_the_pages_before_signing_in_are_sound(site: Site, open_page: Open) -> None:
    page = open_page(None, viewport={"width": 320, "height": 640})
    for path in ("/login", "/login?ended=1", "/invitation/" + "a" * 43):
        page.goto(path)
        sound(page)
    helpdesk = open_page(Role.HELPDESK, viewport={"width": 320, "height": 640})
    helpdesk.goto("/staff")
    expect(helpdesk.get_by_role("heading", level=1)).to_have_text("你不能打开这一页")
    sound(helpdesk)
