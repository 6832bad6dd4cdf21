"""Given a ledger whose move is not finished, when `report` writes it down, then exit 3 comes with the reason, in one line on stderr."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.cli import main
from engine.ledger import Entry, FolderRow, Outcome, Run
from engine.ledger_file import SqliteLedger

PAIR = "li@old.example @ localhost:1 -> li@new.example @ localhost:2"


def nothing(ledger: SqliteLedger) -> None:
    """Begun, and stopped before the first folder."""


def half(ledger: SqliteLedger) -> None:
    number = ledger.begin_pass(1.0)
    row = ledger.put_folder(FolderRow("INBOX", "INBOX", total=5, moved=3))
    ledger.write(Entry(row, runs=[Run(1, 3, 3, 1, Outcome.MOVED, pass_id=number)]))


def all_that_was_reached(ledger: SqliteLedger) -> None:
    """Killed between two folders."""
    half(ledger)
    row, = ledger.folders()
    ledger.write(Entry(row._replace(complete=True, total=3), runs=[]))


def wrong(ledger: SqliteLedger) -> None:
    half(ledger)
    row, = ledger.folders()
    ledger.write(Entry(row._replace(total=1), runs=[]))


@pytest.mark.parametrize(("made", "zh", "en"), [
    (nothing, "还没有开始搬", "Nothing has been moved yet"), (half, "没有搬完：2 封", "Not all is moved: 2 not moved yet, or undone"),
    (all_that_was_reached, "最后一次没有走完", "the last pass did not go through every folder"),
    (wrong, "数目对不上", "The sum does not hold")])
def test_exit_3_comes_with_the_reason(made: Callable[[SqliteLedger], None], zh: str, en: str, tmp_path: Path,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    ledger = SqliteLedger(tmp_path / "ledger", PAIR)
    made(ledger)
    ledger.close()
    page = tmp_path / "report.html"
    assert main(["report", "--ledger", str(tmp_path / "ledger"), "--output", str(page)]) == 3
    line, = capsys.readouterr().err.splitlines()
    assert zh in line and en in line
    assert page.stat().st_size > 1000


@pytest.mark.parametrize(("options", "code"), [((), 2), (("--format", "html", "--language", "en"), 2), (("--format", "csv"), 3),
                                               (("--format", "json"), 3)])
def test_a_page_of_html_is_not_poured_into_a_terminal(options: tuple[str, ...], code: int, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = SqliteLedger(tmp_path / "ledger", PAIR)
    half(ledger)
    ledger.close()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["report", "--ledger", str(tmp_path / "ledger"), *options]) == code
    out, err = capsys.readouterr()
    if code == 2:
        zh, en = err.splitlines()
        assert out == "" and "请写 --output report.html" in zh and "write --output report.html" in en
    else:
        assert out
    monkeypatch.undo()
    assert main(["report", "--ledger", str(tmp_path / "ledger"), *options]) == 3 and capsys.readouterr().out, "into a pipe as ever"
