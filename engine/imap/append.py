"""Appending messages: the best of MULTIAPPEND, LITERAL+, LITERAL- and plain APPEND (RFC 3502, RFC 7888, RFC 3501 §6.3.11).

`send` puts a batch on the wire and returns a handle; `wait` gives the results: several batches in flight are seen where they are.
Several connections ("lanes") can fill one folder. A server that must be asked before each literal stores one message a round trip on each:
so they take turns (lane_turns.py). The last octets of messages are sent in the source's order, a little apart; the UIDs that come back tell
whether the server kept it. After the first that it did not, one lane goes on alone (`in_order`). Next door, where whole batches go unasked,
the ends of commands are held back (held_ends.py).
Must not: change an octet, a flag or a date; send a literal that the server did not ask for where it has to be asked.
Always: whatever cannot be written is found before the first octet is sent and costs that message only; a refused literal leaves the
connection in step, and no server is given the chance to take a message for commands (unusual flags and dates are asked for first);
content that ends early or late ends the connection (a half-sent literal stores nothing, RFC 3501 §6.3.11).
"""
from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from engine.causes import Cause, Side, at_destination
from engine.errors import ConnectionBroken, EngineError, LeaseLost, MessageRefused, Refused, Throttled
from engine.imap.append_command import DIGESTS, Command, appenduid
from engine.imap.channel import Channel, Tagged
from engine.imap.held_ends import NEAR_SECONDS, HeldEnds
from engine.imap.lane_turns import LaneTurns
from engine.imap.session import Session
from engine.wire import encoder

MULTIAPPEND_BATCH = 128       # messages in one command: one refusal voids them all
_LITERAL_MINUS = 4096         # RFC 7888 §5
_UNLIMITED = 1 << 40          # octets of a LITERAL+ literal
_FLUSH_OVER = 128 * 1024      # octets gathered before they go out together


class AppendMethod(StrEnum):
    MULTIAPPEND = "multiappend"
    LITERAL_PLUS = "literal+"
    LITERAL_MINUS = "literal-"
    PLAIN = "plain"


class Outgoing(NamedTuple):
    """`internal_date` as it stood on the source's wire, "" to let the destination set its own. `size` is the exact count of octets that
    `content` gives."""

    uid: int
    flags: tuple[str, ...]
    internal_date: str
    size: int
    content: bytes | Iterable[bytes]


class Appended(NamedTuple):
    """`target_uid` None without error: stored, and the server does not tell where (no UIDPLUS). `target_uidvalidity` goes with it."""

    uid: int
    target_uid: int | None
    error: EngineError | None
    target_uidvalidity: int | None = None


class _Head(NamedTuple):
    """What stands before a message's literal, up to the count of its announcement. Not `ordinary`: the server is asked before the literal
    is sent, whatever it offers, because it may refuse flags or date and then read the literal as commands (encoder.ordinary)."""

    octets: bytes
    ordinary: bool


@dataclass(slots=True)
class Pending:
    """A batch under way. `octets` are those that were sent and not answered. `unread`: the server refused a message before it asked for
    its octets, which were not taken."""

    batch: Sequence[Outgoing]
    unread: bool = field(default=False, kw_only=True)
    commands: list[Command] = field(default_factory=list)
    results: list[Appended | None] = field(default_factory=list)

    @property
    def octets(self) -> int:
        return sum(command.octets for command in self.commands)


@lru_cache(maxsize=1024)
def _flags_on_the_wire(flags: tuple[str, ...]) -> tuple[bytes, bool]:
    """The flag list, and whether every server takes it. A mailbox has few different ones."""
    return encoder.flag_list(flags), encoder.ordinary(flags, "")


class Appender:
    """`max_batch`: how many messages share one fate, 1 where each has its own command. A longer batch is sent as several commands.
    `lanes`: further sessions of the same mailbox at the same server, used where it stores single messages and must be asked for each, or
    takes whole batches unasked and is near.
    `ask_first`: ask for each literal over 4 KiB although the server takes them unasked."""

    def __init__(self, session: Session, lanes: Sequence[Session] = (), *, ask_first: bool = False) -> None:
        self._session = session
        self._channel = session.channel
        offered = session.capabilities
        self._at_once = _UNLIMITED if "LITERAL+" in offered else _LITERAL_MINUS if "LITERAL-" in offered or "IMAP4REV2" in offered else -1
        if ask_first:  # it offers more than it stands by
            self._at_once = min(self._at_once, _LITERAL_MINUS)
        self.method = method_of(session)
        self.max_batch = MULTIAPPEND_BATCH if self.method is AppendMethod.MULTIAPPEND else 1
        held = bool(lanes) and takes_batches_unasked(session) and session.rtt <= NEAR_SECONDS and not ask_first
        self._lanes = [session, *lanes] if held or (self.max_batch == 1 and self._at_once != _UNLIMITED) else [session]
        self._ends = HeldEnds([lane.channel for lane in self._lanes]) if held else None
        self._turns = LaneTurns(session.rtt)
        self._pending: list[Pending] = []
        self._buffer: list[bytes | memoryview] = []
        self._buffered = 0

    @property
    def in_order(self) -> bool:
        """Whether what is sent is surely stored in that order."""
        return len(self._lanes) == 1 or self._ends is not None

    @property
    def holding(self) -> bool:
        """Whether the end of something sent is held back until what went before is answered."""
        return self._ends is not None and self._ends.holding

    def let_end(self) -> None:
        """What was sent gets its end: it waits for nothing but the answers to what was sent before. Raises ConnectionBroken."""
        if self._ends is not None:
            self._ends.let_end()

    def outstanding(self) -> int:
        """Octets of messages sent and not answered."""
        return sum(pending.octets for pending in self._pending)

    # -- sending ---------------------------------------------------------------------------------------------------------------

    def send(self, folder: str, batch: Sequence[Outgoing], *, ask_first: bool = False) -> Pending:
        """Sends the batch; does not wait for its tagged answers (a plain APPEND waits for its `+`, and with `ask_first` each does; where
        ends are held back, for the answers to what was sent before). Messages that cannot be written on the wire (keyword, date, folder
        name) are not sent and come back with that error. Raises ConnectionBroken and the like."""
        if self._ends is None:
            self._channel.must_be_free()
        pending = Pending(batch, [], [None] * len(batch))
        heads = [self._head(pending, place, message) for place, message in enumerate(batch)]
        if ask_first:
            heads = [head and head._replace(ordinary=False) for head in heads]
        try:
            mailbox = encoder.mailbox(folder)
        except encoder.EncodeError as error:
            refused = Refused(self._cause(Cause.X_FOLDER), side=self._session.side, detail=str(error))
            pending.results = [Appended(message.uid, None, refused) for message in batch]
            pending.unread = True
            return pending
        self._pending.append(pending)
        places = [place for place, head in enumerate(heads) if head is not None]
        self._be_patient()
        try:
            if self._ends is not None:
                for group in self._groups(places, batch, heads):
                    self._send_without_end(self._ends, pending, mailbox, group, heads)
            elif len(self._lanes) > 1:
                self._send_by_turns(pending, mailbox, places, heads)
            else:
                for group in self._groups(places, batch, heads):
                    self._send_command(pending, mailbox, group, heads)
                self._flush()
        except EngineError as error:
            if isinstance(error, Throttled) and not pending.commands:  # nothing of it was sent: what was before is still answered
                self._pending.remove(pending)
            else:
                self._abandon()
            raise
        finally:
            for lane in self._lanes:
                lane.channel.stream.idle = lane.channel.timeouts.idle
        return pending

    def _be_patient(self) -> None:
        """A server stores what it was sent before it takes more."""
        for lane in self._lanes:
            lane.channel.stream.idle = lane.channel.timeouts.idle + self.outstanding() / DIGESTS

    def hear(self) -> None:
        """Takes the answers that are here already; a server that asks for a pause in one has it before the next batch."""
        for lane in self._lanes:
            lane.channel.hear()
        if self._ends is not None:
            self._ends.hear()

    def _groups(self, places: list[int], batch: Sequence[Outgoing], heads: Sequence[_Head | None]) -> Iterator[list[int]]:
        """Places that share a command. What is likely refused goes alone: a message without octets (in MULTIAPPEND it takes back all
        others, RFC 3502 §6.3.11), and one with unusual flags or date."""
        group: list[int] = []
        for place in places:
            head = heads[place]
            alone = not batch[place].size or (head is not None and not head.ordinary)
            if group and (len(group) >= self.max_batch or alone):
                yield group
                group = []
            group.append(place)
            if alone:
                yield group
                group = []
        if group:
            yield group

    def _cause(self, cause: Cause) -> Cause:
        return at_destination(cause) if self._session.side is Side.DESTINATION else cause

    def _head(self, pending: Pending, place: int, message: Outgoing) -> _Head | None:
        """Flags, date and the literal's announcement of one message, without its closing brace. None: it cannot be written."""
        try:
            if message.size < 0 or message.size >= 1 << 32:
                raise encoder.EncodeError("a message of this size cannot be announced")
            if isinstance(message.content, bytes) and len(message.content) != message.size:
                raise encoder.EncodeError("the message has another size than was said")
            limit = self._session.append_limit
            if limit is not None and message.size > limit:  # RFC 7889: it would travel whole and then be refused
                raise encoder.EncodeError(f"a message of {message.size} octets; the server takes {limit} (APPENDLIMIT)")
            flags, ordinary = _flags_on_the_wire(message.flags)
            if not message.internal_date:
                return _Head(b" %b {%d" % (flags, message.size), ordinary)
            date, usual = encoder.internal_date(message.internal_date)
            return _Head(b" %b %b {%d" % (flags, date, message.size), ordinary and usual)
        except encoder.EncodeError as error:
            refused = MessageRefused(self._cause(Cause.X_ITEM), side=self._session.side, detail=str(error))
            pending.results[place] = Appended(message.uid, None, refused)
            pending.unread = True
            return None

    def _send_command(self, pending: Pending, mailbox: bytes, places: list[int], heads: Sequence[_Head | None]) -> None:
        command = self._send_all_but_end(pending, mailbox, places, heads)
        if not command.ended:
            self._put(b"\r\n")
            command.ended = True

    def _send_without_end(self, ends: HeldEnds, pending: Pending, mailbox: bytes, places: list[int],
                          heads: Sequence[_Head | None]) -> None:
        """On whichever connection's turn it is. What takes its time (a stream, a question) finds everything before it ended."""
        batch = pending.batch
        if not all(isinstance(batch[place].content, bytes) and self._goes_unasked(heads[place], batch[place]) for place in places):
            ends.let_end()
        self._channel = ends.next_channel()
        self._be_patient()  # an answer that was waited for ended that
        try:
            with ends.writing_to(self._channel):
                command = self._send_all_but_end(pending, mailbox, places, heads)
                self._flush()
            ends.sent(command)
        finally:
            self._channel = self._session.channel

    def _goes_unasked(self, head: _Head | None, message: Outgoing) -> bool:
        return head is not None and head.ordinary and message.size <= self._at_once

    def _send_all_but_end(self, pending: Pending, mailbox: bytes, places: list[int], heads: Sequence[_Head | None]) -> Command:
        tag = self._channel.new_tag()
        command = Command(self._channel, tag, places, ended=False)
        pending.commands.append(command)
        self._put(tag + b" APPEND " + mailbox)
        for place in places:
            message, head = pending.batch[place], heads[place]
            assert head is not None
            command.octets += message.size
            if self._goes_unasked(head, message):
                self._put(head.octets + b"+}\r\n")
            else:
                self._put(head.octets + b"}\r\n")
                self._flush()
                if not self._channel.await_continuation(tag):
                    pending.unread = command.ended = True
                    return command  # answered instead (too big, over quota): the command is over, and so is its batch
            self._put_content(message)
        return command

    # -- several connections that take turns -------------------------------------------------------------------------------------

    def _send_by_turns(self, pending: Pending, mailbox: bytes, places: list[int], heads: Sequence[_Head | None]) -> None:
        """Each message is announced on its lane while those before it are under way, and sent when the server asks for it. What may be
        sent unasked (LITERAL-) has the first lane for itself."""
        unasked = {place for place in places if self._goes_unasked(heads[place], pending.batch[place])}
        lanes = self._lanes if self._at_once < 0 else self._lanes[1:]
        asked = [place for place in places if place not in unasked]
        announced: deque[Command] = deque()
        to_announce = iter(asked)
        for place in places:
            self.hear()
            while len(announced) < len(lanes) and (following := next(to_announce, None)) is not None:
                announced.append(self._announce(lanes[self._turns.next_of(len(lanes))].channel, pending, mailbox, following, heads))
            if place in unasked:
                command = self._begin_unasked(pending, mailbox, place, heads)
            else:
                command = announced.popleft()
                self._channel = command.channel
                listened = time.monotonic()
                asked_for = command.channel.await_continuation(command.tag)
                self._turns.learn(command, time.monotonic() - listened)
                if not asked_for:
                    pending.unread = True
                    continue
            self._turns.keep_apart(command, len(self._lanes))
            self._put_content(pending.batch[place])
            self._put(b"\r\n")
            self._flush()
            self._turns.ended(command)
        self._channel = self._session.channel

    def _begin_unasked(self, pending: Pending, mailbox: bytes, place: int, heads: Sequence[_Head | None]) -> Command:
        head = heads[place]
        assert head is not None
        self._channel = self._session.channel
        command = Command(self._channel, self._channel.new_tag(), [place], pending.batch[place].size)
        self._put(command.tag + b" APPEND " + mailbox + head.octets + b"+}\r\n")
        pending.commands.append(command)
        return command

    def _announce(self, channel: Channel, pending: Pending, mailbox: bytes, place: int, heads: Sequence[_Head | None]) -> Command:
        head = heads[place]
        assert head is not None
        command = Command(channel, channel.new_tag(), [place], pending.batch[place].size, time.monotonic())
        channel.stream.write(command.tag + b" APPEND " + mailbox + head.octets + b"}\r\n")
        pending.commands.append(command)
        return command

    def _put_content(self, message: Outgoing) -> None:
        if isinstance(message.content, bytes):
            self._put(message.content)
            return
        left = message.size
        try:
            for chunk in message.content:
                left -= len(chunk)
                if left < 0:
                    break
                self._put(chunk)
        except LeaseLost:
            self._abandon()
            raise
        except Exception as error:  # whatever the reader met: the literal is half sent, so this connection is over
            self._abandon()
            raise self._content_broke(error) from error
        if left:
            self._abandon()
            raise ConnectionBroken(self._cause(Cause.X_STATE), side=self._session.side,
                                   detail="the message has another size than was said")

    def _content_broke(self, error: Exception) -> ConnectionBroken:
        """A source that broke in the middle of a message is told as what it is; this connection is lost with it."""
        if isinstance(error, EngineError):
            return ConnectionBroken(error.cause, side=error.side, server_text=error.server_text, detail=error.detail,
                                    causes=error.causes, retry_after=error.retry_after)
        return ConnectionBroken(self._cause(Cause.X_STATE), side=self._session.side, detail="the message could not be read to its end")

    def _put(self, data: bytes) -> None:
        self._buffer.append(data)
        self._buffered += len(data)
        if self._buffered >= _FLUSH_OVER:
            self._flush()

    def _flush(self) -> None:
        if self._buffer:
            parts, self._buffer, self._buffered = self._buffer, [], 0
            self._channel.stream.write(*parts)

    def _abandon(self) -> None:
        """The connections are of no more use: a literal may be half sent."""
        self._buffer, self._buffered = [], 0
        self._pending = []
        for lane in self._lanes:
            lane.channel.stream.close()

    # -- results ---------------------------------------------------------------------------------------------------------------

    def wait(self, pending: Pending) -> list[Appended]:
        """The results of a batch, in its order. A refused MULTIAPPEND gives every message of that command the same error: nothing of it
        was stored (RFC 3502 §6.3.11). Raises ConnectionBroken when the answer is lost: then nothing is known."""
        pending.commands.sort(key=_place)  # by turns, they were announced ahead
        while pending.commands:
            command = pending.commands[0]
            tagged = command.finish() if self._ends is None else self._ends.answer_to(command)
            pending.commands.pop(0)
            self._record(pending, command, tagged)
        if pending in self._pending:
            self._pending.remove(pending)
        results = [result for result in pending.results if result is not None]
        assert len(results) == len(pending.batch), "a message of the batch has no result"
        return results

    def _record(self, pending: Pending, command: Command, tagged: Tagged) -> None:
        batch = pending.batch
        if tagged.status != b"OK":
            error = self._channel.refusal(tagged, "append", [batch[place].uid for place in command.places])
            for place in command.places:
                pending.results[place] = Appended(batch[place].uid, None, error)
            return
        uidvalidity, uids = appenduid(tagged, len(command.places))
        for index, place in enumerate(command.places):
            pending.results[place] = Appended(batch[place].uid, uids[index] if uids else None, None, uidvalidity)
        if uids and len(self._lanes) > 1 and self._ends is None and not self._turns.were_kept(uids):
            self._lanes = self._lanes[:1]


def _place(command: Command) -> int:
    return command.places[0]


def takes_batches_unasked(session: Session) -> bool:
    """Whether the server takes whole batches without being asked (MULTIAPPEND and LITERAL+)."""
    return method_of(session) is AppendMethod.MULTIAPPEND and "LITERAL+" in session.capabilities


def method_of(session: Session) -> AppendMethod:
    """The best that this server offers."""
    offered = session.capabilities
    if "MULTIAPPEND" in offered:
        return AppendMethod.MULTIAPPEND
    if "LITERAL+" in offered:
        return AppendMethod.LITERAL_PLUS
    return AppendMethod.LITERAL_MINUS if "LITERAL-" in offered or "IMAP4REV2" in offered else AppendMethod.PLAIN
