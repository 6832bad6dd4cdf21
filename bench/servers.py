"""Two private Dovecots, a source with Maildir and a destination of a given kind, and the path to them.

Owns one work directory and all that lives in it. Always: accounts are used once; a used one is left where it is until there is too much of
them, and then everybody waits: deleting files just before a run makes the next run slower for half a minute (ext4 steps over the
freed inodes), and so would a deletion between two candidates.
"""
from __future__ import annotations

import contextlib
import itertools
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import delay
from bench.maildir import clone, give_away
from portal.demo.dovecot import Dovecot, DovecotOptions

ACCOUNTS = 400
SETTLE_SECONDS = 40.0
ROOM = 12 << 30  # octets of used accounts that are kept before they are deleted
SECRET = "bench secret"


@dataclass(frozen=True)
class Kind:
    """A destination: what is special about it, and how it is told to Dovecot."""

    name: str
    options: DovecotOptions


_USUAL = DovecotOptions(separator="/", mail_format="sdbox")
KINDS = {kind.name: kind for kind in (
    Kind("sdbox", _USUAL),
    Kind("sdbox, same separator", replace(_USUAL, separator=".")),  # for names that hold the other one
    Kind("mdbox", replace(_USUAL, mail_format="mdbox")),
    Kind("maildir", replace(_USUAL, mail_format="maildir")),
    Kind("no fsync", replace(_USUAL, fsync="never")),
    Kind("poor", replace(_USUAL, capability="IMAP4rev1 UIDPLUS")),
)}
_LOGINS = [f"u{number:03d}" for number in range(ACCOUNTS)]


@dataclass
class Place:
    """Where everything is, across servers: the next unused account, and how much the used ones hold."""

    directory: Path
    _next: Iterator[str] = field(default_factory=lambda: iter(itertools.cycle(_LOGINS)))

    def account(self) -> str:
        return next(self._next)

    def make_room(self) -> None:
        """Deletes used accounts when they are too many, and waits until the disk has forgotten them. Only while no server runs."""
        mail = [path for side in ("source", "destination") for path in (self.directory / side / "mail").glob("u*")]
        used = sum(file.stat().st_size for path in mail for file in path.rglob("*") if file.is_file() and "destination" in file.parts)
        if used > ROOM or len(mail) > ACCOUNTS:
            for path in mail:
                shutil.rmtree(path)
            time.sleep(SETTLE_SECONDS)


@dataclass
class Servers:
    """`ports` are what a candidate connects to; the judge goes to `source` and `destination` directly. `pids` work for a candidate."""

    source: Dovecot
    destination: Dovecot
    ports: tuple[int, int]
    pids: tuple[int, ...]
    path: str  # what the delay was measured to be; "" without one

    def provide(self, pristine: Path, login: str) -> Path:
        """A private copy of a corpus as this account's mail. Returns the Maildir."""
        home = self.source.maildir(login).parent
        home.mkdir(parents=True)
        clone(pristine, home / "mail")
        give_away(home, like=self.source.root / "mail")
        return home / "mail"


@contextlib.contextmanager
def running(place: Place, kind: Kind, rtt: float) -> Iterator[Servers]:
    """`rtt` milliseconds between a candidate and either server. Raises DovecotFailed."""
    place.make_room()
    users = dict.fromkeys(_LOGINS, SECRET)
    with contextlib.ExitStack() as stack:
        sides = []
        for name, options in (("source", DovecotOptions(separator=".", roles=())), ("destination", replace(kind.options, roles=()))):
            directory = place.directory / name
            directory.mkdir(exist_ok=True)
            sides.append(stack.enter_context(Dovecot(users, options, directory=directory)))
        source, destination = sides
        assert source.ports and destination.ports
        ports, pids = (source.ports.imap, destination.ports.imap), [source.pid or 0, destination.pid or 0]
        told = ""
        if rtt:
            delays = [stack.enter_context(delay.Delay((port,), delay.Path(rtt / 2000))) for port in ports]
            ports = (delays[0].ports[0], delays[1].ports[0])
            pids += [one.pid for one in delays]
            told = str(delay.check(ports[0]))
        yield Servers(source, destination, ports, tuple(pids), told)
