"""The demo's old and new mail server: Dovecot where it is installed, pymap otherwise; with the old mailboxes filled once.

Owns one directory for both servers' mail. It is not in the instance directory: unix sockets want short paths, and where root starts
the demo the servers run as `nobody`, who may not enter everybody's home.
"""
from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from portal.demo.certificates import Authority
from portal.demo.dovecot import ROLES, Dovecot, DovecotOptions, Ports, installed_version
from portal.demo.imap import Sample
from portal.demo.mail import EMPTY_FOLDER
from portal.demo.pymap import Pymap

SOURCE_ROLES = (("已发送", "\\Sent"), ("草稿箱", "\\Drafts"), ("已删除", "\\Trash"), ("垃圾邮件", "\\Junk"))
Server = Dovecot | Pymap


def mail_directory(instance: Path) -> Path:
    name = hashlib.sha256(os.fsencode(instance.absolute())).hexdigest()[:10]
    return Path("/var/tmp") / f"banjia-{os.geteuid()}-{name}"  # noqa: S108  owned and checked below


@dataclass
class MailServers:
    """Both servers, started by `start`. `kind`: "dovecot", "pymap" or None (the better one that is there)."""

    directory: Path
    source_users: Mapping[str, str]
    destination_users: Mapping[str, str]
    kind: str | None = None

    def __post_init__(self) -> None:
        self.authority = Authority()
        self.kind = self.kind or ("dovecot" if installed_version() else "pymap")
        self._started = contextlib.ExitStack()

    @property
    def ca_pem(self) -> str:
        return self.authority.pem

    def start(self, ports: Mapping[str, int]) -> None:
        """`ports`: "old" and "new" for TLS, "old-plain" and "new-plain" for Dovecot's STARTTLS listener."""
        _own(self.directory)
        try:
            self.source = self._server("old", self.source_users, ports, ".", SOURCE_ROLES)
            self.destination = self._server("new", self.destination_users, ports, "/", ROLES)
            for server in (self.source, self.destination):
                self._started.callback(server.stop)
                server.start()
        except BaseException:
            self._started.close()
            raise

    def stop(self) -> None:
        self._started.close()

    def fill(self, login: str, samples: list[Sample]) -> bool:
        """Fills an old mailbox that is still empty. True when it was."""
        with self.source.client(login, tls=True) as client:
            if client.read_folder("INBOX"):
                return False
            client.append_all(samples)
            client.create(client.wire_name(EMPTY_FOLDER))
            return True

    def _server(self, name: str, users: Mapping[str, str], ports: Mapping[str, int], separator: str,
                roles: tuple[tuple[str, str], ...]) -> Server:
        place = self.directory / f"{name}-{self.kind}"
        if self.kind == "pymap":
            return Pymap(users, place, self.authority, ports[name])
        return Dovecot(users, DovecotOptions(separator=separator, listescape=False, fsync="never", roles=roles), self.authority,
                       directory=place, ports=Ports(ports[f"{name}-plain"], ports[name]))


def forget(directory: Path) -> None:
    """Removes the demo's mail."""
    shutil.rmtree(directory, ignore_errors=True)


def _own(directory: Path) -> None:
    """The directory lies where everybody may write; one that somebody else made is not used."""
    directory.mkdir(mode=0o711, exist_ok=True)
    if directory.is_symlink() or directory.stat().st_uid != os.geteuid():
        raise PermissionError(f"{directory} belongs to somebody else")
    directory.chmod(0o711)


