"""One machine, one command: `python -m portal up` prepares what is missing, starts every process, ends them in order.

Owns: the order of a start (lock, Redis, keys, tables, processes) and of a stop (web, then workers, then Redis).
Must not do a move's work itself, nor keep anything that is not in the instance directory. Always: only the worker, check and cron
processes are told where the vault's private key is; Ctrl-C ends everything cleanly; a second start finds the state of the first.
"""
from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import TextIO

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config import SETTINGS, Settings, default_of, unreachable_links, web_address
from portal.private_redis import PrivateRedis
from portal.processes import Program, Supervisor, read_procfile, shell_line
from portal.security.keyfiles import LetsOthersIn, ensure_secret_key, read_private
from portal.security.vault import KeyFiles, generate_keys, rotate_keys
from portal.store.db import migrate

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 60.0
GIVE_UP_DEATHS = 3  # the web process died this often before it ever answered
KEY_HOLDERS = frozenset({"worker", "check", "cron"})
STOP_RANK = {"web": 1, "relay": 3}  # workers between: they reach their sources through the relay until they have stopped
STOP_SECONDS = {"web": 15.0, "relay": 35.0}


class CannotStart(RuntimeError):
    """Something that a person has to mend; the text says what, in Chinese and English."""


class Interrupted(Exception):
    """Asked to stop while still starting."""


@contextlib.contextmanager
def nothing_beside(settings: Settings) -> Iterator[Settings]:
    yield settings


@dataclass(frozen=True)
class Plan:
    """What to start: web, check, cron, `workers` movers, and a relay where the settings name its configuration. `beside` is entered
    when tables and keys are there and left when all processes have ended; the settings that it gives are the processes'.
    `any_port`: a taken port is replaced by a free one even where the operator named it."""

    settings: Settings
    workers: int = 2
    beside: Callable[[Settings], contextlib.AbstractContextManager[Settings]] = nothing_beside
    any_port: bool = False


class Launcher:
    """Use as a context manager: inside, everything runs; afterwards nothing does. Raises CannotStart, NoRedis, Interrupted."""

    def __init__(self, plan: Plan, *, echo: TextIO | None = sys.stdout, say: Callable[[str], None] = print) -> None:
        self.plan = plan
        self.settings = plan.settings
        self.say = say
        self.echo = echo
        self.asked_to_stop = threading.Event()
        self._cleanup = contextlib.ExitStack()
        self._supervisor: Supervisor | None = None

    def __enter__(self) -> Launcher:
        try:
            self._start()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._cleanup.close()

    # ---- what a caller does inside

    def run_until_asked(self) -> None:
        """Watches the processes until a signal comes."""
        while not self.asked_to_stop.wait(0.5):
            self.watch()

    def watch(self) -> None:
        assert self._supervisor is not None
        self._supervisor.watch()

    def watch_in_background(self) -> None:
        """For a caller that is busy itself (demo-check); ends with the launcher."""
        def keep_watching() -> None:
            while not ended.wait(0.5):
                self.watch()
        ended = threading.Event()
        thread = threading.Thread(target=keep_watching, daemon=True)
        thread.start()
        self._cleanup.callback(thread.join)
        self._cleanup.callback(ended.set)

    # ---- inside

    def _start(self) -> None:
        self._take_signals()
        instance = self.settings.instance_dir
        instance.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._cleanup.enter_context(only_one(instance))
        self._start_redis()
        prepare_instance(self.settings)
        self._choose_port()
        self.settings = self._cleanup.enter_context(self.plan.beside(self.settings))
        self._supervisor = Supervisor(instance / "log", echo=self.echo)
        self._cleanup.callback(self._supervisor.stop)
        self._supervisor.start(self._programs())
        self._wait_until_ready()
        if warning := unreachable_links(self.settings):
            self.say(f"\n{warning}")

    def _take_signals(self) -> None:
        """The first signal asks to stop; the second, from somebody impatient, is told to wait; the third ends us at once (the kernel
        then ends our programs, and the next start what is left of the demo's servers)."""
        def asked(number: int, frame: FrameType | None) -> None:
            if self.asked_to_stop.is_set():
                os.write(sys.stderr.fileno(), "正在停止，请稍等几秒 … Stopping, a few seconds please …\n".encode())
                signal.signal(number, signal.SIG_DFL)
            self.asked_to_stop.set()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            before = signal.signal(number, asked)
            self._cleanup.callback(signal.signal, number, before)

    def _start_redis(self) -> None:
        if self.settings.redis_url != own_redis_url(self.settings):
            if not redis_answers(self.settings.redis_url):
                raise CannotStart("REDIS_URL 指向的 Redis 没有回答。检查它是否在运行，或删去 REDIS_URL 用自带的。\n"
                                  "The Redis named by REDIS_URL does not answer. See that it runs, or remove REDIS_URL.")
            return
        own = PrivateRedis(self.settings.instance_dir / "redis")
        own.start()
        self.settings = replace(self.settings, redis_url=own.url)  # the socket is elsewhere when the path is too long
        self._cleanup.callback(own.stop)

    def _choose_port(self) -> None:
        """Another port only where nobody chose this one: a proxy, a firewall and the links that were sent know no other."""
        host, _, port = self.settings.bind.rpartition(":")
        free = free_port(host, int(port))
        if free == int(port):
            return
        bind, base = self.settings.bind, self.settings.base_url
        follows = base == web_address(bind)
        if not self.plan.any_port and not (follows and bind == default_of("BIND")):
            raise CannotStart(f"{bind} 已被别的程序占用。先停掉它，或把 BIND 改成别的端口{'' if follows else '（BASE_URL 要跟着改）'}。\n"
                              f"{bind} is taken by another program. Stop that one, or set BIND to another port"
                              f"{'' if follows else ' (and BASE_URL with it)'}.")
        self.say(f"端口 {port} 已被占用，改用 {free}。 Port {port} is taken; using {free}.")
        bind = f"{host}:{free}"
        self.settings = replace(self.settings, bind=bind, base_url=web_address(bind) if follows else base)

    def _programs(self) -> list[Program]:
        programs = []
        for name, line in read_procfile(ROOT / "Procfile").items():
            if name == "relay" and self.settings.relay_config is None:
                continue
            environment = self._environment(name)
            count = self.plan.workers if name == "worker" else 1
            for number in range(1, count + 1):
                programs.append(Program(name if count == 1 else f"{name}.{number}", shell_line(line), environment,
                                        rank=STOP_RANK.get(name, 2), stop_seconds=STOP_SECONDS.get(name, 25.0)))
        return programs

    def _environment(self, name: str) -> dict[str, str]:
        """What a process of this kind is told. The web process and the relay never learn where the private key is."""
        environment = {**os.environ, **as_environment(self.settings), "PYTHONUNBUFFERED": "1",
                       "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
        if name not in KEY_HOLDERS:
            environment.pop("VAULT_PRIVATE_KEY_FILE", None)
        return environment

    def _wait_until_ready(self) -> None:
        assert self._supervisor is not None
        deadline = time.monotonic() + READY_SECONDS
        address = web_address(self.settings.bind)
        while not web_answers(f"{address}/"):
            self._supervisor.watch()
            if self.asked_to_stop.is_set():
                raise Interrupted
            if self._supervisor.deaths("web") >= GIVE_UP_DEATHS or time.monotonic() > deadline:
                raise CannotStart(f"网页服务没有起来。 The web process did not come up:\n{self._supervisor.tail('web')}")
            time.sleep(0.1)


def prepare_instance(settings: Settings) -> None:
    """Makes the keys that are missing and brings the tables up to date. Raises CannotStart for a key file that cannot be used."""
    try:
        _prepare_keys(settings)
    except LetsOthersIn as error:
        raise CannotStart(f"钥匙文件 {error.path} 的权限是 {error.mode}，别人也能打开。请运行：{error.command}\n"
                          f"The key file {error.path} has mode {error.mode}, which lets others in. Run: {error.command}") from None
    except PermissionError as error:
        raise CannotStart(f"这个用户不能使用 {error.filename}。请检查它属于谁。\n"
                          f"This user may not use {error.filename}. See whom it belongs to.") from None
    migrate(settings.database_url)


def _prepare_keys(settings: Settings) -> None:
    ensure_secret_key(settings.secret_key_file)
    keys = KeyFiles(settings.vault_public_key_file, settings.vault_private_key_file)
    if not keys.private.exists():
        generate_keys(keys)
        return
    read_private(keys.private)  # now, and not when the first worker needs it
    if not keys.public.exists():  # interrupted between the two files
        rotate_keys(keys)


def as_environment(settings: Settings) -> dict[str, str]:
    """Every setting as a process's environment holds it, so that all processes agree whatever their `.env` says."""
    values = {setting.name: getattr(settings, setting.field) for setting in SETTINGS}
    return {name: ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            for name, value in values.items() if value is not None}


def own_redis_url(settings: Settings) -> str:
    """What REDIS_URL is when nobody set it."""
    return f"unix://{settings.instance_dir}/redis/redis.sock?db=0"


def redis_answers(url: str) -> bool:
    client = redis.Redis.from_url(url, socket_connect_timeout=3, socket_timeout=3, retry=Retry(NoBackoff(), 0))
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def web_answers(url: str) -> bool:
    """Any answer will do: whether it is well is for its own pages to say."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  our own http address
            return bool(answer.status < 500)
    except urllib.error.HTTPError as error:
        with error:
            return error.code < 500
    except OSError:
        return False


def free_port(host: str, wanted: int) -> int:
    """`wanted`, or any free port of that address when somebody listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in (wanted, 0):
        with socket.socket(family) as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host.strip("[]"), port))
            return int(probe.getsockname()[1])
    raise CannotStart(f"不能监听 {host}。 Cannot listen on {host}.")


@contextlib.contextmanager
def only_one(instance: Path) -> Iterator[None]:
    """Two launchers on one instance directory would end each other's Redis."""
    with (instance / "launcher.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(f"{instance} 已经在运行（另一个终端？）。先在那里按 Ctrl-C。\n"
                              f"{instance} is running already (another terminal?). Press Ctrl-C there first.") from None
        yield
