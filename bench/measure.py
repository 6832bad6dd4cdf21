"""One command, measured: wall time, CPU and peak memory of everything that it starts, and what the rest of the machine did meanwhile.

Owns the process group of that command, nothing else. Always: when `run` returns or raises, the command and its children are gone;
figures come from /proc, so Linux only.
"""
from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SAMPLE_SECONDS = 0.03
GRACE_SECONDS = 10.0  # between asking a command to end and ending it
NOISY_CORES = 0.3     # a run beside more foreign work than this is marked, and left out where quieter ones exist
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Measured:
    """`seconds` wall; `cpu` seconds, user and system, of the command and all its children; `peak` octets resident, all processes at one
    moment together; `largest` octets of the largest single process; `others` cores that neither it nor the `beside` processes used."""

    seconds: float
    cpu: float
    peak: int
    largest: int
    others: float
    code: int
    capped: bool
    output: bytes = field(repr=False, default=b"")

    @property
    def noisy(self) -> bool:
        return self.others > NOISY_CORES


def run(command: Sequence[str], *, env: Mapping[str, str], cwd: Path, cap: float, beside: Iterable[int] = ()) -> Measured:
    """Runs it to its end, `cap` seconds at most (then it is ended and `capped`). `beside` are the process trees that work for it (servers,
    delays): their CPU is not taken for foreign work. stdout and stderr come back as `output`, the last 200,000 octets."""
    beside = tuple(beside)
    log = cwd / "output.log"
    helpers, machine = sum(map(tree_cpu, beside)), machine_cpu()
    begun = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                   start_new_session=True)
    watch = _Watch(process.pid, begun + cap)
    try:
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begun
    finally:
        watch.end()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu = used.ru_utime + used.ru_stime
    foreign = machine_cpu() - machine - cpu - (sum(map(tree_cpu, beside)) - helpers)
    with log.open("rb") as said:
        said.seek(max(0, log.stat().st_size - 200_000))
        output = said.read()
    return Measured(seconds, cpu, watch.peak, watch.largest, max(0.0, foreign) / seconds, process.returncode, watch.capped, output)


class _Watch:
    """Samples the memory of a process tree from a thread, and ends the tree when its time is over."""

    def __init__(self, pid: int, deadline: float) -> None:
        self.peak = self.largest = 0
        self.capped = False
        self._pid, self._deadline = pid, deadline
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            sizes = [resident(pid) for pid in tree(self._pid)]
            self.peak = max(self.peak, sum(sizes))
            self.largest = max([self.largest, *sizes])
            late = time.monotonic() - self._deadline
            if late > 0:
                self.capped = True
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._pid, signal.SIGTERM if late < GRACE_SECONDS else signal.SIGKILL)


def machine_cpu() -> float:
    """CPU seconds that the whole machine has worked since it started."""
    with open("/proc/stat", encoding="ascii") as stat:
        ticks = [int(word) for word in stat.readline().split()[1:8]]
    user, nice, system, _idle, _iowait, irq, softirq = ticks
    return (user + nice + system + irq + softirq) / _TICK


def tree(pid: int) -> list[int]:
    """The process and all its living descendants."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _stat(int(name))):
            children.setdefault(int(fields[1]), []).append(int(name))
    found, open_ = [], [pid]
    while open_:
        one = open_.pop()
        found.append(one)
        open_ += children.get(one, [])
    return found


def tree_cpu(pid: int) -> float:
    """CPU seconds of a tree, the processes included that it has already reaped."""
    return sum(sum(int(word) for word in fields[11:15]) for one in tree(pid) if (fields := _stat(one))) / _TICK


def resident(pid: int) -> int:
    """Octets in memory; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat from the state on (the name before it may hold anything); [] when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def wait_for_quiet(seconds: float, cores: float = 0.2) -> None:
    """Until the machine is nearly idle for a second, `seconds` at most."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        before = machine_cpu()
        time.sleep(1)
        if machine_cpu() - before < cores:
            return
