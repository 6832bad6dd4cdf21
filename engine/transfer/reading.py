"""The source's half of a folder: lists what is there, reads the bodies of what is not accounted for, hands them over in order.

Runs in its own thread so that reading and appending overlap; lists and bodies are asked for ahead, so that the line is never idle while
there is something to ask. A message that cannot be read in its batch is asked for alone (by sequence number too), then in parts: at most
three tries; then it is handed over as Unreadable, with the server's words. One that is no longer there is handed over as Gone.
Never writes the ledger, never sends anything but STATUS and (UID) FETCH … BODY.PEEK.
Bounds: what was read and not yet taken is handing.py's; what came before its turn and what is in flight are WINDOW_BYTES together (a large
message that came early lies on disk); of the folder only RANGE_MESSAGES × 3 messages' metadata are held, and 4 octets a UID where UIDs are
sparse.
"""
from __future__ import annotations

import contextlib
import threading
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from engine.causes import Cause
from engine.errors import ConnectionBroken, EngineError, MessageRefused, ProtocolError, Throttled
from engine.imap.fetch import Body, Metadata, fetch_uids
from engine.imap.parts import AT_ONCE, fetch_in_parts
from engine.imap.pipe import Ended, FetchPipe, Listing
from engine.imap.session import Selected, Session
from engine.providers.catalogue import provider
from engine.providers.provider import Quirk
from engine.transfer.breaks import Breaks
from engine.transfer.complete import far_too_short, header_only
from engine.transfer.handing import STREAM_OVER, Gone, Handing, Unreadable
from engine.transfer.lists import Lists
from engine.transfer.matching import instant
from engine.transfer.queues import Abandoned
from engine.transfer.records import Accounted, Listed
from engine.transfer.turns import Turns
from engine.wire.encoder import MAX_UID

RANGE_MESSAGES = 2000            # messages listed at a time
FIRST_RANGE = 200                # … and of a folder's first list, so that its first body comes soon
BATCH_MESSAGES = 200             # bodies asked for by one UID FETCH
BATCH_BYTES = 1 << 20            # … and their size together
WINDOW_COMMANDS = 16             # FETCHes in flight
WINDOW_BYTES = 8 << 20           # … and their bodies: a round trip of 150 ms at 50 MiB/s
LIES_BELIEVED = 20               # messages of another length than announced that are asked for twice
PARTS_AT_MOST = 64               # messages that wait to be read in parts before the rest goes on


def _unbroken(_: int) -> int:
    return 0


class Wanted(NamedTuple):
    """What to read of the EXAMINEd folder. `first`: the lowest UID that may be unaccounted; `previous`: the one before it.

    `breaks` says how often a message broke the connection: such a message is asked for by itself, then in parts. `recent_since` (Unix
    time): messages whose INTERNALDATE is then or later come first, the rest after them, each in the source's order. The folder's metadata
    are then listed twice instead of being held, so memory is the same; a message without a date counts as old."""

    first: int
    previous: int
    uidnext: int | None
    messages: int
    accounted: Accounted
    hopeless: Callable[[int], bool]  # broke the connection too often
    folder: str = ""                 # its wire name, to ask how many messages it counts
    breaks: Callable[[int], int] = _unbroken
    recent_since: float | None = None


_NOTHING = Accounted((), ())


class Reader:
    """Reads one folder into a queue, in a thread of its own."""

    def __init__(self, session: Session, wanted: Wanted) -> None:
        self._session = session
        self._gate = session.channel.gate
        self._wanted = wanted
        self._exact_sizes = Quirk.SIZE_IS_ESTIMATE not in provider(session.provider).quirks
        self._handing = Handing(self._as_break)
        self.queue = self._handing.queue
        self.seen = 0         # messages listed so far
        self.seen_before = 0  # … of which so many were there when the folder was opened, as far as its UIDNEXT tells
        self._pipe: FetchPipe | None = None
        self._lists: Lists
        self._at: int = 0     # the message under way outside the pipe
        self._pending: deque[Listed] = deque()      # listed, to be asked for
        self._suspects: set[int] = set()            # … of them, with nothing else in flight: they broke the connection
        self._suspect_asked = False
        self._alone: deque[Listed] = deque()        # to be asked for once more, by itself
        self._in_parts: list[Listed] = []
        self._waiting: dict[int, Listed] = {}       # asked for, or to be asked for once more
        self._turns = Turns(self._waiting)
        self._asked_alone: set[int] = set()
        self._refusals: dict[int, EngineError] = {}  # why, of those that are asked for again
        self._gone: list[Listed] = []
        self._error: EngineError | None = None      # raised once what is in flight was read
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    @property
    def reading_uid(self) -> int:
        """The message that was under way or to come next, for whoever asks why the connection broke; 0: none was."""
        return self._at or (self._pipe.under_way if self._pipe is not None else 0)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Waits for the thread; its waits all have deadlines."""
        self._thread.join()

    def abandon(self) -> None:
        """The writer stops early: the connection is cut, because a FETCH may still be pouring in."""
        self._handing.abandon()
        if self._thread.is_alive():
            self._session.close()
        self._thread.join()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            if self._wanted.messages:
                self._read_passes()
        except Abandoned:
            pass
        except BaseException as caught:  # handed to the writer's thread, where it is raised
            error = self._as_break(caught)
        with contextlib.suppress(Abandoned):
            self._handing.flush()
        self.queue.end(error)

    def _as_break(self, error: BaseException) -> BaseException:
        """What one message's answer did to the connection counts as a break by that message, not as the mailbox's end."""
        if not isinstance(error, ProtocolError) or not self._session.channel.stream.closed or not self.reading_uid:
            return error
        return ConnectionBroken(error.cause, side=error.side, server_text=error.server_text, detail=error.detail)

    # -- what to read ----------------------------------------------------------------------------------------------------------

    def _read_passes(self) -> None:
        wanted = self._wanted
        uids: array[int] | None = None
        if wanted.messages > RANGE_MESSAGES and not _dense(wanted):
            uids = array("I", fetch_uids(self._session, wanted.first, None))
            if any(uids[at] < uids[at - 1] for at in range(1, len(uids))):
                uids = array("I", sorted(uids))
        self._lists = Lists(wanted.first, wanted.uidnext, wanted.messages, uids, size=RANGE_MESSAGES, small=FIRST_RANGE)
        since = wanted.recent_since
        if since is None:
            self._read(lambda meta: True)
            return
        self._read(lambda meta: _is_recent(meta, since))
        self._read(lambda meta: not _is_recent(meta, since))

    def _read(self, chosen: Callable[[Metadata], bool]) -> None:
        """One pass over the folder: reads what is `chosen` and not accounted for."""
        self.seen = self.seen_before = 0
        self._lists.begin()
        previous = self._wanted.previous
        pipe = self._pipe = FetchPipe(self._session)
        try:
            while True:
                self._fill(pipe)
                if not pipe.commands:
                    break
                event = self._read_bodies(pipe)
                if isinstance(event, Listing):
                    for found in self._lists.take(event):
                        previous = self._listed(found, previous, chosen)
                else:
                    self._batch_ended(event)
        finally:
            self._gate.settled()
            pipe.close()
            if not self._session.channel.stream.closed:
                self._pipe = None
        if self._error is not None:
            raise self._error
        left = len(self._pending) + len(self._waiting) + len(self._turns)
        assert not left, f"{left} messages were listed and not asked for"
        self._read_in_parts()
        self._settle_gone()
        for uid, error in self._lists.unlisted(self.seen_before):
            self.seen, self.seen_before = self.seen + 1, self.seen_before + 1
            self._handing.put(Unreadable(Listed(Metadata(uid, 0, (), ""), 0), error))

    def _read_bodies(self, pipe: FetchPipe) -> Listing | Ended:
        """Hands over the bodies that come until a command ends."""
        stream = self._session.channel.stream
        while True:
            if not stream.buffered:
                self._handing.flush()
            event = pipe.next()
            if not isinstance(event, Body):
                return event
            item = self._waiting.get(event.uid)
            if item is not None:
                self._came(item, event, pipe)

    def _listed(self, found: list[Metadata], previous: int, chosen: Callable[[Metadata], bool]) -> int:
        """Takes one list's messages, in ascending order, each with its predecessor."""
        wanted = self._wanted
        end = wanted.uidnext or MAX_UID + 1
        found.sort(key=_uid)
        for meta in found:
            uid = meta.uid
            if uid <= previous:
                continue
            self.seen += 1
            self.seen_before += uid < end
            if uid not in wanted.accounted and chosen(meta):
                self._schedule(Listed(meta, previous))
            previous = uid
        return previous

    def _schedule(self, item: Listed) -> None:
        """To be asked for, unless it broke the connection too often."""
        wanted, uid = self._wanted, item.meta.uid
        if wanted.breaks is _unbroken:
            self._pending.append(item)
            return
        if wanted.hopeless(uid):
            self._handing.put(Unreadable(item, MessageRefused(
                Cause.X_ITEM, detail="the connection broke each time this message was read or appended")))
            return
        if wanted.breaks(uid):
            self._suspects.add(uid)
        self._pending.append(item)

    # -- asking ----------------------------------------------------------------------------------------------------------------

    def _fill(self, pipe: FetchPipe) -> None:
        """Asks for as much as the window takes: lists before the messages listed run out, bodies by count and octets. Where a wait
        stands against it, what is in flight is read first."""
        if self._error is not None:
            return
        try:
            self._ask_more(pipe)
        except Throttled as wait:
            if not pipe.commands:
                raise
            self._error = wait

    def _ask_more(self, pipe: FetchPipe) -> None:
        window, suspects = self._gate.window, self._suspects
        if self._suspect_asked and pipe.commands:
            return
        self._suspect_asked = False
        while pipe.commands < window(WINDOW_COMMANDS) and (
                pipe.octets + self._turns.octets < window(WINDOW_BYTES) or not pipe.commands):
            coming = len(self._pending) + pipe.lists * RANGE_MESSAGES
            bodies_first = self._pending and pipe.commands == pipe.lists
            if coming < 2 * RANGE_MESSAGES and not bodies_first and (wanted := self._lists.next(self.seen, pipe.lists)) is not None:
                pipe.ask_list(wanted.first, wanted.last, by_number=wanted.by_number, with_size=wanted.with_size)
            elif not pipe.settled:
                return
            elif len(self._in_parts) >= PARTS_AT_MOST:
                if pipe.commands:
                    return
                with pipe.aside():
                    self._read_in_parts()
            elif self._alone:
                self._ask(pipe, [self._alone.popleft()], alone=True)
            elif not self._pending:
                return
            elif not suspects or self._pending[0].meta.uid not in suspects:
                self._ask(pipe, self._batch())
            elif pipe.commands:
                return  # what stands before it is read first
            else:
                self._ask_suspect(pipe, self._pending.popleft())
                if pipe.commands:
                    self._suspect_asked = True
                    return

    def _ask_suspect(self, pipe: FetchPipe, item: Listed) -> None:
        """By itself, or in parts when that broke the connection too: what happens now is this message's doing."""
        self._suspects.discard(item.meta.uid)
        if self._wanted.breaks(item.meta.uid) == 1:
            self._ask(pipe, [item], alone=True)
            return
        self._in_parts.append(item)
        with pipe.aside():
            self._read_in_parts()

    def _batch(self) -> list[Listed]:
        """The next messages, bounded in count and octets, up to the first suspect."""
        pending, suspects = self._pending, self._suspects
        group = [pending.popleft()]
        octets = group[0].meta.size
        while pending and len(group) < BATCH_MESSAGES and octets + pending[0].meta.size <= BATCH_BYTES:
            if suspects and pending[0].meta.uid in suspects:
                break
            octets += pending[0].meta.size
            group.append(pending.popleft())
        return group

    def _ask(self, pipe: FetchPipe, group: Sequence[Listed], *, alone: bool = False) -> None:
        octets = sum(item.meta.size for item in group)
        self._gate.before(len(group), octets)
        self._turns.asked([item.meta.uid for item in group if item.meta.uid not in self._waiting])  # what is asked for again has its turn
        for item in group:
            self._waiting[item.meta.uid] = item
        if alone:
            self._asked_alone.update(item.meta.uid for item in group)
        largest = _largest(max(item.meta.size for item in group))
        pipe.ask_bodies([item.meta.uid for item in group], octets=octets, largest=largest, alone=alone)

    # -- what came -------------------------------------------------------------------------------------------------------------

    def _came(self, item: Listed, body: Body, pipe: FetchPipe) -> None:
        """Passes one body on when all that were asked for before it have come. One that is not whole is asked for again, and keeps its
        turn."""
        uid = item.meta.uid
        if body.streamed:
            self._handing.flush()
        if body.length > STREAM_OVER:
            self._large_came(item, body, pipe)
            return
        content = body.read()
        pipe.end_body()
        if len(content) != item.meta.size and not self._whole(item, content):
            self._again(item)
            return
        mine = self._turns.take(uid)
        del self._waiting[uid]
        if mine:
            self._message(item, content)
            if self._turns:
                self._release()
        else:
            self._turns.keep(item, Body(uid, len(content), None, content))

    def _large_came(self, item: Listed, body: Body, pipe: FetchPipe) -> None:
        if self._exact_sizes and item.meta.uid not in self._asked_alone and far_too_short(body.length, item.meta.size):
            pipe.end_body()
            self._again(item)
            return
        mine = self._turns.take(item.meta.uid)
        del self._waiting[item.meta.uid]
        if mine:
            self._handing.pour(item, body, pipe.end_body)
            self._release()
        else:
            kept = body.spooled()
            pipe.end_body()
            self._turns.keep(item, kept)

    def _release(self) -> None:
        """Hands over what came early and whose turn it is now."""
        for item, body in self._turns.due():
            self._pass_on(item, body)

    def _pass_on(self, item: Listed, body: Body) -> None:
        """One that was read from the connection before."""
        if body.length > STREAM_OVER:
            self._handing.pour(item, body)
        else:
            self._message(item, body.read())

    def _message(self, item: Listed, content: bytes) -> None:
        if self._refusals:
            self._refusals.pop(item.meta.uid, None)
        self._handing.message(item, content)

    def _whole(self, item: Listed, content: bytes) -> bool:
        """Whether content of another length than announced is the message: it is asked for again, until the server has shown that its
        sizes lie. (A size that was not told says nothing.)"""
        announced = item.meta.size
        if len(content) < announced and (not content or header_only(content, announced, exact=self._exact_sizes)):
            return False
        if not announced or not self._exact_sizes:
            return True
        if item.meta.uid in self._asked_alone:
            self._session.channel.sizes_that_lie += 1
            return True
        return self._session.channel.sizes_that_lie >= LIES_BELIEVED and not far_too_short(len(content), announced)

    def _again(self, item: Listed) -> None:
        """By itself at once, with its turn kept, so that the order is; in parts after the others, which do not wait for that."""
        uid = item.meta.uid
        if uid in self._asked_alone:
            del self._waiting[uid]
            self._in_parts.append(item)
        else:
            self._alone.append(item)

    def _batch_ended(self, ended: Ended) -> None:
        self._gate.done(ended.messages)
        gone = set(ended.gone)
        for uid in ended.unanswered:
            item = self._waiting.get(uid)
            if item is not None:
                if ended.error is not None:
                    self._refusals[uid] = ended.error
                self._again(item)
        for uid in gone:
            item = self._waiting.pop(uid, None)
            if item is not None:
                self._gone.append(item)
        if ended.error is not None and not isinstance(ended.error, MessageRefused):
            self._error = self._error or ended.error
        if self._turns:
            self._release()

    # -- what did not come -----------------------------------------------------------------------------------------------------

    def _read_in_parts(self) -> None:
        """The last try. Messages that broke the connection before are read one by one, so that it is known whose fault it is."""
        while self._in_parts:
            group = self._in_parts[:AT_ONCE]
            if any(self._wanted.breaks(item.meta.uid) for item in group):
                group = group[:1]
            del self._in_parts[: len(group)]
            self._handing.flush()
            self._at = group[0].meta.uid
            found = fetch_in_parts(self._session, [(item.meta.uid, item.meta.size) for item in group], self._good_in_parts, _largest)
            self._at = 0
            for item in group:
                self._put_from_parts(item, found.pop(item.meta.uid, None))

    def _put_from_parts(self, item: Listed, body: Body | None) -> None:
        refusal = self._refusals.pop(item.meta.uid, None)
        self._asked_alone.discard(item.meta.uid)
        if body is None:
            self._handing.put(Unreadable(item, refusal or _nothing_came(item.meta)))
        else:
            self._pass_on(item, body)

    def _good_in_parts(self, announced: int, beginning: bytes, octets: int) -> bool:
        if octets > len(beginning):
            return not self._exact_sizes or not far_too_short(octets, announced)
        return octets >= announced if not beginning else not header_only(beginning, announced, exact=self._exact_sizes)

    def _settle_gone(self) -> None:
        """What the server does not list any more is gone only if it counts that much less: else it just does not give it."""
        gone, self._gone = self._gone, []
        if not gone:
            return
        counted = self._session.status(self._wanted.folder).messages if self._wanted.folder else 0
        arrived = sum(1 for _ in fetch_uids(self._session, self._wanted.uidnext, None)) if self._wanted.uidnext else 0
        really = counted - arrived <= self._wanted.messages - len(gone)
        for item in gone:
            refusal = self._refusals.pop(item.meta.uid, None)
            self._handing.put(Gone(item) if really else Unreadable(item, refusal or _nothing_came(item.meta)))


def _uid(meta: Metadata) -> int:
    return meta.uid


def _dense(wanted: Wanted) -> bool:
    return wanted.uidnext is not None and wanted.uidnext - wanted.first <= 2 * wanted.messages + RANGE_MESSAGES


def _is_recent(meta: Metadata, since: float) -> bool:
    date = instant(meta.internal_date)
    return isinstance(date, float) and date >= since


def _nothing_came(meta: Metadata) -> MessageRefused:
    return MessageRefused(Cause.X_ITEM, detail=f"the server announced {meta.size} octets and did not give them, whole, alone or in parts")


def _largest(announced: int) -> int:
    """The cap for a literal: what was announced, with room for servers whose sizes are guesses (Exchange)."""
    return announced * 4 + (64 << 20)


def reader_of(session: Session, name: str, selected: Selected, breaks: Breaks, recent_since: float | None,
              accounted: Accounted = _NOTHING, first: int = 1) -> Reader:
    """Of what is not accounted for in the folder that is open, from the UID `first`."""
    wanted = Wanted(first, accounted.last_below(first), selected.uidnext, selected.messages, accounted,
                    lambda uid: breaks.hopeless(name, uid), folder=name, recent_since=recent_since)
    counts = breaks.counts
    return Reader(session, wanted._replace(breaks=lambda uid: counts[name, uid]) if counts else wanted)
