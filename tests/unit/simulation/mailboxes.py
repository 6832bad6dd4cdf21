"""The two mailboxes of a story: servers of any provider's manners, the mail that lies there, and what was ever in it.

Owns: what an invariant is checked against (`ever`, `own`, `removed`, `touched`). Every choice is drawn from `rng`: one seed, one story.
"""
from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from engine.causes import Side
from tests.support.provider_simulator import PROFILES, Message, with_capabilities
from tests.support.simulator_mail import Folder
from tests.support.simulator_profiles import Profile
from tests.unit.simulation.network import Manners, SimulatedServer
from tests.unit.simulation.world import World

DESTINATIONS = (
    "IMAP4rev1 UIDPLUS", "IMAP4rev1 UIDPLUS LITERAL+", "IMAP4rev1 UIDPLUS MULTIAPPEND LITERAL+", "IMAP4rev1 UIDPLUS MULTIAPPEND",
    "IMAP4rev1 UIDPLUS LITERAL-", "IMAP4rev1", "IMAP4rev1 LITERAL+", "IMAP4rev1 MULTIAPPEND LITERAL+",
)
SOURCES = ("plain", "dovecot", "qq", "netease", "gmail", "exchange", "aliqiye", "m263", "sina")
FLAGS = ((), ("\\Seen",), ("\\Seen", "\\Flagged"), ("\\Answered",), ("\\Draft",))
NAMES = ("Projects", "Archive 2019", "&Xn9USpCuTvY-", "Sent", "Trash", "a&AOk-", "Deleted Items")


def profile_of(capabilities: str) -> Profile:
    plain = PROFILES["plain"]
    return with_capabilities(plain, *capabilities.split(), without=tuple(plain.after.split()))


@dataclass
class Ever:
    """What a source folder ever held, by content; flags and dates that each content ever had."""

    contents: Counter[bytes] = field(default_factory=Counter)
    flags: dict[bytes, set[tuple[str, ...]]] = field(default_factory=dict)
    dates: dict[bytes, set[str]] = field(default_factory=dict)

    def add(self, message: Message) -> None:
        self.contents[message.content] += 1
        self.saw(message)

    def saw(self, message: Message) -> None:
        self.flags.setdefault(message.content, set()).add(tuple(sorted(message.flags)))
        self.dates.setdefault(message.content, set()).add(message.internal_date)


class Mailboxes:
    """`source` is a provider's profile, `destination` the capabilities of the other side; what is not given is drawn."""

    def __init__(self, seed: int | str, *, told: bool = False, source: str = "", destination: str = "") -> None:
        self.seed = seed
        self.world = World(seed)
        self.told = told
        self.happened: Counter[str] = Counter()
        self.touched: set[str] = set()                 # what people and failures did that loosens an invariant
        self.ever: dict[str, Ever] = {}                # by source folder
        self.own: dict[str, Counter[bytes]] = {}       # the destination's own mail when it began, by folder
        self.removed: Counter[bytes] = Counter()       # copies that a person removed at the destination
        self.serial = 0
        rng = self.rng = random.Random(f"{seed} mail")
        self.source = SimulatedServer(self.world, "source", Side.SOURCE, source or rng.choice(SOURCES))
        self.capabilities = destination or rng.choice(DESTINATIONS)
        self.destination = SimulatedServer(self.world, "destination", Side.DESTINATION, profile_of(self.capabilities))
        self.uidplus = "UIDPLUS" in self.capabilities
        self.connections = rng.choice((1, 1, 2, 3))
        self.small = rng.random() < 0.7                # whether batches are (scenario.SMALL)
        self.source.pairs = self.destination.pairs = self.connections
        for server in (self.source, self.destination):
            server.manners = Manners(rng.choice((0.0005, 0.005, 0.05, 0.2)), rng.choice((0.0, 0.0, 0.002)),
                                     rng.choice((0.0, 0.1, 0.4, 0.4)) if server is self.destination else 0.0)
        self._furnish()

    def next_door(self) -> None:
        """The destination is as near as it gets, and may be filled over several connections."""
        self.destination.manners.latency = 0.0005
        self.connections = self.source.pairs = self.destination.pairs = self.rng.choice((2, 3))

    def say(self, *words: object) -> None:
        if self.told:
            print(f"{self.world.loop.now:10.3f}", *words)  # one seed, told

    def source_folders(self) -> list[Folder]:
        return [f for f in self.source.account().folders.values() if f.selectable]

    def destination_folders(self) -> list[Folder]:
        return list(self.destination.account().folders.values())

    def arrives(self, folder: Folder) -> None:
        """One new message: now and then a twin of another, or one that only looks like it."""
        rng = self.rng
        if folder.messages and rng.random() < 0.1:
            twin = rng.choice(folder.messages)
            new = Message(twin.content, rng.choice(FLAGS), rng.choice((twin.internal_date, self._date())))
        elif folder.messages and rng.random() < 0.05:  # another message of the same header and size
            other = rng.choice(folder.messages).content
            new = Message(other[:-3] + b"%d\r\n" % rng.randint(0, 9), rng.choice(FLAGS), self._date())
        else:
            new = Message(self._content(), rng.choice(FLAGS), self._date())
        folder.add(new)
        self.ever.setdefault(folder.name, Ever()).add(new)

    def _furnish(self) -> None:
        box, rng = self.source.account(), self.rng
        for name in rng.sample(NAMES, rng.choice((0, 1, 1, 2, 3))):
            if name not in box.folders:
                self.source.add_folder(name)
        for folder in list(box.folders.values()):
            if folder.selectable and (folder.name == "INBOX" or rng.random() < 0.5):
                for _ in range(rng.choice((0, 1, 3, 8, 8, 20, 30))):
                    self.arrives(folder)
        there = self.destination.account()
        for name in rng.sample(("INBOX", "Projects", "Sent", "Trash"), rng.choice((0, 1, 2))):
            folder = there.folders.get(name) or self.destination.add_folder(name)
            here = box.folders.get(name)
            for message in rng.sample(here.messages, min(len(here.messages), rng.choice((0, 1, 3)))) if here else ():
                folder.add(Message(message.content, message.flags, message.internal_date))
            for _ in range(rng.choice((0, 1, 4))):
                folder.add(Message(self._content("own"), (), self._date()))
        self.own = {f.name: Counter(m.content for m in f.messages) for f in there.folders.values()}

    def _content(self, what: str = "mail") -> bytes:
        self.serial += 1
        size = self.rng.choice((20, 60, 200, 900, 1500, 1500, 7000 if self.small else 900))
        head = b"Message-ID: <%d@%s>\r\nSubject: %d\r\n\r\n" % (self.serial, what.encode(), self.serial)
        return head + (b"line %d\r\n" % self.serial) * (1 + size // 10)

    def _date(self) -> str:
        rng = self.rng
        day, month = rng.randint(1, 28), rng.choice(("Jan", "Feb", "Nov"))
        return f"{day:2d}-{month}-2023 {rng.randint(0, 23):02d}:13:{rng.randint(0, 59):02d} +0800"
