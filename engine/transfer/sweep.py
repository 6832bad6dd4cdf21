"""The last look at a folder: what a dead worker's APPENDs left behind after its intents were looked up."""
from __future__ import annotations

from engine.causes import Cause, at_destination
from engine.errors import Refused
from engine.imap.fetch import fetch_metadata, fetch_uids
from engine.imap.session import Session
from engine.ledger import FolderRow
from engine.transfer import recover
from engine.transfer.matching import Claims
from engine.transfer.records import FolderRecords, SerialStore
from engine.transfer.sessions import Sessions


def sweep(sessions: Sessions, store: SerialStore, row: FolderRow, claims: Claims, clock: recover.Clock) -> int:
    """Removes surplus copies that a dead worker's APPENDs left after its intents were looked up, and ends old watches.

    A copy is surplus only while every message that the ledger claims in the folder is still there: where a person has moved or
    deleted mail, an unclaimed copy may be the only one, and nothing is removed. Returns how many surplus copies stay because the
    destination cannot remove just them (no UIDPLUS).
    """
    records = FolderRecords(store, row)
    old = [i.id for i in records.intents if clock.wall() - i.begun_at > recover.WATCH_SECONDS]  # closed, after this last look
    accounted = records.accounted()
    watched = {uid for i in records.intents for uid in i.uids if uid in accounted and uid not in records.set_aside}
    stay = 0
    try:
        if watched and _all_claimed_are_there(sessions.target, records):
            stay = _remove_surplus(sessions, records, watched, claims)
    except Refused as error:
        if error.cause not in (Cause.X_FOLDER, at_destination(Cause.X_FOLDER)):
            raise  # a folder that is gone, on either side, has nothing to be swept
    if old:
        records.write(close=old)
    return stay


def _remove_surplus(sessions: Sessions, records: FolderRecords, watched: set[int], claims: Claims) -> int:
    """How many stay."""
    row = records.row
    sessions.source.examine(row.source)
    messages = [m for m in fetch_metadata(sessions.source, min(watched), max(watched)) if m.uid in watched]
    extra = recover.surplus(sessions.source, sessions.target, row.target, messages, min(i.target_uidnext for i in records.intents), claims)
    sessions.target.unselect()
    if not extra or "UIDPLUS" not in sessions.target.capabilities:
        return len(extra)
    sessions.target.uid_expunge(row.target, extra)
    return 0


def _all_claimed_are_there(target: Session, records: FolderRecords) -> bool:
    claimed = Claims(records.runs)
    target.examine(records.row.target)
    there = sum(uid in claimed for uid in fetch_uids(target, 1, None))
    target.unselect()
    return there == len(claimed)
