"""Given an address that cannot be understood, when a command is run, then a sentence in each language names the part and shows what to
write, and nothing that may be a secret is repeated."""
from __future__ import annotations

import pytest

from engine.cli import main
from engine.endpoint import parse_account_url


def told(address: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    assert main(["check", address]) == 2
    printed = capsys.readouterr()
    zh, en = printed.err.splitlines()
    assert printed.out == "" and zh.startswith("check: ") and en.startswith("check: ")
    assert any("\u4e00" <= c <= "\u9fff" for c in zh) and en.isascii()
    return zh, en


@pytest.mark.parametrize(("address", "part", "says"), [
    ("http://li@mail.example", "scheme", ["imaps://", "imap://", "imap+plain://"]),
    ("imaps://li:geheim@mail.example", "password", []),
    ("imaps://mail.example:993", "user", ["imaps://{login}@mail.example:993", "%40"]),
    ("imaps://", "user", ["imaps://{login}@"]),
    ("imap://@mail.example", "user", ["imap://{login}@mail.example"]),
    ("imaps://a%0d%0ab@mail.example", "user", []),
    ("imaps://li@mail..example", "host", ["'mail..example'", "mail.example.com"]),
    ("imaps://li@2001:db8::1]", "host", ["imaps://{login}@[2001:db8::1]:993"]),
    ("imaps://li@mail.example:99999", "port", ["65535"]),
    ("imaps://li@mail.example/INBOX", "path", []),
    ("imaps://li@mail.example\x07", "address", []),
])
def test_the_part_is_named_in_both_languages(address: str, part: str, says: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    zh, en = told(address, capsys)
    assert f"（{part}）" in zh and f"the {part}" in en
    for words in says:
        assert words.format(login="登录名") in zh and words.format(login="LOGIN") in en


@pytest.mark.parametrize(("address", "zh_form", "en_form"), [
    ("imap.old.example", "imaps://登录名@imap.old.example", "imaps://LOGIN@imap.old.example"),
    ("imap.old.example:993", "imaps://登录名@imap.old.example:993", "imaps://LOGIN@imap.old.example:993"),
    ("localhost:1993", "imaps://登录名@localhost:1993", "imaps://LOGIN@localhost:1993"),
    ("li@old.example", "imaps://li%40old.example@主机", "imaps://li%40old.example@HOST"),
    ("100%li@old.example", "imaps://100%25li%40old.example@主机", "imaps://100%25li%40old.example@HOST"),
])
def test_a_bare_server_or_mail_address_is_written_out_in_full(address: str, zh_form: str, en_form: str,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    zh, en = told(address, capsys)
    assert f"{zh_form}；" in zh and f"{en_form};" in en
    login = parse_account_url(en_form.replace("HOST", "imap.old.example"))[1]
    assert login == (address if "@" in address else "LOGIN")


@pytest.mark.parametrize("address", [
    "imaps://li:geheim@mail.example", "li:geheim@mail.example", "l_i:geheim@mail.example", "imaps://li:geheim@[mail.example",
    "http://li:geheim@mail.example", "imaps://:geheim@mail.example", "imaps://li:geheim/@mail.example", "geheim", "imaps://li@mail.example#geheim",
    "wang.li:20241105", "imaps://wang.li:20241105"])
def test_what_may_be_a_secret_is_not_repeated(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A word, or the digits of a birthday behind a login that looks like a host."""
    secret = "20241105" if "20241105" in address else "geheim"
    assert not any(secret in words for words in told(address, capsys))
