"""After a death: what became of the batches that were in flight.

A dead client's APPENDs are still executed by the server (measured: restarted at once, the best-journalled peer made 46-94
duplicates per 330 messages). So an open intent is looked up only when the destination has settled; and because no wait is long
enough for every network, the intent stays as a watch until it is old, and sweep.sweep removes a copy that lands later.

Only destination UIDs at or above the intent's UIDNEXT are read. Nothing is searched for.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from engine.imap.fetch import Metadata, fetch_digests, fetch_metadata
from engine.imap.session import Session
from engine.ledger import Intent
from engine.providers.catalogue import provider
from engine.providers.provider import Quirk
from engine.transfer.adopt import dated_headers
from engine.transfer.careful import CarefulReading
from engine.transfer.matching import Claims, Pair, instant, pair_equal

SETTLE_SECONDS = 2.0         # UIDNEXT and MESSAGES must be still for this long at least
SETTLE_UNKNOWN_SECONDS = 4.0  # … when no APPEND was ever answered, so that its latency is not known
SETTLE_LATENCIES = 3.0       # … and for this many times the slowest APPEND
SETTLE_MOST_SECONDS = 90.0   # give up waiting for stillness (somebody delivers mail all the time)
OLD_SECONDS = 600.0          # an intent this old has no APPEND under way any more
WATCH_SECONDS = 120.0        # a looked-up intent is watched for this long after it was opened
POLL_SECONDS = 0.25


class Clock(NamedTuple):
    """Time as the recovery sees it; tests give another."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def settle(target: Session, folder: str, intents: Sequence[Intent], slowest_append: float, clock: Clock,
           stopped: Callable[[], bool]) -> bool:
    """Returns True when UIDNEXT and MESSAGES of the destination folder have been still for longer than an APPEND in flight can take;
    False when it was stopped before."""
    youngest = max(i.begun_at for i in intents)
    age = clock.wall() - youngest
    if age > OLD_SECONDS:
        return True
    still_for = max(SETTLE_SECONDS, SETTLE_LATENCIES * slowest_append) if slowest_append else SETTLE_UNKNOWN_SECONDS
    begun = still_since = clock.monotonic()
    last = None
    while clock.monotonic() - still_since < still_for and clock.monotonic() - begun < SETTLE_MOST_SECONDS:
        status = target.status(folder)
        seen = (status.uidnext, status.messages)
        if seen != last:
            last, still_since = seen, clock.monotonic()
        if stopped():
            return False
        clock.sleep(POLL_SECONDS)
    return True


class LookedUp(NamedTuple):
    """`unread`: source UIDs that the source did not give whole, so that nobody can say whether they arrived. `there`: what the destination
    lists, by its UID. `altered`: source UIDs of those that were paired by their headers, because their octets are not the same."""

    pairs: list[Pair]
    unread: list[int]
    there: dict[int, Metadata]
    altered: frozenset[int]


def look_up(source: CarefulReading, target: Session, folder: str, wanted: Sequence[Metadata], floor: int, claims: Claims) -> LookedUp:
    """Pairs the messages of open intents with unclaimed destination messages of UID >= floor. The source folder is EXAMINEd by the
    caller, the destination's here."""
    target.examine(folder)
    listed = {m.uid: m for m in fetch_metadata(target, floor, None) if m.uid not in claims}
    here, there, altered = {m.uid: m for m in wanted}, dict(listed), []
    if not here or not there:
        return LookedUp([], [], {}, frozenset())
    theirs = {uid: bytes.fromhex(digest) for uid, digest in fetch_digests(target, sorted(there))}
    pairs = pair_equal(dict(source.digests((uid, here[uid].size) for uid in sorted(here))), theirs)
    for pair in pairs:
        del here[pair.source_uid], there[pair.target_uid]
    unread = [uid for uid in source.unread if uid in here]
    for uid in unread:
        del here[uid]
    if here and there:  # a destination that alters bytes (NUL, line ends): the header block and the date, inside this window only
        altered = pair_equal(dated_headers(source.session, here), dated_headers(target, there))
    return LookedUp(sorted([*pairs, *altered]), unread, listed, frozenset(pair.source_uid for pair in altered))


def surplus(source: Session, target: Session, folder: str, watched: Sequence[Metadata], floor: int, claims: Claims) -> list[int]:
    """Destination UIDs >= floor that no ledger row claims and that hold, byte for byte and with the same date, a watched message:
    the late work of a dead worker. Every watched message has its claimed copy, so these are one too many."""
    target.examine(folder)
    there = {m.uid: m for m in fetch_metadata(target, floor, None) if m.uid not in claims}
    here = {m.uid: m for m in watched}
    if not any(Quirk.SIZE_IS_ESTIMATE in provider(session.provider).quirks for session in (source, target)):
        sizes = {m.size for m in here.values()} & {m.size for m in there.values()}
        there = {u: m for u, m in there.items() if m.size in sizes}
        here = {u: m for u, m in here.items() if m.size in sizes}
    if not here or not there:
        return []
    ours = {(d, instant(here[u].internal_date)) for u, d in fetch_digests(source, sorted(here))}
    return [u for u, d in fetch_digests(target, sorted(there)) if (d, instant(there[u].internal_date)) in ours]
