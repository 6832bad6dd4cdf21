"""The supervisor of `make run`: what it starts it also ends, whatever the programs do."""
from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from portal import processes
from portal.processes import Program, Supervisor, read_procfile, shell_line

# Writes its pid, then does what the scenario needs.
STAYS = "import os,sys,time; open(sys.argv[1],'a').write(f'{os.getpid()}\\n'); time.sleep(60)"
DEAF = f"import signal; signal.signal(15,signal.SIG_IGN)\n{STAYS}"
PARENT = ("import sys,time,subprocess\n"
          f"subprocess.Popen([sys.executable,'-c','import os; os.setpgid(0,0)\\n'+{STAYS!r}, sys.argv[1]])\ntime.sleep(60)")
DIES = "import os,sys; open(sys.argv[1],'a').write(f'{os.getpid()}\\n'); print('对不起, dying'); sys.exit(3)"


def wait_for(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def program(code: str, path: Path, name: str = "one", **rest: float) -> Program:
    return Program(name, (sys.executable, "-c", code, str(path)), os.environ, **rest)  # type: ignore[arg-type]


@pytest.fixture
def supervisor(tmp_path: Path) -> Supervisor:
    return Supervisor(tmp_path / "log", echo=io.StringIO(), notices=io.StringIO())


def test_what_was_started_is_gone_after_stop(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start([program(STAYS, tmp_path / "a"), program(STAYS, tmp_path / "b", "two", rank=2)])
    wait_for(lambda: bool(pids(tmp_path / "a") and pids(tmp_path / "b")))
    supervisor.stop()
    assert not any(map(alive, pids(tmp_path / "a") + pids(tmp_path / "b")))


def test_a_program_that_ignores_the_signal_is_killed(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start([program(DEAF, tmp_path / "a", stop_seconds=0.3)])
    wait_for(lambda: bool(pids(tmp_path / "a")))
    supervisor.stop()
    assert not alive(pids(tmp_path / "a")[0])
    assert "killed" in supervisor.notices.getvalue()  # type: ignore[attr-defined]


@pytest.mark.skipif(sys.platform != "linux", reason="needs procfs to find a child in another process group")
def test_a_child_in_a_group_of_its_own_goes_too(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start([program(PARENT, tmp_path / "child")])
    wait_for(lambda: bool(pids(tmp_path / "child")))
    supervisor.stop()
    assert not alive(pids(tmp_path / "child")[0])


def test_what_dies_comes_back_later_each_time(supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "BACK_OFF", (0.05, 0.1, 0.2))
    supervisor.start([program(DIES, tmp_path / "a")])

    def third_start() -> bool:
        supervisor.watch()
        return len(pids(tmp_path / "a")) >= 3

    wait_for(third_start)
    assert supervisor.deaths("one") >= 2
    assert "(3)" in supervisor.notices.getvalue()  # type: ignore[attr-defined]
    wait_for(lambda: "one      | 对不起, dying" in supervisor.echo.getvalue())  # type: ignore[union-attr]
    assert "dying" in supervisor.tail("one")
    supervisor.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl(PR_SET_PDEATHSIG)")
def test_a_killed_launcher_leaves_nothing_behind(tmp_path: Path) -> None:
    launcher = subprocess.Popen([sys.executable, "-c", f"""
import os, sys, time
from pathlib import Path
from portal.processes import Program, Supervisor
s = Supervisor(Path({str(tmp_path / 'log')!r}), echo=None)
s.start([Program("one", (sys.executable, "-c", {STAYS!r}, {str(tmp_path / 'a')!r}), os.environ)])
time.sleep(60)
"""], cwd=Path(__file__).parents[3])
    try:
        wait_for(lambda: bool(pids(tmp_path / "a")))
    finally:
        launcher.send_signal(signal.SIGKILL)
        launcher.wait()
    wait_for(lambda: not alive(pids(tmp_path / "a")[0]))


def test_the_procfile_names_every_process_and_the_shell_is_replaced(tmp_path: Path) -> None:
    lines = read_procfile(Path(__file__).parents[3] / "Procfile")
    assert list(lines) == ["web", "worker", "check", "cron", "relay"]
    assert shell_line("python x.py") == ("/bin/sh", "-c", "exec python x.py")


def test_logs_are_private_and_a_large_one_is_set_aside(supervisor: Supervisor, tmp_path: Path) -> None:
    log = tmp_path / "log" / "one.log"
    log.write_bytes(b"x" * (processes.LOG_BYTES + 1))
    supervisor.start([program(DIES, tmp_path / "a")])
    wait_for(lambda: log.exists() and b"dying" in log.read_bytes())
    supervisor.stop()
    assert log.stat().st_size < 1000
    assert log.stat().st_mode & 0o077 == 0
    assert log.with_suffix(".log.1").exists()
