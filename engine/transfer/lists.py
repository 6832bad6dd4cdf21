"""Which lists of a folder to ask for, and in which order their answers count.

Owns: ranges of UIDs (of sequence numbers where UIDs list nothing), and what to do with a list that is refused: it is halved until one
message is left, which is asked for without its size, and then named. Must not: talk to a server.
Always: answers are handed on in ascending order, whatever order they come in.
"""
from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from engine.causes import Cause
from engine.errors import EngineError, MessageRefused, ProtocolError
from engine.imap.metadata import Metadata
from engine.imap.pipe import Listing
from engine.wire.encoder import MAX_UID

HOPELESS_REFUSALS = 40        # lists refused in a folder of which none was ever answered


@dataclass(slots=True)
class Range:
    """A list to be asked for: UIDs `first` to `last` (None: to the end), or sequence numbers."""

    first: int
    last: int | None
    by_number: bool = False
    with_size: bool = True
    asked: bool = False
    found: list[Metadata] | None = None


class Lists:
    """`uids`: all UIDs from `first` up where they are sparse and many, else None. `small` messages in the first list, then up to `size`."""

    def __init__(self, first: int, uidnext: int | None, messages: int, uids: array[int] | None, *, size: int, small: int) -> None:
        self._first = first
        self._uidnext = uidnext
        self._messages = messages
        self._uids = uids
        self._size = size
        self._small = small
        self._by_number = False
        self._answered = self._refused = 0
        self._unlisted: list[tuple[int, EngineError]] = []
        self.begin()

    def begin(self) -> None:
        """From the start of the folder."""
        self._coming = self._numbers() if self._by_number else self._ranges()
        self._open: deque[Range] = deque()   # asked for, or to be asked for again
        self._tail_asked = False
        self._unlisted.clear()

    def next(self, seen: int, in_flight: int) -> Range | None:
        """The list to ask for now; None: none, as far as is known. `seen`: messages listed so far."""
        one = next((open_ for open_ in self._open if not open_.asked), None)
        if one is None:
            one = next(self._coming, None)
            if one is None and not in_flight and not self._open and not self._tail_asked and seen < self._messages and self._first == 1:
                # What the server counts and does not list within the UIDs that it states: beyond them, or by number.
                self._tail_asked = True
                if seen == 0:
                    self._by_number = True
                    self._coming = self._numbers()
                    one = next(self._coming, None)
                elif self._uidnext is not None and self._uidnext <= MAX_UID:
                    one = Range(self._uidnext, None)
            if one is None:
                return None
            self._open.append(one)
        one.asked = True
        return one

    def take(self, listing: Listing) -> Iterator[list[Metadata]]:
        """Raises what a refusal means where it is not about messages."""
        asked = (listing.first, listing.last, listing.by_number)
        at = next(n for n, one in enumerate(self._open)
                  if one.asked and one.found is None and (one.first, one.last, one.by_number) == asked)
        if listing.error is None:
            self._answered += 1
            self._open[at].found = listing.found
        else:
            self._refuse(at, listing)
        while self._open and (found := self._open[0].found) is not None:
            self._open.popleft()
            yield found

    def unlisted(self, seen: int) -> list[tuple[int, EngineError]]:
        """(UID, why) of what may be messages that the server refuses to list; none where it lists as many as it counted. `seen`: without
        those that came in since."""
        return [] if self._first == 1 and seen >= self._messages else self._unlisted

    def _refuse(self, at: int, listing: Listing) -> None:
        error = listing.error
        assert error is not None
        self._refused += 1
        if not isinstance(error, MessageRefused):
            raise error
        if not self._answered and self._refused > HOPELESS_REFUSALS:
            raise ProtocolError(Cause.X_CLIENT, server_text=error.server_text, detail="every list of messages was refused") from error
        one = self._open[at]
        last = self._messages if one.by_number else (self._uidnext or MAX_UID + 1) - 1
        last = max(one.first, last) if one.last is None else one.last
        if last > one.first:
            middle = (one.first + last) // 2
            self._open[at] = Range(one.first, middle, one.by_number)
            self._open.insert(at + 1, Range(middle + 1, last if one.last is not None else None, one.by_number))
        elif one.with_size:
            self._open[at] = Range(one.first, one.last, one.by_number, with_size=False)
        else:
            one.found = []
            if not one.by_number:
                self._unlisted.append((one.first, error))

    def _ranges(self) -> Iterator[Range]:
        """`small` messages in the first, twice as many in each that follows, up to `size`: bodies are asked for once a list is here."""
        if self._uids is not None:
            at = 0
            for size in self._sizes():
                if at >= len(self._uids):
                    return
                yield Range(self._uids[at], self._uids[min(at + size, len(self._uids)) - 1])
                at += size
        elif self._uidnext is None or self._messages <= self._small or self._uidnext - self._first > 2 * self._messages + self._size:
            yield Range(self._first, None if self._uidnext is None else max(self._first, self._uidnext - 1))
        else:
            first = self._first
            for size in self._sizes():
                if first >= self._uidnext:
                    return
                yield Range(first, min(first + size, self._uidnext) - 1)
                first += size

    def _sizes(self) -> Iterator[int]:
        size = self._small
        while True:
            yield size
            size = min(2 * size, self._size)

    def _numbers(self) -> Iterator[Range]:
        for first in range(1, self._messages + 1, self._size):
            yield Range(first, min(first + self._size - 1, self._messages), by_number=True)
