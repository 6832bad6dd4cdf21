"""Appending messages: the best of MULTIAPPEND, LITERAL+, LITERAL- and plain APPEND (RFC 3502, RFC 7888, RFC 3501 §6.3.11).

`send` puts a batch on the wire and returns a handle; `wait` gives the results: several batches in flight are seen where they are.
Must not: change an octet, a flag or a date; send a literal that the server did not ask for where it has to be asked.
Always: whatever cannot be written is found before the first octet is sent and costs that message only; a refused literal leaves the
connection in step, and no server is given the chance to take a message for commands (unusual flags and dates are asked for first);
content that ends early or late ends the connection (a half-sent literal stores nothing, RFC 3501 §6.3.11).
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from engine.causes import Cause, Side, at_destination
from engine.errors import ConnectionBroken, EngineError, LeaseLost, MessageRefused, ProtocolError, Refused
from engine.imap.channel import Tagged
from engine.imap.session import Session
from engine.wire import encoder
from engine.wire.decoder import number, uid_list

MULTIAPPEND_BATCH = 128       # messages in one command: one refusal voids them all
_LITERAL_MINUS = 4096         # RFC 7888 §5
_UNLIMITED = 1 << 40          # octets of a LITERAL+ literal
_FLUSH_OVER = 128 * 1024      # octets gathered before they go out together
_DIGESTS = 256 * 1024         # octets a second a server may take to store (and scan) what it was sent, before it answers


class AppendMethod(StrEnum):
    MULTIAPPEND = "multiappend"
    LITERAL_PLUS = "literal+"
    LITERAL_MINUS = "literal-"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """`internal_date` as it stood on the source's wire, "" to let the destination set its own. `size` is the exact count of octets that
    `content` gives."""

    uid: int
    flags: tuple[str, ...]
    internal_date: str
    size: int
    content: bytes | Iterable[bytes]


@dataclass(frozen=True, slots=True)
class Appended:
    """`target_uid` None without error: stored, and the server does not tell where (no UIDPLUS). `target_uidvalidity` goes with it."""

    uid: int
    target_uid: int | None
    error: EngineError | None
    target_uidvalidity: int | None = None


@dataclass(frozen=True, slots=True)
class _Head:
    """What stands before a message's literal, up to the count of its announcement. Not `ordinary`: the server is asked before the literal
    is sent, whatever it offers, because it may refuse flags or date and then read the literal as commands (encoder.ordinary)."""

    octets: bytes
    ordinary: bool


@dataclass(slots=True)
class _Command:
    """One APPEND on the wire: its tag and the places in the batch that it stores."""

    tag: bytes
    places: list[int]
    octets: int = 0


@dataclass(slots=True)
class Pending:
    """A batch under way. `octets` are those that were sent and not answered."""

    batch: Sequence[Outgoing]
    commands: list[_Command] = field(default_factory=list)
    results: list[Appended | None] = field(default_factory=list)

    @property
    def octets(self) -> int:
        return sum(command.octets for command in self.commands)


class Appender:
    """`max_batch`: how many messages share one fate, 1 where each has its own command. A longer batch is sent as several commands."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._channel = session.channel
        offered = session.capabilities
        self._at_once = _UNLIMITED if "LITERAL+" in offered else _LITERAL_MINUS if "LITERAL-" in offered or "IMAP4REV2" in offered else -1
        if "MULTIAPPEND" in offered:
            self.method = AppendMethod.MULTIAPPEND
        elif self._at_once == _UNLIMITED:
            self.method = AppendMethod.LITERAL_PLUS
        elif self._at_once >= 0:
            self.method = AppendMethod.LITERAL_MINUS
        else:
            self.method = AppendMethod.PLAIN
        self.max_batch = MULTIAPPEND_BATCH if self.method is AppendMethod.MULTIAPPEND else 1
        self._pending: list[Pending] = []
        self._buffer: list[bytes | memoryview] = []
        self._buffered = 0

    def outstanding(self) -> int:
        """Octets of messages sent and not answered."""
        return sum(pending.octets for pending in self._pending)

    # -- sending ---------------------------------------------------------------------------------------------------------------

    def send(self, folder: str, batch: Sequence[Outgoing]) -> Pending:
        """Sends the batch; does not wait for tagged answers (a plain APPEND waits for its `+`). Messages that cannot be written on the
        wire (keyword, date, folder name) are not sent and come back with that error. Raises ConnectionBroken and the like."""
        self._channel.must_be_free()
        pending = Pending(batch, [], [None] * len(batch))
        heads = [self._head(pending, place, message) for place, message in enumerate(batch)]
        try:
            mailbox = encoder.mailbox(folder)
        except encoder.EncodeError as error:
            refused = Refused(self._cause(Cause.X_FOLDER), side=self._session.side, detail=str(error))
            pending.results = [Appended(message.uid, None, refused) for message in batch]
            return pending
        self._pending.append(pending)
        places = [place for place, head in enumerate(heads) if head is not None]
        try:
            for group in self._groups(places, batch, heads):
                self._send_command(pending, mailbox, group, heads)
            self._flush()
        except EngineError:
            self._abandon()
            raise
        return pending

    def _groups(self, places: list[int], batch: Sequence[Outgoing], heads: Sequence[_Head | None]) -> Iterator[list[int]]:
        """Places that share a command. What is likely refused goes alone: a message without octets (in MULTIAPPEND it takes back all
        others, RFC 3502 §3), and one with unusual flags or date."""
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
            words = [b" ", encoder.flag_list(message.flags), b" "]
            if message.internal_date:
                words += [encoder.internal_date(message.internal_date), b" "]
        except encoder.EncodeError as error:
            refused = MessageRefused(self._cause(Cause.X_ITEM), side=self._session.side, detail=str(error))
            pending.results[place] = Appended(message.uid, None, refused)
            return None
        words.append(b"{%d" % message.size)
        return _Head(b"".join(words), encoder.ordinary(message.flags, message.internal_date))

    def _send_command(self, pending: Pending, mailbox: bytes, places: list[int], heads: Sequence[_Head | None]) -> None:
        tag = self._channel.new_tag()
        command = _Command(tag, places)
        pending.commands.append(command)
        self._put(tag + b" APPEND " + mailbox)
        for place in places:
            message, head = pending.batch[place], heads[place]
            assert head is not None
            command.octets += message.size
            if head.ordinary and message.size <= self._at_once:
                self._put(head.octets + b"+}\r\n")
            else:
                self._put(head.octets + b"}\r\n")
                self._flush()
                if not self._channel.await_continuation(tag):
                    return  # answered instead (too big, over quota): the command is over, and so is its batch
            self._put_content(message)
        self._put(b"\r\n")

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
        """The connection is of no more use: a literal may be half sent."""
        self._buffer, self._buffered = [], 0
        self._pending = []
        self._channel.stream.close()

    # -- results ---------------------------------------------------------------------------------------------------------------

    def wait(self, pending: Pending) -> list[Appended]:
        """The results of a batch, in its order. A refused MULTIAPPEND gives every message of that command the same error: nothing of it
        was stored (RFC 3502 §3). Raises ConnectionBroken when the answer is lost: then nothing is known."""
        self._channel.must_be_free()
        while pending.commands:
            command = pending.commands[0]
            answer = self._channel.finish(command.tag, patience=command.octets / _DIGESTS)
            pending.commands.pop(0)
            self._record(pending, command, answer.tagged)
        if pending in self._pending:
            self._pending.remove(pending)
        results = [result for result in pending.results if result is not None]
        assert len(results) == len(pending.batch), "a message of the batch has no result"
        return results

    def _record(self, pending: Pending, command: _Command, tagged: Tagged) -> None:
        batch = pending.batch
        if tagged.status != b"OK":
            error = self._channel.refusal(tagged, "append", [batch[place].uid for place in command.places])
            for place in command.places:
                pending.results[place] = Appended(batch[place].uid, None, error)
            return
        uidvalidity, uids = _appenduid(tagged, len(command.places))
        for index, place in enumerate(command.places):
            pending.results[place] = Appended(batch[place].uid, uids[index] if uids else None, None, uidvalidity)


def _appenduid(tagged: Tagged, count: int) -> tuple[int | None, list[int]]:
    """UIDVALIDITY and the UIDs of `[APPENDUID v set]`, in the order of the messages (RFC 4315 §3). Empty when the server does not tell,
    or tells another number of UIDs than there were messages."""
    if tagged.text.code != b"APPENDUID":
        return None, []
    words = tagged.text.arguments.split()
    if len(words) != 2:
        return None, []
    try:
        uids = uid_list(words[1], limit=count + 1)
    except ProtocolError:
        return None, []
    uidvalidity = number(words[0])
    if uidvalidity is None or len(uids) != count or uids[-1] > encoder.MAX_UID:
        return None, []
    return uidvalidity, uids
