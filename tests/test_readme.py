"""Every command that the READMEs show is run, as it stands there; only host names and where state is kept are this test's own.

A command that no rule below knows fails the test: whoever adds one says here how it is tried.
"""
from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.certificates import authority
from tests.support.dovecot import Sample, differences, read_back, running_dovecot, seed

ROOT = Path(__file__).resolve().parent.parent
READMES = ("README.md", "README.en.md")
OLD, NEW = "xiaoming@old.example", "xiaoming@new.example"
PUBLIC = {"xiaoming%40old.example@imap.old.example": "old", "xiaoming%40new.example@imap.new.example": "new"}


def commands(name: str) -> list[str]:
    """The lines of all fenced blocks marked `sh`."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip() and not line.startswith("#")]


def run(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = shlex.split(line)
    if words[0] == "python":
        words[0] = sys.executable
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False, env={**kept, **environment})


def test_both_readmes_show_the_same_commands() -> None:
    assert commands("README.md") == commands("README.en.md")
    for name in READMES:
        assert not re.search(r"^```(bash|shell|console)$", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE), "mark blocks `sh`"


def is_a_target(line: str, _tmp: Path) -> None:
    """The demo, demo-check, run and clean-demo are started for real in tests/integration; here: that make knows what to do, and does it
    with this Python environment and no other step than `python -m …`."""
    done = run(line.replace("make ", "make -n -o .venv/.made -o .venv/.runtime -o .venv/.dev ", 1))
    assert done.returncode == 0, done.stderr
    assert all(word.startswith(".venv/bin/") for word in re.findall(r"^\S+", done.stdout, re.MULTILINE)), done.stdout


def shows_settings(line: str, tmp: Path) -> None:
    done = run(line, INSTANCE_DIR=str(tmp))
    assert done.returncode == 0 and f"INSTANCE_DIR={tmp}" in done.stdout


def brings_tables(line: str, tmp: Path) -> None:
    assert run(line, INSTANCE_DIR=str(tmp)).returncode == 0
    assert (tmp / "banjia.db").exists()
    assert run(line, INSTANCE_DIR=str(tmp)).returncode == 0


def invites(line: str, tmp: Path) -> None:
    done = run(line, INSTANCE_DIR=str(tmp), BASE_URL="https://move.example.com")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"https://move\.example\.com/invitation/[\w-]{43}", done.stdout.strip())


def is_done_with_two_servers(line: str, _tmp: Path) -> None:
    """See test_the_command_line_moves_a_mailbox_as_the_readme_says."""
    assert line.split()[3] in ("check", "copy", "verify")


RULES: tuple[tuple[str, Callable[[str, Path], None]], ...] = (
    (r"make [a-z-]+$", is_a_target),
    (r"python -m config --check$", shows_settings),
    (r"python -m portal migrate$", brings_tables),
    (r"python -m portal invite ", invites),
    (r"python -m engine ", is_done_with_two_servers),
)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all commands: they build on each other."""
    return tmp_path_factory.mktemp("readme") / "instance"


@pytest.mark.parametrize("line", commands("README.md"))
def test_every_command_is_run(line: str, instance: Path) -> None:
    rule = next((rule for pattern, rule in RULES if re.match(pattern, line)), None)
    assert rule is not None, f"no rule tries {line!r}"
    rule(line, instance)


@pytest.mark.usefixtures("need_dovecot")
def test_the_command_line_moves_a_mailbox_as_the_readme_says(tmp_path: Path) -> None:
    lines = [line for line in commands("README.md") if line.startswith("python -m engine")]
    assert [line.split()[3] for line in lines] == ["check", "copy", "verify"]
    ca = authority().write(tmp_path)
    with running_dovecot({OLD: "old secret"}) as old, running_dovecot({NEW: "new secret"}, separator="/") as new:
        seed(old, OLD, [Sample(f"Subject: {n}\r\n\r\n信 {n}\r\n".encode(), folder, ("\\Seen",)) for n in range(5)
                        for folder in ("INBOX", "客户/北京")])
        ports = {"old": old.imaps_port, "new": new.imaps_port}
        environment = {"SSL_CERT_FILE": str(ca), "BANJIA_SOURCE_PASSWORD": "old secret", "BANJIA_DESTINATION_PASSWORD": "new secret",
                       "XDG_STATE_HOME": str(tmp_path / "state")}
        results = []
        for line in lines:
            for public, side in PUBLIC.items():
                line = line.replace(public, f"{public.split('@')[0]}@localhost:{ports[side]}")
            done = run(f"{line} --json", **environment)
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            results.append(json.loads(done.stdout))
            assert "secret" not in done.stdout + done.stderr
        assert (results[0]["messages"], results[1]["totals"]["moved"], results[2]["equal"]) == (10, 10, True)
        assert differences(read_back(old, OLD), read_back(new, NEW)) == []
