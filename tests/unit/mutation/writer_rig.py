"""A writer between a reader and a destination that are both played by the test: what is handed over, refused, lost and answered when.

Owns: the destination's folder, its answers and its clock; the ledger is a real one. The wire is tests/unit/imap's.
"""
from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.causes import Cause, Side
from engine.errors import EngineError, MessageRefused
from engine.imap.append import Appended, Outgoing
from engine.imap.fetch import Metadata
from engine.ledger import FolderRow, Intent
from engine.ledger_file import SqliteLedger
from engine.pacing.pacer import OpenGate
from engine.transfer import pairing, writing
from engine.transfer.handing import Item, Ready
from engine.transfer.matching import Claims
from engine.transfer.proof import Proof
from engine.transfer.queues import ByteQueue
from engine.transfer.records import FolderRecords, Listed
from engine.transfer.writing import Writer

DATE = "06-May-2024 07:08:09 +0800"
LATER = "07-May-2024 07:08:09 +0800"
UIDVALIDITY = 77


def content(uid: int, size: int = 0) -> bytes:
    return (b"Subject: %d\r\n\r\n" % uid).ljust(size, b".")


def ready(uid: int, body: bytes | None = None, flags: tuple[str, ...] = (), date: str = DATE) -> Ready:
    octets = content(uid) if body is None else body
    return Ready(Listed(Metadata(uid, len(octets), flags, date), uid - 1), Outgoing(uid, flags, date, len(octets), octets))


def streamed(uid: int, size: int = 0, flags: tuple[str, ...] = ()) -> Ready:
    """A message whose octets can be taken only once."""
    octets, stream = content(uid, size), ByteQueue[bytes](1 << 30)
    stream.put(octets, len(octets))
    stream.end()
    return Ready(Listed(Metadata(uid, len(octets), flags, DATE), uid - 1), Outgoing(uid, flags, DATE, len(octets), stream), stream)


def refused(words: str, cause: Cause = Cause.X_ITEM, *, retry_after: float | None = None, detail: str = "") -> EngineError:
    return MessageRefused(cause, side=Side.DESTINATION, server_text=words, detail=detail, retry_after=retry_after)


class Handed:
    """A queue. The writer has to wait for what `waits_for` says; before the message `stops_before` somebody asks for a stop."""

    def __init__(self, items: Iterable[Item], waits_for: Callable[[Item], bool], stops_before: int, stop: list[bool]) -> None:
        self._items = deque(items)
        self._waits_for = waits_for
        self._stops_before, self._stop = stops_before, stop

    def until(self, stopped: Callable[[], bool]) -> Iterator[Item]:
        while self._items:
            self._stop[0] = self._stop[0] or self._items[0].listed.meta.uid == self._stops_before
            if stopped():
                return
            yield self._items.popleft()

    def ready(self) -> bool:
        return not self._items or not self._waits_for(self._items[0])


class Gate(OpenGate):
    """Counts what it is told; `share` of a window may be used."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.came = 0
        self.share = 1.0

    def before(self, messages: int, octets: int) -> None:
        self.asked.append((messages, octets))

    def done(self, messages: int) -> None:
        self.came += messages

    def window(self, base: int) -> int:
        return max(1, int(base * self.share))


@dataclass
class Stored:
    uid: int
    octets: bytes
    flags: tuple[str, ...]
    date: str


@dataclass
class Batch:
    """What was sent together, and is answered together."""

    results: list[Appended]
    uids: list[int]
    octets: int
    unread: bool = False


@dataclass
class Destination:
    """A session and its appender. `refuses(message)`: the error, or None. `one_fate`: a refusal takes the batch with it (MULTIAPPEND).
    `unasked`: of these messages no octet is taken before they are refused. `breaks_at`: with this answer the connection is lost."""

    uidplus: bool = True
    tells_uids: bool = True                          # … and says so in its answers
    rtt: float = 0.0
    refuses: Callable[[Outgoing], EngineError | None] = lambda message: None
    one_fate: bool = True
    unasked: frozenset[int] = frozenset()
    breaks_at: int = 0
    breaks_with: EngineError | None = None
    send_seconds: float = 0.0
    answer_seconds: float = 0.0
    alters: Callable[[bytes], bytes] = lambda octets: octets
    uid_of: Callable[[int], int] | None = None     # the UID that a source message gets
    uidnext: int = 100
    folder: list[Stored] = field(default_factory=list)
    said: list[Any] = field(default_factory=list)   # what it was told and what it answered, in order
    asked_first: list[int] = field(default_factory=list)  # UIDs of what was announced, to be asked for
    unanswered: list[Batch] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)  # batches unanswered after each that was sent
    now: float = 1000.0
    slept: list[float] = field(default_factory=list)
    before_send: Callable[[], None] = lambda: None
    in_order: bool = True                            # whether it stored what it was sent in that order
    holding: bool = False                            # whether the end of something waits for more to be sent
    answers: int = 0

    def __post_init__(self) -> None:
        self.capabilities = frozenset({"IMAP4REV1", "UIDPLUS"} if self.uidplus else {"IMAP4REV1"})
        self.gate = Gate()
        self.channel = SimpleNamespace(gate=self.gate)

    # -- the appender's part

    def send(self, name: str, batch: Sequence[Outgoing], *, ask_first: bool = False) -> Batch:
        assert name == "Inbox/there"
        self.asked_first += [message.uid for message in batch if ask_first]
        self.before_send()
        uids = [message.uid for message in batch]
        self.said.append(("send", *uids))
        self.now += self.send_seconds
        errors = [self.refuses(message) for message in batch]
        if self.one_fate and (first := next((error for error in errors if error), None)):
            errors = [first for _ in batch]
        sent = Batch([], uids, sum(message.size for message in batch), unread=not self.unasked.isdisjoint(uids))
        for message, error in zip(batch, errors, strict=True):
            octets = b""
            if not sent.unread:
                octets = message.content if isinstance(message.content, bytes) else b"".join(message.content)
                assert len(octets) == message.size
            sent.results.append(Appended(message.uid, None, error) if error else self._store(message, octets))
        self.unanswered.append(sent)
        self.levels.append(len(self.unanswered))
        return sent

    def _store(self, message: Outgoing, octets: bytes) -> Appended:
        uid = self.uid_of(message.uid) if self.uid_of else self.uidnext
        self.deliver(self.alters(octets), uid, message.flags, message.internal_date)
        return Appended(message.uid, uid if self.uidplus and self.tells_uids else None, None)

    def deliver(self, octets: bytes, uid: int | None = None, flags: tuple[str, ...] = (), date: str = LATER) -> None:
        """Into the folder, whoever sent it."""
        self.folder.append(Stored(self.uidnext if uid is None else uid, octets, flags, date))
        self.uidnext = max(self.uidnext, self.folder[-1].uid + 1)

    def hear(self) -> None:
        """It has said nothing that was not asked for."""

    def let_end(self) -> None:
        self.said.append(("let end",))
        self.holding = False

    def wait(self, sent: Batch) -> list[Appended]:
        self.now += self.answer_seconds
        self.answers += 1
        if self.breaks_with and self.answers == self.breaks_at:
            raise self.breaks_with
        self.unanswered.remove(sent)
        self.said.append(("answered", *sent.uids))
        return sent.results

    # -- the session's part

    def create(self, name: str) -> None:
        self.said.append(("create", name))

    def examine(self, name: str) -> None:
        self.said.append(("examine", name))

    def unselect(self) -> None:
        self.said.append(("unselect",))

    def listed(self) -> list[Stored]:
        return sorted(self.folder, key=lambda m: m.uid)

    def digests(self, uids: Sequence[int]) -> list[tuple[int, str]]:
        self.said.append(("digests", *uids))
        return [(m.uid, hashlib.sha256(m.octets).hexdigest()) for m in self.listed() if m.uid in uids]

    # -- its clock

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass
class WriterRig:
    """A writer and both its ends."""

    destination: Destination
    ledger: SqliteLedger
    records: FolderRecords
    claims: Claims
    writer: Writer
    proven: list[tuple[int, int]]       # messages of each proof, and batches that were unanswered then
    intents: list[Intent]               # the newest that the ledger held when something was sent
    told: list[int]                     # messages moved, at each call
    stop: list[bool]

    def take(self, *items: Item, waits_for: Callable[[Item], bool] = lambda item: False, stops_before: int = 0,
             source_is_free: Callable[[], None] | None = None) -> bool:
        return self.writer.take(Handed(items, waits_for, stops_before, self.stop), source_is_free)  # type: ignore[arg-type]

    def sent(self) -> list[tuple[int, ...]]:
        return [tuple(words[1:]) for words in self.destination.said if words[0] == "send"]

    def runs(self) -> list[tuple[int, int, int]]:
        """(source UID, how many, UID there) as the ledger has them."""
        return [(run.source_first, run.count, run.target_first) for run in self.ledger.runs(self.records.row.id)]

    def open_intents(self) -> list[tuple[int, ...]]:
        return [intent.uids for intent in self.ledger.intents(self.records.row.id)]

    def aside(self) -> dict[int, str]:
        return {row.uid: row.server_text for row in self.ledger.set_aside(self.records.row.id)}


MakeWriterRig = Callable[..., WriterRig]


def writer_rigs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeWriterRig]:
    """make(goes_alone=…, floor=…, **what Destination takes); ledgers are closed at the end."""
    ledgers: list[SqliteLedger] = []

    def make(*, goes_alone: Callable[[int], bool] = lambda uid: False, floor: int = 100, **options: Any) -> WriterRig:
        there = Destination(**options)
        monkeypatch.setattr(writing, "Appender", lambda session, lanes, *, ask_first: there)
        monkeypatch.setattr(writing, "time", there)
        monkeypatch.setattr(writing, "fetch_metadata", lambda session, first, last: [
            Metadata(m.uid, len(m.octets), m.flags, m.date) for m in session.listed() if m.uid >= first and last is None])
        monkeypatch.setattr(pairing, "fetch_digests", lambda session, uids: session.digests(uids))
        ledger = SqliteLedger(tmp_path / str(len(ledgers)), "a -> b")
        ledgers.append(ledger)
        records = FolderRecords(ledger, ledger.put_folder(FolderRow("INBOX", "Inbox/there")))
        claims, proven, intents, told, stop = Claims(), [], [], [], [False]

        def prove(proof: Proof) -> None:
            proven.append((len(proof), len(there.unanswered)))

        writer = Writer(there, records, claims, uidvalidity=UIDVALIDITY, floor=floor, goes_alone=goes_alone, proof=Proof(),  # type: ignore[arg-type]
                        stopped=lambda: stop[0], told=lambda: told.append(records.row.moved), prove=prove)
        there.before_send = lambda: intents.extend(ledger.intents(records.row.id)[-1:])
        return WriterRig(there, ledger, records, claims, writer, proven, intents, told, stop)

    yield make
    for ledger in ledgers:
        ledger.close()
