"""What a run that died, or was told to wait, had appended and not read back is recalled from the ledger and read back by the next.

It is compared with what the source lists today. What the source says of a size may be a guess, or untrue: where the sizes are unlike, the
octets have the last word; what one side does not give whole has none. Of what left the source since, it is asked only whether it is there.
What was repaired is not taken for what the source has. Flags are not judged: they may have changed on either side since.
Must not: append, remove or repair anything. Holds AT_ONCE messages of the folder; how far it came is in the ledger, whatever ends it.
"""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from engine.errors import EngineError, MessageRefused
from engine.imap.fetch import Metadata, fetch_digests
from engine.imap.session import Session
from engine.ledger import Outcome, Repair, Run
from engine.transfer import points
from engine.transfer.careful import CarefulReading
from engine.transfer.proof import Difference, Proof
from engine.transfer.proving import listed_in_parts, name_what_is_unlike, read_back, tells_sizes
from engine.transfer.records import FolderRecords, source_uids

AT_ONCE = 2000       # messages that are listed and read back together
BODIES_AT_ONCE = 50  # … and of which octets are compared
NOT_THERE_NOW = "not there when the next run read it back"
_NOT_LISTED = -1     # as a size: the source does not tell it any more


def prove_earlier(source: CarefulReading, target: Session, records: FolderRecords, stopped: Callable[[], bool]) -> bool:
    """Reads back what lies at `unproven_from` and above. `source` is EXAMINEd. False: stopped before the end. Raises ConnectionBroken
    (with the UIDs that were being read), ProtocolError, Throttled, FolderLost."""
    unproven = _unproven(records)
    some = dict(islice(unproven, AT_ONCE))
    while some:
        following = dict(islice(unproven, AT_ONCE))
        if stopped() or not _prove(source, target, records, some, min(following.values(), default=0), stopped):
            return False
        some = following
    records.row = records.row._replace(unproven_from=0)
    return True


def _unproven(records: FolderRecords) -> Iterator[tuple[int, int]]:
    """(source UID, destination UID) in the order of the latter. A ledger of the first format does not tell those of a run with gaps."""
    floor, stored = records.row.unproven_from, records.stored_flags()
    for run in sorted(records.runs, key=_first_copy):
        end = run.target_first + run.count
        if run.outcome is Outcome.MOVED and end > floor:
            skipped = max(0, floor - run.target_first)
            yield from zip(source_uids(run, stored)[skipped:], range(run.target_first + skipped, end), strict=False)


def _first_copy(run: Run) -> int:
    return run.target_first


def _copy(unlike: Difference) -> int:
    return unlike.target_uid


def _prove(source: CarefulReading, target: Session, records: FolderRecords, copies: dict[int, int], following: int,
           stopped: Callable[[], bool]) -> bool:
    """`copies`: destination UIDs by source UID; `following`: the lowest after them that is unproven, 0: none."""
    points.reached("before what an earlier run appended is read back")
    unlike = read_back(target, records.row.target, _as_listed_today(source.session, copies))
    repaired, exact = {uid: row.made for uid, row in records.repaired().items()}, tells_sizes(target)
    undecided = {u.source_uid: u for u in sorted(unlike, key=_copy) if exact and u.octets and u.sent.size != _NOT_LISTED
                 and Repair.LINE_ENDS not in repaired.get(u.source_uid, ())}
    other: set[int] = set()
    ended: EngineError | None = None
    try:
        for uid, equal in _compared(source, target, list(undecided.values())):
            del undecided[uid]
            if equal is False:
                other.add(uid)
            if stopped():
                break
        target.unselect()
    except EngineError as error:
        ended = error
    decided_below = min((u.target_uid for u in undecided.values()), default=1 << 33)
    name_what_is_unlike(records, (_judged(u, u.source_uid in other, repaired.get(u.source_uid, ())) for u in unlike
                                  if u.target_uid < decided_below),
                        exact=exact, not_there=NOT_THERE_NOW, unproven_from=decided_below if undecided else following)
    records.write(can_wait=True)
    if ended is not None:
        raise ended
    return not undecided


def _judged(unlike: Difference, octets: bool, repaired: Iterable[Repair]) -> Difference:
    if unlike.there is None:
        return unlike
    return unlike._replace(octets=octets, date=unlike.date and Repair.DATE not in repaired,
                           sent=unlike.sent._replace(flags=unlike.there.flags))


def _as_listed_today(source: Session, copies: dict[int, int]) -> Proof:
    proof, left = Proof(), dict(copies)
    for meta in listed_in_parts(source, min(copies), max(copies)):
        if meta.uid in left:
            proof.add(meta, left.pop(meta.uid))
    for source_uid, target_uid in left.items():  # what cannot be listed, like what is gone, is looked for all the same
        proof.add(Metadata(source_uid, _NOT_LISTED, (), ""), target_uid)
    return proof


def _compared(source: CarefulReading, target: Session, some: Sequence[Difference]) -> Iterator[tuple[int, bool | None]]:
    """Each one's source UID, and whether both sides have the same octets; None: one of them does not give it whole."""
    for at in range(0, len(some), BODIES_AT_ONCE):
        batch = {u.source_uid: u for u in sorted(some[at:at + BODIES_AT_ONCE])}
        for uid in [uid for uid in batch if source.hopeless(uid)]:
            del batch[uid]
            yield uid, None
        theirs = _digests(target, [u.target_uid for u in batch.values()])
        # Whole is what is as long as the copy, whatever the source says; or as long as it says, and then the copy is another.
        as_there = replace(source, unread=[])
        for uid, digest in as_there.digests((u.source_uid, u.there.size if u.there is not None else 0) for u in batch.values()):
            copy = theirs.get(batch.pop(uid).target_uid)
            yield uid, copy == digest.hex() if copy else None
        as_told = replace(source, unread=[])
        for uid, _ in as_told.digests((u.source_uid, u.sent.size) for u in list(batch.values())):
            del batch[uid]
            yield uid, False
        for uid in batch:
            yield uid, None


def _digests(session: Session, uids: Sequence[int]) -> dict[int, str]:
    digests: dict[int, str] = {}
    with contextlib.suppress(MessageRefused):  # of some; the others count
        digests.update(fetch_digests(session, sorted(uids)))
    return digests
