"""Flags alone: those of many messages, quickly, and the changes of them at the destination (RFC 3501 §6.4.6, RFC 7162 §3.1).

Owns the reading of FETCH responses that hold a UID and flags; look.py reads through here too.
Must not: write flags anywhere but at a destination, ask for anything that sets \\Seen, send ENABLE (CONDSTORE's words in FETCH suffice).
Always: what was not asked for is passed over; a list that is left before its end is read out; commands in flight are bounded.
"""
from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from engine.causes import Cause, Side, at_destination
from engine.errors import EngineError, MessageRefused, Throttled
from engine.imap.channel import Channel, Tagged, Untagged
from engine.imap.session import Session
from engine.wire import encoder
from engine.wire.decoder import Value, decode, number, pairs

_AHEAD = 16                # STORE commands in flight
_LINES_PER_BUDGET = 20_000  # responses after which a command's time begins anew: a long list may be slow, a trickle may not

# The order of items is the server's choice (RFC 3501 §7.4.2), their case too; MODSEQ comes along with CHANGEDSINCE.
_LINE = re.compile(
    rb'\* \d+ FETCH \((?:UID (\d{1,10})|FLAGS \(([^()"\r\n{]*)\)|MODSEQ \(\d+\)| )+\)\r?\n', re.IGNORECASE)

Flags = tuple[str, ...]


class FlagChange(NamedTuple):
    """Flags to add to and to remove from these UIDs of a destination's folder; the others stay as they are."""

    uids: tuple[int, ...]
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


@lru_cache(maxsize=4096)
def flags_of(words: bytes) -> Flags:
    r"""`\Seen $Label1` as texts, without \Recent; one tuple for all messages that bear the same."""
    return tuple(word.decode("latin-1") for word in words.split() if word.lower() != b"\\recent")


def listing(session: Session, first: int, last: int | None, changed_since: int = 0) -> bytes:
    """The command whose answer Responses reads."""
    command = b"UID FETCH %s (UID FLAGS)" % session.uid_range(first, last)
    return command + b" (CHANGEDSINCE %d)" % changed_since if changed_since else command


class Responses:
    """(UID, flags) of every FETCH response until `tag` is answered; then `answer` is what ended it. Repeated UIDs come repeatedly."""

    answer: Tagged

    def __init__(self, channel: Channel, tag: bytes) -> None:
        self._channel = channel
        self._tag = tag

    def __iter__(self) -> Iterator[tuple[int, Flags]]:
        channel, stream, count = self._channel, self._channel.stream, 0
        stream.limit(channel.timeouts.command)
        while True:
            for match in stream.matching(_LINE):
                uid, words = match.groups()
                if uid is not None and words is not None:
                    yield int(uid), flags_of(words)
                count += 1
            if count >= _LINES_PER_BUDGET:
                stream.limit(channel.timeouts.command)
                count = 0
            response = channel.read()
            if isinstance(response, Tagged):
                if response.tag == self._tag:
                    stream.limit(None)
                    channel.answered(self._tag)
                    self.answer = response
                    return
            elif isinstance(response, Untagged) and response.kind == b"FETCH":
                one = _unusual(response)
                if one is not None:
                    yield one

    def read_out(self) -> None:
        for _ in self:
            pass


def _unusual(response: Untagged) -> tuple[int, Flags] | None:
    """A FETCH response in another form: with more items, literals, or doubled parentheses (Tencent: facts, engine §5.2)."""
    values = decode(response.parts)
    inner: Value = values[0] if values else None
    while isinstance(inner, list) and len(inner) == 1 and isinstance(inner[0], list):
        inner = inner[0]
    items = pairs(inner)
    uid, flags = number(items.get(b"UID")), items.get(b"FLAGS")
    if uid is None or not isinstance(flags, list):
        return None
    return uid, flags_of(b" ".join(flag for flag in flags if isinstance(flag, bytes)))


def fetch_flags(session: Session, first: int, last: int | None, changed_since: int = 0) -> Iterator[tuple[int, Flags]]:
    """(UID, flags without \\Recent) of the open folder's messages from `first` to `last` (None: to the end), as the server orders them.
    With `changed_since` (a HIGHESTMODSEQ of before) only of those that changed, where the server counts changes; it may list all."""
    for since in (changed_since, 0) if changed_since and session.has_modseq else (0,):
        refused = yield from _listed(session, first, last, since)
        if refused is None:
            return
        if not since or isinstance(refused, Throttled):
            raise refused


def _listed(session: Session, first: int, last: int | None, since: int) -> Generator[tuple[int, Flags], None, EngineError | None]:
    channel = session.channel
    channel.must_be_free()
    tag = channel.send(listing(session, first, last, since))
    channel.owner = "a list of flags"
    responses = Responses(channel, tag)
    end = last or encoder.MAX_UID
    try:
        for one in responses:
            if first <= one[0] <= end:
                yield one
    except GeneratorExit:
        with contextlib.suppress(EngineError):  # the connection is closed then, and whoever uses it next is told
            responses.read_out()
        raise
    finally:
        channel.owner = None
    return None if responses.answer.status == b"OK" else channel.refusal(responses.answer, "fetch")


# -- at the destination ----------------------------------------------------------------------------------------------------------


def store_flags(session: Session, folder: str, changes: Sequence[FlagChange]) -> list[tuple[int, EngineError]]:
    """Makes the changes and leaves no folder open. Returns the UIDs whose change was refused, with what the server said; UIDs that are no
    longer there are no refusal (RFC 3501 §6.4.8). Raises Throttled when the server asks to wait (changes may be made twice without
    harm), Refused when the folder cannot be opened, ConnectionBroken."""
    refused: dict[int, EngineError] = {}
    with session.opened(folder):
        flying: deque[tuple[bytes, tuple[int, ...]]] = deque()
        for uids, command in _stores(session, changes, refused):
            if len(flying) >= _AHEAD:
                _stored(session, flying, refused)
            flying.append((session.channel.send(command), uids))
        while flying:
            _stored(session, flying, refused)
    return sorted(refused.items(), key=lambda one: one[0])


def _stores(session: Session, changes: Sequence[FlagChange], refused: dict[int, EngineError]) -> Iterator[tuple[tuple[int, ...], bytes]]:
    for change in changes:
        for sign, names in ((b"+", change.add), (b"-", change.remove)):
            if not names:
                continue
            try:
                flags = encoder.flag_list(names)
            except encoder.EncodeError as error:
                cause = at_destination(Cause.X_ITEM)
                refused.update((uid, MessageRefused(cause, side=Side.DESTINATION, detail=str(error))) for uid in change.uids)
                continue
            for uid_set in encoder.uid_sets(change.uids, max(100, session.command_bytes - len(flags))):
                yield _members(uid_set), b"UID STORE %s %bFLAGS.SILENT %b" % (uid_set, sign, flags)


def _members(uid_set: bytes) -> tuple[int, ...]:
    found: list[int] = []
    for piece in uid_set.split(b","):
        low, _, high = piece.partition(b":")
        found.extend(range(int(low), int(high or low) + 1))
    return tuple(found)


def _stored(session: Session, flying: deque[tuple[bytes, tuple[int, ...]]], refused: dict[int, EngineError]) -> None:
    """Reads the answer of the oldest STORE."""
    tag, uids = flying.popleft()
    tagged = session.channel.finish(tag).tagged
    if tagged.status == b"OK":
        return
    error = session.channel.refusal(tagged, "append", uids)
    if isinstance(error, MessageRefused):
        refused.update((uid, error) for uid in uids)
        return
    while flying:  # nothing may be in flight when the folder is left
        session.channel.finish(flying.popleft()[0])
    raise error
