"""The demo itself: every kind of mail server, from nothing to the last compared message, and nothing left behind."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from portal.demo.mailservers import mail_directory

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("redis_process", "need_dovecot")
@pytest.mark.parametrize("mail", ["dovecot", "pymap"])
def test_three_people_move_and_every_message_is_equal(tmp_path: Path, mail: str) -> None:
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
    done = subprocess.run([sys.executable, "-m", "portal", "demo-check", "--mail", mail], cwd=ROOT, capture_output=True, text=True,
                          timeout=230, check=False, env={**kept, "INSTANCE_DIR": str(tmp_path / "i")})
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    for name in ("王小明", "张伟", "李雪"):
        assert f"{name}：逐封一致" in done.stdout
    assert "shown at the desk under its cause" in done.stdout
    assert not (tmp_path / "i" / "demo-check").exists()
    assert not mail_directory(tmp_path / "i" / "demo-check").exists()
    mark = f"INSTANCE_DIR={tmp_path / 'i'}".encode()
    left = [entry.name for entry in Path("/proc").glob("[0-9]*") if mark in environment(entry)]
    assert left == []


def environment(entry: Path) -> bytes:
    try:
        return (entry / "environ").read_bytes()
    except OSError:
        return b""
