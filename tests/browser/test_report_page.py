"""The report to print, and the drawn settings pages, in a real Chromium: measured on a phone, on a desk and on paper."""
from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from flask import g, render_template_string
from playwright.sync_api import Browser, Page

from engine.causes import Cause
from engine.ledger import Entry, FolderRow, Outcome, Run, SetAsideRow
from engine.ledger_file import SqliteLedger
from engine.providers.catalogue import providers
from engine.report_files import Heading, as_html
from portal.employee.guidance import guide
from tests.browser.conftest import too_wide
from tests.support.portal_app import portal_in

BEGUN = 1_764_000_000.0
LONG = "客户/华东/二〇一九年第三季度投标文件与合同扫描件归档/已签署/" + "很长的文件夹名字" * 6
FOLDERS = (LONG, "A" * 120, "مشاريع/الربع الأول ٢٠٢٤", "🎉 聚会 👨‍👩‍👧", "INBOX")
WORDS = ("NO [SERVERBUG] cannot read", "شكرا جزيلا لك 🎉", "x" * 200, "")


@pytest.fixture(scope="module")
def blank(chromium: Browser) -> Iterator[Page]:
    page = chromium.new_page()
    yield page
    page.close()


def report(path: Path, language: str, set_aside: int) -> str:
    """Of folders with long, right-to-left and emoji names, each with its share of `set_aside` messages."""
    ledger = SqliteLedger(path, "li@old.example @ imap.old.example:993 -> li@new.example @ imap.new.example:993")
    attempt = ledger.begin_pass(BEGUN)
    for at, name in enumerate(FOLDERS):
        row = ledger.put_folder(FolderRow(f"w{at}", f"w{at}", source_display=name, target_display=name))
        uids = range(5_000_000 + at, 5_000_000 + set_aside, len(FOLDERS))
        ledger.write(Entry(
            FolderRow(row.source, row.target, row.id, 7, 6_000_000, 1200, 9, name, name, total=1200 + len(uids), moved=1200,
                      set_aside=len(uids), bytes_moved=9_000_000, complete=True),
            runs=[Run(1, 1200, 1200, 500, Outcome.MOVED, pass_id=attempt)],
            set_aside=[SetAsideRow(uid, Cause.X_ITEM, WORDS[uid % len(WORDS)], 48_211, "01-Mar-2019 10:22:33 +0800") for uid in uids]))
    ledger.end_pass(attempt, BEGUN + 600, "partial")
    zone = dt.timezone(dt.timedelta(hours=8))
    whose = Heading("li.xiaoming.with.a.long.name@old-company-mail.example", "li@new.example", BEGUN, language, zone)
    page = "".join(as_html(ledger, whose))
    ledger.close()
    return page


@pytest.mark.parametrize("set_aside", [0, 3, 200])
@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_report_can_be_read_on_every_screen(blank: Page, tmp_path: Path, language: str, set_aside: int) -> None:
    blank.set_content(report(tmp_path / "ledger", language, set_aside))
    for width in (320, 1280):
        blank.set_viewport_size({"width": width, "height": 800})
        assert too_wide(blank) <= 0, width
        found = Axe().run(blank).response["violations"]
        assert not found, (width, [(rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in found])


def test_no_row_of_a_long_list_is_a_column_of_letters(blank: Page, tmp_path: Path) -> None:
    """As wide as A4 is between its margins: a date stays on its line, and no name makes a row of more than nine lines."""
    blank.set_content(report(tmp_path / "ledger", "zh", 200))
    blank.set_viewport_size({"width": 703, "height": 1000})
    blank.emulate_media(media="print")
    line, dates, rows = blank.evaluate("""() => { const rows = [...document.querySelectorAll('section:has(.kinds) tbody tr')];
        const line = parseFloat(getComputedStyle(rows[0]).lineHeight), lines = e => e.querySelector('span').getClientRects().length;
        return [line, Math.max(...rows.map(r => lines(r.cells[2]))), Math.max(...rows.map(r => r.offsetHeight))]; }""")
    assert dates == 1
    assert rows < 9 * line


def test_on_paper_a_sum_stands_once(blank: Page, tmp_path: Path) -> None:
    blank.set_content(report(tmp_path / "ledger", "zh", 0))
    blank.emulate_media(media="print")
    assert blank.evaluate("getComputedStyle(document.querySelector('tfoot')).display") == "table-row-group"


@pytest.mark.parametrize("language", ["zh", "en"])
def test_no_word_of_a_drawing_reaches_into_what_stands_beside_it(blank: Page, tmp_path: Path, instance_template: Path,
                                                                 language: str) -> None:
    drawn = []
    with portal_in(tmp_path / "instance", instance_template) as portal, portal.app.test_request_context("/"):
        g.language = language
        style = Path(portal.app.static_folder or "", "banjia.css").read_text(encoding="utf-8")
        for key, provider in providers().items():
            for step in provider.steps:
                if (drawing := guide(step, provider).drawing) is not None:
                    svg = render_template_string("{% from 'svg/settings.html' import settings_page %}{{ settings_page(drawing) }}",
                                                 drawing=drawing)
                    drawn.append(f'<div data-step="{key} {step.id}">{svg}</div>')
    assert len(drawn) > 40
    blank.set_content(f'<html lang="{language}"><style>{style} svg {{ width: 360px }}</style><body>{"".join(drawn)}')
    assert blank.evaluate("""() => [...document.querySelectorAll('[data-step] svg')].flatMap(svg => {
        const at = svg.getBoundingClientRect(), menu = svg.querySelector('.pick'), ring = svg.querySelector('.ring');
        return [...svg.querySelectorAll('text')].filter(text => {
            const own = text.getBoundingClientRect(), level = other => { const box = other.getBoundingClientRect();
                return box.top < own.bottom && box.bottom > own.top; };
            const right = text.getAttribute('x') === '12' && menu ? menu.getBoundingClientRect().right
                : ring && level(ring) && text.classList.contains('bold') && ring.getBoundingClientRect().left > own.left
                ? ring.getBoundingClientRect().left : at.right;
            return own.right > right + 1;
        }).map(text => `${svg.parentElement.dataset.step}: ${text.textContent}`); })""") == []
