"""Passwords of staff: how they are kept, what is too weak, and that nobody learns who has an account."""
from __future__ import annotations

import statistics
import time

import pytest

from engine.endpoint import Secret
from portal.security.passwords import hash_password, needs_new_hash, password_matches, why_weak

GOOD = Secret("correct horse battery")


def test_argon2id_with_the_stated_costs() -> None:
    stored = hash_password(GOOD)
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$") and GOOD.reveal() not in stored
    assert password_matches(stored, GOOD) and not password_matches(stored, Secret("correct horse batterz"))
    assert not needs_new_hash(stored)
    assert needs_new_hash(stored.replace("m=19456", "m=8192"))


@pytest.mark.parametrize("stored", [None, "", "plain", "$argon2id$v=19$broken"])
def test_no_or_a_broken_hash_matches_nothing(stored: str | None) -> None:
    assert not password_matches(stored, GOOD) and not password_matches(stored, Secret(""))


def test_an_unknown_account_takes_as_long_as_a_wrong_password() -> None:
    stored = hash_password(GOOD)

    def seconds(of: str | None) -> float:
        times = []
        for _ in range(7):
            started = time.perf_counter()
            password_matches(of, Secret("wrong password"))
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    password_matches(None, GOOD)
    known, unknown = seconds(stored), seconds(None)
    assert 0.4 < unknown / known < 2.5, f"{unknown:.3f} s against {known:.3f} s"


@pytest.mark.parametrize(
    "text", ["short", "elevenchars", "x" * 257, "aaaaaaaaaaaaaaaa", "password12345", "wangwei-loves-mail", "PassW0rd12345678"]
)
def test_weak_passwords_get_words(text: str) -> None:
    weak = why_weak(Secret(text), "wangwei@example.com")
    assert weak is not None and weak.zh and weak.en and text not in weak.en


@pytest.mark.parametrize("text", ["correct horse battery", "今天天气很好我们去爬山吧", "7h!s-Is_fine#2"])
def test_sentences_are_fine(text: str) -> None:
    assert why_weak(Secret(text), "wangwei@example.com") is None
