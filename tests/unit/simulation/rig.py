"""A world for one small story that a test tells itself: two empty mailboxes, no faults but those that the test puts there."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.provider_simulator import message
from tests.support.simulator_mail import Message
from tests.unit.simulation.mailboxes import Ever
from tests.unit.simulation.scenario import Story


class Rig(Story):
    """Two empty mailboxes and no chance but the order of wake-ups."""

    def __init__(self, directory: Path, source: str, destination: str, *, connections: int = 1) -> None:
        super().__init__("rig", directory, source=source, destination=destination)
        self.small = True
        self.connections = self.source.pairs = self.destination.pairs = connections

    def _furnish(self) -> None:
        """With nothing."""

    def fill(self, count: int, folder: str = "INBOX", size: int = 20) -> list[Message]:
        put = self.source.account()[folder].put(*(message(str(n), f"body {n} " * size) for n in range(count)))
        for one in put:
            self.ever.setdefault(folder, Ever()).add(one)
        return put

    def contents(self, server: str, folder: str = "INBOX") -> Counter[bytes]:
        return Counter(m.content for m in getattr(self, server).account()[folder].messages)

    def in_order(self, folder: str) -> bool:
        """Whether the folder holds the same on both sides, one message behind the other."""
        here, there = ([m.content for m in server.account()[folder].messages] for server in (self.source, self.destination))
        return here == there

    def is_exact(self) -> bool:
        return self.contents("source") == self.contents("destination")


Make = Callable[..., Rig]


@contextmanager
def rigs(directory: Path) -> Iterator[Make]:
    """Makes worlds, each in a directory of its own and one at a time, and ends the last."""
    opened: list[Rig] = []

    def make(source: str = "dovecot", destination: str = "IMAP4rev1 UIDPLUS LITERAL+", **options: int) -> Rig:
        for before in opened:
            before.leave()
        opened.clear()
        own = directory / str(len([*directory.iterdir()]))
        own.mkdir()
        one = Rig(own, source, destination, **options)
        one.enter()
        opened.append(one)
        return one

    yield make
    for one in opened:
        one.leave()
