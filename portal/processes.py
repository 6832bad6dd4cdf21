"""Runs the programs of a Procfile on one machine: starts them, says what they say, brings back what died, ends them in order.

Owns every process it started, each in a session of its own (so Ctrl-C reaches only us, and what a program forked can be found).
Must not know what the programs do. Always: after `stop` nothing that was started here runs any more; if we are killed, the programs
get SIGTERM from the kernel (Linux), so a killed launcher leaves nothing behind either.
"""
from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TextIO

BACK_OFF = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # seconds before a program that died is started again
SETTLED_SECONDS = 60.0                       # a program that lived this long starts over at the first of them
LOG_BYTES = 5_000_000                        # a log larger than this is set aside at the next start

# Asks the kernel to end the program with its parent (prctl PR_SET_PDEATHSIG), unless the parent is gone already.
_BOUND = ("import ctypes,os,sys\n"
          "if sys.platform=='linux': ctypes.CDLL(None).prctl(1,15)\n"
          "if os.getppid()!=int(sys.argv[1]): sys.exit(143)\n"
          "os.execvp(sys.argv[2],sys.argv[2:])")


@dataclass(frozen=True)
class Program:
    """`rank`: programs of a lower rank are ended (and gone) before those of a higher one get their signal. `stop_seconds` is how
    long a program may take after SIGTERM."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    rank: int = 1
    stop_seconds: float = 20.0


def read_procfile(path: Path) -> dict[str, str]:
    """Name -> command line, in the file's order."""
    lines = (re.match(r"^([A-Za-z0-9_-]+):\s*(.+?)\s*$", line) for line in path.read_text().splitlines())
    return {found[1]: found[2] for found in lines if found}


def bound(command: Iterable[str]) -> list[str]:
    """The command, made to end with the process (and thread) that starts it."""
    return [sys.executable, "-S", "-E", "-c", _BOUND, str(os.getpid()), *command]


def shell_line(line: str) -> tuple[str, ...]:
    """A Procfile line as a command: the shell expands its variables and is then replaced by the program."""
    return ("/bin/sh", "-c", f"exec {line}")


class _Run:
    """One program while it is wanted, however often it is started again."""

    def __init__(self, program: Program, log: Path) -> None:
        self.program = program
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.begun = 0.0
        self.deaths = 0
        self.again_at: float | None = None
        self.sessions: list[int] = []
        self.reader: threading.Thread | None = None


class Supervisor:
    """Not for several threads. `echo` gets every line with the program's name before it; None: only the log files do."""

    def __init__(self, logs: Path, echo: TextIO | None = sys.stdout, notices: TextIO = sys.stderr) -> None:
        self.logs = logs
        self.echo = echo
        self.notices = notices
        self._runs: dict[str, _Run] = {}
        self._lock = threading.Lock()
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)

    def start(self, programs: Iterable[Program]) -> None:
        for program in programs:
            log = self.logs / f"{program.name}.log"
            if log.exists() and log.stat().st_size > LOG_BYTES:
                log.replace(log.with_suffix(".log.1"))
            run = self._runs[program.name] = _Run(program, log)
            self._launch(run)

    def watch(self) -> None:
        """Call about twice a second: starts again what died, later each time."""
        now = time.monotonic()
        for run in self._runs.values():
            if run.process is not None and run.process.poll() is not None:
                self._died(run, now)
            if run.again_at is not None and now >= run.again_at:
                run.again_at = None
                self._launch(run)

    def deaths(self, name: str) -> int:
        """How often in a row the program ended before it had settled."""
        return self._runs[name].deaths

    def tail(self, name: str, lines: int = 20) -> str:
        log = self._runs[name].log
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""

    def stop(self) -> None:
        """Ends all programs, rank by rank: SIGTERM, then SIGKILL for what has not gone, with everything it had started."""
        for rank in sorted({run.program.rank for run in self._runs.values()}):
            runs = [run for run in self._runs.values() if run.program.rank == rank]
            for run in runs:
                run.again_at = None
                if run.process is not None and run.process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        run.process.terminate()
            begun = time.monotonic()
            for run in runs:
                self._finish(run, begun + run.program.stop_seconds)
        self._runs.clear()

    # ---- inside

    def _launch(self, run: _Run) -> None:
        program = run.program
        run.begun = time.monotonic()
        run.process = subprocess.Popen(bound(program.command), env=dict(program.environment), start_new_session=True,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        run.sessions.append(run.process.pid)
        assert run.process.stdout is not None
        run.reader = threading.Thread(target=self._read, args=(program.name, run.process.stdout, run.log), daemon=True)
        run.reader.start()

    def _died(self, run: _Run, now: float) -> None:
        assert run.process is not None
        code, run.process = run.process.returncode, None
        end_sessions(run.sessions)
        run.sessions.clear()
        run.deaths = 1 if now - run.begun > SETTLED_SECONDS else run.deaths + 1
        wait = BACK_OFF[min(run.deaths, len(BACK_OFF)) - 1]
        run.again_at = now + wait
        name = run.program.name
        self._say(self.notices, f"{name} 退出了（{code}），{wait:.0f} 秒后重新启动。 {name} ended ({code}); it starts again in "
                                f"{wait:.0f} s. 日志 / log: {run.log}\n")

    def _finish(self, run: _Run, deadline: float) -> None:
        if run.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.process.wait(max(0.1, deadline - time.monotonic()))
            if run.process.poll() is None:
                name = run.program.name
                self._say(self.notices, f"{name} 没有按时停下，强行结束。 {name} did not stop in time; killed.\n")
                run.process.kill()
            run.process.wait()
        end_sessions(run.sessions)
        if run.reader is not None:
            run.reader.join(2.0)

    def _read(self, name: str, pipe: IO[bytes], log: Path) -> None:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with pipe, os.fdopen(descriptor, "ab", buffering=0) as file:
            for line in iter(pipe.readline, b""):
                file.write(line)
                if self.echo is not None:
                    self._say(self.echo, f"{name:8} | {line.decode(errors='replace').rstrip()}\n")

    def _say(self, to: TextIO, text: str) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):  # a closed terminal must not stop us
            to.write(text)
            to.flush()


def end_sessions(sessions: Iterable[int]) -> None:
    """Kills what is left of sessions we started: a program that was killed may have left children in groups of their own."""
    wanted = set(sessions)
    for _ in range(3):  # a child may be forked while we look
        left = _members(wanted)
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not left:
            return
        time.sleep(0.05)


def _members(sessions: set[int]) -> list[int]:
    proc = Path("/proc")
    if not (proc / "self" / "stat").exists():  # no procfs: only what stayed in the leader's group can be found
        for session in sessions:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(session, signal.SIGKILL)
        return []
    found = []
    for entry in proc.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                state, _, _, its_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(its_session) in sessions and state != "Z":
                    found.append(int(entry.name))
    return found
