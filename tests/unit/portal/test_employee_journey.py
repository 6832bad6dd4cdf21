"""From the link to the report, page by page, without JavaScript: what each page says and where each button leads.

The worker's part is played by the services that it calls.
"""
from __future__ import annotations

import csv
import io
import logging
import re
import time

import pytest
from itsdangerous import TimestampSigner, URLSafeTimedSerializer
from sqlalchemy import update

from engine.causes import Cause, explain
from engine.check import WARNINGS
from engine.report.copy import CopyOutcome
from portal.models import AuditEvent, Credential, Move, SetAside
from portal.services.credentials import SECRET_CAUSES
from tests.support.portal_app import PortalForTests
from tests.unit.portal.employee_pages import invite

CANARY = "canary-secret-7731"


def heading(page: str) -> str:
    found = re.search(r"<h1>(.*?)</h1>", page, re.S)
    assert found, page
    return re.sub(r"<[^>]+>", "", found[1]).strip()


def test_the_whole_way(portal: PortalForTests) -> None:
    someone = invite(portal, provider=None)
    assert someone.begin() == "/move/provider"
    someone.open("/move/provider")
    assert "没能自动认出来" in someone.page
    assert someone.submit("/move/provider", provider="exmail").headers["Location"] == "/move/prepare"

    someone.open("/move/prepare")
    assert heading(someone.page) == "在腾讯企业邮箱里做 3\u00a0件事"
    assert "<svg" in someone.page and "收发信设置" in someone.page and "要由管理员做的" in someone.page

    someone.open("/move/credentials")
    assert heading(someone.page) == "填写客户端专用密码"
    assert 'autocomplete="current-password"' in someone.page and "新邮箱的密码" not in someone.page
    sent = someone.submit("/move/credentials", source_secret="abcdefghijklmnop")
    assert re.fullmatch(r"/move/check/\d+", sent.headers["Location"])

    waiting = someone.follow()
    assert heading(someone.page) == "正在检查旧邮箱…" and '<meta http-equiv="refresh" content="5">' in someone.page
    assert waiting.request.path == sent.headers["Location"]

    check_id = someone.worker_checks()
    someone.open(f"/move/check/{check_id}")
    assert heading(someone.page) == "检查通过，可以搬" and "150 封" in someone.page and "http-equiv" not in someone.page

    assert someone.follow().request.path == "/move/review"
    assert heading(someone.page) == "搬这 150 封邮件？"
    assert "服务商自动归类的广告邮件，不搬" in someone.page and "客户 &lt;b&gt;A&lt;/b&gt;" in someone.page
    assert someone.submit("/move/start").headers["Location"] == "/move/progress"
    assert someone.submit("/move/start").headers["Location"] == "/move/progress"

    someone.follow()
    assert heading(someone.page) == "已经排上队" and "/ 150 封" in someone.page
    lease = someone.worker_takes()
    someone.worker_progresses(lease, 60, "客户/华东")
    someone.follow()
    assert heading(someone.page) == "正在搬家" and "客户/华东" in someone.page and "68 / 155 封" in someone.page

    someone.ledger()
    someone.worker_ends(lease, CopyOutcome.COMPLETE)
    assert someone.follow().request.path == "/move/done"
    assert heading(someone.page) == "150 封邮件全部到齐"
    assert "我们保存的密码已经销毁" in someone.page
    with portal.database.reading() as session:
        assert session.query(Credential).filter_by(owner_kind="person").count() == 0
        assert session.query(AuditEvent).filter(AuditEvent.action == "start.move").count() == 1


# --- provider -------------------------------------------------------------------------------------------------------------


def test_the_provider_is_proposed_with_its_evidence(portal: PortalForTests) -> None:
    someone = invite(portal, provider=None)
    with portal.database.session() as session:
        move = session.get_one(Move, someone.move_id)
        move.person.source_address = "wang@qq.com"
    someone.begin()
    someone.open("/move/provider")
    assert re.search(r'value="qq" checked', someone.page) and "qq.com 是 QQ 邮箱自己的域名" in someone.page.replace("是QQ", "是 QQ")


@pytest.mark.parametrize(("typed", "text"), [
    ({}, "请选一个"), ({"provider": "nobody"}, "没有这个服务商"), ({"provider": "generic", "source_host": "no host"}, "服务器地址不对"),
    ({"provider": "generic", "source_host": "imap.old.example", "source_port": "x"}, "端口是一个数字")])
def test_a_provider_that_cannot_be_is_explained_and_what_was_typed_stays(portal: PortalForTests, typed: dict[str, str], text: str) -> None:
    someone = invite(portal, provider=None)
    someone.begin()
    someone.open("/move/provider")
    answer = someone.submit("/move/provider", **typed)
    assert answer.status_code == 422 and text in answer.text and 'role="alert"' in answer.text
    assert "<title>请更正：" in answer.text
    if typed.get("source_host"):
        assert f'value="{typed["source_host"]}"' in answer.text


def test_an_own_server_is_taken(portal: PortalForTests) -> None:
    someone = invite(portal, provider=None)
    someone.begin()
    someone.open("/move/provider")
    answer = someone.submit("/move/provider", provider="generic", source_host="Mail.Old.Example", source_port="993")
    assert answer.status_code == 303
    someone.open("/move/provider")
    assert 'value="mail.old.example"' in someone.page and re.search(r'value="generic" checked', someone.page)


def test_where_only_an_authorised_sign_in_works_nobody_is_asked_for_a_password_first(portal: PortalForTests) -> None:
    someone = invite(portal, provider="m365")
    someone.begin()
    someone.open("/move/prepare")
    assert "这家只接受授权登录" in someone.page and "联系服务台" in someone.page


# --- the secret -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("typed", "text"), [("", "这里还没有填"), ("   ", "这里还没有填"),
                                             (CANARY + "ａｂｃ", "全角"), (CANARY * 40, "太长")])
def test_a_secret_that_cannot_be_is_refused_and_never_sent_back(portal: PortalForTests, typed: str, text: str,
                                                                caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    someone = invite(portal)
    someone.begin()
    answer = someone.enter(typed)
    assert answer.status_code == 422 and text in answer.text
    assert CANARY not in answer.text and CANARY not in caplog.text
    assert 'href="#f-source_secret"' in answer.text and 'aria-invalid="true"' in answer.text
    assert "<title>请更正：" in answer.text


def test_the_new_mailboxs_password_is_asked_for_only_where_it_is_needed(portal: PortalForTests) -> None:
    someone = invite(portal, destination_secret=False)
    someone.begin()
    someone.open("/move/credentials")
    assert 'name="destination_secret"' in someone.page
    answer = someone.submit("/move/credentials", source_secret="abcdefghijklmnop", destination_secret="new-password")
    assert answer.status_code == 303 and someone.check_row().side == "both"


def test_a_refused_secret_leads_back_to_the_form_and_twice_to_a_pause(portal: PortalForTests) -> None:
    someone = invite(portal)
    someone.begin()
    for attempt in (1, 2):
        assert someone.enter(f"{CANARY}{attempt}").status_code == 303
        check_id = someone.worker_checks(Cause.BAD_SECRET, server_text="NO LOGIN Login error")
        someone.open(f"/move/check/{check_id}")
        assert "旧邮箱没有接受这个密码" in someone.page and f"C{check_id}" in someone.page and "NO LOGIN Login error" in someone.page
        assert re.search(r'class="button" href="/move/credentials"', someone.page)
        someone.open("/move/credentials")
    assert "以后再试" in someone.page and 'name="source_secret"' not in someone.page
    assert "已经拒绝了 2 次" in someone.page.replace("连着", "")


def test_the_form_is_closed_for_a_third_try_that_was_open_in_another_window(portal: PortalForTests) -> None:
    someone = invite(portal)
    someone.begin()
    someone.open("/move/credentials")
    opened_before = someone.page
    for _ in range(2):
        someone.enter()
        someone.worker_checks(Cause.BAD_SECRET)
    someone.page = opened_before
    answer = someone.submit("/move/credentials", source_secret=CANARY)
    assert answer.status_code == 429 and "以后再试" in answer.text and CANARY not in answer.text


# --- the check ------------------------------------------------------------------------------------------------------------


# Not refused: the provider wants another secret, or another login name, and both are typed on the same page.
WANTS_ANOTHER = {Cause.TWO_FACTOR, Cause.SECURE_LOGIN, Cause.X_NAME}


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_has_its_words_its_actor_and_a_way_on(portal: PortalForTests, cause: Cause, language: str) -> None:
    someone = invite(portal, provider="m263", language=language)
    someone.begin()
    someone.enter()
    check_id = someone.worker_checks(cause, server_text="NO <script>x</script>")
    someone.open(f"/move/check/{check_id}")
    words = explain(cause, "m263")
    for pair in (words.title, words.meaning, words.next_step):
        assert pair.in_(language).split("{")[0][:8] in someone.page.replace("&#39;", "'")
    assert "<script>x" not in someone.page and f"C{check_id}" in someone.page
    leads = re.findall(r'<a class="button" href="([^"]+)"|action="(/move/check)"', someone.page)
    assert leads, "no main button"
    assert (("/move/credentials", "") in leads) is (cause in SECRET_CAUSES or cause in WANTS_ANOTHER)


@pytest.mark.parametrize("code", list(WARNINGS))
def test_warnings_are_told_before_the_start(portal: PortalForTests, code: str) -> None:
    someone = invite(portal)
    someone.begin()
    someone.enter()
    row = {"code": code, "zh": WARNINGS[code].zh, "en": WARNINGS[code].en, "oldest": "2026-10-25", "folder": "A", "largest": 60_000_000,
           "limit": 30_000_000, "free": 1, "needed": 2, "messages": 5, "folders": ["广告邮件"]}
    someone.worker_checks(warnings=[row])
    someone.follow()
    told = "开始之前请看" in someone.page
    assert told is (code != "excluded_folders")
    if code == "only_30_days":
        assert "10 月 25 日" in someone.page and "改成「全部」再开始" in someone.page


def test_what_was_warned_of_can_be_mended_and_checked_again(portal: PortalForTests) -> None:
    """However much there is to say before the start, it is one note; and both pages that have it offer another check."""
    someone = invite(portal)
    someone.begin()
    someone.enter()
    first = someone.worker_checks(warnings=[{"code": "system_folders_only"}, {"code": "overseas_host_better"}])
    for path in (f"/move/check/{first}", "/move/review"):
        page = someone.open(path).text
        assert page.count("开始之前请看") == 1 and "系统文件夹" in page and "线路比较慢" in page
        assert 'action="/move/check"' in page
    assert someone.submit("/move/check").headers["Location"] == f"/move/check/{someone.check_row().id}"
    second = someone.worker_checks()
    assert second > first and 'action="/move/check"' not in someone.open(f"/move/check/{second}").text


@pytest.mark.parametrize(("cause", "told"), [(Cause.IP_BLOCKED, True), (Cause.TLS, True), (Cause.DESTINATION_QUOTA, True),
                                             (Cause.IMAP_DISABLED, False), (Cause.SERVER_BUSY, False)])
def test_whom_to_ask_is_told_where_somebody_else_acts(portal: PortalForTests, cause: Cause, told: bool) -> None:
    someone = invite(portal)
    someone.begin()
    someone.enter()
    someone.worker_checks(cause)
    someone.follow()
    assert ("Helpdesk, ext. 8021" in someone.page) is told


def test_checking_again_uses_what_is_stored(portal: PortalForTests) -> None:
    someone = invite(portal)
    someone.begin()
    someone.enter()
    first = someone.worker_checks(Cause.IMAP_DISABLED)
    someone.follow()
    assert "再检查一次" in someone.page and "打开 IMAP" in someone.page
    answer = someone.submit("/move/check")
    assert answer.headers["Location"] == f"/move/check/{someone.check_row().id}" and someone.check_row().id > first
    someone.worker_checks()
    assert someone.follow().request.path == "/move/review"


def test_nothing_starts_without_a_check_that_passed(portal: PortalForTests) -> None:
    someone = invite(portal)
    someone.begin()
    someone.enter()
    someone.follow()
    someone.submit("/move/start")
    with portal.database.reading() as session:
        assert session.get_one(Move, someone.move_id).queued_at is None
    someone.follow()
    assert "先等检查结束" in someone.page


# --- progress -------------------------------------------------------------------------------------------------------------


def test_a_provider_that_asks_for_time_is_named_with_the_hour(portal: PortalForTests) -> None:
    someone = invite(portal).started()
    lease = someone.worker_takes()
    someone.worker_progresses(lease, 60)
    someone.worker_ends(lease, CopyOutcome.PAUSED, Cause.THROTTLED, retry_after=1500)
    someone.follow()
    assert heading(someone.page) == "在等邮箱放行" and "旧邮箱要求我们慢一点" in someone.page
    assert "会自动继续</h1>" not in someone.page
    hour = r'<time datetime="[^"]+" data-when="moment">[^<]*\d\d:\d\d<small class="zone">（北京时间）</small></time>'
    assert re.search(hour + " 会自动继续", someone.page)


def test_a_wait_of_our_own_is_not_laid_on_the_mailbox(portal: PortalForTests) -> None:
    someone = invite(portal).started()
    someone.worker_ends(someone.worker_takes(), CopyOutcome.FAILED, Cause.INCOMPLETE)
    someone.follow()
    assert heading(someone.page) == "等一会儿，会自动继续" and "核对时数目对不上" in someone.page


def test_stopping_says_what_happens_and_can_be_taken_back(portal: PortalForTests) -> None:
    someone = invite(portal).started()
    someone.worker_takes()
    someone.follow()
    someone.submit("/move/pause")
    someone.follow()
    assert heading(someone.page) == "正在停下来…" and "这一批搬完就停" in someone.page
    assert "搬家不会停" not in someone.page and "正在估算" not in someone.page
    someone.submit("/move/resume")
    someone.follow()
    assert heading(someone.page) == "正在搬家"


def test_pausing_and_going_on(portal: PortalForTests) -> None:
    someone = invite(portal).started()
    someone.follow()
    someone.submit("/move/pause")
    someone.follow()
    assert heading(someone.page) == "已暂停" and "接着搬" in someone.page
    someone.submit("/move/resume")
    someone.follow()
    assert heading(someone.page) == "已经排上队"
    lease = someone.worker_takes()
    someone.follow()
    someone.submit("/move/pause")
    someone.follow()
    assert heading(someone.page) == "正在停下来…"
    someone.worker_ends(lease, CopyOutcome.PAUSED)
    someone.follow()
    assert heading(someone.page) == "已暂停"


@pytest.mark.parametrize("cause", [Cause.BAD_SECRET, Cause.DESTINATION_LOGIN, Cause.DESTINATION_QUOTA, Cause.IP_BLOCKED, Cause.INTERNAL,
                                   Cause.SECRET_MISSING])
def test_what_is_stuck_says_why_and_leads_back(portal: PortalForTests, cause: Cause) -> None:
    someone = invite(portal).started()
    lease = someone.worker_takes()
    someone.worker_progresses(lease, 60)
    someone.worker_ends(lease, CopyOutcome.FAILED, cause, server_text="NO [X] words of the server")
    assert someone.follow().request.path == "/move/progress"
    assert heading(someone.page) == "停在这里了"
    assert explain(cause, "exmail").title.zh in someone.page and "words of the server" in someone.page
    assert f"M{someone.move_id}" in someone.page
    secret = cause in SECRET_CAUSES
    assert ('class="button" href="/move/credentials"' in someone.page) is secret
    assert ('action="/move/start"' in someone.page) is not secret


def test_a_secret_that_stopped_working_is_typed_again_and_the_move_goes_on(portal: PortalForTests) -> None:
    someone = invite(portal).started()
    lease = someone.worker_takes()
    someone.worker_progresses(lease, 60)
    someone.worker_ends(lease, CopyOutcome.FAILED, Cause.BAD_SECRET)
    someone.open("/move/credentials")
    assert "旧邮箱没有接受这个密码" in someone.page
    assert someone.submit("/move/credentials", source_secret="qrstuvwxyzabcdef").status_code == 303
    someone.worker_checks()
    assert someone.follow().request.path == "/move/review" and "继续搬家" in someone.page
    someone.submit("/move/start")
    assert someone.follow().request.path == "/move/progress" and heading(someone.page) == "已经排上队"


def test_the_forecast_is_a_range_and_only_given_with_reason(portal: PortalForTests) -> None:
    someone = invite(portal).started()
    lease = someone.worker_takes()
    someone.worker_progresses(lease, 60, total=18_005)
    someone.follow()
    assert "正在估算还要多久" in someone.page
    someone.shift_back(minutes=10)
    someone.worker_progresses(lease, 6_000, total=18_005)
    someone.follow()
    assert re.search(r"还需 15–35 分钟", someone.page) and re.search(r"平均每分钟 600 封|平均每分钟 59\d 封", someone.page)


def test_a_long_silence_is_said_and_not_drawn_as_movement(portal: PortalForTests) -> None:
    someone = invite(portal).started()
    lease = someone.worker_takes()
    someone.worker_progresses(lease, 60)
    someone.follow()
    assert 'class="letter' in someone.page
    with portal.database.session() as session:
        move = session.get_one(Move, someone.move_id)
        assert move.last_sign_at is not None
        move.last_sign_at = move.last_sign_at.replace(year=move.last_sign_at.year - 1)
    someone.follow()
    assert "有一会儿没动静了" in someone.page and 'class="letter' not in someone.page


# --- what refreshes itself ------------------------------------------------------------------------------------------------


def test_an_unchanged_state_costs_304_and_a_change_is_sent(portal: PortalForTests) -> None:
    someone = invite(portal).started()
    lease = someone.worker_takes()
    someone.worker_progresses(lease, 60)
    first = someone.open("/move/progress/live")
    assert first.status_code == 200 and 'data-live-state="on"' in first.text and "<html" not in first.text
    tag = first.headers["ETag"]
    again = someone.open("/move/progress/live", headers={"If-None-Match": tag})
    assert (again.status_code, again.text) == (304, "")
    someone.worker_progresses(lease, 61)
    assert someone.open("/move/progress/live", headers={"If-None-Match": tag}).status_code == 200
    someone.ledger()
    someone.worker_ends(lease, CopyOutcome.COMPLETE)
    assert 'data-live-state="over"' in someone.open("/move/progress/live").text


def test_the_page_and_its_refreshing_part_say_the_same(portal: PortalForTests) -> None:
    someone = invite(portal)
    someone.begin()
    someone.enter()
    check = someone.check_row().id

    def bare(text: str) -> str:
        return re.sub(r'value="[^"]+"', "", text).strip()

    page = someone.open(f"/move/check/{check}").text
    assert f'data-live="/move/check/{check}/live?whose=' in page
    assert bare(someone.open(f"/move/check/{check}/live").text) in bare(page)


def test_a_page_that_asks_by_itself_does_not_keep_the_visit_alive(portal: PortalForTests) -> None:
    someone = invite(portal).started()

    def visit_begun(seconds_ago: int) -> None:
        class Earlier(TimestampSigner):
            def get_timestamp(self) -> int:
                return super().get_timestamp() - seconds_ago

        signer = URLSafeTimedSerializer(portal.app.config["SECRET_KEY"], salt="banjia employee visit", signer=Earlier)
        someone.browser.set_cookie("banjia-visit", signer.dumps([1, time.time()]))

    visit_begun(600)
    assert "banjia-visit" not in str(someone.open("/move/progress/live").headers.getlist("Set-Cookie"))
    assert "banjia-visit" in str(someone.open("/move/progress").headers.getlist("Set-Cookie"))
    visit_begun(1801)
    assert someone.open("/move/progress/live").status_code == 401
    assert someone.open("/move/progress").status_code == 401


# --- the report -----------------------------------------------------------------------------------------------------------


def test_the_report_adds_up_and_lists_what_could_not_be_moved(portal: PortalForTests) -> None:
    someone = invite(portal).started()
    lease = someone.worker_takes()
    someone.worker_progresses(lease, 145)
    someone.ledger(set_aside=3, folder="=危险()")
    someone.worker_ends(lease, CopyOutcome.PARTIAL)
    someone.follow()
    assert heading(someone.page) == "搬完了，有 3 封没搬成"
    rows = dict(re.findall(r"<dt>([^<]+)</dt><dd>([\d,]+) 封</dd>", someone.page))
    counts = {name: int(text.replace(",", "")) for name, text in rows.items()}
    assert counts.pop("合计") == sum(counts.values()) == 155
    assert "2019 年 3 月 1 日" in someone.page and "旧邮箱没有给出完整内容" in someone.page

    answer = someone.open("/move/done/set-aside.csv")
    assert answer.data.startswith(b"\xef\xbb\xbf") and answer.mimetype == "text/csv"
    table = list(csv.reader(io.StringIO(answer.data.decode("utf-8-sig"))))
    assert [row[3] for row in table[1:]] == ["100", "101", "102"]
    assert all(not cell.startswith(("=", "+", "-", "@")) for row in table for cell in row)


@pytest.mark.parametrize(("reason", "who"), [(Cause.X_ITEM, "把名单发给腾讯企业邮箱的客服"),
                                             (Cause.DESTINATION_REFUSED, "把名单发给新邮箱的管理员")])
def test_the_list_goes_to_whoever_can_help(portal: PortalForTests, reason: Cause, who: str) -> None:
    someone = invite(portal).started()
    lease = someone.worker_takes()
    someone.ledger(set_aside=2)
    with portal.database.session() as session:
        session.execute(update(SetAside).values(reason=reason.value))
    someone.worker_ends(lease, CopyOutcome.PARTIAL)
    someone.follow()
    assert [text for text in ("把名单发给腾讯企业邮箱的客服", "把名单发给新邮箱的管理员") if text in someone.page] == [who]


def test_one_message_is_no_plural(portal: PortalForTests) -> None:
    someone = invite(portal, provider="coremail", language="en").started()
    lease = someone.worker_takes()
    someone.ledger(set_aside=1)
    someone.worker_ends(lease, CopyOutcome.PARTIAL)
    someone.follow()
    assert heading(someone.page) == "Done, 1 message could not be moved"


def test_what_was_set_aside_can_be_tried_once_more(portal: PortalForTests) -> None:
    someone = invite(portal).started()
    lease = someone.worker_takes()
    someone.ledger(set_aside=3)
    someone.worker_ends(lease, CopyOutcome.PARTIAL)
    someone.follow()
    assert "再试一次这几封" in someone.page
    assert someone.enter("qrstuvwxyzabcdef").status_code == 303
    someone.worker_checks()
    assert someone.follow().request.path == "/move/review"
    someone.submit("/move/start")
    assert someone.follow().request.path == "/move/progress"


def test_a_complete_move_asks_for_nothing_more(portal: PortalForTests) -> None:
    someone = invite(portal).started()
    lease = someone.worker_takes()
    someone.ledger()
    someone.worker_ends(lease, CopyOutcome.COMPLETE)
    for path in ("/move/credentials", "/move/review", "/move/progress"):
        assert someone.open(path).headers["Location"] == "/move/done"
    someone.follow()
    assert someone.submit("/move/start").headers["Location"] in ("/move/progress", "/move/done")
    assert someone.follow().request.path == "/move/done"


# --- help -----------------------------------------------------------------------------------------------------------------


def test_help_names_the_contact_and_what_to_tell_them(portal: PortalForTests) -> None:
    someone = invite(portal).ready()
    someone.open("/move/help?back=/move/review")
    assert "ext. 8021" in someone.page and f"M{someone.move_id}" in someone.page and f"C{someone.check_row().id}" in someone.page
    assert 'class="back" href="/move/review"' in someone.page
    assert "evil" not in someone.open("/move/help?back=//evil.example").text.split("<footer")[0].split('class="back"')[1][:60]


def test_help_stands_in_the_same_place_on_every_page(portal: PortalForTests) -> None:
    someone = invite(portal).ready()
    check = f"/move/check/{someone.check_row().id}"
    for path in ("/move/provider", "/move/prepare", "/move/credentials", check, "/move/review", "/move/help"):
        page = someone.open(path).text
        header = page[page.index("<header"):page.index("</header>")]
        assert header.index("brand") < header.index("/move/help") < header.index("switch-language"), path
