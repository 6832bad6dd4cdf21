"""Given somebody who is asked for a password, when they press Ctrl-C, then the command ends with 130, as the READMEs say, and without a
traceback."""
from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest

from engine.cli import INTERRUPTED, main

BOTH = ("imaps://li%40old.example@localhost:1", "imaps://li%40new.example@localhost:2")


@pytest.mark.parametrize("words", [("check", BOTH[0]), ("copy", *BOTH), ("verify", *BOTH)], ids=lambda words: words[0])
def test_at_a_prompt(words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def asked(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.delenv("BANJIA_SOURCE_PASSWORD", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", asked)
    assert main(words) == INTERRUPTED == 130
    assert capsys.readouterr().out == "" and not list(tmp_path.rglob("*.ledger"))
