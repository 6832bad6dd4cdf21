"""The employee's way in a real Chromium: live pages, keyboard, no JavaScript, small screens, both themes, axe.

The worker's part is played by the services that it calls (tests/unit/portal/employee_pages.py); everything else is what people get.
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
from werkzeug.serving import make_server

from engine.causes import Cause
from engine.report.copy import CopyOutcome
from portal.models import Person, now
from portal.services import links
from portal.services.common import SYSTEM
from tests.browser.conftest import too_small, too_wide
from tests.support.portal_app import PortalForTests, portal_in
from tests.unit.portal.employee_pages import Someone, invite

PHONE = {"width": 360, "height": 740}
WAIT = 15_000  # milliseconds; the machine may be busy


@dataclass
class Site:
    """A portal that a browser can reach."""

    portal: PortalForTests
    url: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, instance_template: Path) -> Iterator[Site]:
    with portal_in(tmp_path_factory.mktemp("browser") / "instance", instance_template) as portal:
        server = make_server("127.0.0.1", 0, portal.app, threaded=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield Site(portal, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join(10)


Open = Callable[..., Page]
_REFUSED = "Failed to load resource: the server responded with a status of 4"  # pages that are meant to be refused


@pytest.fixture
def open_page(chromium: Browser, site: Site) -> Iterator[Open]:
    """A page in a browser of its own. What the page's console complains of (a refused script or style, too) fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_one(**options: Any) -> Page:
        context = chromium.new_context(**{"viewport": PHONE, "locale": "zh-CN", "base_url": site.url, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") and _REFUSED not in m.text else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not complaints


_count = iter(range(10_000))


def someone_new(site: Site, **options: Any) -> Someone:
    return invite(site.portal, f"p{next(_count)}", **options)


def begin(page: Page, person: Someone) -> None:
    page.goto(f"/m/{person.token}")
    page.locator("main form button").click()
    page.wait_for_url("**/move/**")
    assert person.token not in page.url


def mark(page: Page) -> None:
    """So that a page which was loaded anew can be told from one that changed itself."""
    page.evaluate("window.same = true")


def same(page: Page) -> bool:
    return bool(page.evaluate("window.same === true"))


# --- the way --------------------------------------------------------------------------------------------------------------


def test_a_phone_from_the_link_to_the_report_without_a_reload(site: Site, open_page: Open) -> None:
    person, page = someone_new(site, provider=None), open_page(has_touch=True, is_mobile=True)
    begin(page, person)
    page.get_by_label("腾讯企业邮箱").check()
    page.get_by_role("button", name="下一步").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("在腾讯企业邮箱里做 3")
    page.get_by_role("link", name="都做好了").click()
    page.get_by_label("旧邮箱的客户端专用密码").fill("abcdefghijklmnop")
    page.get_by_role("button", name="检查能不能登录").click()

    expect(page.get_by_role("heading", name="正在检查旧邮箱")).to_be_visible()
    mark(page)
    person.worker_checks()
    expect(page.get_by_role("heading", name="检查通过")).to_be_visible(timeout=WAIT)
    assert same(page)
    expect(page).to_have_title(re.compile("^检查通过"))
    page.get_by_role("link", name="下一步").click()
    page.get_by_role("button", name="开始搬家").click()

    expect(page.get_by_role("heading", name="已经排上队")).to_be_visible()
    mark(page)
    lease = person.worker_takes()
    person.worker_progresses(lease, 40)
    expect(page.get_by_text("48 / 155 封")).to_be_visible(timeout=WAIT)
    person.ledger()
    person.worker_progresses(lease, 148)
    expect(page.locator(".flow .big")).to_have_text("150", timeout=WAIT)
    person.worker_ends(lease, CopyOutcome.COMPLETE)
    expect(page.get_by_role("link", name="看结果")).to_be_visible(timeout=WAIT)
    assert same(page)
    page.get_by_role("link", name="看结果").click()
    expect(page.get_by_role("heading", name="150 封邮件全部到齐")).to_be_visible()


def test_the_whole_way_without_javascript(site: Site, open_page: Open) -> None:
    person, page = someone_new(site, language="en", destination_secret=False), open_page(java_script_enabled=False, locale="en-GB")
    begin(page, person)
    page.get_by_role("link", name="All done").click()
    page.get_by_label("Old mailbox: client password").fill("abcdefghijklmnop")
    page.get_by_label("New mailbox: password").fill("new password")
    page.get_by_role("button", name="Check that it works").click()
    expect(page.get_by_role("heading", name="Checking your old mailbox")).to_be_visible()
    assert page.locator('noscript meta[http-equiv="refresh"], head meta[http-equiv="refresh"]').count() == 1
    person.worker_checks()
    page.goto("/move")
    page.get_by_role("button", name="Start moving").click()
    lease = person.worker_takes()
    person.worker_progresses(lease, 40)
    page.goto("/move")
    expect(page.get_by_text("48 of 155 messages", exact=True)).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("heading", name="Stopping")).to_be_visible()
    person.ledger()
    person.worker_ends(lease, CopyOutcome.COMPLETE)
    page.goto("/move")
    expect(page.get_by_role("heading", name="All 150 messages have arrived")).to_be_visible()


def test_the_whole_way_by_keyboard(site: Site, open_page: Open) -> None:
    person, page = someone_new(site), open_page(viewport={"width": 1280, "height": 800})

    def reach(name: str, steps: int = 60) -> None:
        """Tabs until what has the focus is called so, and can be seen to have it."""
        for _ in range(steps):
            page.keyboard.press("Tab")
            focused = page.evaluate("""() => { const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();
                return {text: (e.innerText || e.getAttribute('aria-label') || e.name || '').trim(),
                        seen: s.outlineStyle !== 'none', inside: r.bottom > 0 && r.top < innerHeight}; }""")
            if name in focused["text"]:
                assert focused["seen"] and focused["inside"], f"the focus on {name} cannot be seen"
                return
        raise AssertionError(f"{name} cannot be reached")

    page.goto(f"/m/{person.token}")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reach("开始")
    page.keyboard.press("Enter")
    page.wait_for_url("**/move/prepare")
    reach("都做好了")
    page.keyboard.press("Enter")
    page.wait_for_url("**/move/credentials")
    reach("source_secret")
    page.keyboard.type("abcdefghijklmnop")
    page.keyboard.press("Enter")
    page.wait_for_url("**/move/check/*")
    person.worker_checks()
    expect(page.get_by_role("heading", name="检查通过")).to_be_visible(timeout=WAIT)
    reach("下一步")
    page.keyboard.press("Enter")
    page.wait_for_url("**/move/review")
    reach("开始搬家")
    page.keyboard.press("Enter")
    page.wait_for_url("**/move/progress")


# --- what refreshes itself leaves people alone ----------------------------------------------------------------------------


def test_an_update_keeps_the_focus_and_what_was_opened(site: Site, open_page: Open) -> None:
    person = someone_new(site).started()
    lease = person.worker_takes()
    person.ledger()
    person.worker_progresses(lease, 40)
    page = open_page()
    begin(page, person)
    page.locator("summary", has_text="各文件夹").click()
    page.get_by_role("button", name="暂停").focus()
    person.worker_progresses(lease, 90, "客户/华东")
    expect(page.get_by_text("98 / 155 封")).to_be_visible(timeout=WAIT)
    expect(page.get_by_text("客户/华东")).to_be_visible()
    assert page.locator("details").first.get_attribute("open") is not None
    expect(page.get_by_role("button", name="暂停")).to_be_focused()


def test_the_announcement_speaks_only_of_tenths_and_states(site: Site, open_page: Open) -> None:
    person = someone_new(site).started()
    lease = person.worker_takes()
    person.worker_progresses(lease, 40)
    page = open_page()
    begin(page, person)
    page.evaluate("""() => { window.said = []; const p = document.querySelector('[role=status]');
        new MutationObserver(() => said.push(p.textContent)).observe(p, {childList: true, characterData: true, subtree: true}); }""")
    for moved in (41, 42, 90):
        person.worker_progresses(lease, moved)
        expect(page.get_by_text(f"{moved + 8} / 155 封")).to_be_visible(timeout=WAIT)
    assert page.evaluate("said") == ["已搬 60%"]


def test_a_revoked_link_stops_the_page_with_a_word(site: Site, open_page: Open) -> None:
    person = someone_new(site).started()
    person.worker_takes()
    page = open_page()
    begin(page, person)
    with site.portal.database.session() as session:
        links.revoke_links(session, SYSTEM, session.get_one(Person, person.person_id))
    expect(page.get_by_text("这一页不再更新")).to_be_visible(timeout=WAIT)


def test_times_are_the_readers_own(site: Site, open_page: Open) -> None:
    person = someone_new(site).started()
    lease = person.worker_takes()
    person.worker_progresses(lease, 40)
    person.worker_ends(lease, CopyOutcome.PAUSED, Cause.THROTTLED, retry_after=600)
    page = open_page(timezone_id="America/New_York")
    begin(page, person)
    shown = page.locator(".note time")
    expect(shown).not_to_contain_text("北京时间")
    expected = page.evaluate("d => new Date(d).toLocaleTimeString('en-GB', {hour: '2-digit', minute: '2-digit'})",
                             shown.get_attribute("datetime"))
    assert shown.inner_text().endswith(expected)
    assert now().strftime("%H:") not in expected


# --- forms ----------------------------------------------------------------------------------------------------------------


def test_a_refused_form_takes_the_focus_and_forgets_the_secret(site: Site, open_page: Open) -> None:
    person, page = someone_new(site), open_page()
    begin(page, person)
    page.goto("/move/credentials")
    field = page.get_by_label("旧邮箱的客户端专用密码")
    field.fill("ａｂｃ-canary")
    page.get_by_role("button", name="检查能不能登录").click()
    expect(page.locator("#problems")).to_be_focused()
    assert "canary" not in page.content() and "ａｂｃ" not in page.content()
    page.locator("#problems a").click()
    expect(field).to_be_focused()


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("cause", [Cause.BAD_SECRET, Cause.NEEDS_AUTH_CODE, Cause.DESTINATION_LOGIN], ids=str)
def test_after_a_failed_check_a_small_phone_shows_the_field_to_fill_in_again(site: Site, open_page: Open, cause: Cause,
                                                                             language: str) -> None:
    """Without scrolling or a script, above the button that stays at the thumb, and with the word why."""
    person = someone_new(site, provider="qiye163", language=language)
    person.begin()
    person.enter()
    person.worker_checks(cause)
    page = open_page(viewport={"width": 360, "height": 640}, java_script_enabled=False)
    begin(page, person)
    page.goto("/move/credentials")
    field = page.locator("input[aria-invalid=true]")
    at, button = field.bounding_box(), page.locator("main form .button").bounding_box()
    assert at is not None and button is not None
    assert at["y"] > 0 and at["y"] + at["height"] < button["y"] < 640
    expect(page.locator(".field .error")).to_have_attribute("id", f"{field.get_attribute('id')}-error")


def test_a_secret_can_be_shown_and_pasted(site: Site, open_page: Open) -> None:
    person, page = someone_new(site), open_page(permissions=["clipboard-read", "clipboard-write"])
    begin(page, person)
    page.goto("/move/credentials")
    field = page.get_by_label("旧邮箱的客户端专用密码")
    page.evaluate("navigator.clipboard.writeText(' abcd efgh ')")
    field.focus()
    page.keyboard.press("Control+V")
    assert field.input_value() == " abcd efgh "
    button = page.get_by_role("button", name="显示")
    button.click()
    assert field.get_attribute("type") == "text"
    page.get_by_role("button", name="隐藏").click()
    assert field.get_attribute("type") == "password"


def test_a_reference_is_copied(site: Site, open_page: Open) -> None:
    person, page = someone_new(site), open_page(permissions=["clipboard-read", "clipboard-write"])
    person.begin()
    person.enter()
    check = person.worker_checks(Cause.IP_BLOCKED)
    begin(page, person)
    page.get_by_role("button", name="复制", exact=True).click()
    expect(page.get_by_text("已复制")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == f"C{check}"


# --- every page, every way of looking -------------------------------------------------------------------------------------


Pages = list[tuple[str, Someone | None, str]]


def _pages(site: Site) -> Iterator[tuple[str, Someone | None, str]]:
    """(name, whose, path): every page in every state that looks different."""
    fresh = someone_new(site, provider=None)
    yield "link", fresh, f"/m/{fresh.token}"
    yield "provider", fresh, "/move/provider"
    for provider in ("exmail", "m263", "m365", "coremail", "generic"):
        yield f"prepare {provider}", someone_new(site, provider=provider), "/move/prepare"
    yield "credentials", someone_new(site, destination_secret=False), "/move/credentials"
    for name, cause in (("refused", Cause.BAD_SECRET), ("blocked", Cause.IP_BLOCKED), ("imap off", Cause.IMAP_DISABLED)):
        failed = someone_new(site)
        failed.begin()
        failed.enter()
        failed.worker_checks(cause, server_text="NO said the server")
        yield name, failed, "/move"
        if cause is Cause.BAD_SECRET:
            yield "again", failed, "/move/credentials"
    checking = someone_new(site, destination_secret=False)
    checking.begin()
    checking.enter()
    yield "checking", checking, "/move"
    warned = someone_new(site)
    warned.begin()
    warned.enter()
    check = warned.worker_checks(warnings=[{"code": "only_30_days", "oldest": "2025-10-25"},
                                           {"code": "folder_unreadable", "folder": "保密"}])
    yield "passed with warnings", warned, f"/move/check/{check}"
    yield "review with warnings", warned, "/move/review"
    tried = someone_new(site)
    tried.begin()
    for secret in ("abcdefghijklmnop", "bcdefghijklmnopq"):
        tried.enter(secret)
        tried.worker_checks(Cause.BAD_SECRET)
    yield "too many tries", tried, "/move/credentials"
    passed = someone_new(site).ready()
    yield "passed", passed, f"/move/check/{passed.check_row().id}"
    yield "review", passed, "/move/review"
    yield "queued", someone_new(site).started(), "/move"
    moving = someone_new(site).started()
    lease = moving.worker_takes()
    moving.ledger()
    moving.worker_progresses(lease, 60)
    yield "moving", moving, "/move"
    stopping = someone_new(site).started()
    stopping.worker_takes()
    stopping.follow()
    stopping.submit("/move/pause")
    yield "stopping", stopping, "/move"
    for name, outcome, cause in (("waiting", CopyOutcome.PAUSED, Cause.THROTTLED), ("stuck", CopyOutcome.FAILED, Cause.DESTINATION_QUOTA)):
        stopped = someone_new(site).started()
        stopped.worker_ends(stopped.worker_takes(), outcome, cause, retry_after=600)
        yield name, stopped, "/move"
    for name, aside in (("done", 0), ("partial", 3)):
        done = someone_new(site).started()
        lease = done.worker_takes()
        done.ledger(set_aside=aside)
        done.worker_ends(lease, CopyOutcome.PARTIAL if aside else CopyOutcome.COMPLETE)
        yield name, done, "/move"
        yield f"link {name}", done, f"/m/{done.token}"
    yield "help", passed, "/move/help"
    yield "no link", None, "/m/" + "x" * 43
    yield "no page", None, "/move/nothing"
    yield "front", None, "/"
    yield "no visit", None, "/move/review"


@pytest.fixture(scope="module")
def every_page(site: Site) -> Pages:
    return list(_pages(site))


def _open_for(page: Page, person: Someone | None, path: str, language: str) -> None:
    page.context.clear_cookies()
    page.context.add_cookies([{"name": "banjia_language", "value": language, "url": page.url if page.url.startswith("http") else path}])
    if person is not None and not path.startswith("/m/"):
        page.goto(f"/m/{person.token}")
        page.locator("main form button").click()
        page.wait_for_url("**/move/**")
    page.goto(path)


@pytest.mark.parametrize(("scheme", "language"), [("light", "zh"), ("dark", "en")])
def test_no_page_shuts_anybody_out(site: Site, open_page: Open, every_page: Pages, scheme: str,
                                   language: str) -> None:
    """axe (WCAG 2.2 AA and best practice) on every page in every state, everything that opens being open."""
    page = open_page(color_scheme=scheme)
    page.goto("/")
    problems = []
    for name, person, path in every_page:
        _open_for(page, person, path, language)
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        for violation in Axe().run(page).response["violations"]:
            problems.append(f"{name}: {violation['id']}: {[node['target'] for node in violation['nodes']]}")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_page_fits_a_narrow_screen(site: Site, open_page: Open, every_page: Pages, language: str) -> None:
    """320 px wide, which is also 640 px at 200 % zoom: nothing scrolls sideways, nothing that can be pressed is too small."""
    page = open_page(viewport={"width": 320, "height": 640})
    page.goto("/")
    problems = []
    for name, person, path in every_page:
        _open_for(page, person, path, language)
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        if too_wide(page) > 0:
            problems.append(f"{name}: scrolls sideways")
        problems += [f"{name}: {small}" for small in too_small(page)]
    assert not problems, "\n".join(problems)


def test_every_page_has_one_heading_and_one_main_button(site: Site, open_page: Open, every_page: Pages) -> None:
    page = open_page()
    page.goto("/")
    problems = []
    for name, person, path in every_page:
        _open_for(page, person, path, "zh")
        if page.locator("h1").count() != 1:
            problems.append(f"{name}: {page.locator('h1').count()} first headings")
        if page.locator("main .button:not(.second):visible").count() > 1:
            problems.append(f"{name}: more than one main button")
    assert not problems, "\n".join(problems)
