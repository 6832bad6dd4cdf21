"""Who is measured, and how each is started: the engine, the bound, and the peers that this machine has.

Must not put a secret into arguments: peers get it by environment or by a file that only this user reads. Always: what is missing is told
in a sentence, never an error.
"""
from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Job:
    """One account to be moved, the same login and secret on both sides. `work` is this candidate's own directory, kept between phases;
    `destination_config` the destination Dovecot's configuration, for the peer that runs on its host."""

    source_port: int
    destination_port: int
    login: str
    secret: str
    work: Path
    destination_config: Path


@dataclass(frozen=True)
class Launch:
    command: list[str]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """`phases`: 1 where a second run would copy everything again. `missing` says why it cannot run here, "" when it can. `rich`: needs
    LITERAL+ and MULTIAPPEND at the destination."""

    name: str
    about: str
    launch: Callable[[Job], Launch]
    missing: Callable[[], str] = lambda: ""
    phases: int = 3
    rich: bool = False


def _engine(*options: str) -> Callable[[Job], Launch]:
    def launch(job: Job) -> Launch:
        command = [sys.executable, "-m", "engine", "copy", f"imap+plain://{job.login}@127.0.0.1:{job.source_port}",
                   f"imap+plain://{job.login}@127.0.0.1:{job.destination_port}", "--ledger", str(job.work / "ledger"),
                   "--json", *options]
        return Launch(command, {"PYTHONPATH": str(ROOT), "BANJIA_SOURCE_PASSWORD": job.secret, "BANJIA_DESTINATION_PASSWORD": job.secret})
    return launch


def _raw(processes: int) -> Callable[[Job], Launch]:
    def launch(job: Job) -> Launch:
        return Launch([sys.executable, "-m", "bench.raw", str(processes)],
                      {"PYTHONPATH": str(ROOT), "BENCH_LOGIN": job.login, "BENCH_SECRET": job.secret,
                       "BENCH_SOURCE_PORT": str(job.source_port), "BENCH_DESTINATION_PORT": str(job.destination_port)})
    return launch


_MBSYNC_STORE = """IMAPStore {name}
Host 127.0.0.1
Port {port}
User {login}
Pass "{secret}"
{tls} None
AuthMechs LOGIN
Timeout 600
DisableExtension COMPRESS=DEFLATE

"""
_MBSYNC_CHANNEL = """Channel all
Far :source:
Near :destination:
Patterns *
Create Near
Sync Pull
CopyArrivalDate yes
SyncState {state}/
"""


def _mbsync(job: Job) -> Launch:
    """Without COMPRESS, which on a fast path costs it more than it saves."""
    state, config = job.work / "state", job.work / "mbsyncrc"
    state.mkdir(exist_ok=True)
    stores = [_MBSYNC_STORE.format(name=name, port=port, login=job.login, secret=job.secret, tls="SSLType")
              for name, port in (("source", job.source_port), ("destination", job.destination_port))]
    _private(config, "".join(stores) + _MBSYNC_CHANNEL.format(state=state))
    return Launch(["mbsync", "-c", str(config), "-q", "-a"])


def _dsync(job: Job) -> Launch:
    """Runs on the destination's host and writes its storage directly: no IMAP, and no path, on that side."""
    config = job.work / "dsync.conf"
    _private(config, f"!include {job.destination_config}\nimapc_host = 127.0.0.1\nimapc_port = {job.source_port}\n"
                     f"imapc_user = {job.login}\nimapc_password = {job.secret}\n")
    return Launch(["doveadm", "-c", str(config), "backup", "-R", "-u", job.login, "imapc:"])


def _imapsync(job: Job) -> Launch:
    words = job.work / "secret"
    _private(words, job.secret + "\n")
    sides = [word for number, port in ((1, job.source_port), (2, job.destination_port)) for word in (
        f"--host{number}", "127.0.0.1", f"--port{number}", str(port), f"--user{number}", job.login, f"--passfile{number}", str(words),
        f"--nossl{number}", f"--notls{number}", f"--timeout{number}", "600")]
    return Launch(["perl", _imapsync_script(), *sides, "--noreleasecheck", "--nolog", "--tmpdir", str(job.work),
                   "--pidfile", str(job.work / "pid"), "--errorsmax", "100000"])


def _imapsync_script() -> str:
    return os.environ.get("IMAPSYNC") or shutil.which("imapsync") or ""


def _needs(program: str, package: str) -> Callable[[], str]:
    return lambda: "" if shutil.which(program) else f"{program} is not installed (Debian: {package})"


def _private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


CANDIDATES = {candidate.name: candidate for candidate in (
    Candidate("engine", "python -m engine copy, as many connections as it opens by itself", _engine()),
    Candidate("engine1", "the same with one to each side", _engine("--connections", "1")),
    Candidate("raw4", "the bound: four pairs of pipelined sockets, no state", _raw(4), phases=1, rich=True),
    Candidate("raw1", "the bound with one pair", _raw(1), phases=1, rich=True),
    Candidate("mbsync", "isync, without COMPRESS", _mbsync, _needs("mbsync", "isync")),
    Candidate("dsync", "doveadm backup -R, on the destination's host", _dsync, _needs("doveadm", "dovecot-core")),
    Candidate("imapsync", "its defaults", _imapsync,
              lambda: "" if Path(_imapsync_script()).is_file() else "imapsync is not on PATH and IMAPSYNC names no file"),
)}
