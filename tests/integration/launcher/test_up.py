"""`make run` as a person sees it: what is printed, who is told what, what stays, what is gone afterwards."""
from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.private_redis import HOW_TO_GET_ONE

ROOT = Path(__file__).resolve().parents[3]
READY_SECONDS = 60.0


class Up:
    """A running `python -m portal up`; everything it prints is kept."""

    def __init__(self, instance: Path, *arguments: str, **environment: str) -> None:
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR")}
        self.instance = instance
        self.process = subprocess.Popen(
            [sys.executable, "-m", "portal", "up", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True, env={**kept, "INSTANCE_DIR": str(instance), "PYTHONUNBUFFERED": "1", **environment})
        self.printed = ""
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + READY_SECONDS
        while not (found := re.search(pattern, self.printed)):
            line = self._lines.get(timeout=max(0.1, deadline - time.monotonic()))
            assert line is not None, f"it ended without {pattern!r}:\n{self.printed}"
            self.printed += line
        return found

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(60)
        while (line := self._lines.get(timeout=10)) is not None:
            self.printed += line
        return code

    def started(self) -> dict[int, str]:
        """Processes of this instance, found by their environment: pid -> command line."""
        mark = f"INSTANCE_DIR={self.instance}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self.process.pid:
                try:
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue
        return found


@contextlib.contextmanager
def up(instance: Path, *arguments: str, **environment: str) -> Iterator[Up]:
    one = Up(instance, *arguments, **environment)
    try:
        yield one
    finally:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGTERM)
            one.process.wait(60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment_of(pid: int) -> set[str]:
    return {pair.split("=", 1)[0] for pair in Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")}


needs_procfs = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes by their environment in /proc")


@needs_procfs
@pytest.mark.usefixtures("redis_process")
def test_a_start_a_stop_and_a_second_start(tmp_path: Path) -> None:
    instance, port = tmp_path / "instance", free_port()
    with up(instance, BIND=f"127.0.0.1:{port}") as first:
        link = first.wait_for(rf"http://127\.0\.0\.1:{port}/invitation/\S+")[0]
        first.wait_for(rf"http://127\.0\.0\.1:{port}/login .* login name: operator@localhost")
        first.wait_for("Ctrl-C")
        with urllib.request.urlopen(link, timeout=10) as page:
            assert page.status == 200

        running = first.started()
        web = [pid for pid, line in running.items() if "gunicorn" in line]
        movers = [pid for pid, line in running.items() if "worker.py" in line]
        assert len(web) >= 2 and len(movers) >= 4  # master and worker; two movers, check, cron
        assert all("VAULT_PRIVATE_KEY_FILE" not in environment_of(pid) for pid in web)
        assert all("VAULT_PRIVATE_KEY_FILE" in environment_of(pid) for pid in movers)

        with up(instance, BIND=f"127.0.0.1:{free_port()}") as another:
            assert another.process.wait(30) == 1
            another.wait_for("is running already")

        assert first.interrupt() == 0
        assert first.started() == {}
        assert not (instance / "redis" / "redis.sock").exists()

    for name in ("secret.key", "vault.private", "banjia.db"):
        assert (instance / name).stat().st_mode & 0o077 == 0, name
    kept = (instance / "secret.key").read_bytes(), (instance / "vault.private").read_bytes()
    with up(instance, "--workers", "1", BIND=f"127.0.0.1:{port}", BASE_URL=f"http://127.0.0.1:{port}") as second:
        assert second.wait_for(r"http://127\.0\.0\.1:\d+/invitation/\S+")[0] != link
        second.wait_for("Ctrl-C")
        assert ((instance / "secret.key").read_bytes(), (instance / "vault.private").read_bytes()) == kept
        assert second.interrupt() == 0


@needs_procfs
@pytest.mark.usefixtures("redis_process")
def test_an_interrupt_while_starting_leaves_nothing_behind(tmp_path: Path) -> None:
    with up(tmp_path / "i", BIND=f"127.0.0.1:{free_port()}") as started:
        deadline = time.monotonic() + READY_SECONDS
        while not (tmp_path / "i" / "redis" / "redis.sock").exists():
            assert time.monotonic() < deadline and started.process.poll() is None
            time.sleep(0.01)
        assert started.interrupt() == 130
        assert "Stopped." in started.printed
        assert started.started() == {}


@needs_procfs
@pytest.mark.usefixtures("redis_process")
def test_a_taken_port_that_nobody_chose_is_told_and_another_one_is_used(tmp_path: Path) -> None:
    with socket.socket() as taken:
        with contextlib.suppress(OSError):  # somebody else has it: as good
            taken.bind(("127.0.0.1", 8000))
            taken.listen()
        with up(tmp_path / "i", "--no-logs") as started:
            started.wait_for("Port 8000 is taken; using")
            link = started.wait_for(r"http://127\.0\.0\.1:(\d+)/invitation/\S+")
            assert int(link[1]) != 8000
            with urllib.request.urlopen(link[0], timeout=10) as page:
                assert page.status == 200
            assert started.interrupt() == 0


@pytest.mark.usefixtures("redis_process")
@pytest.mark.parametrize("chosen", ["BIND", "BASE_URL"])
def test_a_taken_port_that_the_operator_chose_stops_the_start(tmp_path: Path, chosen: str) -> None:
    with socket.socket() as taken:
        port = 0 if chosen == "BIND" else 8000
        with contextlib.suppress(OSError):
            taken.bind(("127.0.0.1", port))
            taken.listen()
            port = taken.getsockname()[1]
        value = f"127.0.0.1:{port}" if chosen == "BIND" else "https://move.example.com"
        with up(tmp_path / "i", **{chosen: value}) as started:
            started.wait_for(f"127.0.0.1:{port} is taken by another program")
            assert started.process.wait(30) == 1


def test_a_redis_that_does_not_answer_is_told_before_anything_starts(tmp_path: Path) -> None:
    with up(tmp_path / "i", REDIS_URL=f"redis://127.0.0.1:{free_port()}/0") as started:
        assert started.process.wait(30) == 1
        started.wait_for("named by REDIS_URL does not answer")
        assert not (tmp_path / "i" / "banjia.db").exists()


def test_without_any_redis_three_ways_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = ("from portal import private_redis, cli; private_redis.find_server = lambda: None; "
            "import sys; sys.exit(cli.main(['up']))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
                          env={"PATH": os.environ["PATH"], "INSTANCE_DIR": str(tmp_path / "i")})
    assert done.returncode == 1
    assert done.stderr.strip() == HOW_TO_GET_ONE
    assert all(f"  {n}. " in HOW_TO_GET_ONE for n in (1, 2, 3))


def test_a_bad_setting_is_named(tmp_path: Path) -> None:
    with up(tmp_path / "i", SLICE_SECONDS="soon") as started:
        assert started.process.wait(30) == 1
        started.wait_for("SLICE_SECONDS: .* is not a whole number")
