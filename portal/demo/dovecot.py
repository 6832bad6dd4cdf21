"""A private, real Dovecot on loopback: its configuration, start and stop.

Owns one directory and every process it started. Must not touch a Dovecot of the system (own base_dir, own ports, nothing of /etc).
Always: the whole server runs as one unprivileged user (the caller, or `nobody` when the caller is root: Dovecot refuses mail
of uid 0), listens on 127.0.0.1 only, and is gone when `stop` returns. The configuration is written for 2.3 (Debian 12) or 2.4
(Debian 13: other names, `dovecot_config_version` first), whichever is installed.
"""
from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType

from portal.demo.certificates import Authority, ServerCertificate
from portal.demo.imap import SmallImap

START_SECONDS = 15.0
STOP_SECONDS = 10.0
ROLES = (("Sent", "\\Sent"), ("Drafts", "\\Drafts"), ("Trash", "\\Trash"), ("Junk", "\\Junk"))


class DovecotFailed(RuntimeError):
    """Dovecot is not installed, or did not start; the text ends with its log."""


@dataclass(frozen=True)
class DovecotOptions:
    """`capability` replaces the whole advertised list; `quota` is a Dovecot size such as "40k"; `mail_format` is maildir, sdbox or
    mdbox; `fsync` never | optimized | always; `roles` are (folder, attribute) pairs that carry SPECIAL-USE; `prefix` puts all
    folders but INBOX under it (give it with its separator: "INBOX."); `login_wait` is the delay after a refused login, seconds;
    `per_user` caps connections of one user and address; `extra` are further lines for this version."""

    separator: str = "."
    prefix: str = ""
    capability: str = ""
    quota: str = ""
    mail_format: str = "maildir"
    fsync: str = "optimized"
    roles: tuple[tuple[str, str], ...] = ROLES
    listescape: bool = True
    login_wait: int = 0
    per_user: int = 100
    extra: str = ""


@dataclass(frozen=True)
class Ports:
    imap: int
    imaps: int
    pop3: int = 0  # 0: Dovecot has no POP3 here
    pop3s: int = 0


@cache
def installed_version() -> tuple[int, int] | None:
    """(2, 3) or (2, 4); None where no Dovecot with IMAP is installed."""
    binary = _binary()
    if binary is None or not _library("imap"):
        return None
    shown = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    found = re.match(r"(\d+)\.(\d+)", shown)
    return (int(found[1]), int(found[2])) if found else None


def _binary() -> str | None:
    return shutil.which("dovecot", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def _library(name: str) -> Path | None:
    for top in ("/usr/lib/dovecot", "/usr/libexec/dovecot", "/usr/local/libexec/dovecot"):
        if (Path(top) / name).exists():
            return Path(top) / name
    return None


@dataclass
class Dovecot:
    """A server with `users` (login -> password). Without `directory` it lives in a new temporary one, removed at the end.
    Use as a context manager, or call start() and stop(). `ports` may be given to come back on the same ones."""

    users: Mapping[str, str]
    options: DovecotOptions = field(default_factory=DovecotOptions)
    authority: Authority | None = None
    certificate: ServerCertificate | None = None
    directory: Path | None = None
    ports: Ports | None = None
    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.root = self.directory or Path("/nonexistent")  # set by start()
        self._authority = self.authority or Authority()
        self.ca_pem = self._authority.pem

    # ---- life

    def __enter__(self) -> Dovecot:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Raises DovecotFailed. Ports are tried anew (three times) when somebody took one between choosing and binding."""
        if installed_version() is None:
            raise DovecotFailed("Dovecot with IMAP is not installed (Debian: dovecot-imapd)")
        if self.directory is None and not self.root.exists():
            self.root = Path(tempfile.mkdtemp(prefix="dc", dir="/tmp"))  # short: unix sockets have 108 bytes
        self._end_leftover()
        wanted = self.ports
        for attempt in range(3):
            self.ports = wanted or self._free_ports()
            self._prepare()
            try:
                self._launch()
                return
            except DovecotFailed:
                self._end_process()
                if attempt == 2 or wanted or "Address already in use" not in self.log():
                    self.stop()
                    raise

    def stop(self) -> None:
        self._end_process()
        if self.directory is None:
            shutil.rmtree(self.root, ignore_errors=True)

    def kill(self) -> None:
        """Ends it at once, as a crash would; start() brings it back on the same ports with the same mail."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    @property
    def imaps_port(self) -> int:
        return self._ports().imaps

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def log(self) -> str:
        path = self.root / "dovecot.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # ---- access

    def client(self, login: str, *, tls: bool = False) -> SmallImap:
        """A logged-in connection of the small client."""
        ports = self._ports()
        if tls:
            return SmallImap("localhost", ports.imaps, login, self.users[login], ca_pem=self.ca_pem)
        return SmallImap(self.host, ports.imap, login, self.users[login])

    def maildir(self, login: str) -> Path:
        """The user's mail directory, for writing messages as files (format maildir)."""
        return self.root / "mail" / login / "mail"

    def wipe(self, login: str) -> None:
        """Empties an account. Only while nobody is logged in to it."""
        shutil.rmtree(self.root / "mail" / login, ignore_errors=True)

    # ---- inside

    def _ports(self) -> Ports:
        if self.ports is None:
            raise DovecotFailed("not started")
        return self.ports

    def _free_ports(self) -> Ports:
        with contextlib.ExitStack() as held:
            numbers = []
            for _ in range(4):
                listener = held.enter_context(socket.socket())
                listener.bind((self.host, 0))
                numbers.append(listener.getsockname()[1])
        return Ports(*numbers) if _library("pop3") else Ports(*numbers[:2])

    def _end_leftover(self) -> None:
        """A server of this very directory whose starter was killed: it would keep the sockets, so it goes first."""
        pid_file = self.root / "run" / "master.pid"
        with contextlib.suppress(OSError, ValueError):
            pid = int(pid_file.read_text())
            if str(self.root).encode() not in Path(f"/proc/{pid}/cmdline").read_bytes():
                return
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS
            while time.monotonic() < deadline:
                os.kill(pid, 0)
                time.sleep(0.05)

    def _prepare(self) -> None:
        user, uid, gid = _runner()
        for name in ("run", "state", "mail", "login"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        pair = self.certificate or self._authority.issue()
        certificate, key = pair.write(self.root)
        passwd = self.root / "passwd"
        coded = {login: b64encode(password.encode()).decode() for login, password in self.users.items()}
        passwd.write_text("".join(f"{login}:{{PLAIN.b64}}{password}::::::\n" for login, password in coded.items()))
        passwd.chmod(0o600)
        version = installed_version() or (2, 3)
        write = _config_24 if version >= (2, 4) else _config_23
        place = _Place(self.root, user, uid, gid, certificate, key)
        (self.root / "dovecot.conf").write_text(write(place, self.options, self._ports()))
        self.root.chmod(0o755)
        if os.geteuid() == 0:
            for path in (self.root, *self.root.iterdir()):
                os.chown(path, uid, gid)

    def _launch(self) -> None:
        user, _, gid = _runner()
        binary = _binary()
        assert binary is not None
        as_other = {"user": user, "group": gid, "extra_groups": []} if os.geteuid() == 0 else {}
        self._process = subprocess.Popen([binary, "-F", "-c", str(self.root / "dovecot.conf")], cwd="/", start_new_session=True,
                                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                         **as_other)  # type: ignore[call-overload]
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = b""
                if self._process.poll() is not None and self._process.stderr:
                    said = self._process.stderr.read()
                raise DovecotFailed(f"Dovecot did not start: {said.decode(errors='replace')[-2000:]}\n{self.log()[-2000:]}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self.host, self._ports().imap), 1) as probe:
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
        if process.stderr:
            process.stderr.close()


@dataclass(frozen=True)
class _Place:
    root: Path
    user: str
    uid: int
    gid: int
    certificate: Path
    key: Path


def _runner() -> tuple[str, int, int]:
    """Who the server runs as: the caller, or nobody for root."""
    entry = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    return entry.pw_name, entry.pw_uid, entry.pw_gid


def _group(gid: int) -> str:
    return grp.getgrgid(gid).gr_name


def _mailboxes(options: DovecotOptions) -> str:
    return "".join(f"  mailbox {name} {{\n    special_use = {use}\n    auto = create\n  }}\n" for name, use in options.roles)


def _listeners(protocol: str, plain: int, tls: int, many: str) -> str:
    return f"""service {protocol}-login {{
  chroot =
  {many}
  process_min_avail = 1
  inet_listener {protocol} {{
    port = {plain}
  }}
  inet_listener {protocol}s {{
    port = {tls}
    ssl = yes
  }}
}}
"""


def _common(place: _Place, options: DovecotOptions, ports: Ports, many: str) -> str:
    """What both versions understand. `many` makes one login process serve many connections."""
    return f"""base_dir = {place.root}/run
state_dir = {place.root}/state
log_path = {place.root}/dovecot.log
listen = 127.0.0.1
default_internal_user = {place.user}
default_internal_group = {grp.getgrgid(place.gid).gr_name}
default_login_user = {place.user}
auth_mechanisms = plain login
auth_failure_delay = {options.login_wait} secs
first_valid_uid = 1
mail_fsync = {options.fsync}
mail_max_userip_connections = {options.per_user}
default_vsz_limit = 2G
default_client_limit = 1000
{f'imap_capability = {options.capability}' if options.capability else ''}
ssl = yes
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
service imap {{
  process_limit = 500
}}
{_listeners('imap', ports.imap, ports.imaps, many)}
{_listeners('pop3', ports.pop3, ports.pop3s, many) if ports.pop3 else ''}
namespace inbox {{
  inbox = yes
  separator = {options.separator}
  prefix = {options.prefix}
{_mailboxes(options)}}}
"""


QUOTA_23 = """plugin {{
  quota = count:User quota
  quota_vsizes = yes
  quota_grace = 0
  quota_rule = *:storage={size}
}}
"""


def _config_23(place: _Place, options: DovecotOptions, ports: Ports) -> str:
    plugins = [name for name, wanted in (("listescape", options.listescape), ("quota", options.quota)) if wanted]
    imap_plugins = [name for name, wanted in (("imap_quota", options.quota), ("imap_zlib", not options.capability)) if wanted]
    return f"""protocols = imap{' pop3' if ports.pop3 else ''}
{_common(place, options, ports, 'service_count = 0')}
ssl_cert = <{place.certificate}
ssl_key = <{place.key}
disable_plaintext_auth = no
mail_location = {options.mail_format}:~/mail
mail_plugins = {' '.join(plugins)}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {place.root}/passwd
}}
userdb {{
  driver = static
  args = uid={place.uid} gid={place.gid} home={place.root}/mail/%u
}}
protocol imap {{
  mail_plugins = $mail_plugins {' '.join(imap_plugins)}
}}
{QUOTA_23.format(size=options.quota) if options.quota else ''}
{options.extra}
"""


ESCAPE_24 = 'mailbox_list_storage_escape_char = "%"'  # what the plugin listescape did in 2.3


QUOTA_24 = """mail_plugins {{
  quota = yes
}}
protocol imap {{
  mail_plugins {{
    imap_quota = yes
  }}
}}
quota "User quota" {{
  driver = count
}}
quota_storage_size = {size}
quota_storage_grace = 0
"""


def _config_24(place: _Place, options: DovecotOptions, ports: Ports) -> str:
    return f"""dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
protocols {{
  imap = yes
{'  pop3 = yes' if ports.pop3 else ''}
}}
{_common(place, options, ports, 'restart_request_count = unlimited')}
ssl_server_cert_file = {place.certificate}
ssl_server_key_file = {place.key}
auth_allow_cleartext = yes
mail_driver = {options.mail_format}
mail_path = ~/mail
{ESCAPE_24 if options.listescape else ''}
passdb passwd-file {{
  default_password_scheme = plain
  auth_username_format = %{{user}}
  passwd_file_path = {place.root}/passwd
}}
userdb static {{
  fields {{
    uid = {place.uid}
    gid = {place.gid}
    home = {place.root}/mail/%{{user}}
  }}
}}
{QUOTA_24.format(size=options.quota) if options.quota else ''}
{options.extra}
"""
