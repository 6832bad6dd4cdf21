"""The report's files: what they say, in both languages, and that no foreign text runs in a spreadsheet or a page."""
from __future__ import annotations

import base64
import csv
import datetime as dt
import hashlib
import io
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from engine.causes import Cause
from engine.folders.mapping import explain_rule
from engine.folders.roles import names
from engine.ledger import Entry, FolderRow, Outcome, Repair, RepairRow, Run, SetAsideRow
from engine.ledger_file import SqliteLedger
from engine.manifest import manifest_of
from engine.report_files import WRITERS, Format, Heading, as_csv, as_html, as_json, words
from engine.report_files.as_html import MESSAGES_SHOWN, content_security_policy
from engine.report_files.cells import safe_cell
from tests.unit.report.ledgers import BEGUN, a_broken_move, a_finished_move, empty_ledger

CHINA = dt.timezone(dt.timedelta(hours=8))
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def heading(language: str = "en") -> Heading:
    return Heading("li@old.example", "li@new.example", BEGUN + 90_000, language, CHINA, reference="B-7")


@pytest.fixture
def finished(tmp_path: Path) -> Iterator[SqliteLedger]:
    ledger = a_finished_move(tmp_path / "ledger")
    yield ledger
    ledger.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    one = empty_ledger(tmp_path / "ledger")
    yield one
    one.close()


def rows_of(text: str) -> list[list[str]]:
    assert text.startswith("\ufeff"), "Excel takes UTF-8 for GBK without it"
    return list(csv.reader(io.StringIO(text[1:], newline="")))


class Seen(HTMLParser):
    """The texts and the tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._styled = False
        self.feed(page)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._styled = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._styled = False

    def handle_data(self, data: str) -> None:
        if not self._styled:
            self.texts.append(data)


# --- the three say the same -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_three_forms_have_one_digest_and_one_sum(finished: SqliteLedger, language: str) -> None:
    digest = manifest_of(finished).digest
    told = json.loads("".join(as_json(finished, heading(language))))
    assert (told["digest"], told["proof"], told["totals"]["total"]) == (digest, "holds", 131)
    assert rows_of("".join(as_csv(finished, heading(language))))[-1][3:6:2] == ["131", f"SHA-256 {digest}"]
    page = Seen("".join(as_html(finished, heading(language))))
    assert digest in page.text
    assert "131" in page.text


def test_an_english_report_holds_no_chinese_but_names(finished: SqliteLedger) -> None:
    for form, writer in WRITERS.items():
        text = "".join(writer(finished, heading("en")))
        for name in ("客户", "广告邮件"):  # folders of the mailbox
            text = text.replace(name, "")
        text = re.sub(r'"PingFang SC".*', "", text)
        assert not CHINESE.search(text), form


# --- JSON -------------------------------------------------------------------------------------------------------------------


def test_json_has_every_range_and_every_exception(finished: SqliteLedger) -> None:
    told = json.loads("".join(as_json(finished, heading())))
    inbox, odd, ads = told["folders"]
    assert inbox["runs"][0] == {"source_first": 1, "source_last": 100, "count": 90, "target_first": 500, "target_last": 589,
                                "outcome": "moved", "pass": 1}
    assert [run["outcome"] for run in inbox["runs"]] == ["moved", "already_there", "moved"]
    assert [(s["uid"], s["reason"]) for s in inbox["set_aside"]] == [
        (105, "x_item"), (106, "destination_refused"), (107, "destination_refused")]
    assert inbox["set_aside"][0]["server_text"] == "NO [SERVERBUG] l***@o***: cannot read"
    assert [(r["uid"], r["repair"]) for r in inbox["repairs"]] == [(12, "keywords")]
    assert odd["note_words"].startswith("Renamed")
    assert (ads["rule"], ads["rule_words"], ads["counts"]["excluded"], ads["runs"]) == ("ads", explain_rule("ads").en, 5, [])
    assert told["passes"][0] == {"id": 1, "begun_at": "2025-11-24T16:00:00Z", "ended_at": "2025-11-24T16:10:00Z", "outcome": "partial"}


def test_json_of_many_rows_is_one_object(ledger: SqliteLedger) -> None:
    """More rows than fit into one piece of text."""
    row = ledger.put_folder(FolderRow("INBOX", "INBOX"))
    ledger.write(Entry(FolderRow("INBOX", "INBOX", row.id, total=1001, moved=1001, complete=True),
                       runs=[Run(2 * n, 2 * n, 1, 5 * n, Outcome.MOVED) for n in range(1, 1002)]))
    pieces = list(as_json(ledger, heading()))
    told = json.loads("".join(pieces))
    assert [run["source_first"] for run in told["folders"][0]["runs"]] == [2 * n for n in range(1, 1002)]
    assert max(map(len, pieces)) < 60_000


def test_an_empty_ledger_has_all_three(ledger: SqliteLedger) -> None:
    assert json.loads("".join(as_json(ledger, heading())))["folders"] == []
    assert rows_of("".join(as_csv(ledger, heading())))
    assert "Nothing has been moved yet." in Seen("".join(as_html(ledger, heading()))).text


# --- CSV --------------------------------------------------------------------------------------------------------------------


def test_every_row_has_every_column(finished: SqliteLedger) -> None:
    head, *rows = rows_of("".join(as_csv(finished, heading())))
    assert {len(row) for row in rows} == {len(head)}
    ranges = [row for row in rows if row[0] == "Range"]
    assert [row[6:11] for row in ranges][:2] == [["1", "100", "500", "589", "1"], ["101", "103", "3", "5", ""]]
    assert [row[6] for row in rows if row[0] == "Message" and row[4] == "Set aside"] == ["105", "106", "107", "5"]


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1+1", "＋1", "－1", "＠SUM", " =1", "\u3000=1",
                                  "\u00a0=1", "|calc", "%0A=1"])
def test_no_cell_can_be_run(cell: str) -> None:
    assert safe_cell(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "INBOX", "a=b", "2025-11-24", " ", "（不搬）", "'=1"])
def test_a_harmless_cell_stays_as_it_is(cell: str) -> None:
    assert safe_cell(cell) == cell


def test_what_a_server_names_and_says_is_harmless(ledger: SqliteLedger) -> None:
    evil = "=HYPERLINK(\"http://x\")"
    row = ledger.put_folder(FolderRow(evil, "@b", source_display=evil, target_display="@b"))
    ledger.write(Entry(FolderRow(evil, "@b", row.id, source_display=evil, target_display="@b", total=1, set_aside=1),
                       set_aside=[SetAsideRow(1, Cause.X_ITEM, "-2+3", 1, "+1")], repairs=[RepairRow(2, Repair.DATE, "＝1")]))
    for line in rows_of("".join(as_csv(ledger, heading()))):
        assert all(not cell or cell[0] not in "=+-@＝" for cell in line), line


# --- HTML -------------------------------------------------------------------------------------------------------------------


def test_the_page_tells_the_whole_story(finished: SqliteLedger) -> None:
    text = Seen("".join(as_html(finished, heading()))).text
    for told in ("All 131 messages of the old mailbox are accounted for.", "117", explain_rule("ads").en, "The new mailbox refused it",
                 "Labels that the new mailbox refuses were left off", "NO [LIMIT] too many keywords", "2025-11-25 00:00 +08:00", "B-7",
                 "deleted in the old mailbox after the move"):
        assert told in text


def test_nothing_of_the_page_runs_or_is_loaded(finished: SqliteLedger) -> None:
    page = Seen("".join(as_html(finished, heading("zh"))))
    assert {tag for tag, _ in page.tags} <= {
        "html", "head", "meta", "title", "style", "body", "header", "main", "footer", "section", "h1", "h2", "p", "span", "small", "bdi",
        "b", "svg", "path", "rect", "dl", "dt", "dd", "div", "table", "thead", "tbody", "tfoot", "tr", "th", "td", "ul", "li"}
    assert {name for _, attributes in page.tags for name in attributes} <= {
        "lang", "charset", "name", "content", "class", "viewbox", "aria-hidden", "d", "preserveaspectratio", "x", "y", "width", "height",
        "scope", "data-label"}
    assert "=1+1 <b>客户</b>" in page.text, "shown as it is called"


def test_its_style_is_the_only_one_that_its_policy_allows(finished: SqliteLedger) -> None:
    page = "".join(as_html(finished, heading()))
    [style] = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in content_security_policy()
    assert not re.search(r"url\(|@import", style)


@pytest.mark.parametrize(("language", "loud"), [("zh", "数目对不上！"), ("en", "The sum does not hold!")])
def test_a_sum_that_does_not_hold_is_said_loudly(tmp_path: Path, language: str, loud: str) -> None:
    ledger = a_broken_move(tmp_path / "ledger")
    page = Seen("".join(as_html(ledger, heading(language))))
    assert loud in page.text
    assert {"zh": "有结果 10 封，逐段记录 9 封", "en": "settled 10, recorded in ranges 9"}[language] in page.text
    assert ("section", {"class": "verdict broken"}) in page.tags
    assert json.loads("".join(as_json(ledger, heading(language))))["proof"] == "broken"
    ledger.close()


def test_a_long_list_is_cut_and_says_so(ledger: SqliteLedger) -> None:
    row = ledger.put_folder(FolderRow("INBOX", "INBOX"))
    n = MESSAGES_SHOWN + 34
    ledger.write(Entry(FolderRow("INBOX", "INBOX", row.id, total=n, set_aside=n, complete=True),
                       set_aside=[SetAsideRow(uid, Cause.X_ITEM, f"words {uid}") for uid in range(1, n + 1)]))
    page = Seen("".join(as_html(ledger, heading()))).text
    assert f"words {MESSAGES_SHOWN} " in page
    assert f"words {MESSAGES_SHOWN + 1} " not in page
    assert "34 more messages; the CSV report has all." in page
    assert len([line for line in rows_of("".join(as_csv(ledger, heading()))) if line[0] == "Message"]) == n


def test_a_family_of_emoji_stays_one_picture(ledger: SqliteLedger) -> None:
    family, hidden = "\U0001f468\u200d\U0001f469\u200d\U0001f467", "a\u200db"
    ledger.put_folder(FolderRow("x", "x", source_display=f"{family} {hidden}", target_display="x"))
    text = "".join(as_html(ledger, heading()))
    assert family in text and hidden not in text and "a\\u200db" in text


@pytest.mark.parametrize(("language", "told"), [
    ("zh", ["旧邮箱的客服恢复", "新邮箱的管理员看看原话", "已经搬到的不会重复"]),
    ("en", ["its support can restore", "for its administrator to see", "nothing is copied twice"])])
def test_what_to_do_about_what_was_set_aside_is_told(finished: SqliteLedger, language: str, told: list[str]) -> None:
    text = Seen("".join(as_html(finished, heading(language)))).text
    assert [advice for advice in told if advice not in text] == []
    assert "2019-03-01 10:22 +08:00" in text and "01-Mar-2019" not in text


def test_nobody_is_asked_who_cannot_help(ledger: SqliteLedger) -> None:
    row = ledger.put_folder(FolderRow("INBOX", "INBOX"))
    ledger.write(Entry(FolderRow("INBOX", "INBOX", row.id, total=1, set_aside=1, complete=True),
                       set_aside=[SetAsideRow(1, Cause.X_ITEM, "", internal_date="no date")]))
    text = Seen("".join(as_html(ledger, heading("zh")))).text
    assert "旧邮箱的客服恢复" in text and "新邮箱的管理员" not in text
    assert "no date" in text, "what is no date is shown as it is"


def test_one_message_is_no_plural(ledger: SqliteLedger) -> None:
    row = ledger.put_folder(FolderRow("INBOX", "INBOX"))
    ledger.write(Entry(FolderRow("INBOX", "INBOX", row.id, total=1, moved=1, complete=True), runs=[Run(1, 1, 1, 1, Outcome.MOVED)]))
    assert "The one message of the old mailbox is accounted for." in Seen("".join(as_html(ledger, heading()))).text


def test_a_long_folder_name_stands_whole_in_one_place_only(ledger: SqliteLedger) -> None:
    name = "A" + "客户" * 60 + "Z"
    row = ledger.put_folder(FolderRow("x", "x", source_display=name, target_display="x"))
    ledger.write(Entry(FolderRow("x", "x", row.id, source_display=name, target_display="x", total=2, set_aside=2, complete=True),
                       set_aside=[SetAsideRow(uid, Cause.X_ITEM, "") for uid in (1, 2)]))
    text = Seen("".join(as_html(ledger, heading()))).text
    assert text.count(name) == 1
    assert len(re.findall(r"A(?:客户)+客?…(?:户)?(?:客户)+Z", text)) == 2


def test_direction_changing_and_invisible_characters_are_written_out(ledger: SqliteLedger) -> None:
    ledger.put_folder(FolderRow("x", "x", source_display="gpj.\u202eexe\u200b\x1b", target_display="x"))
    for form in (Format.HTML, Format.CSV):
        text = "".join(WRITERS[form](ledger, heading()))
        assert not re.search("[\u202e\u200b\x1b]", text)
        assert "\\u202e" in text


# --- words ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("repair", list(Repair))
def test_every_repair_has_words(repair: Repair) -> None:
    assert CHINESE.search(words.repair_words(repair).zh)
    assert words.repair_words(repair).en != repair.value


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_words(outcome: Outcome) -> None:
    assert CHINESE.search(words.OUTCOMES[outcome].zh)


@pytest.mark.parametrize("rule", sorted(names().rule_words))
def test_every_rule_has_words(rule: str) -> None:
    assert words.rule_words(rule) == explain_rule(rule)


@pytest.mark.parametrize("cause", list(Cause))
def test_every_reason_has_words(cause: Cause) -> None:
    assert words.reason_words(cause).zh and words.reason_words(cause).en


def test_an_unknown_rule_is_shown_as_it_is() -> None:
    assert words.rule_words("of tomorrow").en == "of tomorrow"
