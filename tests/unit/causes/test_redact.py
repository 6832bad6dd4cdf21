"""What a server said is shown without addresses, tokens, echoed secrets and characters that make a text lie."""
from __future__ import annotations

import time

import pytest

from engine.providers.rules import rules
from engine.redact import redact, visible

SECRET = "Canary-9fKq2"


@pytest.mark.parametrize("line", [
    'BAD Unknown command: A1 LOGIN "bob@corp.example" "{s}"',
    "BAD a0001 login bob {s}",
    "NO LOGIN bob@corp.example {s}",
    "NO LOGIN bob {s} failed",
    'NO could not parse: LOGIN "bob" {{12}} {s}',
    "BAD AUTHENTICATE PLAIN AGJvYgBDYW5hcnk= {s}",
    "NO AUTHENTICATE {s}",
    "-ERR PASS {s} refused",
    "-ERR unknown: pass \"{s}\"",
    "BAD auth plain {s}",
    "BAD 12 LOGIN {s}",
])
def test_an_echoed_command_does_not_show_the_secret(line: str) -> None:
    assert SECRET not in redact(line.format(s=SECRET))


@pytest.mark.parametrize("line", [
    "NO LOGIN failed.",
    "NO LOGIN Login error or password error",
    "NO [AUTHENTICATIONFAILED] Authentication failed.",
    "NO [UNAVAILABLE] LOGIN failure. Server error",
    "NO [LIMIT] LOGIN Rate limit hit.",
    "NO Login fail. Please using weixin token",
    "BAD Login parameters!",
    "NO AUTHENTICATE failed. Provided authentication mechanism is not supported.",
    "NO Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)",
    "BAD Request is throttled. Suggested Backoff Time: 92415 milliseconds",
    "NO [ALERT] Application-specific password required: https://support.google.com/accounts/answer/185833 (Failure)",
    "密码错误过多，请1小时后重试",
])
def test_ordinary_words_of_servers_stay_readable(line: str) -> None:
    assert redact(line) == line


def test_addresses_are_masked() -> None:
    assert redact("NO user zhang.wei@corp.example.cn not found") == "NO user z***@c*** not found"
    assert redact("mailbox 张三@公司.cn 已满") == "mailbox 张***@公*** 已满"
    assert redact("<bob@corp.example>,<eve@x.example>") == "<b***@c***>,<e***@x***>"


@pytest.mark.parametrize("token", [
    "abcdefghijklmnop", "abcd-efgh-ijkl-mnop", "A1b2C3d4E5f6G7h8", "ya29.a0AfH6SMBx1234567890abcdefghij_KLMNOP",
    "dXNlcgBwYXNzd29yZDEyMzQ1Ng==", "550e8400-e29b-41d4-a716-446655440000",
])
def test_tokens_are_masked(token: str) -> None:
    shown = redact(f"NO bad token {token} (Failure)")
    assert token not in shown
    assert "***" in shown and shown.startswith("NO bad token") and shown.endswith("(Failure)")


def test_a_link_keeps_its_page_and_loses_its_query() -> None:
    shown = redact("NO [WEBALERT https://accounts.google.com/signin/continue?sarp=1&plt=AKgnsbuR2] Web login required.")
    assert "https://accounts.google.com/signin/continue?***" in shown
    assert "AKgnsbuR2" not in shown and "Web login required." in shown
    assert "s3cr3tTokenInThePath1" not in redact("see https://x.example/reset/s3cr3tTokenInThePath1 now")


@pytest.mark.parametrize(("text", "shown"), [
    ("a\r\nb", "a\\x0d\\x0ab"), ("a\x00b", "a\\x00b"), ("a\u202eb", "a\\u202eb"), ("a\u200bb", "a\\u200bb"), ("a\u2066b", "a\\u2066b"),
    ("a\x1b[31mb", "a\\x1b[31mb"), ("中文，ok", "中文，ok"),
])
def test_control_and_direction_characters_are_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert redact(text) == shown


def test_the_length_is_kept() -> None:
    assert len(redact("NO " + "long words " * 200)) == 300
    assert redact("NO " + "long words " * 200).endswith("…")
    assert len(redact("x y " * 50, limit=20)) == 20


def test_nothing_a_rule_knows_is_made_unreadable() -> None:
    for rule in rules():
        shown = redact(rule.sample)
        assert shown.split()[0] == rule.sample.split()[0]
        assert shown.count("***") <= 2, (rule.id, shown)


@pytest.mark.parametrize("piece", [
    "a@", "LOGIN ", "a1 ", "https://", "a" * 15 + " ", "A-", "/", "a.", " ", "login \"", "aA", "LOGIN a", "1/",
])
def test_no_text_makes_it_slow(piece: str) -> None:
    text = (piece * 40_000)[:40_000]
    began = time.process_time()
    redact(text)
    assert time.process_time() - began < 0.5
