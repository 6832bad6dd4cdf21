"""The destination's half of a folder: intents before, APPENDs, outcomes after.

Keeps a small window of batches unanswered (facts: reliability, finding 1: what is in flight when we die is executed after us), in
the order of the source. A refused batch is sent again one message at a time; a refused message goes down the ladder of repairs and is
set aside with the server's words if none helps, unless the refusal speaks of the mailbox (quota, login) or of time (throttle).
"""
from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from engine.causes import Cause, Side
from engine.errors import ConnectionBroken, EngineError, Refused, Throttled
from engine.imap.append import Appended, Appender, Outgoing, Pending
from engine.imap.fetch import Metadata, fetch_metadata
from engine.imap.held_ends import NEAR_SECONDS
from engine.imap.session import Session
from engine.ledger import Intent, Repair, RepairRow, SetAsideRow, Written
from engine.redact import redact
from engine.transfer import points
from engine.transfer.handing import Gone, Item, Ready, Unreadable
from engine.transfer.matching import Claims
from engine.transfer.pairing import Unresolved, digest_of, hashed, paired, unhashed
from engine.transfer.proof import PROVE_MESSAGES, Proof
from engine.transfer.queues import ByteQueue
from engine.transfer.records import Arrived, FolderRecords, Listed
from engine.transfer.repair import ladder

WINDOW_BATCHES = 3            # batches appended and not yet answered
WINDOW_BATCHES_AFAR = 8       # … where an answer takes longer than NEAR_SECONDS
WINDOW_BYTES = 6 << 20        # … and their octets that are held, to be sent again
WINDOW_STREAMED = 32 << 20    # … and all their octets: of large messages, which are not held, too
BATCH_BYTES = 1 << 20         # octets of one batch; a larger message goes alone
BATCH_MESSAGES = 128
RESOLVE_MESSAGES = 400        # without UIDPLUS: destination UIDs are read back after so many
BUSY_WAIT_SECONDS = (2.0, 5.0, 15.0)  # "try again later": so many more tries, after such waits

FATAL = frozenset({Cause.DESTINATION_QUOTA, Cause.DESTINATION_LOGIN, Cause.DESTINATION_TLS, Cause.DESTINATION_CONNECT})
BUSY = frozenset({Cause.DESTINATION_BUSY, Cause.THROTTLED, Cause.SERVER_BUSY, Cause.TOO_MANY_CONNECTIONS})


UNASKED_LITERAL = re.compile(r"non-?synchroni[sz]ing literal", re.IGNORECASE)


class FolderLost(EngineError):
    """The destination's folder was deleted or renamed while it was being filled: what was appended is no longer in it."""


@dataclass
class _Sent:
    pending: Pending
    batch: list[Ready]
    intent: int
    at: float
    octets: int
    held: int
    floor: int


@dataclass
class _Outcome:
    """What the next durable write will say."""

    arrived: list[Arrived] = field(default_factory=list)
    set_aside: list[SetAsideRow] = field(default_factory=list)
    repairs: list[RepairRow] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    octets: int = 0
    append_seconds: float = 0.0
    vanished: int = 0

    def empty(self) -> bool:
        return not (self.arrived or self.set_aside or self.repairs or self.closed or self.vanished)


class Writer:
    """Appends one folder's messages. `floor` is the destination's UIDNEXT when nothing of this run was sent yet. What `goes_alone` broke
    the connection before: it is announced first, whatever the server offers, and answered before anything else is sent, so that what
    happens is its doing and the server's words are heard. `proof` takes what is appended, beside what an earlier connection left unproven;
    `prove` is called when these are PROVE_MESSAGES, to read them back; `lanes` are further connections to the destination (append.py
    says where they are used); `ask_first` asks whatever the server offers."""

    def __init__(self, target: Session, records: FolderRecords, claims: Claims, *, uidvalidity: int, floor: int,
                 goes_alone: Callable[[int], bool], stopped: Callable[[], bool], told: Callable[[], None],
                 prove: Callable[[Proof], None], proof: Proof, lanes: Sequence[Session] = (), ask_first: bool = False) -> None:
        self._target = target
        self._gate = target.channel.gate
        self._appender = Appender(target, lanes, ask_first=ask_first)
        self._records = records
        self._claims = claims
        self._uidvalidity = uidvalidity
        self._floor = self._least = floor  # no UID of ours is below
        self._goes_alone = goes_alone
        self._stopped = stopped
        self._told = told
        self._prove = prove
        self._near = target.rtt <= NEAR_SECONDS
        self._window = WINDOW_BATCHES if self._near else WINDOW_BATCHES_AFAR
        self._sent: deque[_Sent] = deque()
        self._sent_octets = self._held_octets = 0
        self._unresolved: list[Unresolved] = []  # no UIDPLUS; their intents stay open
        self._unresolved_intents: list[int] = []
        self._unresolved_floor = floor     # where to look for them
        self._in_order = True  # … and they were stored as they were sent: none was refused and sent again
        self._again: list[Ready] = []  # the message that is sent once more by itself
        self._sending: list[Ready] = []  # the batch of which not all is on the wire yet
        self._next = _Outcome()
        self.proof = proof
        self._uidplus = "UIDPLUS" in target.capabilities

    def take(self, queue: ByteQueue[Item], source_is_free: Callable[[], None] | None = None) -> bool:
        """Appends everything that comes. False: stopped before the end. Whatever was sent is answered and stored on return.
        `source_is_free` is called once nothing more comes: far away at once, next door when all is answered and stored."""
        batch: list[Ready] = []
        octets = 0
        for item in queue.until(self._stopped):
            if isinstance(item, Ready):
                suspect = self._goes_alone(item.listed.meta.uid)
                alone = suspect or item.stream is not None
                size = item.outgoing.size
                if batch and (alone or len(batch) >= BATCH_MESSAGES or octets + size > BATCH_BYTES):
                    self._send(batch)
                    batch, octets = [], 0
                batch.append(item)
                octets += size
                if suspect:
                    self._send_suspect(item)
                    batch, octets = [], 0
                elif alone or (not self._sent and not queue.ready()):  # the destination must not idle while a batch fills
                    self._send(batch)
                    batch, octets = [], 0
                if len(self.proof) >= PROVE_MESSAGES:
                    self.drain()
                    self._prove(self.proof)
                    self.proof.clear()
            else:
                self._note(item)
            if self._appender.holding and not queue.ready():  # nobody knows when more comes: an end must not wait for it
                self._appender.let_end()
        finished = not self._stopped()
        if batch and finished:
            self._send(batch)
        if finished and source_is_free is not None and not self._near:
            source_is_free()
        self.drain()
        if finished and source_is_free is not None and self._near:  # whoever is done first takes the next folder
            source_is_free()
        return finished

    def suspects(self) -> list[int]:
        """Source UIDs of the oldest unanswered batch: what the destination was working on when the connection broke."""
        batch = self._again or (self._sent[0].batch if self._sent else self._sending)
        return [r.listed.meta.uid for r in batch]

    def save(self) -> None:
        """Stores what is known after a failure: answered batches, unreadable messages. Open intents stay open."""
        if not self._next.empty():
            self._write(())

    def _note(self, item: Unreadable | Gone) -> None:
        if isinstance(item, Gone):
            self._next.vanished += 1
        else:
            self._next.set_aside.append(set_aside_row(item.listed, item.error))

    def _send_suspect(self, item: Ready) -> None:
        while self._sent:
            self._finish_oldest()
        self._send([item], ask_first=True)
        while self._sent:
            self._finish_oldest()

    def _send(self, batch: list[Ready], *, ask_first: bool = False) -> None:
        octets = sum(r.outgoing.size for r in batch)
        held = 0 if batch[0].stream else octets
        self._appender.hear()
        while self._sent and not self._fits(octets, held):
            self._finish_oldest()
        self._appender.hear()
        if self._gate.window(WINDOW_BATCHES) < WINDOW_BATCHES:  # told to be slow: nothing is held meanwhile
            self._appender.let_end()
        self._gate.before(len(batch), octets)
        if len(self._unresolved) >= RESOLVE_MESSAGES:
            self.drain()
        if not self._uidplus:
            batch = [r._replace(outgoing=hashed(r.outgoing)) for r in batch]
        floor = self._floor
        intent = self._records.intend((r.listed.meta for r in batch), self._uidvalidity, floor)
        [intent_id] = self._write((intent,)).intents
        points.reached("before a batch is sent")
        self._sending = batch
        self._in_order = self._in_order and self._appender.in_order  # as it is sent: lanes may end before it is read back
        pending = self._appender.send(self._records.row.target, [r.outgoing for r in batch], ask_first=ask_first)
        self._sending = []
        points.reached("after a batch was sent")
        self._sent.append(_Sent(pending, batch, intent_id, time.monotonic(), octets, held, floor))
        self._sent_octets += octets
        self._held_octets += held
        if pending.unread and batch[0].stream:  # its reader pours into a stream that nobody takes: it must not wait for the window
            while self._sent:
                self._finish_oldest()

    def _fits(self, octets: int, held: int) -> bool:
        """Whether so much more may be unanswered."""
        window = self._gate.window
        return (len(self._sent) < window(self._window) and self._held_octets + held <= window(WINDOW_BYTES)
                and self._sent_octets + octets <= window(WINDOW_STREAMED))

    def _finish_oldest(self) -> None:
        """Takes the answer to the oldest batch. Before refused messages go again, what follows in the window is answered."""
        answered = [self._answer_oldest()]
        if any(result.error is not None for result in answered[0][1]):
            while self._sent:
                answered.append(self._answer_oldest())
        for sent, results in answered:
            self._act_on(sent, results)

    def _answer_oldest(self) -> tuple[_Sent, list[Appended]]:
        sent = self._sent[0]
        results = self._appender.wait(sent.pending)
        points.reached("after a batch was answered")
        self._next.append_seconds = max(self._next.append_seconds, time.monotonic() - sent.at)
        self._sent.popleft()
        self._sent_octets -= sent.octets
        self._held_octets -= sent.held
        self._gate.done(len(sent.batch))
        return sent, results

    def _act_on(self, sent: _Sent, results: list[Appended]) -> None:
        """What the first refused message of a batch was refused for is acted upon; the others of the batch are sent by themselves before
        more is done about them, because it may be mended."""
        if self._settle_together(sent, results):
            return
        unresolved, acted, several = len(self._unresolved), False, len(sent.batch) > 1
        for ready, result in zip(sent.batch, results, strict=True):
            outgoing = ready.outgoing
            if result.error is not None:
                self._again, self._in_order = [ready], False
                if acted:
                    result = self._send_alone(outgoing)
                if result.error is not None:
                    result, outgoing = self._after_refusal(ready, result.error, was_batch=several and not acted,
                                                           spent=ready.stream is not None and not sent.pending.unread)
                self._again, acted = [], True
            self._settle(ready, outgoing, result)
        if len(self._unresolved) > unresolved:  # not told, whatever is offered (RFC 4315 §2: UIDNOTSTICKY)
            self._unresolved_floor = min(self._unresolved_floor, sent.floor) if self._unresolved_intents else sent.floor
            self._unresolved_intents.append(sent.intent)
            self._uidplus = False
        else:
            self._next.closed.append(sent.intent)

    def _send_alone(self, outgoing: Outgoing) -> Appended:
        [result] = self._appender.wait(self._appender.send(self._records.row.target, [outgoing]))
        return result

    def _after_refusal(self, ready: Ready, error: EngineError, *, was_batch: bool, spent: bool) -> tuple[Appended, Outgoing]:
        """What to do with one refused message: wait and send again, create the folder, send it alone, repair it, or give it up. Its intent
        is still open. `spent`: its octets were taken from the reader and cannot be sent again. Raises Refused, Throttled or FolderLost
        when the refusal is not about this message."""
        folder, uid = self._records.row.target, ready.listed.meta.uid
        waits, may_create = iter(BUSY_WAIT_SECONDS), True
        outgoing, first = ready.outgoing, error
        repairs: Iterator[tuple[Repair, Outgoing]] | None = None
        made: list[Repair] = []
        while True:
            if error.cause in FATAL:
                raise Refused(error.cause, side=Side.DESTINATION, server_text=error.server_text, detail=error.detail)
            if UNASKED_LITERAL.search(error.server_text):  # Cyrus with `literalminus` offers LITERAL+ and hangs up after this
                raise ConnectionBroken(error.cause, side=Side.DESTINATION, server_text=error.server_text, detail=error.detail)
            if error.cause in BUSY:
                wait = next(waits, None)
                if wait is None or spent or (error.retry_after or 0) > wait:
                    raise Throttled(error.cause, side=Side.DESTINATION, server_text=error.server_text,
                                    retry_after=error.retry_after or 60.0)
                time.sleep(wait)
            elif error.cause is Cause.X_FOLDER and may_create:  # TRYCREATE (RFC 3501 §6.3.11)
                if spent or self._records.row.moved or self._records.row.already_there or self._next.arrived:
                    if ready.stream:
                        ready.stream.abandon()
                    raise FolderLost(Cause.X_FOLDER, side=Side.DESTINATION, server_text=error.server_text)
                self._target.create(folder)
                may_create = False
            elif was_batch:  # the batch was refused as a whole: whose fault is not known yet
                was_batch = False
            else:
                if repairs is None:
                    first, repairs = error, iter(()) if spent else ladder(unhashed(outgoing), error)
                rung = next(repairs, None)
                if rung is None or spent:
                    if ready.stream:
                        ready.stream.abandon()
                    return Appended(uid, None, first), ready.outgoing
                made.append(rung[0])
                outgoing = rung[1] if self._uidplus else hashed(rung[1])
            pending = self._appender.send(folder, [outgoing])
            [result] = self._appender.wait(pending)
            spent = ready.stream is not None and not pending.unread
            if result.error is None:
                if made:
                    words = redact(first.server_text or first.detail)
                    self._next.repairs.append(RepairRow(uid, made[-1], f"{' + '.join(made)}: {words}" if made[1:] else words))
                return result, outgoing
            error = result.error

    def _settle_together(self, sent: _Sent, results: list[Appended]) -> bool:
        """The usual answer: all were stored, one behind the other, where nothing of ours was. False: each is to be looked at."""
        first = results[0].target_uid
        if first is None or first < self._least:
            return False
        for target_uid, result in enumerate(results, first):
            if result.target_uid != target_uid or result.error is not None:
                return False
        if not self._claims.add_span(first, first + len(results) - 1):
            return False
        self._floor = max(self._floor, first + len(results))
        for target_uid, ready in enumerate(sent.batch, first):
            self._stored(ready.listed, ready.outgoing, target_uid)
        self._next.closed.append(sent.intent)
        return True

    def _settle(self, ready: Ready, outgoing: Outgoing, result: Appended) -> None:
        if result.error is not None:
            self._next.set_aside.append(set_aside_row(ready.listed, result.error))
        elif result.target_uid is None or result.target_uid < self._least or result.target_uid in self._claims:  # not told, or not true
            self._unresolved.append(Unresolved(ready.listed, outgoing, digest_of(outgoing)))
        else:
            self._arrived(ready.listed, outgoing, result.target_uid)

    def _arrived(self, item: Listed, outgoing: Outgoing, target_uid: int) -> None:
        self._claims.add((target_uid,))
        self._floor = max(self._floor, target_uid + 1)
        self._stored(item, outgoing, target_uid)

    def _stored(self, item: Listed, outgoing: Outgoing, target_uid: int) -> None:
        self._next.arrived.append(Arrived(item, target_uid))
        self._next.octets += outgoing.size
        sent, content = item.meta, outgoing.content
        if outgoing.size != sent.size or outgoing.internal_date is not sent.internal_date or outgoing.flags is not sent.flags:
            sent = Metadata(sent.uid, outgoing.size, outgoing.flags, outgoing.internal_date)
        self.proof.add(sent, target_uid)
        if isinstance(content, bytes):
            self.proof.note_header(sent.uid, target_uid, content)

    def drain(self, *, ask: bool = True) -> None:
        """Waits for everything that was sent, and stores what became of it; without `ask` nothing more is sent to find that out."""
        while self._sent:
            self._finish_oldest()
        if ask and (self._unresolved or self._unresolved_intents):
            self._resolve()
        if not self._next.empty():
            self._write(())

    def _resolve(self) -> None:
        """Destination UIDs of what was appended since the last time, read back (no UIDPLUS)."""
        self._target.examine(self._records.row.target)
        there = [m for m in fetch_metadata(self._target, self._unresolved_floor, None) if m.uid not in self._claims]
        self._target.unselect()
        waiting, self._unresolved = self._unresolved, []
        found = paired(self._target, self._records.row.target, waiting, there, in_order=self._in_order)
        for item, outgoing, _ in waiting:
            if item.meta.uid in found:
                self._arrived(item, outgoing, found[item.meta.uid])
            else:
                self._next.set_aside.append(set_aside_row(item, EngineError(
                    Cause.INCOMPLETE, side=Side.DESTINATION, detail="accepted by the destination and not there when read back")))
        self._next.closed += self._unresolved_intents
        self._unresolved_intents = []
        self._in_order = True

    def _write(self, intents: Sequence[Intent]) -> Written:
        """One write: the outcomes so far, and these intents; durable if there are any."""
        done, self._next = self._next, _Outcome()
        written = self._records.write(
            arrived=done.arrived, set_aside=done.set_aside, close=done.closed, open_=intents, octets=done.octets,
            append_seconds=done.append_seconds, vanished=done.vanished, repairs=done.repairs, can_wait=not intents,
            clear_set_aside=[a.listed.meta.uid for a in done.arrived if a.listed.meta.uid in self._records.set_aside])
        self._told()
        return written


def set_aside_row(listed: Listed, error: EngineError) -> SetAsideRow:
    words = redact(error.server_text or error.detail)
    return SetAsideRow(listed.meta.uid, error.cause, words, listed.meta.size, listed.meta.internal_date)
