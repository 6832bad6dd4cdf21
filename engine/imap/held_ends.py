"""Several connections that fill one folder at once, in order: an APPEND's end is held back until everything sent before it was answered.

What a MULTIAPPEND brings counts at its last line end, all of it or nothing (RFC 3502 §6.3.11), and is stored while it comes (Dovecot,
measured: facts, engine §4). So a server works at several commands together, and their order is that of their ends: next door, where the
wait for an answer before the next end costs nothing.
Must not: send anything else to a connection whose end is held (`Channel.owner` says so; nothing of a command that never ends is stored).
Always: an end waits for answers, for more to send, or for the pace; `let_end` ends that. A server that locks the folder for a whole command
may wait for our other connection's lock: after PATIENCE_SECONDS of silence all ends are sent, and one connection goes on alone.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from engine.imap.append_command import Command
from engine.imap.channel import Channel, Tagged

PATIENCE_SECONDS = 10.0  # of silence while an end is held, beyond what storing takes
NEAR_SECONDS = 0.01      # round trip up to which waiting for an answer before the next end costs nothing: next door

_OWNER = "an APPEND whose end is held back"


class HeldEnds:
    """`channels` are of the same mailbox at the same server, the pair's own first."""

    def __init__(self, channels: Sequence[Channel]) -> None:
        self._channels = list(channels)
        self._turn = 0
        self._unanswered: deque[Command] = deque()

    @property
    def in_order(self) -> bool:
        """Whether what is sent is surely stored in that order."""
        return not self._channels[0].appends_one_by_one

    @property
    def holding(self) -> bool:
        """Whether the end of a command that was sent is held back."""
        return any(not command.ended for command in self._unanswered)

    def next_channel(self) -> Channel:
        """Whose turn it is; waits until no end is held there. Raises ConnectionBroken."""
        channel = self._channels[self._turn] if self.in_order else self._channels[0]
        self._turn = (self._turn + 1) % len(self._channels)
        while channel.owner == _OWNER:
            self._await_first()
        channel.must_be_free()
        return channel

    def sent(self, command: Command) -> None:
        """All of the command but its end is on the wire; a command that was refused before has ended."""
        waits = any(other.channel is not command.channel for other in self._unanswered)  # on one connection the server keeps the order
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
        first = self._unanswered[0]
        if self.holding and not first.channel.answers_within(PATIENCE_SECONDS + first.patience(), first.tag):
            self._channels[0].appends_one_by_one = True
            for command in self._unanswered:
                if not command.ended:
                    self._end(command)
        first.finish()
        self._first_was_answered()

    def _first_was_answered(self) -> None:
        self._unanswered.popleft()
        if self._unanswered and not self._unanswered[0].ended:
            self._end(self._unanswered[0])

    def _end(self, command: Command) -> None:
        command.channel.owner, command.ended = None, True
        command.channel.stream.write(b"\r\n")
