"""When each of several connections may send the end of its message, so that a server which must be asked for each literal stores them in
the order in which they are sent: as far apart as their turns lie.

Must not: read or write a connection.
"""
from __future__ import annotations

import time
from collections.abc import Sequence

from engine.imap.append_command import Command
from engine.imap.channel import Channel

_BLOCKED = 0.0005      # seconds: a wait that was longer ended when the server spoke, not when we came to listen
_TURN_NEWEST = 0.2     # share of the newest in what a lane's turn is thought to take
_TURN_SHORTER = 0.95   # … and what is left of that when a turn was over before we came to listen
_TURN_MOST = 1.0       # seconds that it is thought to take at first, at most


class LaneTurns:
    """`rtt`: of the first connection, seconds."""

    def __init__(self, rtt: float) -> None:
        self._turn = 0
        self._last: Command | None = None
        self._last_on: dict[Channel, Command] = {}
        self._turn_seconds = min(rtt, _TURN_MOST)  # of a round trip, and of storing a message
        self._last_uid: int | None = None

    def next_of(self, lanes: int) -> int:
        """Whose turn it is to announce."""
        turn = self._turn % lanes
        self._turn = (turn + 1) % lanes
        return turn

    def learn(self, command: Command, waited: float) -> None:
        """How long a lane's turn takes: from its last octets, or its announcement, to its next `+`. A `+` that was there before we came
        to listen says only that we came too late: then the lanes' turns are moved closer, until they are waited for again."""
        if waited <= _BLOCKED:
            self._turn_seconds *= _TURN_SHORTER
            return
        before = self._last_on.get(command.channel)
        took = time.monotonic() - max(before.ended_at if before else 0.0, command.begun_at)
        self._turn_seconds += _TURN_NEWEST * (took - self._turn_seconds)

    def keep_apart(self, command: Command, lanes: int) -> None:
        """Waits until the message before this one, on another lane, was surely taken first."""
        before = self._last
        if before is None or before.channel is command.channel:
            return
        apart = self._turn_seconds / lanes  # as far as the lanes' turns lie apart by themselves
        wait = before.ended_at + apart - time.monotonic()
        if wait > 0:
            time.sleep(wait)

    def ended(self, command: Command) -> None:
        """Its last octets were sent just now."""
        command.ended_at = time.monotonic()
        self._last = self._last_on[command.channel] = command

    def were_kept(self, uids: Sequence[int]) -> bool:
        """Whether a command's UIDs are above those of the command before."""
        kept = self._last_uid is None or uids[0] > self._last_uid
        self._last_uid = uids[-1]
        return kept
