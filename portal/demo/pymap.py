"""The demo's mail server where there is no Dovecot: portal/demo/pymap_server.py as a process of ours.

Same face as portal.demo.dovecot.Dovecot as far as the demo and its tests need it: start, stop, client, ports, ca_pem.
"""
from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from portal.demo.certificates import Authority
from portal.demo.imap import SmallImap
from portal.processes import bound

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 20.0
STOP_SECONDS = 10.0


class PymapFailed(RuntimeError):
    """The server did not start; the text ends with what it said."""


@dataclass
class Pymap:
    """A server with `users` (login -> password) whose mail is kept in `directory`. TLS only."""

    users: Mapping[str, str]
    directory: Path
    authority: Authority
    port: int = 0  # 0: any free one

    def __post_init__(self) -> None:
        self.ca_pem = self.authority.pem
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Pymap:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def imaps_port(self) -> int:
        return self.port

    def start(self) -> None:
        """Raises PymapFailed."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.authority.issue().write(self.directory)
        users = self.directory / "users.json"
        users.touch(mode=0o600)
        users.write_text(json.dumps(dict(self.users)))
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        log = self.directory / "pymap.log"
        with log.open("ab") as file:
            command = [sys.executable, "-m", "portal.demo.pymap_server", "--directory", str(self.directory), "--port", str(self.port)]
            self._process = subprocess.Popen(bound(command), cwd=ROOT, start_new_session=True, stdin=subprocess.DEVNULL, stdout=file,
                                             stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise PymapFailed(f"pymap did not start on port {self.port}:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """SIGTERM writes the mail down; returns when the process is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        process.kill()
        process.wait()

    def client(self, login: str, *, tls: bool = True) -> SmallImap:
        return SmallImap("localhost", self.port, login, self.users[login], ca_pem=self.ca_pem)

    def _answers(self) -> bool:
        login = next(iter(self.users))
        try:
            self.client(login).close()
        except OSError:
            return False
        return True
