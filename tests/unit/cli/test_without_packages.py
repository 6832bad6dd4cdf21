"""Given a Python without the packages of the virtual environment (-S hides them), when a command needs one, then a sentence in each
language names it and says how to have it; a module of ours that is missing stays a traceback."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from engine.cli_packages import run_or_name_package

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("words", "package"), [
    (("portal", "migrate"), "dotenv"), (("portal", "invite", "wang@example.com"), "dotenv"),
    (("engine", "check", "imaps://wang%40old.invalid@mail.invalid"), "dns"),
])
def test_the_package_is_named_and_where_to_have_it(words: tuple[str, ...], package: str) -> None:
    done = subprocess.run([sys.executable, "-S", "-m", *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
                          stdin=subprocess.DEVNULL, env={"BANJIA_SOURCE_PASSWORD": "x"})
    assert (done.returncode, done.stdout) == (1, "")
    zh, en = done.stderr.splitlines()
    assert f"没有 {package} 包：请先运行 . .venv/bin/activate" in zh
    assert f"lacks the package {package}: run . .venv/bin/activate first" in en and "make .venv/.runtime" in en


def test_what_needs_no_package_runs_without() -> None:
    done = subprocess.run([sys.executable, "-S", "-m", "engine", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60,
                          check=True)
    assert "check" in done.stdout and done.stderr == ""


@pytest.mark.parametrize("name", ["engine.no_such_part", "worker", "sqlite3"])
def test_a_module_that_no_environment_holds_is_our_own_mistake(name: str) -> None:
    def run() -> int:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    with pytest.raises(ModuleNotFoundError):
        run_or_name_package(run)
