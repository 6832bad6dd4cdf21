"""What every answer of the portal carries: headers, language, error pages, and what machines ask."""
from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from portal.language import own_path
from portal.public.errors import new_reference
from tests.support.portal_app import PortalForTests, form_token


@pytest.mark.parametrize("path", ["/", "/nope", "/move", "/m/" + "x" * 43, "/healthz"])
def test_every_answer_forbids_what_it_does_not_need(portal: PortalForTests, path: str) -> None:
    headers = portal.client().get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "noindex" in headers["X-Robots-Tag"]
    assert headers["Cache-Control"] == "no-store"


def test_pages_hold_no_inline_script_or_style(portal: PortalForTests) -> None:
    page = portal.client().get("/").text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", page)


def test_static_files_are_named_by_their_content_and_kept(portal: PortalForTests) -> None:
    browser = portal.client()
    names = re.findall(r'"(/static/[^"]+\?v=[0-9a-f]{12})"', browser.get("/").text)
    assert {name.partition("?")[0] for name in names} == {"/static/banjia.css", "/static/banjia.js", "/static/mark.svg"}
    for name in names:
        answer = browser.get(name)
        assert answer.status_code == 200 and "immutable" in answer.headers["Cache-Control"]
        assert "Set-Cookie" not in answer.headers
        answer.close()


@pytest.mark.parametrize(("wished", "language"), [
    ("", "zh-CN"), ("en", "en"), ("zh-TW", "zh-CN"), ("zh-HK,en;q=0.5", "zh-CN"), ("en-GB,zh;q=0.3", "en"), ("de", "zh-CN"),
    ("de,en;q=0.5", "en")])
def test_the_browsers_wish_decides_where_nobody_chose(portal: PortalForTests, wished: str, language: str) -> None:
    answer = portal.client().get("/", headers={"Accept-Language": wished})
    assert f'<html lang="{language}">' in answer.text and answer.headers["Content-Language"] == language


def test_the_switch_is_remembered_and_returns(portal: PortalForTests) -> None:
    browser = portal.client()
    page = browser.get("/").text
    answer = browser.post("/language", data={"csrf_token": form_token(page), "to": "en", "back": "/move/help"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/move/help")
    assert '<html lang="en">' in browser.get("/", headers={"Accept-Language": "zh"}).text


@pytest.mark.parametrize("elsewhere", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "", None,
                                       "/a\r\nSet-Cookie: x=1", "/" + "a" * 3000])
def test_no_form_can_send_people_to_another_site(elsewhere: str | None) -> None:
    assert own_path(elsewhere, "/here") == "/here"


def test_own_pages_are_returned_to() -> None:
    assert own_path("/desk/moves?state=stuck&q=a%40b", "/") == "/desk/moves?state=stuck&q=a%40b"


def test_the_switch_on_a_page_that_answered_a_form_returns_to_one_that_opens(portal: PortalForTests) -> None:
    browser = portal.client()
    assert 'name="back" value="/move"' in browser.post("/move/pause").text
    assert 'name="back" value="/move/credentials"' in browser.post("/move/credentials").text


@pytest.mark.parametrize(("path", "code"), [("/nope", 404), ("/move/check/x", 404)])
def test_an_error_page_says_what_to_do_and_has_a_reference(portal: PortalForTests, path: str, code: int,
                                                              caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "portal.public.errors")
    answer = portal.client().get(path)
    assert answer.status_code == code
    reference = re.search(r"<code[^>]*>([2-9A-Z]{3}-[2-9A-Z]{3})</code>", answer.text)
    assert reference and reference[1] in caplog.text


@pytest.mark.parametrize(("path", "back"), [("/nope", "/"), ("/move/check/x", "/move"), ("/desk/nope", "/desk"), ("/projects/x", "/desk")])
def test_an_error_page_leads_back_to_where_one_was(portal: PortalForTests, path: str, back: str) -> None:
    page = portal.client().get(path).text
    assert re.search(rf'<a class="button(?: second)?" href="{back}">', page)


def test_a_fault_shows_a_reference_and_nothing_of_the_inside(portal: PortalForTests, caplog: pytest.LogCaptureFixture,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is gone in the middle of a visit: a page in the person's language, the traceback only in the log."""
    def gone() -> None:
        raise OSError("disk gone: /var/x")

    monkeypatch.setattr(portal.app.extensions["banjia"].database, "open_session", gone)
    answer = portal.client().get("/", headers={"Accept-Language": "en"})
    assert answer.status_code == 500 and "Something went wrong on our side" in answer.text
    assert "disk gone" not in answer.text and "Traceback" not in answer.text
    reference = re.search(r"[2-9A-Z]{3}-[2-9A-Z]{3}", answer.text)
    assert reference and reference[0] in caplog.text and "disk gone" in caplog.text
    assert answer.headers["Content-Security-Policy"]


def test_references_can_be_read_out_on_the_phone() -> None:
    made = {new_reference() for _ in range(200)}
    assert len(made) > 195 and not any(set(r) & set("01OIL") for r in made)


def test_machines_learn_whether_we_live_and_whether_we_can_work(portal: PortalForTests) -> None:
    browser = portal.client()
    assert browser.get("/healthz").json == {"status": "ok"}
    assert browser.get("/readyz").json == {"status": "ok", "database": "ok", "redis": "unreachable"}


def test_ready_is_no_when_the_tables_are_of_another_version(portal: PortalForTests) -> None:
    with portal.database.session() as session:
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = 'other'")
    answer = portal.client().get("/readyz")
    assert answer.status_code == 503 and answer.json["database"] == "old tables"


def test_a_debugger_is_refused(portal: PortalForTests) -> None:
    portal.app.debug = True
    answer = portal.client().get("/")
    assert answer.status_code == 500 and "把旧邮箱" not in answer.text


# --- the look -------------------------------------------------------------------------------------------------------------

TEXT_ON = [
    ("ink", "paper"), ("ink", "ground"), ("soft", "paper"), ("soft", "ground"), ("accent", "paper"),
    ("accent", "ground"), ("accent-ink", "accent"), ("accent-deep", "accent-wash"), ("ok", "paper"), ("ok", "ok-wash"),
    ("wait", "paper"), ("wait", "wait-wash"), ("stop", "paper"), ("stop", "stop-wash"), ("ink", "ok-wash"),
    ("ink", "wait-wash"), ("ink", "stop-wash"), ("soft", "stop-wash"), ("soft", "wait-wash"), ("accent", "stop-wash"),
    ("accent", "wait-wash"), ("ink", "accent-wash"),
]


def _themes(portal: PortalForTests) -> dict[str, dict[str, str]]:
    sheet = (Path(portal.app.static_folder or "") / "banjia.css").read_text("utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", sheet, re.S)[:2]
    first = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", light))
    return {"light": first, "dark": {**first, **dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", dark))}}


def _contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[at:at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_fields_can_be_seen_in_both_themes(portal: PortalForTests, theme: str) -> None:
    """WCAG 2.2, 1.4.3 and 1.4.11: 4.5 to 1 for text, 3 to 1 for the edge of a field and for the bar."""
    colours = _themes(portal)[theme]
    faint = [pair for pair in TEXT_ON if _contrast(colours[pair[0]], colours[pair[1]]) < 4.5]
    faint += [pair for pair in (("edge", "paper"), ("edge", "ground"), ("accent", "line"))
              if _contrast(colours[pair[0]], colours[pair[1]]) < 3]
    assert faint == []
