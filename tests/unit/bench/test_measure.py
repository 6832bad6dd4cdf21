"""A command's figures are those of everything that it starts."""
from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from bench.measure import run, tree_cpu

IN_A_CHILD = """import subprocess, sys
subprocess.run([sys.executable, "-c", '''
held = bytearray(b"x" * (80 << 20))
n = 0
for n in range(3_000_000): pass
print("held", len(held))
'''])
print("done", file=sys.stderr)"""


def measured(code: str, tmp: Path, cap: float = 60):
    return run([sys.executable, "-c", code], env=dict(os.environ), cwd=tmp, cap=cap)


def test_memory_and_work_of_children_count(tmp_path: Path) -> None:
    result = measured(IN_A_CHILD, tmp_path)
    assert (result.code, result.capped) == (0, False)
    assert result.peak >= result.largest > 80 << 20
    assert 0 < result.cpu
    assert b"held" in result.output and b"done" in result.output


def test_the_exit_code_is_kept(tmp_path: Path) -> None:
    assert measured("raise SystemExit(3)", tmp_path).code == 3


def test_a_command_that_does_not_end_is_ended_with_its_children(tmp_path: Path) -> None:
    code = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
    result = measured(code, tmp_path, cap=4)  # time enough to start on a machine that has much else to do
    assert result.capped and result.code < 0
    deadline = time.monotonic() + 10  # killed, it may have to be scheduled once more to be gone
    while (state := state_of(int(result.output))) not in ("gone", "Z") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert state in ("gone", "Z")


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return "gone"


def test_the_cpu_of_a_tree_holds_what_was_reaped(tmp_path: Path) -> None:
    before = tree_cpu(os.getpid())
    used = measured("for n in range(5_000_000): pass", tmp_path).cpu
    assert tree_cpu(os.getpid()) - before >= used * 0.8 - 0.02  # the kernel's ticks are 10 ms
