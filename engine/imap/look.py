"""The look of a rerun: every folder opened read-only, what it counts and which flags changed, many folders in flight.

Why EXAMINE and not STATUS: a server may answer STATUS from its index while mail and flags came in behind its back (Dovecot with
maildir_very_dirty_syncs, measured); opening the folder makes it look. Why pipelined: a thousand folders then cost their octets, not
a thousand round trips.
Must not: change anything, send ENABLE, use the connection for anything else before its end.
Always: at most FOLDERS_AHEAD folders are in flight and nothing is held but the folder being read; flags that come before a folder's
EXAMINE succeeded are not taken for its own; left early it ends the connection, because what is in flight may be large.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from engine.errors import EngineError, MessageRefused, Refused
from engine.imap import folders
from engine.imap.channel import Tagged
from engine.imap.flags import Flags, Responses, listing
from engine.imap.folders import Selected
from engine.imap.session import Session

FOLDERS_AHEAD = 16

OnFlags = Callable[[str, int, Flags], None]


class Ask(NamedTuple):
    """A folder (wire name). `flags_below` > 1: the flags of UIDs below it are wanted; with `modseq` (HIGHESTMODSEQ of the last look)
    only of those that changed since, where the server counts changes."""

    name: str
    modseq: int = 0
    flags_below: int = 0


class Look(NamedTuple):
    """One folder. `selected` None: it could not be opened, and `refused` says why (Throttled: the server asks to wait); both: it is open
    and its flags were refused. UIDVALIDITY 0 in `selected`: the server did not tell it; another than is known: flags told are of other
    messages. `flags_seen` counts the calls of `on_flags`. `vanished_known`: every message below `flags_below` was told, so those that
    were not are gone."""

    name: str
    selected: Selected | None
    refused: EngineError | None
    flags_seen: int
    vanished_known: bool


def look(session: Session, asks: Sequence[Ask], on_flags: OnFlags) -> Iterator[Look]:
    """Looks at every folder once; in the order of `asks`, but for those whose changes the server would not tell and which are asked for all
    their flags at the end. `on_flags(name, uid, flags)` may then hear of a UID twice; the last word counts. Raises ConnectionBroken
    and ProtocolError, and Throttled when the account's pace says wait (the connection is ended by that, too); a folder's refusal is in
    its Look."""
    return _Looking(session, on_flags).run(asks)


@dataclass(slots=True)
class _Flight:
    ask: Ask
    since: int
    command: bytes
    examine: bytes      # tags
    fetch: bytes | None


class _Looking:
    def __init__(self, session: Session, on_flags: OnFlags) -> None:
        self._session = session
        self._channel = session.channel
        self._on_flags = on_flags
        self._flying: deque[_Flight] = deque()
        self._again: list[Ask] = []
        self._open: str | None = None  # the folder that the last EXAMINE left open
        self._examined = False

    def run(self, asks: Sequence[Ask]) -> Iterator[Look]:
        self._channel.must_be_free()
        self._channel.owner = "a look at folders"
        finished = False
        try:
            yield from self._all(asks, plainly=False)
            yield from self._all(self._again, plainly=True)
            finished = True
        finally:
            self._channel.owner = None
            if self._examined:
                self._session.now_examined(self._open)
            if not finished:
                self._channel.stream.close()

    def _all(self, asks: Sequence[Ask], *, plainly: bool) -> Iterator[Look]:
        coming = iter(asks)
        while True:
            unsendable = self._fill(coming, plainly)
            while self._flying:
                seen = self._read(self._flying.popleft())
                if seen is not None:
                    yield seen
                if unsendable is None and len(self._flying) <= FOLDERS_AHEAD // 2:
                    unsendable = self._fill(coming, plainly)
            if unsendable is None:
                return
            yield unsendable

    def _fill(self, coming: Iterator[Ask], plainly: bool) -> Look | None:
        """Sends for as many folders as may be in flight, in one piece. Returns what is to be said of one whose name cannot be sent."""
        commands: list[bytes] = []
        filled: list[tuple[Ask, int]] = []
        unsendable: Look | None = None
        while len(self._flying) + len(filled) < FOLDERS_AHEAD and (ask := next(coming, None)) is not None:
            try:
                commands.append(self._session.examining(ask.name))
            except Refused as error:
                unsendable = Look(ask.name, None, error, 0, False)
                break
            since = 0 if plainly or not self._session.has_modseq else ask.modseq
            if ask.flags_below > 1:
                commands.append(listing(self._session, 1, ask.flags_below - 1, since))
            filled.append((ask, since))
        sent = iter(zip(commands, self._channel.send_together(commands), strict=True))
        for ask, since in filled:
            command, tag = next(sent)
            self._flying.append(_Flight(ask, since, command, tag, next(sent)[1] if ask.flags_below > 1 else None))
        return unsendable

    def _read(self, flight: _Flight) -> Look | None:
        """One folder's answers. None: it is asked again."""
        self._examined = True
        answer = self._channel.finish(flight.examine)
        if answer.tagged.status != b"OK":
            if flight.fetch is not None:  # BAD; or of a folder that stayed open, which is not this one
                Responses(self._channel, flight.fetch).read_out()
            self._open = None
            if self._session.refused_condstore(flight.command, answer.tagged):
                self._again.append(flight.ask)
                return None
            refused = self._session.about_a_folder(self._channel.refusal(answer.tagged, "select"))
            return Look(flight.ask.name, None, refused, 0, False)
        selected = folders.selected(answer)
        if selected is None:
            raise self._channel.misbehaved("EXAMINE was answered with something unreadable")
        self._open = flight.ask.name
        if flight.fetch is None:
            return Look(flight.ask.name, selected, None, 0, False)
        seen, tagged = self._flags(flight.ask, flight.fetch)
        error = self._channel.refusal(tagged, "fetch") if tagged.status != b"OK" else None
        # A count of changes that went back was restored from somewhere: what changed since is not known there.
        if flight.since and (isinstance(error, MessageRefused) or (error is None and selected.highestmodseq < flight.since)):
            self._again.append(flight.ask)
            return None
        return Look(flight.ask.name, selected, error, seen, error is None and not flight.since)

    def _flags(self, ask: Ask, tag: bytes) -> tuple[int, Tagged]:
        """(how many were told, the answer)."""
        name, below, on_flags, seen = ask.name, ask.flags_below, self._on_flags, 0
        responses = Responses(self._channel, tag)
        for uid, flags in responses:
            if 0 < uid < below:
                on_flags(name, uid, flags)
                seen += 1
        return seen, responses.answer
