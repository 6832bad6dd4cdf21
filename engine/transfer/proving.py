"""What was appended is read back over the connection that appended it, and what is not as it was sent is named in the ledger.

Must not: append, remove or repair anything. The comparison itself is proof.py's; what a run that died did not read back is
earlier_proof.py's.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator

from engine.causes import Cause, Side
from engine.errors import EngineError, MessageRefused, Refused, Throttled
from engine.imap.fetch import Metadata, fetch_headers, fetch_metadata
from engine.imap.session import Session
from engine.ledger import Repair, RepairRow, SetAsideRow
from engine.providers.catalogue import provider
from engine.providers.provider import Quirk
from engine.transfer import points
from engine.transfer.proof import Difference, Proof, folded
from engine.transfer.records import FolderRecords
from engine.transfer.writing import FolderLost
from engine.wire import encoder

LISTS_AT_MOST = 60  # of one range, where some are refused
GONE = "the folder that was filled is not there any more"
NOT_THERE = "not there when read back"


def prove(target: Session, records: FolderRecords, proof: Proof) -> None:
    """Reads back that each message of this run is there with as many octets as were sent, its date and its flags. What is not is
    named, never passed over. (A destination that estimates sizes cannot be asked for them.) Then nothing of the folder is unproven,
    which the next write says."""
    unlike: list[Difference] = []
    altered: list[tuple[int, int]] = []
    if proof:
        points.reached("before what was appended is read back")
        unlike = read_back(target, records.row.target, proof)
        if len(unlike) == len(proof) and all(u.there is None for u in unlike):
            raise FolderLost(Cause.X_FOLDER, side=Side.DESTINATION, detail=GONE)
        altered = _altered_headers(target, proof)
        target.unselect()
    name_what_is_unlike(records, unlike, exact=tells_sizes(target), altered=altered)


def tells_sizes(target: Session) -> bool:
    """Whether what it says of a message's size is its octets, not a guess."""
    return Quirk.SIZE_IS_ESTIMATE not in provider(target.provider).quirks


def name_what_is_unlike(records: FolderRecords, unlike: Iterable[Difference], *, exact: bool, altered: Iterable[tuple[int, int]] = (),
                        not_there: str = NOT_THERE, unproven_from: int = 0) -> None:
    """Into the ledger, at once with what is unproven still: what is not there or not as it was sent is set aside, a date or keyword that
    was not stored is a repair. `exact`: see tells_sizes; `altered`: (source UID, destination UID) of changed headers. What an earlier
    run named is not counted again."""
    unlike = list(unlike)
    aside = {u.source_uid: SetAsideRow(u.source_uid, Cause.INCOMPLETE, _unlike_words(u, not_there), max(0, u.sent.size))
             for u in unlike if u.there is None or (u.octets and exact)}
    aside |= {uid: SetAsideRow(uid, Cause.INCOMPLETE, f"at the destination as UID {copy}, but its server changed octets of the header")
              for uid, copy in altered}
    changed = [RepairRow(u.source_uid, Repair.DATE if u.date else Repair.KEYWORDS, _changed_words(u)) for u in unlike
               if u.there is not None and u.source_uid not in aside and (u.date or folded(u.sent.flags) - folded(u.there.flags))]
    row = records.row._replace(moved=records.row.moved - len(aside.keys() - records.set_aside.keys()), unproven_from=unproven_from)
    if aside or changed:
        records.write_later_repairs(changed, row=row, set_aside=list(aside.values()))
    else:
        records.row = row


def read_back(target: Session, name: str, proof: Proof) -> list[Difference]:
    """What is unlike; the folder stays EXAMINEd. EXAMINE and FETCH go in one round trip: where the first is refused, what it said counts,
    not the second's "no mailbox selected"."""
    channel = target.channel
    examine = channel.send(b"EXAMINE " + encoder.mailbox(name))
    target.now_examined(name)
    refused: EngineError | None = None
    unlike: list[Difference] = []
    try:
        unlike = list(proof.unlike(fetch_metadata(target, *proof.span)))
    except (MessageRefused, Refused) as error:
        refused = error
    tagged = channel.answered(examine)
    if tagged is None or tagged.status != b"OK":
        why = channel.refusal(tagged, "select") if tagged is not None else None
        raise why if isinstance(why, Throttled) else FolderLost(
            Cause.X_FOLDER, side=Side.DESTINATION, detail=GONE, server_text=why.server_text if why is not None else "")
    if refused is not None:
        unlike = list(proof.unlike(listed_in_parts(target, *proof.span)))
        if len(unlike) == len(proof) and all(u.there is None for u in unlike):
            raise refused
    return unlike


def listed_in_parts(session: Session, first: int, last: int) -> Iterator[Metadata]:
    """Of the EXAMINEd folder. A range that is refused is asked for once more, then in halves: what is refused for good leaves the rest."""
    ranges, lists = [(first, last)], 0
    while ranges and lists < LISTS_AT_MOST:
        (first, last), lists = ranges.pop(), lists + 1
        try:
            yield from fetch_metadata(session, first, last)
        except MessageRefused:
            middle = (first + last) // 2
            ranges += [(middle + 1, last), (first, middle)] if first < last else [(first, last)] if lists == 1 else []


def _altered_headers(target: Session, proof: Proof) -> list[tuple[int, int]]:
    """One header with raw 8-bit octets is read back; where it came back changed, all of them are."""
    uids = sorted(proof.raw_headers)
    altered = proof.altered_headers(fetch_headers(target, uids[:1]))
    return proof.altered_headers(fetch_headers(target, uids)) if altered else []


def _unlike_words(unlike: Difference, not_there: str) -> str:
    if unlike.there is None:
        return f"accepted by the destination as UID {unlike.target_uid}, and {not_there}"
    return (f"at the destination as UID {unlike.target_uid}, but with {unlike.there.size} octets instead of {unlike.sent.size}: "
            "the server altered it")


def _changed_words(unlike: Difference) -> str:
    assert unlike.there is not None
    if unlike.date:
        return f"the destination stored the date {unlike.there.internal_date} instead of {unlike.sent.internal_date}"
    lost = sorted(flag for flag in unlike.sent.flags if flag.lower() not in folded(unlike.there.flags))
    return f"the destination did not store {' '.join(lost)}"
