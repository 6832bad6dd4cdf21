"""One IMAP connection as commands sent and responses read (RFC 3501 §7): tags, literals, caps, throttle notices, BYE.

Owns: tags in flight, the reading loop, what a refusal means (through the reply rules). Everything that talks IMAP goes through here:
IMAPClient's verbs (client.py) and our own streams (fetch.py, append.py), so all of them can be in flight together.
Must not: build arguments (engine/wire/encoder.py does), keep message octets.
Always: literals are capped before they are read; an untagged BYE is a ConnectionBroken with its cause; what puts the connection out of
step (ProtocolError) closes it; no exception holds what was sent.
"""
from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.causes import Cause, Side, at_destination
from engine.errors import ConnectionBroken, EngineError, MessageRefused, ProtocolError, Refused, Throttled
from engine.net.stream import Stream
from engine.pacing.pacer import OPEN, Gate
from engine.providers.words import decode_reply
from engine.wire.decoder import (
    LINE_CAP,
    LONG_LINE_CAP,
    REPLY_CAP,
    StatusText,
    Value,
    decode,
    literal_length,
    split_untagged,
)

_TAGGED = re.compile(rb"([A-Za-z0-9]{1,30}) (OK|NO|BAD)(?: (.*))?\Z", re.IGNORECASE | re.DOTALL)
_THROTTLE = re.compile(rb"\[THROTTLED\](?:.*?Suggested Backoff Time: *(\d{1,9}) *milliseconds)?"
                       rb"|Suggested Backoff Time: *(\d{1,9}) *milliseconds", re.IGNORECASE)
_STATUS_KINDS = frozenset((b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH"))
_LONG_KINDS = frozenset((b"LIST", b"XLIST", b"LSUB", b"FETCH", b"STATUS", b"ESEARCH", b"SEARCH", b"CAPABILITY", b"FLAGS", b"ID",
                         b"NAMESPACE", b"VANISHED"))  # fmt: skip
_MAX_EMPTY_LINES = 16
_COLLECT_CAP = 32 * 1024 * 1024   # octets of untagged responses kept for one command
_COLLECT_COUNT = 200_000

WAITING = frozenset((Cause.THROTTLED, Cause.TOO_MANY_CONNECTIONS, Cause.SERVER_BUSY))
STOPPING = frozenset((
    Cause.BAD_SECRET, Cause.NEEDS_AUTH_CODE, Cause.IMAP_DISABLED, Cause.TWO_FACTOR, Cause.SECURE_LOGIN, Cause.NEEDS_ID,
    Cause.IP_BLOCKED, Cause.ACCOUNT_EXPIRED_LOCKED, Cause.QUOTA, Cause.OAUTH_ONLY, Cause.X_FOLDER,
))  # fmt: skip


class Timeouts(NamedTuple):
    """Seconds. `idle` is the longest silence; the others bound the sum of waits of one step. Tencent's LOGIN was seen at 100 s."""

    connect: float = 20.0
    greeting: float = 40.0
    login: float = 150.0
    command: float = 300.0
    idle: float = 120.0


class Untagged(NamedTuple):
    """`* <number> KIND …`; `parts` alternates text and literals."""

    number: int | None
    kind: bytes
    parts: list[bytes]
    side: Side = Side.SOURCE

    def values(self) -> list[Value]:
        """Raises ProtocolError; the response has been read whole, so the connection is in step."""
        try:
            return decode(self.parts)
        except ProtocolError as error:
            error.side = self.side
            raise


class Tagged(NamedTuple):
    tag: bytes
    status: bytes   # OK, NO, BAD
    text: StatusText


class Continuation(NamedTuple):
    text: bytes


@dataclass(slots=True)
class Answer:
    """A finished command: its tagged response and the untagged ones that came while it ran."""

    tagged: Tagged
    untagged: list[Untagged] = field(default_factory=list)

    def of_kind(self, *kinds: bytes) -> list[Untagged]:
        return [response for response in self.untagged if response.kind in kinds]


class Channel:
    """See the module. `provider` and `family` steer the reply rules and are set once the greeting is known."""

    def __init__(self, stream: Stream, *, side: Side, timeouts: Timeouts, gate: Gate = OPEN) -> None:
        self.stream = stream
        self.gate = gate                       # asked before each command, told of each word to slow down
        gate.drive(stream)
        self.side = side
        self.timeouts = timeouts
        self.provider: str | None = None
        self.family: str | None = None
        self.rtt = float("inf")
        self.phase = "greeting"                # what we are doing, for the reply rules: greeting, auth, any
        self.id_sent = False                   # a server that still asks for ID means something else (facts: N01)
        self.bodies_by_number = False          # UID FETCH was seen to give no bodies, FETCH by number to give them (263)
        self.sizes_that_lie = 0                # messages that came twice with another length than RFC822.SIZE
        self.leaving = False                   # LOGOUT was sent: BYE is expected
        self.owner: str | None = None          # what has the connection for itself: a stream of responses, a command that has no end yet
        # Not to be guessed: a server that loses step answers to what it takes for commands, and somebody else wrote those.
        self._prefix = b"B" + os.urandom(4).hex().encode("ascii")
        self._count = 0
        self._answers: dict[bytes, Tagged | None] = {}
        self._told: dict[bytes, Callable[[Tagged], None]] = {}  # who is told of an answer that nobody reads for
        self._throttled: Throttled | None = None

    # -- sending ---------------------------------------------------------------------------------------------------------------

    def new_tag(self) -> bytes:
        """A tag that is in flight from now on. Raises Throttled while the server has us wait."""
        self.gate.allow(leaving=self.leaving)
        self._count += 1
        tag = b"%b%d" % (self._prefix, self._count)
        self._answers[tag] = None
        return tag

    def send(self, command: bytes) -> bytes:
        """Sends one command line that needs no literal; returns its tag. The encoder has built every argument; a line break here is a
        defect of ours and never reaches the wire."""
        return self.send_together([command])[0]

    def send_together(self, commands: Sequence[bytes]) -> list[bytes]:
        """Sends several such commands in one piece; their tags in order."""
        lines: list[bytes] = []
        tags: list[bytes] = []
        for command in commands:
            assert b"\r" not in command and b"\n" not in command and b"\0" not in command, "an argument went around the encoder"
            try:
                tags.append(self.new_tag())
            except EngineError:  # told to wait: none of them was sent
                for tag in tags:
                    del self._answers[tag]
                raise
            lines += (tags[-1], b" ", command, b"\r\n")
        if lines:
            self.stream.write(b"".join(lines))
        return tags

    def send_ahead(self, command: bytes, told: Callable[[Tagged], None]) -> None:
        """Sends a command whose answer nobody waits for: `told` gets it when whatever is read next comes past it. Costs no round trip."""
        self._told[self.send(command)] = told

    def send_with_literals(self, parts: Sequence[tuple[bytes, bytes | None]], *, non_synchronising: bool) -> bytes:
        """Sends one command whose parts may each be followed by a literal that their last word `{n}` announces. Waits for the server's
        `+` before each literal unless it takes them at once (LITERAL+, RFC 7888); stops when the command is answered instead."""
        tag = self.new_tag()
        piece = [tag, b" "]  # goes out in one, up to where the server has to be heard
        for text, literal in parts:
            assert b"\r" not in text and b"\n" not in text and b"\0" not in text, "an argument went around the encoder"
            if literal is None:
                piece.append(text)
            elif non_synchronising:
                piece += (text[:-1], b"+}\r\n", literal)
            else:
                self.stream.write(*piece, text, b"\r\n")
                if not self.await_continuation(tag):
                    return tag
                piece = [literal]
        self.stream.write(*piece, b"\r\n")
        return tag

    def run(self, command: bytes, phase: str = "any") -> Answer:
        """Sends, waits, returns the answer if it is OK; else raises what `refusal` says."""
        self.must_be_free()
        started = self.clock()
        return self.expect_ok(self.finish(self.send(command), started=started), phase)

    def clock(self) -> float | None:
        """For `finish`'s `started`, before a command is sent: None while another is in flight, whose answer would look like a quick one."""
        return None if self._answers else time.monotonic()

    def expect_ok(self, answer: Answer, phase: str) -> Answer:
        if answer.tagged.status != b"OK":
            raise self.refusal(answer.tagged, phase)
        return answer

    def must_be_free(self) -> None:
        assert self.owner is None, f"the connection is taken: {self.owner}"

    # -- reading ---------------------------------------------------------------------------------------------------------------

    def finish(self, tag: bytes, *, started: float | None = None, seconds: float | None = None, patience: float = 0.0) -> Answer:
        """Reads until `tag` is answered. `started` makes the first response count for the round trip time; `patience` are seconds that the
        server may be silent beyond the usual."""
        self.stream.limit((seconds or self.timeouts.command) + patience)
        self.stream.idle = self.timeouts.idle + patience
        untagged: list[Untagged] = []
        octets = 0
        while True:
            tagged = self._answers.get(tag)
            if tagged is not None:
                del self._answers[tag]
                self.stream.limit(None)
                self.stream.idle = self.timeouts.idle
                return Answer(tagged, untagged)
            response = self.read()
            if started is not None:
                self.rtt = min(self.rtt, time.monotonic() - started)
                started = None
            if isinstance(response, Untagged):
                untagged.append(response)
                octets += sum(map(len, response.parts)) + 64
                if octets > _COLLECT_CAP or len(untagged) > _COLLECT_COUNT:
                    raise self.misbehaved("the answer to one command has no end")

    def hear(self) -> None:
        """Takes the answers that are here already, so that a stated pause in one ([THROTTLED], a back-off time) or a goodbye counts before
        the next command. What else a refusal means is looked at by whoever waits for it."""
        while self.stream.has_line:
            self.read()

    def answered(self, tag: bytes) -> Tagged | None:
        """The tagged response if it has been read already; takes it out."""
        tagged = self._answers.get(tag)
        if tagged is not None:
            del self._answers[tag]
        return tagged

    def answers_within(self, seconds: float, tag: bytes) -> bool:
        """Whether the tag is answered in so many seconds; the answer stays for `finish`. Raises ConnectionBroken."""
        deadline = time.monotonic() + seconds
        while self._answers.get(tag) is None:
            if not self.stream.readable_within(deadline - time.monotonic()):
                return False
            self.read()
        return True

    def await_continuation(self, tag: bytes) -> bool:
        """True when the server asks for the octets (`+`); False when it answered the command instead (RFC 3501 §7.5)."""
        self.stream.limit(self.timeouts.command)
        while self._answers.get(tag) is None:
            if isinstance(self.read(), Continuation):
                self.stream.limit(None)
                return True
        self.stream.limit(None)
        return False

    def read(self) -> Untagged | Tagged | Continuation:
        """One response, whichever comes. A tagged one is also kept for whoever waits for it."""
        for _ in range(_MAX_EMPTY_LINES):
            line = self.stream.read_line(LONG_LINE_CAP)
            if line:
                return self.understand(line)
        raise self.misbehaved("empty lines instead of an answer")

    def understand(self, line: bytes) -> Untagged | Tagged | Continuation:
        """A response whose first line has been read."""
        if line.startswith(b"* "):
            return self._untagged(line)
        if len(line) > LINE_CAP:
            raise self.misbehaved("a line is too long")
        if line.startswith(b"+"):
            return Continuation(line[1:].strip())
        match = _TAGGED.match(line)
        if match is None:
            raise self.misbehaved("a line that is no IMAP response")
        tag = match[1]
        if self._answers.get(tag, self) is not None:
            raise self.misbehaved("an answer to a command that was not sent")
        tagged = Tagged(tag, match[2].upper(), StatusText.of(match[3] or b""))
        self._notice(tagged.text.text)
        told = self._told.pop(tag, None)
        if told is None:
            self._answers[tag] = tagged
        else:
            del self._answers[tag]
            told(tagged)
        return tagged

    def _untagged(self, line: bytes) -> Untagged:
        split = split_untagged(line)
        if split is None:
            raise self.misbehaved("a line that is no IMAP response")
        number, kind, text = split
        if len(line) > LINE_CAP and kind not in _LONG_KINDS:
            raise self.misbehaved("a line is too long")
        if kind in _STATUS_KINDS:
            if kind == b"BYE" and not self.leaving:
                raise self.said_bye(text)
            self._notice(text)
            return Untagged(number, kind, [text], self.side)
        return Untagged(number, kind, self.rest_of([text], REPLY_CAP), self.side)

    def rest_of(self, parts: list[bytes], cap: int) -> list[bytes]:
        """Reads the literals that the last line announces, and the lines after them, until the response ends; `cap` octets in all."""
        total = len(parts[-1])
        while (length := literal_length(parts[-1])) is not None:
            total += length
            if total > cap:
                raise self.misbehaved("a reply is larger than it may be")
            parts.append(self.stream.read_exact(length))
            parts.append(self.stream.read_line(LONG_LINE_CAP))
            total += len(parts[-1])
        return parts

    # -- what the server means ---------------------------------------------------------------------------------------------------

    def _notice(self, text: bytes) -> None:
        """Throttle notices count wherever they stand, inside an OK too (facts, engine §5.4)."""
        match = _THROTTLE.search(text)
        if match is not None:
            wait = _stated_seconds(match)
            self.gate.notice(Cause.THROTTLED, wait)
            self._throttled = Throttled(self._cause(Cause.THROTTLED), side=self.side, server_text=decode_reply(text), retry_after=wait)

    def take_throttle(self) -> Throttled | None:
        """The last notice to slow down since this was asked before, though the command may have succeeded."""
        notice, self._throttled = self._throttled, None
        return notice

    def _cause(self, cause: Cause) -> Cause:
        return at_destination(cause) if self.side is Side.DESTINATION else cause

    def refusal(self, tagged: Tagged, phase: str, uids: Sequence[int] = ()) -> EngineError:
        """What a NO or BAD means. In the phases "fetch" and "append" it is one message's fault unless the words say otherwise."""
        text = tagged.text.text
        words = decode_reply(text)
        causes, wait = self._meaning(words, text, phase)
        if phase == "append" and tagged.text.code == b"TRYCREATE":  # RFC 3501 §7.1: the folder, not the message; not the server's will
            error = Refused(Cause.X_FOLDER, side=self.side, server_text=words)
            error.uids = tuple(uids)
            return error
        if phase == "fetch" and tagged.text.code == b"SERVERBUG":  # Dovecot's word for one damaged message, for ever; not "try later"
            causes = (Cause.X_ITEM, *causes)
        kind: type[EngineError] = Refused
        if causes[0] in WAITING:
            kind = Throttled
            self.gate.notice(causes[0], wait)
        elif phase in ("fetch", "append") and causes[0] not in STOPPING:
            kind = MessageRefused
            if causes[0] is Cause.UNKNOWN:
                causes = (Cause.X_ITEM,)
        refused = kind(self._cause(causes[0]), side=self.side, server_text=words, causes=tuple(map(self._cause, causes)), retry_after=wait)
        refused.uids = tuple(uids)
        return refused

    def _meaning(self, words: str, text: bytes, phase: str) -> tuple[tuple[Cause, ...], float | None]:
        """Causes, likeliest first, and seconds to wait."""
        from engine.providers.classify import classify  # the rules are loaded when a server refuses

        found = classify(words, phase=phase, provider=self.provider, family=self.family, id_sent=self.id_sent)
        throttle = _THROTTLE.search(text)
        if throttle is None:
            return found.causes or (Cause.UNKNOWN,), found.retry_after
        stated = _stated_seconds(throttle)
        return (Cause.THROTTLED,), found.retry_after if stated is None else stated

    def said_bye(self, text: bytes) -> ConnectionBroken:
        """The server ends the session: closes, and gives the exception to raise."""
        words = decode_reply(text)
        found, wait = self._meaning(words, text, self.phase)
        causes = tuple(cause for cause in found if cause is not Cause.UNKNOWN) or (Cause.SERVER_BUSY,)
        if causes[0] in WAITING and wait is not None:  # a goodbye without a time is no word about the pace
            self.gate.notice(causes[0], wait)
        self.stream.close()
        return ConnectionBroken(self._cause(causes[0]), side=self.side, server_text=words, detail="the server ended the session",
                                causes=tuple(map(self._cause, causes)), retry_after=wait)

    def misbehaved(self, detail: str) -> ProtocolError:
        """The server said what must not be acted upon: closes, and gives the exception to raise."""
        self.stream.close()
        return ProtocolError(self._cause(Cause.X_STATE), side=self.side, detail=detail)


def _stated_seconds(notice: re.Match[bytes]) -> float | None:
    """The wait that a throttle notice states, if it does."""
    stated = notice[1] or notice[2]
    return int(stated) / 1000 if stated else None
