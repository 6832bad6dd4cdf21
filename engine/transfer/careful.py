"""Digests of source messages for those who compare: with the same care as the reader takes, because "no answer" is not "no equal".

A message of which the source does not give every octet it announced is asked for once more by itself. What still does not come is told
as unread: whoever compares must not take it for new, it may be at the destination already. A message that breaks the connection is named
in the exception's `uids`, so that it is left out when it did so too often.
"""
from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from engine.errors import ConnectionBroken, MessageRefused, ProtocolError
from engine.imap.fetch import Body, fetch_bodies
from engine.imap.session import Session
from engine.providers.catalogue import provider
from engine.providers.provider import Quirk

AT_ONCE = 200
CHUNK = 256 * 1024


@dataclass
class CarefulReading:
    """Of one EXAMINEd folder. `sizes` are what the source announced, by UID. `hopeless`: broke the connection too often already."""

    session: Session
    hopeless: Callable[[int], bool]
    unread: list[int] = field(default_factory=list)

    def digests(self, sizes: Iterable[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
        """(UID, SHA-256 of every octet) of each message that came whole; `unread` grows by the others that are asked for here. Takes
        (UID, announced octets) in ascending UIDs."""
        some: dict[int, int] = {}
        for uid, size in sizes:
            if self.hopeless(uid):
                self.unread.append(uid)
                continue
            some[uid] = size
            if len(some) == AT_ONCE:
                yield from self._batch(some)
                some = {}
        if some:
            yield from self._batch(some)

    def _batch(self, sizes: dict[int, int]) -> Iterator[tuple[int, bytes]]:
        left = dict(sizes)
        for uid, digest in self._ask(list(sizes), sizes):
            if left.pop(uid, None) is not None:
                yield uid, digest
        for uid in list(left):
            again = dict(self._ask([uid], sizes))
            if uid in again:
                yield uid, again[uid]
            else:
                self.unread.append(uid)

    def _ask(self, uids: list[int], sizes: dict[int, int]) -> Iterator[tuple[int, bytes]]:
        waiting = dict.fromkeys(uids)
        exact = Quirk.SIZE_IS_ESTIMATE not in provider(self.session.provider).quirks
        try:
            for body in fetch_bodies(self.session, [uids]):
                digest = _digest(body)
                waiting.pop(body.uid, None)
                whole = body.length == sizes.get(body.uid) if exact else body.length or not sizes.get(body.uid)
                if whole and body.uid in sizes:
                    yield body.uid, digest
        except MessageRefused:
            return  # those that were not answered are asked for by themselves, or are unread
        except (ConnectionBroken, ProtocolError) as error:
            error.uids = error.uids or tuple(waiting)[:1]
            raise


def _digest(body: Body) -> bytes:
    digest = hashlib.sha256()
    for chunk in body.chunks(CHUNK):
        digest.update(chunk)
    return digest.digest()
