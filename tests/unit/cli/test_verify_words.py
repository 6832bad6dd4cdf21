"""What `verify` prints: findings where somebody looks for them, and what to run first where nothing was moved."""
from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from engine.cli import main
from engine.printing import print_verify
from engine.report.verify import Finding, FindingKind, FolderVerdict, VerifyReport
from tests.support.provider_simulator import ProviderSimulator, message

IN_ORDER = [
    Finding(FindingKind.MISSING, "Old", 9), Finding(FindingKind.ALTERED_FLAGS, "Old", 10, 3), Finding(FindingKind.MISSING, "Old", 100),
    Finding(FindingKind.EXTRA, "Old", None, 8), Finding(FindingKind.EXTRA, "Old", None, 70), Finding(FindingKind.MISSING, "Older", 1),
]


@pytest.mark.parametrize("seed", range(5))
def test_findings_stand_by_folder_and_uid(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    found = random.Random(seed).sample(IN_ORDER, len(IN_ORDER))
    print_verify(VerifyReport(missing=3, folders=[FolderVerdict("Old", missing=3, findings=found)]))
    lines = [line.split(" (")[0].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("    ")]
    assert lines == ["missing: Old UID 9 -> -", "altered_flags: Old UID 10 -> UID 3", "missing: Old UID 100 -> -",
                     "extra: Old - -> UID 8", "extra: Old - -> UID 70", "missing: Older UID 1 -> -"]


def test_a_folder_of_which_nothing_arrived_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Before the first copy these would be a hundred of each folder, and after them the hint that matters. What the destination has of its
    own is listed as ever."""
    missing = [Finding(FindingKind.MISSING, "Old", uid) for uid in range(1, 100)]
    print_verify(VerifyReport(missing=250, extra=1, folders=[
        FolderVerdict("Old", source_messages=250, missing=250, findings=[*missing, Finding(FindingKind.MISSING, "Old", 100)]),
        FolderVerdict("New", source_messages=99, missing=99, extra=1, findings=[*missing, Finding(FindingKind.EXTRA, "New", None, 8)]),
        FolderVerdict("Part", source_messages=3, missing=2, findings=missing[:2])]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "! Old: 250 missing; 一封也没有到 / none is there"
    assert lines[1:3] == ["! New: 99 missing, 1 extra; 一封也没有到 / none is there", "    extra: New - -> UID 8 ( octets)"]
    assert lines[4:] == ["! Part: 2 missing", "    missing: Old UID 1 -> - ( octets)", "    missing: Old UID 2 -> - ( octets)",
                         "not equal: 250 missing, 1 extra; 352 messages in 3 folders"]


class Line:
    def __init__(self, source: ProviderSimulator, destination: ProviderSimulator, capsys: pytest.CaptureFixture[str]) -> None:
        self.source, self._capsys = source, capsys
        self._both = [f"imap+plain://{quote(at.login_for().login, safe='')}@{at.endpoint}" for at in (source, destination)]

    def __call__(self, command: str, *options: str) -> tuple[int, list[str]]:
        """The exit code, and the hints."""
        code = main([command, *self._both, *options])
        return code, [line for line in self._capsys.readouterr().err.splitlines() if "Hint: " in line]


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Line]:
    people = {"li": "geheim"}  # no mail address: for one the name servers would be asked
    with ProviderSimulator("plain", accounts=people) as source, ProviderSimulator("dovecot", accounts=people) as destination:
        monkeypatch.setenv("BANJIA_SOURCE_PASSWORD", source.login_for().secret.reveal())
        monkeypatch.setenv("BANJIA_DESTINATION_PASSWORD", destination.login_for().secret.reveal())
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        monkeypatch.setattr("signal.signal", lambda *_: None)  # copy's, of this process
        source.account()["INBOX"].put(message("one"))
        yield Line(source, destination, capsys)


@pytest.mark.parametrize("mode", ["--quick", "--full"])
def test_before_the_first_copy_one_hint_says_that_it_is_next(line: Line, mode: str, tmp_path: Path) -> None:
    code, (hint,) = line("verify", mode)
    assert code == 3
    assert hint.startswith(f"提示：用账本 {tmp_path}") and "下一步是 copy" in hint
    assert f"nothing was copied with the ledger {tmp_path}" in hint and "copy is next" in hint and "--ledger" in hint
    assert not list(tmp_path.rglob("*.ledger"))
    assert line("copy")[0] == 0
    assert line("verify", mode) == (0, [])
    line.source.account()["INBOX"].put(message("later"))
    assert line("verify", mode) == (3, []), "what was copied is known; one message came later"


def test_a_ledger_by_which_nothing_was_moved_is_told_alike(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as wrong:
        wrong.setenv("BANJIA_SOURCE_PASSWORD", "wrong")
        assert line("copy", "--ledger", str(tmp_path / "begun"))[0] == 4
    code, (hint,) = line("verify", "--ledger", str(tmp_path / "begun"), "--json")
    assert code == 3 and f"with the ledger {tmp_path / 'begun'} yet" in hint


def test_after_an_undo_nobody_is_told_that_nothing_was_copied_yet(line: Line) -> None:
    assert line("copy")[0] == 0
    assert line("undo", "--last", "--yes")[0] == 0
    code, (hint,) = line("verify")
    assert code == 3 and "或者已经撤销了" in hint and "or it was undone" in hint and "run copy again" in hint
    assert "还没有搬过" not in hint and "nothing was copied" not in hint


def test_two_equal_mailboxes_need_no_copy(line: Line) -> None:
    line.source.account()["INBOX"].messages.clear()
    assert line("verify") == (0, [])
