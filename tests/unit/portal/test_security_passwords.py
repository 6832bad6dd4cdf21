"""Passwords of staff: how they are kept, what is too weak, and that nobody learns who has an account."""
from __future__ import annotations

import pytest

from engine.endpoint import Secret
from portal.security import passwords
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


def test_an_unknown_account_costs_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the clock is compared, which a busy machine moves, but what argon2 is given to do."""
    checked: list[str] = []
    real = passwords._HASHER.verify

    class Watched:
        def verify(self, stored: str, text: str) -> bool:
            checked.append(stored.rpartition("$")[0].rpartition("$")[0])
            return real(stored, text)

    stored = hash_password(GOOD)
    password_matches(None, GOOD)
    monkeypatch.setattr(passwords, "_HASHER", Watched())
    assert not password_matches(stored, Secret("wrong password")) and not password_matches(None, Secret("wrong password"))
    assert checked == ["$argon2id$v=19$m=19456,t=2,p=1"] * 2


@pytest.mark.parametrize(
    "text", ["short", "elevenchars", "x" * 257, "aaaaaaaaaaaaaaaa", "password12345", "wangwei-loves-mail", "PassW0rd12345678"]
)
def test_weak_passwords_get_words(text: str) -> None:
    weak = why_weak(Secret(text), "wangwei@example.com")
    assert weak is not None and weak.zh and weak.en and text not in weak.en


@pytest.mark.parametrize("text", ["correct horse battery", "今天天气很好我们去爬山吧", "7h!s-Is_fine#2"])
def test_sentences_are_fine(text: str) -> None:
    assert why_weak(Secret(text), "wangwei@example.com") is None
