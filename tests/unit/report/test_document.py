"""docs/report.md says what the two commands can do, and its links lead somewhere."""
from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = ROOT / "docs" / "report.md"
IN_EVERY_COMMAND = {"--help", "--destination-password-file", "--ca-file", "--allow-plaintext"}  # in the README's table


@pytest.mark.parametrize("command", ["report", "undo"])
def test_every_option_is_documented_in_both_languages(command: str) -> None:
    shown = subprocess.run([sys.executable, "-m", "engine", command, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60,
                           check=True).stdout
    options = set(re.findall(r"--[a-z][a-z-]+", shown)) - IN_EVERY_COMMAND
    assert len(options) >= 4
    for part in DOCUMENT.read_text(encoding="utf-8").split("## In English"):
        assert [option for option in sorted(options) if option not in part] == []


def test_its_links_and_pictures_are_there() -> None:
    targets = re.findall(r"\]\(([^)#\s]+)\)", DOCUMENT.read_text(encoding="utf-8"))
    assert len(targets) >= 3
    assert [target for target in targets if not (DOCUMENT.parent / target).exists()] == []
