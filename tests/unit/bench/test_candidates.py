"""How candidates are started: no secret in an argument, whatever is missing told in a sentence, the bound exact enough to be one."""
from __future__ import annotations

import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.candidates import CANDIDATES, Job
from bench.runs import Cell, run_cells

SECRET = "not for arguments"


@pytest.mark.parametrize("name", sorted(CANDIDATES))
def test_secrets_stand_in_no_argument_and_in_no_file_of_others(name: str, tmp_path: Path) -> None:
    launch = CANDIDATES[name].launch(Job(1143, 2143, "u001", SECRET, tmp_path, tmp_path / "dovecot.conf"))
    assert SECRET not in " ".join(launch.command)
    holding = [path for path in tmp_path.iterdir() if path.is_file() and SECRET in path.read_text()]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in holding)
    assert holding or SECRET in launch.env.values(), "it gets no secret at all"


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("IMAPSYNC", raising=False)
    assert [name for name, one in CANDIDATES.items() if one.missing()] == ["mbsync", "dsync", "imapsync"]
    assert "isync" in CANDIDATES["mbsync"].missing()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Dovecot's sockets have long names, and its own user reads there."""
    path = Path(tempfile.mkdtemp(prefix="bench-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.usefixtures("need_dovecot")
def test_a_small_cell_with_a_delay_from_beginning_to_end(short_path: Path) -> None:
    tmp_path = short_path
    (tmp_path / "corpora").mkdir()
    names = ("raw1", "raw4", "engine")
    results = list(run_cells([Cell("small", rtt=4, scale=0.01)], [CANDIDATES[name] for name in names], tmp_path, cap=60, quiet=0))
    assert [(r.candidate, r.phase, r.code, r.verdict) for r in results] == [
        ("raw1", 1, 0, "exact"), ("raw4", 1, 0, "exact"), ("engine", 1, 0, "exact"), ("engine", 2, 0, "exact"), ("engine", 3, 0, "exact")]
    assert all(r.messages == 50 and r.octets > 50_000 for r in results)
