"""The demo itself: every kind of mail server, from nothing to the last compared message, and nothing left behind."""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from portal.demo.journey import Employee
from portal.demo.mailservers import mail_directory
from tests.integration.launcher.test_up import up

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
    assert re.search(r"every message equal: \d{3} 封 messages, \d+\.\d MB\n.*一封不多.*\n.*every octet, flag and date", done.stdout)
    assert not (tmp_path / "i" / "demo-check").exists()
    assert not mail_directory(tmp_path / "i" / "demo-check").exists()
    mark = f"INSTANCE_DIR={tmp_path / 'i'}".encode()
    left = [entry.name for entry in Path("/proc").glob("[0-9]*") if mark in environment(entry)]
    assert left == []


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("redis_process", "need_dovecot")
def test_what_the_demo_prints_leads_a_person_through_it(tmp_path: Path) -> None:
    """The links open, the secrets are right, the lines for the shell can be pasted, what happens is told as it happens, and what became of
    it at the end."""
    with up(tmp_path / "i", "--demo") as demo:
        demo.wait_for("each person's progress is told below")
        demo.wait_for("› 李雪：需要处理：旧邮箱没有接受这个密码 · Needs action: Your old mailbox did not accept this password")
        assert "› 王小明：还没开始 · Not begun" in demo.printed
        base = demo.wait_for(r"The demo is ready: (http://\S+)")[1]
        link, code = demo.wait_for(r"xiaoming@old\.example\n\s+(http://\S+/m/\S+)\n.*: ([a-z]{16})\n").groups()
        employee = Employee(base, link)
        employee.arrive("qiye163")
        password = demo.wait_for(r"BANJIA_DESTINATION_PASSWORD=([a-z]+) ")[1]
        employee.enter(code, password)
        employee.start()
        moved = int(demo.wait_for(r"› 王小明：已完成：(\d+) 封核对过，(\d+) 封在新邮箱")[1])

        check, verify = (paste(demo.wait_for(rf" {name}=.*-m engine {command} .*")[0])
                         for name, command in (("BANJIA_SOURCE_PASSWORD", "check"), ("BANJIA_SOURCE_PASSWORD", "verify")))
        assert check["messages"] == moved
        assert (verify["equal"], sum(folder["source_messages"] for folder in verify["folders"])) == (True, moved)
        assert demo.interrupt() == 0
    assert re.search(rf"So far:\n  王小明：已完成：{moved} 封.*\n  张伟：还没开始.*\n  李雪：需要处理", demo.printed)


def paste(line: str) -> dict[str, object]:
    done = subprocess.run(["sh", "-c", f"{line.strip()} --json"], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    value: dict[str, object] = json.loads(done.stdout)
    return value


def environment(entry: Path) -> bytes:
    try:
        return (entry / "environ").read_bytes()
    except OSError:
        return b""
