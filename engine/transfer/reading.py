"""The source's half of a folder: lists what is there, reads the bodies of what is not accounted for, hands them over in order.

Runs in its own thread so that reading and appending overlap. A message that cannot be read is tried twice more by itself and then
handed over as Unreadable; one that is no longer there as Gone. Never writes the ledger, never sends anything but EXAMINE and
UID FETCH … BODY.PEEK.
"""
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from engine.causes import Cause
from engine.errors import EngineError, MessageRefused, ProtocolError
from engine.imap.append import Outgoing
from engine.imap.fetch import Body, Metadata, fetch_bodies, fetch_metadata, fetch_uids
from engine.imap.session import Session
from engine.providers.catalogue import provider
from engine.providers.provider import Quirk
from engine.transfer.pace import obey
from engine.transfer.queues import Abandoned, ByteQueue
from engine.transfer.records import Accounted, Listed, listed

RANGE_MESSAGES = 2000            # messages listed at a time
BATCH_MESSAGES = 200             # bodies asked for by one UID FETCH
BATCH_BYTES = 4 << 20            # … and their size together
STREAM_OVER = 2 << 20            # a larger message travels chunk by chunk
STREAM_BUFFER = 1 << 20          # octets of it between the two threads
QUEUE_BYTES = 8 << 20            # read and not yet appended
SINGLE_TRIES = 2                 # after the batch: so many more times by itself


@dataclass(frozen=True, slots=True)
class Ready:
    """A message on its way. With a `stream`, its content can be taken only once, while it is being read."""

    listed: Listed
    outgoing: Outgoing
    stream: ByteQueue[bytes] | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    listed: Listed
    error: EngineError


@dataclass(frozen=True, slots=True)
class Gone:
    """Deleted or moved at the source since it was listed."""

    listed: Listed


Item = Ready | Unreadable | Gone


@dataclass(frozen=True)
class Wanted:
    """What to read of the EXAMINEd folder. `first`: the lowest UID that may be unaccounted; `previous`: the one before it."""

    first: int
    previous: int
    uidnext: int | None
    messages: int
    accounted: Accounted
    hopeless: Callable[[int], bool]  # broke the connection too often


def listing(session: Session, wanted: Wanted) -> Iterator[list[Listed]]:
    """The folder's messages from `wanted.first` up, in ascending UIDs, at most RANGE_MESSAGES at a time."""
    previous = wanted.previous
    for first, last in _ranges(session, wanted):
        found = listed(fetch_metadata(session, first, last), previous)
        previous = found[-1].meta.uid if found else previous
        yield found


def _ranges(session: Session, wanted: Wanted) -> Iterator[tuple[int, int | None]]:
    """UID ranges of about RANGE_MESSAGES each. Sparse UIDs (NetEase: large, not from 1) are listed first, 8 bytes each."""
    if wanted.messages == 0:
        return
    if wanted.uidnext is not None and wanted.uidnext - wanted.first <= 2 * wanted.messages + RANGE_MESSAGES:
        for first in range(wanted.first, wanted.uidnext, RANGE_MESSAGES):
            yield first, min(first + RANGE_MESSAGES, wanted.uidnext) - 1
        return
    uids = sorted(fetch_uids(session, wanted.first, None))
    for at in range(0, len(uids), RANGE_MESSAGES):
        yield uids[at], uids[min(at + RANGE_MESSAGES, len(uids)) - 1]


def batches(messages: Sequence[Listed]) -> Iterator[list[Listed]]:
    """Groups of consecutive messages, bounded in count and octets."""
    group: list[Listed] = []
    octets = 0
    for item in messages:
        if group and (len(group) >= BATCH_MESSAGES or octets + item.meta.size > BATCH_BYTES):
            yield group
            group, octets = [], 0
        group.append(item)
        octets += item.meta.size
    if group:
        yield group


def header_only(content: bytes, announced: int, *, exact: bool = True) -> bool:
    """Whether a server gave the header block and no body although it announced more (263; facts: providers section 9).

    Where sizes are guesses (`exact` False: Exchange) a small difference says nothing."""
    end = content.find(b"\r\n\r\n")
    if 0 <= end < len(content) - 4:
        return False
    slack = 0 if exact else max(64, len(content) // 10)
    return announced > len(content) + slack


class Reader:
    """Reads one folder into a queue, in a thread of its own."""

    def __init__(self, session: Session, wanted: Wanted) -> None:
        self._session = session
        self._wanted = wanted
        self._exact_sizes = Quirk.SIZE_IS_ESTIMATE not in provider(session.provider).quirks
        self.queue: ByteQueue[Item] = ByteQueue(QUEUE_BYTES)
        self.seen = 0         # messages listed so far
        self.reading_uid = 0  # the message under way, for whoever asks why the connection broke
        self._stream: ByteQueue[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Waits for the thread; its waits all have deadlines."""
        self._thread.join()

    def abandon(self) -> None:
        """The writer stops early: the connection is cut, because a FETCH may still be pouring in."""
        self.queue.abandon()
        if self._stream is not None:
            self._stream.abandon()
        if self._thread.is_alive():
            self._session.close()
        self._thread.join()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            for found in listing(self._session, self._wanted):
                self.seen += len(found)
                self._read([item for item in found if item.meta.uid not in self._wanted.accounted])
                obey(self._session, self.queue.abandoned)
        except Abandoned:
            pass
        except BaseException as caught:  # handed to the writer's thread, where it is raised
            error = caught
        self.queue.end(error)

    def _read(self, messages: list[Listed]) -> None:
        hopeless = [item for item in messages if self._wanted.hopeless(item.meta.uid)]
        for item in hopeless:
            self.queue.put(Unreadable(item, MessageRefused(
                Cause.X_ITEM, detail="the connection broke each time this message was read or appended")), 0)
        todo = [item for item in messages if not self._wanted.hopeless(item.meta.uid)]
        while todo:
            todo = self._read_batches(todo)

    def _read_batches(self, todo: list[Listed]) -> list[Listed]:
        """Reads until done or until the server refuses a batch; returns what is left to ask for after that batch."""
        waiting = {item.meta.uid: item for item in todo}
        again: list[Listed] = []
        groups = [[item.meta.uid for item in group] for group in batches(todo)]
        try:
            for body in fetch_bodies(self._session, groups, largest=_largest(todo)):
                item = waiting.pop(body.uid, None)
                if item is not None and not self._hand_over(item, body, final=False):
                    again.append(item)
        except MessageRefused as refused:
            refused_uids = [uid for uid in refused.uids if uid in waiting]
            if not refused_uids:
                raise ProtocolError(Cause.X_CLIENT, server_text=refused.server_text, detail="UID FETCH was refused") from refused
            passed = [uid for uid in waiting if uid <= max(refused_uids)]  # with those that earlier batches left unanswered
            for item in again + [waiting.pop(uid) for uid in passed]:
                self._read_single(item)
            return [item for item in todo if item.meta.uid in waiting]
        for item in again + list(waiting.values()):
            self._read_single(item)
        return []

    def _read_single(self, item: Listed) -> None:
        error = MessageRefused(Cause.X_ITEM, detail="the server gave no body for this message")
        for left in reversed(range(SINGLE_TRIES)):
            done = False
            try:
                for body in fetch_bodies(self._session, [[item.meta.uid]], largest=_largest([item])):
                    done = self._hand_over(item, body, final=not left) or done
            except MessageRefused as refused:
                error = refused
            if done:
                return
        still_there = any(m.uid == item.meta.uid for m in fetch_metadata(self._session, item.meta.uid, item.meta.uid))
        self.queue.put(Unreadable(item, error) if still_there else Gone(item), 0)

    def _hand_over(self, item: Listed, body: Body, *, final: bool) -> bool:
        """Passes one body on. False: it is not what the server announced, and may be asked for again (`final` says it may not)."""
        self.reading_uid = item.meta.uid
        meta = item.meta
        if body.length > STREAM_OVER:
            stream = self._stream = ByteQueue(STREAM_BUFFER)
            self.queue.put(Ready(item, _outgoing(meta, body.length, iter(stream)), stream), 0)
            self._pour(body, stream)
            return True
        content = body.read()
        if (content or not meta.size) and not header_only(content, meta.size, exact=self._exact_sizes):
            self.queue.put(Ready(item, _outgoing(meta, len(content), content)), len(content))
            return True
        if final:
            found = "only the header" if content else "nothing"
            self.queue.put(Unreadable(item, MessageRefused(
                Cause.X_ITEM, detail=f"the server announced {meta.size} octets and gave {found}")), 0)
        return final

    def _pour(self, body: Body, stream: ByteQueue[bytes]) -> None:
        try:
            for chunk in body.chunks():
                stream.put(chunk, len(chunk))
        except Abandoned:
            for _ in body.chunks():  # refused at the destination: the rest is read past
                pass
        except EngineError as error:
            stream.end(error)
            raise
        else:
            stream.end()


def _outgoing(meta: Metadata, size: int, content: bytes | Iterator[bytes]) -> Outgoing:
    return Outgoing(meta.uid, meta.flags, meta.internal_date, size, content)


def _largest(messages: Sequence[Listed]) -> int:
    """The cap for a literal: what was announced, with room for servers whose sizes are guesses (Exchange)."""
    return max(item.meta.size for item in messages) * 4 + (64 << 20)
