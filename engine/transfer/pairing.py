"""Which message is which at a destination that does not name the UIDs of what it stored (no UIDPLUS): content that is hashed on its way,
and the pairing of what was sent with what is found there.

Must not: write the ledger, append anything.
"""
from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from engine.imap.append import Outgoing
from engine.imap.fetch import Metadata, fetch_digests
from engine.imap.session import Session
from engine.transfer.matching import Pair, instant, pair_equal, pair_unique
from engine.transfer.records import Listed


class Unresolved(NamedTuple):
    """Stored, and its UID not told. `digest`: hex SHA-256 of what was sent, "" where that is not known."""

    listed: Listed
    outgoing: Outgoing
    digest: str


def paired(target: Session, folder: str, waiting: Sequence[Unresolved], there: Sequence[Metadata], *, in_order: bool) -> dict[int, int]:
    """Destination UID by source UID. `there`: what may be theirs. What was stored in the order in which it was sent (`in_order`) pairs by
    its place; else by size and date where only one message has them, and by every octet where several do. Raises ConnectionBroken."""
    there = sorted(there, key=_uid)
    if in_order and [m.size for m in there] == [outgoing.size for _, outgoing, _ in waiting]:
        return {item.meta.uid: m.uid for (item, _, _), m in zip(waiting, there, strict=True)}
    found = _by_uid(pair_unique({item.meta.uid: (outgoing.size, instant(outgoing.internal_date)) for item, outgoing, _ in waiting},
                                {m.uid: (m.size, instant(m.internal_date)) for m in there}))
    taken = set(found.values())
    if len(found) < len(waiting) and (alike := [m.uid for m in there if m.uid not in taken]):
        target.examine(folder)
        digests = dict(fetch_digests(target, alike))
        target.unselect()
        found |= _by_uid(pair_equal({item.meta.uid: digest for item, _, digest in waiting if item.meta.uid not in found}, digests))
    taken = set(found.values())  # what the server altered is ours all the same: it lies in our window and has the date we gave
    return found | _by_uid(pair_equal(
        {item.meta.uid: instant(outgoing.internal_date) for item, outgoing, _ in waiting if item.meta.uid not in found},
        {m.uid: instant(m.internal_date) for m in there if m.uid not in taken}))


def _uid(meta: Metadata) -> int:
    return meta.uid


def _by_uid(pairs: Iterable[Pair]) -> dict[int, int]:
    return {pair.source_uid: pair.target_uid for pair in pairs}


class Hashing:
    """Content that is hashed while it is sent and read, for destinations that do not name the UID."""

    def __init__(self, content: Iterable[bytes]) -> None:
        self.content = content
        self._hash = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        self._hash = hashlib.sha256()
        for chunk in self.content:
            self._hash.update(chunk)
            yield chunk

    def digest(self) -> str:
        return self._hash.hexdigest()


def hashed(outgoing: Outgoing) -> Outgoing:
    return outgoing if isinstance(outgoing.content, bytes) else outgoing._replace(content=Hashing(outgoing.content))


def unhashed(outgoing: Outgoing) -> Outgoing:
    content = outgoing.content
    return outgoing._replace(content=content.content) if isinstance(content, Hashing) else outgoing


def digest_of(outgoing: Outgoing) -> str:
    content = outgoing.content
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    return content.digest() if isinstance(content, Hashing) else ""
