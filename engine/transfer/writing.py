"""The destination's half of a folder: intents before, APPENDs, outcomes after.

Keeps a small window of batches unanswered (facts: reliability, finding 1: what is in flight when we die is executed after us), in
the order of the source. A refused batch is sent again one message at a time; a refused message is set aside with the server's
words, unless the refusal speaks of the mailbox (quota, login) or of time (throttle).
"""
from __future__ import annotations

import hashlib
import time
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from engine.causes import Cause, Side
from engine.errors import EngineError, Refused, Throttled
from engine.imap.append import Appended, Appender, Pending
from engine.imap.fetch import fetch_digests, fetch_metadata
from engine.imap.session import Session
from engine.ledger import Intent, SetAsideRow, Written
from engine.redact import redact
from engine.transfer.matching import Claims, instant, pair_equal
from engine.transfer.pace import obey
from engine.transfer.queues import ByteQueue
from engine.transfer.reading import Gone, Item, Ready, Unreadable
from engine.transfer.records import Arrived, FolderRecords, Listed

WINDOW_BATCHES = 3            # batches appended and not yet answered
WINDOW_BYTES = 6 << 20        # … and their octets
BATCH_BYTES = 1 << 20         # octets of one batch; a larger message goes alone
BATCH_MESSAGES = 100
RESOLVE_MESSAGES = 400        # without UIDPLUS: destination UIDs are read back after so many
BUSY_WAIT_SECONDS = (2.0, 5.0, 15.0)  # "try again later": so many more tries, after such waits

FATAL = frozenset({Cause.DESTINATION_QUOTA, Cause.DESTINATION_LOGIN, Cause.DESTINATION_TLS, Cause.DESTINATION_CONNECT})
BUSY = frozenset({Cause.DESTINATION_BUSY, Cause.THROTTLED, Cause.SERVER_BUSY, Cause.TOO_MANY_CONNECTIONS})


@dataclass
class _Sent:
    pending: Pending
    batch: list[Ready]
    intent: int
    at: float
    octets: int


@dataclass
class _Outcome:
    """What the next durable write will say."""

    arrived: list[Arrived] = field(default_factory=list)
    set_aside: list[SetAsideRow] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    octets: int = 0
    append_seconds: float = 0.0
    vanished: int = 0

    def empty(self) -> bool:
        return not (self.arrived or self.set_aside or self.closed or self.vanished)


class Writer:
    """Appends one folder's messages. `floor` is the destination's UIDNEXT when nothing of this run was sent yet."""

    def __init__(self, target: Session, records: FolderRecords, claims: Claims, *, uidvalidity: int, floor: int,
                 goes_alone: Callable[[int], bool], stopped: Callable[[], bool], told: Callable[[], None]) -> None:
        self._target = target
        self._appender = Appender(target)
        self._records = records
        self._claims = claims
        self._uidvalidity = uidvalidity
        self._floor = floor
        self._goes_alone = goes_alone
        self._stopped = stopped
        self._told = told
        self._sent: deque[_Sent] = deque()
        self._unresolved: list[tuple[Listed, str, int]] = []  # no UIDPLUS: listed, digest, octets; their intents stay open
        self._unresolved_intents: list[int] = []
        self._again: list[Ready] = []  # the message that is sent once more by itself
        self._next = _Outcome()
        self.appended = AppendedList()
        self._uidplus = "UIDPLUS" in target.capabilities

    def take(self, queue: ByteQueue[Item]) -> bool:
        """Appends everything that comes. False: stopped before the end. Whatever was sent is answered and stored on return."""
        batch: list[Ready] = []
        for item in queue.until(self._stopped):
            if isinstance(item, Ready):
                alone = item.stream is not None or self._goes_alone(item.listed.meta.uid)
                if batch and (alone or self._full(batch, item)):
                    self._send(batch)
                    batch = []
                batch.append(item)
                if alone or (not self._sent and not queue.ready()):  # the destination must not idle while a batch fills
                    self._send(batch)
                    batch = []
            else:
                self._note(item)
        finished = not self._stopped()
        if batch and finished:
            self._send(batch)
        self.drain()
        return finished

    def suspects(self) -> list[int]:
        """Source UIDs of the oldest unanswered batch: what the destination was working on when the connection broke."""
        batch = self._again or (self._sent[0].batch if self._sent else [])
        return [r.listed.meta.uid for r in batch]

    def save(self) -> None:
        """Stores what is known after a failure: answered batches, unreadable messages. Open intents stay open."""
        if not self._next.empty():
            self._write(())

    def _full(self, batch: Sequence[Ready], item: Ready) -> bool:
        octets = sum(r.outgoing.size for r in batch) + item.outgoing.size
        return len(batch) >= BATCH_MESSAGES or octets > BATCH_BYTES

    def _note(self, item: Unreadable | Gone) -> None:
        if isinstance(item, Gone):
            self._next.vanished += 1
        else:
            self._next.set_aside.append(set_aside_row(item.listed, item.error))

    def _send(self, batch: list[Ready]) -> None:
        obey(self._target, self._stopped)
        octets = sum(r.outgoing.size for r in batch)
        while self._sent and (len(self._sent) >= WINDOW_BATCHES or sum(s.octets for s in self._sent) + octets > WINDOW_BYTES):
            self._finish_oldest()
        if len(self._unresolved) >= RESOLVE_MESSAGES:
            self.drain()
        if not self._uidplus:
            batch = [replace(r, outgoing=replace(r.outgoing, content=_Hashing(r.outgoing.content))) for r in batch]
        intent = self._records.intend([r.listed.meta.uid for r in batch], self._uidvalidity, self._floor)
        [intent_id] = self._write((intent,)).intents
        pending = self._appender.send(self._records.row.target, [r.outgoing for r in batch])
        self._sent.append(_Sent(pending, batch, intent_id, time.monotonic(), octets))

    def _finish_oldest(self) -> None:
        sent = self._sent[0]
        results = self._appender.wait(sent.pending)
        self._next.append_seconds = max(self._next.append_seconds, time.monotonic() - sent.at)
        refused = [r for r in results if r.error is not None]
        self._sent.popleft()
        if refused and len(sent.batch) > 1:
            while self._sent:  # before its messages go again, what follows in the window is answered: one thing at a time
                self._finish_oldest()
        for ready, result in zip(sent.batch, results, strict=True):
            if result.error is not None:
                self._again = [ready]
                result = self._after_refusal(ready, result.error, was_batch=len(sent.batch) > 1)
                self._again = []
            self._settle(ready, result)
        if self._uidplus:
            self._next.closed.append(sent.intent)
        else:
            self._unresolved_intents.append(sent.intent)

    def _after_refusal(self, ready: Ready, error: EngineError, *, was_batch: bool) -> Appended:
        """What to do with one refused message: wait and send again, create the folder, send it alone, or give it up. Its intent is
        still open. Raises Refused or Throttled when the refusal is not about this message."""
        folder, uid = self._records.row.target, ready.listed.meta.uid
        waits, may_create = iter(BUSY_WAIT_SECONDS), True
        while True:
            if error.cause in FATAL:
                raise Refused(error.cause, side=Side.DESTINATION, server_text=error.server_text, detail=error.detail)
            if error.cause in BUSY:
                wait = next(waits, None)
                if wait is None or ready.stream or (error.retry_after or 0) > wait:
                    raise Throttled(error.cause, side=Side.DESTINATION, server_text=error.server_text,
                                    retry_after=error.retry_after or 60.0)
                time.sleep(wait)
            elif error.cause is Cause.X_FOLDER and may_create and not ready.stream:  # TRYCREATE (RFC 3501 §6.3.11)
                self._target.create(folder)
                may_create = False
            elif was_batch:  # the batch was refused as a whole: whose fault is not known yet
                was_batch = False
            else:
                if ready.stream:
                    ready.stream.abandon()
                return Appended(uid, None, error)
            [result] = self._appender.wait(self._appender.send(folder, [ready.outgoing]))
            if result.error is None:
                return result
            error = result.error

    def _settle(self, ready: Ready, result: Appended) -> None:
        if result.error is not None:
            self._next.set_aside.append(set_aside_row(ready.listed, result.error))
        elif result.target_uid is None:
            self._unresolved.append((ready.listed, _digest_of(ready), ready.outgoing.size))
        else:
            self._arrived(ready.listed, result.target_uid, ready.outgoing.size)

    def _arrived(self, listed: Listed, target_uid: int, octets: int) -> None:
        self._next.arrived.append(Arrived(listed, target_uid))
        self._next.octets += octets
        self._claims.add((target_uid,))
        self._floor = max(self._floor, target_uid + 1)
        self.appended.add(listed.meta.uid, target_uid, octets)

    def drain(self) -> None:
        """Waits for everything that was sent, and stores what became of it."""
        while self._sent:
            self._finish_oldest()
        if self._unresolved or self._unresolved_intents:
            self._resolve()
        if not self._next.empty():
            self._write(())

    def _resolve(self) -> None:
        """Destination UIDs of what was appended since the last time, read back (no UIDPLUS)."""
        self._target.examine(self._records.row.target)
        there = [m for m in fetch_metadata(self._target, self._floor, None) if m.uid not in self._claims]
        self._target.unselect()
        waiting, self._unresolved = self._unresolved, []
        if [m.size for m in there] == [octets for _, _, octets in waiting]:
            found = {listed.meta.uid: m.uid for (listed, _, _), m in zip(waiting, there, strict=True)}
        else:
            self._target.examine(self._records.row.target)
            digests = dict(fetch_digests(self._target, [m.uid for m in there]))
            self._target.unselect()
            pairs = pair_equal({listed.meta.uid: digest for listed, digest, _ in waiting}, digests)
            found = {p.source_uid: p.target_uid for p in pairs}
            taken = set(found.values())  # what the server altered is ours all the same: it lies in our window and has the date we gave
            pairs = pair_equal({item.meta.uid: instant(item.meta.internal_date) for item, _, _ in waiting if item.meta.uid not in found},
                               {m.uid: instant(m.internal_date) for m in there if m.uid not in taken})
            found |= {p.source_uid: p.target_uid for p in pairs}
        for listed, _, octets in waiting:
            if listed.meta.uid in found:
                self._arrived(listed, found[listed.meta.uid], octets)
            else:
                self._next.set_aside.append(set_aside_row(listed, EngineError(
                    Cause.INCOMPLETE, side=Side.DESTINATION, detail="accepted by the destination and not there when read back")))
        self._next.closed += self._unresolved_intents
        self._unresolved_intents = []

    def _write(self, intents: Sequence[Intent]) -> Written:
        """One durable write: the outcomes so far, and these intents."""
        done, self._next = self._next, _Outcome()
        written = self._records.write(
            arrived=done.arrived, set_aside=done.set_aside, close=done.closed, open_=intents, octets=done.octets,
            append_seconds=done.append_seconds, vanished=done.vanished,
            clear_set_aside=[a.listed.meta.uid for a in done.arrived if a.listed.meta.uid in self._records.set_aside])
        self._told()
        return written


class AppendedList:
    """What one run appended, for the proof at its end: 24 octets a message."""

    def __init__(self) -> None:
        self.source_uids, self.target_uids, self.sizes = array("Q"), array("Q"), array("Q")

    def add(self, source_uid: int, target_uid: int, octets: int) -> None:
        self.source_uids.append(source_uid)
        self.target_uids.append(target_uid)
        self.sizes.append(octets)

    def unlike(self, there: Iterable[tuple[int, int]]) -> list[tuple[int, int, int, int | None]]:
        """Compares with the (UID, octets) that the destination has: (source UID, destination UID, octets sent, octets there) of
        each message that differs; None where it is not there at all."""
        order = sorted(range(len(self.target_uids)), key=self.target_uids.__getitem__)
        ordered = array("Q", (self.target_uids[i] for i in order))
        found: dict[int, int] = {}
        seen = bytearray(len(order))
        for uid, octets in there:
            at = bisect_left(ordered, uid)
            if at < len(ordered) and ordered[at] == uid:
                seen[at] = 1
                if self.sizes[order[at]] != octets:
                    found[at] = octets
        return [(self.source_uids[order[at]], ordered[at], self.sizes[order[at]], found.get(at))
                for at in range(len(order)) if not seen[at] or at in found]


class _Hashing:
    """Content that is hashed while it is sent, for destinations that do not name the UID."""

    def __init__(self, content: bytes | Iterable[bytes]) -> None:
        self._content = content
        self._hash = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        self._hash = hashlib.sha256()
        for chunk in (self._content,) if isinstance(self._content, bytes) else self._content:
            self._hash.update(chunk)
            yield chunk

    def digest(self) -> str:
        return self._hash.hexdigest()


def _digest_of(ready: Ready) -> str:
    content = ready.outgoing.content
    return content.digest() if isinstance(content, _Hashing) else ""


def set_aside_row(listed: Listed, error: EngineError) -> SetAsideRow:
    words = redact(error.server_text or error.detail)
    return SetAsideRow(listed.meta.uid, error.cause, words, listed.meta.size, listed.meta.internal_date)
