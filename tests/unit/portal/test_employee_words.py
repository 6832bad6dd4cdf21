"""Numbers, times, forecasts, menu paths and drawings, as the pages write them."""
from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest
from flask import Flask, g

from engine.check import WARNINGS
from engine.providers.catalogue import providers
from engine.providers.provider import Provider
from engine.report_files.words import Counted
from portal.employee.findings import internal_day, warning_text
from portal.employee.forecast import pace_of
from portal.employee.guidance import fit, guides, provider_choices, secret_hint
from portal.employee.routes import masked
from portal.language import ago, day, folder, moment, number, say, size, span, spoken, state_look, stated_day
from portal.models import Attempt, Move, MoveState, now
from tests.support.portal_app import portal_in

LANGUAGES = ["zh", "en"]
TEMPLATES = Path(__file__).resolve().parents[3] / "portal" / "templates"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, instance_template: Path) -> Iterator[Flask]:
    with portal_in(tmp_path_factory.mktemp("words") / "instance", instance_template) as portal:
        yield portal.app


@pytest.fixture(params=LANGUAGES)
def language(request: pytest.FixtureRequest, app: Flask) -> Iterator[str]:
    """A request in this language."""
    with app.test_request_context("/"):
        g.language = request.param
        yield request.param


@pytest.fixture
def chinese(app: Flask) -> Iterator[None]:
    with app.test_request_context("/"):
        g.language = "zh"
        yield


def test_a_pair_is_filled_in_the_language_of_the_request(language: str) -> None:
    text = say("{name}里还有 {n} 封", "{n} left in {name}", n=18040, name="收件箱" if language == "zh" else "Inbox")
    assert text == {"zh": "收件箱里还有 18,040 封", "en": "18,040 left in Inbox"}[language]


@pytest.mark.parametrize(("n", "zh", "en"), [(0, "0 封", "0 messages"), (1, "1 封", "1 message"), (18_040, "18,040 封", "18,040 messages")])
def test_a_word_fits_its_number(language: str, n: int, zh: str, en: str) -> None:
    assert say("{n} 封", "{n} {n:message|messages}", n=n) == (zh if language == "zh" else en)


def test_every_text_of_a_template_can_be_filled() -> None:
    """A pair with a brace too many would be a fault only when its page is shown."""
    pairs = [pair for path in sorted(TEMPLATES.rglob("*.html"))
             for pair in re.findall(r"""say\('([^']*)',\s*'([^']*)'\s*,\s*\w+=""", path.read_text(encoding="utf-8"))]
    assert len(pairs) > 60
    for pair in pairs:
        names = [{name for _, name, _, _ in Formatter().parse(text) if name} for text in pair]
        assert names[1] <= names[0] or names[0] <= names[1], pair
        for text in pair:
            assert text.format(**{name: Counted(1) for name in names[0] | names[1]}), pair


def test_latin_words_in_chinese_stand_apart(chinese: None) -> None:
    assert say("发给{provider}的客服", "", provider="263 企业邮箱") == "发给 263 企业邮箱的客服"
    assert say("发给{provider}的客服", "", provider="网易") == "发给网易的客服"


@pytest.mark.parametrize(("octets", "text"), [
    (0, "0 B"), (999, "999 B"), (1000, "1 KB"), (15_320, "15 KB"), (1_048_576, "1.0 MB"), (48_000_000, "45.8 MB"),
    (4_400_000_000, "4.1 GB"), (500_000_000_000, "466 GB"), (5_000_000_000_000, "4.5 TB")])
def test_sizes(octets: int, text: str) -> None:
    assert size(octets) == text


def test_numbers_are_grouped() -> None:
    assert number(1234567) == "1,234,567"


@pytest.mark.parametrize(("seconds", "zh"), [(4, "4 秒"), (59, "59 秒"), (61, "1 分钟"), (150, "2 分钟"), (7199, "120 分钟"),
                                             (7200, "2 小时"), (200_000, "2 天")])
def test_spans(chinese: None, seconds: float, zh: str) -> None:
    assert span(seconds) == zh


def test_days_and_times_are_chinas(chinese: None) -> None:
    year = now().year
    assert day(dt.datetime(year, 11, 24, 16, 30, tzinfo=dt.UTC)) == "11 月 25 日"
    assert day(dt.datetime(2019, 3, 1, tzinfo=dt.UTC)) == "2019 年 3 月 1 日"
    assert re.fullmatch(r"\d\d:\d\d", moment(now()))
    assert ago(now() - dt.timedelta(seconds=4)) == "4 秒前"


@pytest.mark.parametrize(("text", "zh"), [("2023-10", "2023 年 10 月"), ("2019-03-01", "2019 年 3 月 1 日"), ("soon\x07", "soon\\x07")])
def test_dates_of_data_files(chinese: None, text: str, zh: str) -> None:
    assert stated_day(text) == zh


@pytest.mark.parametrize(("text", "zh"), [("01-Mar-2019 10:22:33 +0800", "2019 年 3 月 1 日"),
                                          (" 1-Mar-2019 10:22:33 +0000", "2019 年 3 月 1 日"),
                                          ("", "–"), ("nonsense", "nonsense")])
def test_days_of_messages(chinese: None, text: str, zh: str) -> None:
    assert internal_day(text) == zh


@pytest.mark.parametrize(("address", "shown"), [("wang@old.example", "wa***@old.example"), ("li@x.example", "l***@x.example"),
                                                ("a@x.example", "a***@x.example")])
def test_an_address_is_masked_before_the_visit(address: str, shown: str) -> None:
    assert masked(address) == shown


@pytest.mark.parametrize("state", list(MoveState))
def test_every_state_has_a_shape_and_a_word(state: MoveState) -> None:
    look = state_look(state)
    assert look["shape"] and look["words"].zh and look["words"].en
    assert state_look("done", "partial")["words"] != state_look("done", "complete")["words"]


# --- forecasts ------------------------------------------------------------------------------------------------------------


def moving(messages: int, total: int, seconds: float, silent: float = 0) -> Move:
    """A move that has moved so many in so many seconds."""
    at = now() - dt.timedelta(seconds=silent)
    move = Move(state=MoveState.MOVING, messages_total=total, moved=messages, already_there=0, excluded=0, set_aside=0, last_sign_at=at)
    move.attempts = [Attempt(number=1, launched_by="person", moved=0, started_at=at - dt.timedelta(seconds=seconds))]
    return move


@pytest.mark.parametrize(("messages", "seconds", "total", "text"), [
    (1000, 60, 1100, "还需不到 2 分钟"), (1000, 600, 1500, "还需 4–9 分钟"), (1000, 600, 3000, "还需 15–35 分钟"),
    (1000, 600, 20_000, "还需 2–6 小时"), (1000, 6000, 100_000, "还需 5–12 天")])
def test_a_forecast_is_a_range(chinese: None, messages: int, seconds: float, total: int, text: str) -> None:
    assert pace_of(moving(messages, total, seconds)).forecast == text


def test_there_is_no_forecast_without_ground(chinese: None) -> None:
    for move in (moving(5, 1000, 600), moving(500, 1000, 3), moving(500, 1000, 600, silent=300)):
        assert pace_of(move).forecast == ""
    assert pace_of(moving(500, 1000, 600, silent=300)).silent


def test_a_hundred_percent_only_when_nothing_is_left(chinese: None) -> None:
    assert pace_of(moving(9_999, 10_000, 600)).percent == 99
    assert pace_of(moving(10_000, 10_000, 600)).percent == 100
    assert pace_of(Move(state=MoveState.QUEUED, messages_total=0, moved=0, already_there=0, excluded=0, set_aside=0), 150).total == 150


# --- guidance -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", providers().values(), ids=lambda one: one.key)
def test_every_providers_steps_can_be_shown_and_drawn(language: str, provider: Provider) -> None:
    shown = guides(provider, mine=True) + guides(provider, mine=False)
    assert len(shown) == len(provider.steps)
    for one in shown:
        assert one.path and all(part for part in one.path)
        if language == "zh":
            assert not any("→" in part for part in one.path)
        if one.drawing:
            assert one.drawing.site and one.drawing.label and len(one.drawing.label) <= 24
    assert secret_hint(provider)


def test_every_provider_can_be_chosen_once(language: str) -> None:
    usual, others = provider_choices()
    keys = [one.key for one in (*usual, *others)]
    assert sorted([*keys, "generic"]) == sorted(providers())


def test_text_in_a_drawing_is_cut_to_its_width() -> None:
    assert fit("收发信设置", 92) == "收发信设置"
    assert fit("收发信设置收发信设置", 92).endswith("…") and len(fit("收发信设置收发信设置", 92)) <= 8
    assert fit("Send/receive settings", 92).endswith("…")


@pytest.mark.parametrize("code", list(WARNINGS))
def test_every_warning_has_words_or_stands_elsewhere(language: str, code: str) -> None:
    row = {"code": code, "zh": WARNINGS[code].zh, "en": WARNINGS[code].en}
    text = warning_text(row, providers()["m263"])
    assert bool(text) is (code != "excluded_folders")
    assert not re.search(r"[{}]", text)
    assert bool(re.search(r"[\u4e00-\u9fff]", text)) is (language == "zh" and bool(text))


def test_a_warning_of_a_newer_engine_is_shown_in_its_own_words(chinese: None) -> None:
    provider = providers()["generic"]
    assert warning_text({"code": "brand_new", "zh": "新的提醒", "en": "new"}, provider) == "新的提醒"
    assert warning_text({"code": "brand_new"}, provider) == ""


@pytest.mark.parametrize(("name", "zh", "en"), [
    ("INBOX", "收件箱", "Inbox"), ("Inbox", "收件箱", "Inbox"), ("INBOX/2023", "INBOX/2023", "INBOX/2023"),
    ("a\u202eb", "a\\u202eb", "a\\u202eb")])
def test_a_folder_is_called_as_people_call_it(language: str, name: str, zh: str, en: str) -> None:
    assert folder(name) == {"zh": zh, "en": en}[language]


def test_a_server_is_named_only_where_one_spoke(language: str) -> None:
    server, ours = ("服务器的原话", "技术细节") if language == "zh" else ("What the server said", "Technical detail")
    assert (spoken("bad_secret"), spoken("dns_connect", "tls")) == (server, ours)
    assert ours.lower() in spoken("throttled", "worker_lost").lower()
