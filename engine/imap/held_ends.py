"""Several connections that fill one folder at once, in order: an APPEND's end is held back until everything sent before it was answered.

What a MULTIAPPEND brings counts at its last line end, all of it or nothing (RFC 3502 §6.3.11), and is stored while it comes (Dovecot,
measured: facts, engine §4). So a server works at several commands together, and their order is that of their ends: next door, where the
wait for an answer before the next end costs nothing.
Must not: send anything else to a connection whose end is held (`Channel.owner` says so; nothing of a command that never ends is stored).
Always: an end waits for answers, for more to send, or for the pace; `let_end` ends that. A server that locks the folder for a whole command
(mbox) may wait for the lock that our other connection holds: after PATIENCE_SECONDS of that, beyond what storing takes, all connections
are closed and FolderIsLocked is raised; each folder of the run is then filled over one. What fails on one connection closes all: the
others' commands wait for what does not come.
"""
from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence

from engine.causes import Cause, at_destination
from engine.errors import ConnectionBroken, EngineError
from engine.imap.append_command import Command
from engine.imap.channel import Channel, Tagged
from engine.net.stream import SILENT

PATIENCE_SECONDS = 5.0   # for an answer while an end is held, beyond what storing takes
NEAR_SECONDS = 0.01      # round trip up to which waiting for an answer before the next end costs nothing: next door

_OWNER = "an APPEND whose end is held back"


class FolderIsLocked(ConnectionBroken):
    """Nothing was answered, or read, on one connection while a command of the same folder had no end on another; all are closed."""


class HeldEnds:
    """`channels` are of the same mailbox at the same server, the pair's own first."""

    def __init__(self, channels: Sequence[Channel]) -> None:
        self._channels = list(channels)
        self._turn = 0
        self._unanswered: deque[Command] = deque()
        self._lost: EngineError | None = None  # an end could not be sent: told to whoever waits for that command

    @property
    def holding(self) -> bool:
        """Whether the end of a command that was sent is held back."""
        return any(not command.ended for command in self._unanswered)

    def next_channel(self) -> Channel:
        """Whose turn it is; waits until no end is held there. Raises ConnectionBroken."""
        channel = self._channels[self._turn]
        self._turn = (self._turn + 1) % len(self._channels)
        while channel.owner == _OWNER:
            self._await_first()
        channel.must_be_free()
        return channel

    @contextlib.contextmanager
    def writing_to(self, channel: Channel) -> Iterator[None]:
        """While a command is sent. A server that reads nothing more of a connection, because what came over it before waits for the lock
        that a held end has, is given up like one that does not answer."""
        may_be_locked = self.holding and any(command.channel is channel for command in self._unanswered)
        if may_be_locked:
            channel.stream.idle = PATIENCE_SECONDS + sum(command.patience() for command in self._unanswered)
        try:
            yield
        except ConnectionBroken as error:
            if may_be_locked and error.detail == SILENT:
                raise self._locked(channel) from error
            raise

    def sent(self, command: Command) -> None:
        """All of the command but its end is on the wire; a command that was refused before has ended."""
        waits = bool(self._unanswered)  # of which some are always another connection's: they take turns
        self._unanswered.append(command)
        if waits and not command.ended:
            command.channel.owner = _OWNER
        elif not command.ended:
            self._end(command)

    def hear(self) -> None:
        """Takes what is answered already, and sends the ends that waited for it."""
        while self._unanswered and (answer := self._unanswered[0].channel.answered(self._unanswered[0].tag)) is not None:
            self._unanswered[0].answer = answer
            self._first_was_answered()

    def let_end(self) -> None:
        """Waits for answers until no end is held. For when nobody knows when more will be sent. Raises ConnectionBroken."""
        while self.holding:
            self._await_first()

    def answer_to(self, command: Command) -> Tagged:
        """Waits for it, and for those before it. Raises ConnectionBroken."""
        while command.answer is None:
            self._await_first()
        return command.answer

    def _await_first(self) -> None:
        if self._lost is not None:
            raise self._lost
        first = self._unanswered[0]
        try:
            if self.holding and not first.channel.answers_within(PATIENCE_SECONDS + first.patience(), first.tag):
                raise self._locked(first.channel)
            first.finish()
        except BaseException:
            self._close()
            raise
        self._first_was_answered()

    def _first_was_answered(self) -> None:
        self._unanswered.popleft()
        if self._unanswered and not self._unanswered[0].ended:
            try:
                self._end(self._unanswered[0])
            except EngineError as error:
                self._lost = error
                self._close()

    def _end(self, command: Command) -> None:
        command.channel.owner, command.ended = None, True
        command.channel.stream.write(b"\r\n")

    def _locked(self, channel: Channel) -> FolderIsLocked:
        return FolderIsLocked(at_destination(Cause.X_STATE), side=channel.side,
                              detail="the server does not work at two messages of one folder at once")

    def _close(self) -> None:
        for channel in self._channels:
            channel.owner = None
            channel.stream.close()
