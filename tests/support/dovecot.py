"""A real Dovecot for tests, and the ways to fill and read its mailboxes.

    with running_dovecot({"li@old.example": "secret"}, separator="/", quota="40k") as server:
        seed(server, "li@old.example", [Sample(b"Subject: a\\r\\n\\r\\nb\\r\\n", folder="归档/2024", flags=("\\\\Seen",))])
        copy_mailbox(account(server, "li@old.example"), ..., source_route=LOOPBACK)
        assert differences(read_back(source, "li@old.example"), read_back(destination, "li@old.example")) == []

The server itself, the small client and the comparison are the demo's (portal/demo/): one private Dovecot, not two.
Fixtures in tests/conftest.py: `dovecot_pair` (a source and a destination, once per process), `fresh_user`, `redis_url`.
"""
from __future__ import annotations

import ipaddress
import itertools
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from engine.endpoint import Account, Endpoint, Route, Secret, Security
from portal.demo.certificates import Authority, ServerCertificate
from portal.demo.comparison import differences
from portal.demo.dovecot import Dovecot, DovecotFailed, DovecotOptions, Ports, installed_version
from portal.demo.imap import ImapSaysNo, Sample, SmallImap, Stored, parse_date
from tests.support.certificates import authority

__all__ = ["LOOPBACK", "PASSWORD", "Dovecot", "DovecotFailed", "DovecotOptions", "ImapSaysNo", "Pair", "Ports", "Sample",
           "SmallImap", "Stored", "account", "differences", "endpoint", "fresh_login", "installed_version", "parse_date",
           "read_back", "running_dovecot", "seed", "seed_maildir"]

LOOPBACK = Route(allowed_networks=(ipaddress.IPv4Network("127.0.0.0/8"),))
PASSWORD = "correct horse 电池"  # of the logins that fresh_login hands out
_fresh = itertools.count(1)


@contextmanager
def running_dovecot(users: Mapping[str, str], *, certificate: ServerCertificate | None = None, ca: Authority | None = None,
                    **options: Any) -> Iterator[Dovecot]:
    """A started server with the tests' authority; `options` are the fields of DovecotOptions."""
    with Dovecot(users, DovecotOptions(**options), authority=ca or authority(), certificate=certificate) as server:
        yield server


@dataclass(frozen=True)
class Pair:
    """A source with separator "." and a destination with "/", both with the same hundred unused logins."""

    source: Dovecot
    destination: Dovecot


def fresh_login() -> str:
    """The next unused login of a pair's servers (their password is PASSWORD)."""
    return f"u{next(_fresh):03d}@example.com"


def endpoint(server: Dovecot, security: Security = Security.TLS) -> Endpoint:
    """As the engine sees it: TLS and STARTTLS are verified against the tests' authority by the name `localhost`."""
    assert server.ports is not None
    port = server.ports.imaps if security is Security.TLS else server.ports.imap
    return Endpoint("localhost", port, security, ca_pem=None if security is Security.PLAIN else server.ca_pem)


def account(server: Dovecot, login: str, security: Security = Security.TLS, secret: str | None = None) -> Account:
    return Account(endpoint(server, security), login, Secret(server.users[login] if secret is None else secret))


def seed(server: Dovecot, login: str, samples: Iterable[Sample]) -> int:
    """Stores samples by APPEND (about 2000 small ones a second where MULTIAPPEND is on offer); returns how many."""
    with server.client(login) as client:
        return client.append_all(samples)


def seed_maildir(server: Dovecot, login: str, contents: Iterable[bytes], *, when: float = 1_714_950_489.0) -> int:
    """Writes messages for INBOX as maildir files, for many thousands; the internal date is the file's time. Format maildir only.
    Line ends are kept as they are on disk; Dovecot serves a bare LF as CRLF."""
    with server.client(login) as client:
        client.read_folder("INBOX")  # makes the directory
    inbox, count = server.maildir(login) / "cur", 0
    owner = inbox.stat()
    for count, content in enumerate(contents, 1):
        path = inbox / f"{when:.0f}.M{time.monotonic_ns()}P{count}.seed:2,S"
        path.write_bytes(content)
        os.chown(path, owner.st_uid, owner.st_gid)
        os.utime(path, (when, when))
    return count


def read_back(server: Dovecot, login: str) -> dict[str, list[Stored]]:
    """Every folder by its display name (parts joined by `/`) with all messages: octets, flags, internal date, UID."""
    with server.client(login) as client:
        return client.read_all()
