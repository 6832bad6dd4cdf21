"""A private, real Cyrus on loopback, of the same shape as the tests' Dovecot (ports, users, ca_pem, client, log).

    with running_cyrus({"li@old.example": "secret"}, unixhierarchysep=False, suppress="UIDPLUS MULTIAPPEND") as server:
        seed(server, "li@old.example", [...]); copy_mailbox(account(server, "li@old.example"), ...)

`seed`, `account`, `read_back` and `differences` of tests/support/dovecot.py take either server. Owns one directory, a thread that answers
as saslauthd does, and every process it started. Always: the whole server runs as one unprivileged user (the caller, or `nobody` when
the caller is root), listens on 127.0.0.1 only, writes nowhere else, and is gone when `stop` returns.
"""
from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from portal.demo.certificates import Authority
from portal.demo.dovecot import Ports
from portal.demo.imap import SmallImap
from tests.support import cyrus_packages
from tests.support.certificates import authority

START_SECONDS = 20.0
STOP_SECONDS = 0.5  # now and then its master sleeps through SIGTERM; nothing of the directory outlives the server anyway
ADMIN, ADMIN_PASSWORD = "cyrusadmin", "of this server alone"


class CyrusFailed(RuntimeError):
    """Cyrus is not there, or did not start; the text ends with its log."""


@dataclass(frozen=True)
class CyrusOptions:
    """`altnamespace` False puts all folders but INBOX under INBOX; `unixhierarchysep` False makes the separator "." instead of "/";
    `suppress`: capabilities by name that are not announced (the commands still work: see capability_proxy for off meaning off);
    `literal_minus` announces LITERAL- in place of LITERAL+; `quota_kib` limits every user (None: no limit); `roles` are (folder, attribute)
    pairs made at the first login; `extra` are further lines of imapd.conf."""

    altnamespace: bool = True
    unixhierarchysep: bool = True
    suppress: str = ""
    literal_minus: bool = False
    quota_kib: int | None = None
    roles: tuple[tuple[str, str], ...] = (("Sent", "\\Sent"), ("Drafts", "\\Drafts"), ("Trash", "\\Trash"), ("Junk", "\\Junk"))
    extra: str = ""


def installed() -> bool:
    return cyrus_packages.root() is not None


@contextmanager
def running_cyrus(users: Mapping[str, str], **options: Any) -> Iterator[Cyrus]:
    """A started server with the tests' authority; `options` are the fields of CyrusOptions."""
    with Cyrus(users, CyrusOptions(**options)) as server:
        yield server


class Cyrus:
    """A server with `users` (login -> password) in a new temporary directory, removed at the end. A user's mailbox is made at the first
    login, with its role folders."""

    def __init__(self, users: Mapping[str, str], options: CyrusOptions | None = None, *, ca: Authority | None = None) -> None:
        self.users, self.options = users, options or CyrusOptions()
        self._authority = ca or authority()
        self.ca_pem = self._authority.pem
        self.host = "127.0.0.1"
        self.ports: Ports | None = None
        self.root = Path("/nonexistent")  # set by start()
        self._process: subprocess.Popen[bytes] | None = None
        self._auth: _Saslauthd | None = None

    # ---- life

    def __enter__(self) -> Cyrus:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Raises CyrusFailed. Other ports are tried (three times) when somebody took one between choosing and binding."""
        top = cyrus_packages.root()
        if top is None:
            raise CyrusFailed("Cyrus is not there (make test fetches it from Debian's packages)")
        self.root = Path(tempfile.mkdtemp(prefix="cy", dir="/tmp"))  # short: unix sockets have 108 bytes
        self.root.chmod(0o755)
        top = self._reachable(top)
        for attempt in range(3):
            self.ports = _free_ports(self.host)
            try:
                self._prepare(top)
                self._launch(top)
                return
            except CyrusFailed:
                self._end_process()
                if attempt == 2 or "already in use" not in self.log():
                    self.stop()
                    raise

    def stop(self) -> None:
        self._end_process()
        if self._auth is not None:
            self._auth.shutdown()
            self._auth.server_close()
            self._auth = None
        shutil.rmtree(self.root, ignore_errors=True)

    def log(self) -> str:
        path = self.root / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    # ---- access

    def client(self, login: str, *, tls: bool = False) -> SmallImap:
        """A logged-in connection of the small client."""
        assert self.ports is not None
        if tls:
            return SmallImap("localhost", self.ports.imaps, login, self.users[login], ca_pem=self.ca_pem)
        return SmallImap(self.host, self.ports.imap, login, self.users[login])

    def admin(self) -> SmallImap:
        """A connection that may CREATE, DELETE and SETQUOTA everybody's mailboxes (see `mailbox`)."""
        assert self.ports is not None
        return SmallImap(self.host, self.ports.imap, ADMIN, ADMIN_PASSWORD)

    def mailbox(self, login: str) -> str:
        """An administrator's name of a user's INBOX."""
        name, _, domain = login.partition("@")
        if not self.options.unixhierarchysep:
            return f"user.{name.replace('.', '^')}" + (f"@{domain}" if domain else "")
        return f"user/{login}"

    def wipe(self, login: str) -> None:
        """Removes an account's mailbox and folders. Only while nobody is logged in to it."""
        with self.admin() as client, contextlib.suppress(Exception):
            client.command(f'SETACL "{self.mailbox(login)}" {ADMIN} lrswipkxtecdan'.encode())
            client.command(f'DELETE "{self.mailbox(login)}"'.encode())

    # ---- inside

    def _reachable(self, top: Path) -> Path:
        """The programs run as another user than root, who may not be able to look into the checkout: then they are copied."""
        if os.geteuid() != 0 or top == Path("/") or all(parent.stat().st_mode & 0o001 for parent in (top, *top.parents)):
            return top
        copied = self.root / "programs"
        shutil.copytree(top, copied, symlinks=True, ignore=shutil.ignore_patterns("doc", "man", "locale", "perl*"))
        return copied

    def _prepare(self, top: Path) -> None:
        user, uid, gid = _runner()
        for name in ("conf/socket", "spool", "tmp", "auth"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        certificate, key = self._authority.issue().write(self.root)
        if self._auth is None:
            self._auth = _Saslauthd(self.root / "auth" / "mux", {**self.users, ADMIN: ADMIN_PASSWORD})
            threading.Thread(target=self._auth.serve_forever, kwargs={"poll_interval": 0.05}, name="saslauthd", daemon=True).start()
        assert self.ports is not None
        imapd = f"{top}/usr/lib/cyrus/bin/imapd -C {self.root}/imapd.conf"
        (self.root / "imapd.conf").write_text(_imapd_conf(self.root, user, certificate, key, self.options))
        (self.root / "cyrus.conf").write_text(
            "START {\n}\nSERVICES {\n"
            f'  imap cmd="{imapd} -U 1000" listen="{self.host}:{self.ports.imap}" proto="tcp4" prefork=1\n'
            f'  imaps cmd="{imapd} -s -U 1000" listen="{self.host}:{self.ports.imaps}" proto="tcp4" prefork=0\n'
            "}\nEVENTS {\n}\n")
        if os.geteuid() == 0:
            for path in (self.root, *self.root.iterdir(), self.root / "conf" / "socket", self.root / "auth" / "mux"):
                if path.name != "programs":
                    os.chown(path, uid, gid)

    def _launch(self, top: Path) -> None:
        user, _, gid = _runner()
        as_other = {"user": user, "group": gid, "extra_groups": []} if os.geteuid() == 0 else {}
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [f"{top}/usr/lib/cyrus/bin/master", "-D", "-C", f"{self.root}/imapd.conf", "-M", f"{self.root}/cyrus.conf",
                 "-p", f"{self.root}/pid"],
                cwd=self.root, start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**cyrus_packages.environment(top), "CYRUS_VERBOSE": "1"}, **as_other)  # type: ignore[call-overload]
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise CyrusFailed(f"Cyrus did not start: {self.log()[-2000:]}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        assert self.ports is not None
        try:
            with socket.create_connection((self.host, self.ports.imap), 1) as probe:
                probe.settimeout(START_SECONDS)
                return probe.recv(4).startswith(b"* OK")
        except OSError:
            return False

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # its children share the session
        process.wait()


def _imapd_conf(root: Path, user: str, certificate: Path, key: Path, options: CyrusOptions) -> str:
    folders = "|".join(name for name, _ in options.roles)
    uses = "".join(f"xlist-{use[1:].lower()}: {name}\n" for name, use in options.roles)
    return f"""configdirectory: {root}/conf
defaultpartition: default
partition-default: {root}/spool
temp_path: {root}/tmp
cyrus_user: {user}
admins: {ADMIN}
virtdomains: userid
defaultdomain: internal
unixhierarchysep: {'yes' if options.unixhierarchysep else 'no'}
altnamespace: {'yes' if options.altnamespace else 'no'}
allowplaintext: yes
sasl_mech_list: PLAIN
sasl_pwcheck_method: saslauthd
sasl_saslauthd_path: {root}/auth/mux
tls_server_cert: {certificate}
tls_server_key: {key}
tls_session_timeout: 0
autocreate_quota: {options.quota_kib if options.quota_kib is not None else 0}
autocreate_inbox_folders: {folders}
{uses}suppress_capabilities: {options.suppress or 'NONE'}
literalminus: {'yes' if options.literal_minus else 'no'}
maxlogins_per_user: 0
search_engine: none
conversations: no
delete_mode: immediate
expunge_mode: immediate
duplicatesuppression: no
skiplist_unsafe: yes
imapidlepoll: 60
{options.extra}
"""


class _Saslauthd(socketserver.ThreadingUnixStreamServer):
    """saslauthd's protocol: login, password, service, realm, each with a 16-bit length; the answer likewise. So no password file of
    SASL's, whose maker is in yet another package."""

    daemon_threads = True

    def __init__(self, path: Path, users: Mapping[str, str]) -> None:
        self.users = users
        super().__init__(str(path), _Question)


class _Question(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        login, password, _, realm = (self.rfile.read(struct.unpack(">H", self.rfile.read(2))[0]).decode("utf-8", "replace")
                                     for _ in range(4))
        assert isinstance(self.server, _Saslauthd)
        name = login if "@" in login or not realm else f"{login}@{realm}"
        answer = b"OK" if password in (self.server.users.get(login), self.server.users.get(name)) else b"NO"
        self.wfile.write(struct.pack(">H", len(answer)) + answer)


def _runner() -> tuple[str, int, int]:
    entry = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    return entry.pw_name, entry.pw_uid, entry.pw_gid


def _free_ports(host: str) -> Ports:
    with contextlib.ExitStack() as held:
        numbers = []
        for _ in range(2):
            listener = held.enter_context(socket.socket())
            listener.bind((host, 0))
            numbers.append(listener.getsockname()[1])
    return Ports(*numbers)
