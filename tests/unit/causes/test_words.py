"""Every cause is explained, in both languages, in the way ui.md wants: what happened, what it means, what to do, who does it."""
from __future__ import annotations

import re
from pathlib import Path

import pytest

import engine.causes
from engine.causes import BadTexts, Cause, Retry, Who, Words, at_destination, explain
from engine.providers.catalogue import keys, provider

PUNCTUATION = re.compile(r"[\u4e00-\u9fff][,;:!?()]|[,;:!?()][\u4e00-\u9fff]|[\u4e00-\u9fff]\.(\s|$)")
PLACEHOLDER = re.compile(r"[{}]")


@pytest.mark.parametrize("key", [None, *keys()])
def test_every_cause_is_explained_at_every_provider(key: str | None) -> None:
    for cause in Cause:
        told = explain(cause, key)
        for words in (told.title, told.meaning, told.next_step):
            assert words.zh and words.en, cause
            assert not PLACEHOLDER.search(words.zh + words.en), cause
            assert not PUNCTUATION.search(words.zh), words.zh
            assert "您" not in words.zh, cause
        assert told.meaning.zh.endswith("。") and told.next_step.zh.endswith("。") and not told.title.zh.endswith("。"), cause
        assert len(told.title.zh) <= 30, cause
        assert told.step is None or provider(key).step(told.step), cause


PROMISED_BY_THE_PORTAL = re.compile(r"服务台|我们会|自动|不用做什么|这一页|再点|"
                                    r"helpdesk|by ourselves|[Ww]e (try|go on)|[Nn]othing for you|this page")


@pytest.mark.parametrize("key", [None, *keys()])
def test_at_the_command_line_nothing_is_promised_that_only_the_portal_does(key: str | None) -> None:
    """Given a command that is about to end, when it says why, then nobody is told to wait for a retry, or for a helpdesk."""
    for cause in Cause:
        if cause is Cause.SECRET_MISSING:
            continue  # without a secret no command begins
        told = explain(cause, key, cli=True)
        for words in (told.meaning, told.next_step):
            assert not PROMISED_BY_THE_PORTAL.search(words.zh), (cause, words.zh)
            assert not PROMISED_BY_THE_PORTAL.search(words.en), (cause, words.en)
            assert not PUNCTUATION.search(words.zh) and words.zh.endswith("。") and words.en.endswith("."), cause
            assert not PLACEHOLDER.search(words.zh + words.en), cause
        assert told.who not in (Who.PORTAL, Who.HELPDESK), cause
        assert (told.title, told.retry) == (explain(cause, key).title, explain(cause, key).retry)


def test_the_words_of_the_command_line_stay_out_of_the_pages() -> None:
    assert "自动再试" in explain(Cause.SERVER_BUSY).next_step.zh
    assert "再运行同一条命令" in explain(Cause.SERVER_BUSY, cli=True).next_step.zh
    for key in (None, *keys()):
        for cause in Cause:
            if cause is Cause.INTERRUPTED:
                continue  # only a command has it
            assert not re.search("--[a-z]|命令|再运行", explain(cause, key).next_step.zh), cause


def test_automatic_causes_ask_nothing_of_the_person() -> None:
    for cause in Cause:
        told = explain(cause)
        if told.who is Who.PORTAL:
            assert told.retry is not Retry.STOP, cause
        if told.retry is Retry.STOP:
            assert told.who is not Who.PORTAL, cause


@pytest.mark.parametrize(("key", "name"), [
    ("exmail", "客户端专用密码"), ("qq", "授权码"), ("netease_personal", "授权码"), ("qiye163", "客户端授权密码"),
    ("aliqiye", "三方客户端安全密码"), ("coremail", "客户端专用密码"), ("m263", "客户端授权码"), ("gws", "应用专用密码"),
])
def test_the_code_is_called_as_its_owner_calls_it(key: str, name: str) -> None:
    told = explain(Cause.NEEDS_AUTH_CODE, key)
    assert name in told.title.zh
    assert name in told.next_step.zh
    assert told.step and provider(key).step(told.step)


@pytest.mark.parametrize(("key", "step"), [
    ("exmail", "exmail.client_pw"), ("qiye163", "qiye163.clientpw"), ("aliqiye", "ali.secpw"), ("gws", "gmail.apppw"),
    ("coremail", "coremail.clientpw"), ("m263", "m263.authcode"), ("netease_personal", "n163.authcode"), (None, "common.code"),
])
def test_a_needed_code_names_the_step_that_makes_it(key: str | None, step: str) -> None:
    assert explain(Cause.NEEDS_AUTH_CODE, key).step == step


def test_a_switch_that_only_the_administrator_has_is_asked_of_the_administrator() -> None:
    assert explain(Cause.IMAP_DISABLED, "exmail").who is Who.USER
    assert explain(Cause.IMAP_DISABLED, "aliqiye").who is Who.ADMIN


def test_an_unknown_provider_is_told_the_general_words() -> None:
    assert explain(Cause.BAD_SECRET, "no-such-provider") == explain(Cause.BAD_SECRET, None)


def test_a_plain_password_is_never_told_to_replace_the_web_password() -> None:
    """Where a provider has no name for a code, the general one is said, never "enter the password, not the password"."""
    for key in keys():
        code = provider(key).code_name
        assert code.zh not in ("密码", "登录密码", "邮箱密码") and code.en not in ("password", "login password", "mailbox password"), key


def test_secure_login_is_never_asked_to_be_switched_off() -> None:
    for key in (None, *keys()):
        told = explain(Cause.SECURE_LOGIN, key)
        assert not re.search("(请|先|去)(关闭|关掉)", told.meaning.zh + told.next_step.zh)


def test_what_the_destination_says_is_named_as_the_destinations() -> None:
    for cause in (Cause.BAD_SECRET, Cause.NEEDS_AUTH_CODE, Cause.TWO_FACTOR, Cause.IMAP_DISABLED, Cause.ACCOUNT_EXPIRED_LOCKED):
        assert at_destination(cause) is Cause.DESTINATION_LOGIN
    assert at_destination(Cause.QUOTA) is Cause.DESTINATION_QUOTA
    assert at_destination(Cause.TLS) is Cause.DESTINATION_TLS
    assert at_destination(Cause.DNS_CONNECT) is Cause.DESTINATION_CONNECT
    assert at_destination(Cause.THROTTLED) is Cause.DESTINATION_BUSY
    assert at_destination(Cause.X_ITEM) is Cause.DESTINATION_REFUSED
    for cause in Cause:
        assert at_destination(at_destination(cause)) is at_destination(cause)
        if cause.startswith(("relay_", "destination_", "ledger_")):
            assert at_destination(cause) is cause


def test_words_of_the_destination_do_not_speak_of_the_old_mailboxs_fault() -> None:
    for cause in Cause:
        if cause.startswith("destination_"):
            assert "新邮箱" in explain(cause).title.zh
            assert "旧邮箱" not in explain(cause).title.zh


def test_words_fall_back_to_chinese() -> None:
    words = Words("中文", "English")
    assert (words.in_("zh"), words.in_("en"), words.in_("fr")) == ("中文", "English", "中文")


@pytest.mark.parametrize(("text", "named"), [
    ("[bad_secret]\nwho='user'\n", "no words for"),
    ("[no_such_cause]\n", r"not a cause: \['no_such_cause'\]"),
])
def test_a_broken_file_of_words_names_what_is_wrong(text: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "causes.toml"
    file.write_text(text, "utf-8")
    monkeypatch.setattr(engine.causes, "_TEXTS", file)
    with pytest.raises(BadTexts, match=named):
        engine.causes._texts.__wrapped__()


def test_the_command_line_has_words_for_what_it_prints_and_for_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = engine.causes._TEXTS.read_text("utf-8").replace("[tls.cli]\n", "[tls.cli]\ntitle = { zh = '一', en = 'one' }\n")
    file = tmp_path / "causes.toml"
    file.write_text(text, "utf-8")
    monkeypatch.setattr(engine.causes, "_TEXTS", file)
    with pytest.raises(BadTexts, match=r"tls\.cli: may hold next and meaning"):
        engine.causes._texts.__wrapped__()


def test_a_cause_without_a_language_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, changed = re.subn(r'(title = \{ zh = "旧邮箱没有接受这个密码"), en = "[^"]*"', r"\1", engine.causes._TEXTS.read_text("utf-8"))
    assert changed == 1
    file = tmp_path / "causes.toml"
    file.write_text(text, "utf-8")
    monkeypatch.setattr(engine.causes, "_TEXTS", file)
    with pytest.raises(BadTexts, match=r"bad_secret\.title"):
        engine.causes._texts.__wrapped__()
