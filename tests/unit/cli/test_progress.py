"""What a command shows while it works: a bar on a terminal, lines in a log, and at once that Ctrl-C was heard."""
from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.causes import Cause
from engine.cli import main
from engine.printing import LINE_SECONDS, Bar
from engine.progress import Progress, Stop
from engine.report.copy import CopyOutcome, CopyReport


def at(done: int, total: int = 6000, folder: str = "客户/北京") -> Progress:
    return Progress(folder, 2, total, 0, done, 0, 0, 0, 0)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets seconds pass."""
    now = [1000.0]
    monkeypatch.setattr("engine.printing.time.monotonic", lambda: now[0])

    def pass_by(seconds: float) -> None:
        now[0] += seconds
    return pass_by


def test_a_log_gets_a_line_now_and_then(later: Callable[[float], None], capsys: pytest.CaptureFixture[str]) -> None:
    """Without it a move of hours into a file looks hung; a short one has its result, and nothing before it."""
    with Bar(shown=False) as bar:
        for done in range(0, 6000, 100):
            bar.progress(at(done))
            later(1.0)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and len(lines) == 60 // LINE_SECONDS - 1
    assert re.fullmatch(r"\d\d:\d\d:\d\d 进度 / progress: 2000 of 6000; 文件夹 / folder: 客户/北京", lines[0])
    assert "progress: 4000 of 6000" in lines[1]


def test_a_short_move_writes_no_lines(later: Callable[[float], None], capsys: pytest.CaptureFixture[str]) -> None:
    with Bar(shown=False) as bar:
        bar.progress(at(10))
        later(LINE_SECONDS - 1)
        bar.progress(at(20))
    assert capsys.readouterr().err == ""


def test_a_comparison_which_counts_as_it_goes_names_no_total(later: Callable[[float], None], capsys: pytest.CaptureFixture[str]) -> None:
    with Bar(shown=False) as bar:
        later(LINE_SECONDS)
        bar.progress(at(300, total=300))
    assert "progress: 300; 文件夹" in capsys.readouterr().err


def test_a_wait_that_a_server_asked_for_is_told_with_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    """This one the command does sit out by itself."""
    reports = [CopyReport(CopyOutcome.PAUSED, Cause.DESTINATION_BUSY, server_text="[UNAVAILABLE] later", retry_after=0.4),
               CopyReport(CopyOutcome.COMPLETE)]
    for side in ("SOURCE", "DESTINATION"):
        monkeypatch.setenv(f"BANJIA_{side}_PASSWORD", "x")
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("engine.transfer.copier.copy_mailbox", lambda *_, **__: reports.pop(0))
    assert main(["copy", "imaps://li@localhost:1", "imaps://li@localhost:2", "--ledger", str(tmp_path / "ledger")]) == 0
    assert capsys.readouterr().err == "等 0 秒，然后接着搬 / waiting 0 s, then it goes on: destination_busy: [UNAVAILABLE] later\n"


# --- Ctrl-C ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {which: signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)}
    yield
    for which, handler in before.items():
        signal.signal(which, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_is_answered_at_once_and_once(number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                             capfd: pytest.CaptureFixture[str]) -> None:
    """Given a copy whose servers take their time, when it is told to stop, twice, then one line says so while it still waits for them."""
    for side in ("SOURCE", "DESTINATION"):
        monkeypatch.setenv(f"BANJIA_{side}_PASSWORD", "x")
    seen: list[str] = []

    def waits_for_servers(*_: object, stop: Stop, **__: object) -> CopyReport:
        for _time in range(2):
            signal.raise_signal(number)
        seen.append(capfd.readouterr().err)
        assert stop.asked()
        return CopyReport(CopyOutcome.PAUSED, Cause.INTERRUPTED)

    monkeypatch.setattr("engine.transfer.copier.copy_mailbox", waits_for_servers)
    assert main(["copy", "imaps://li@localhost:1", "imaps://li@localhost:2", "--ledger", str(tmp_path / "ledger"), "--json"]) == 4
    assert seen == ["正在停下，等服务器答完 / stopping, waiting for the servers' answers\n"]


def test_the_bar_stands_still_below_which_it_is_said(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    with Bar(shown=True) as bar:
        bar.progress(at(100))
        bar.stopping()
        capfd.readouterr()
        bar.progress(at(200))
        assert capfd.readouterr().err == ""
    assert "200/6000" in capfd.readouterr().err, "the last count is the true one"
