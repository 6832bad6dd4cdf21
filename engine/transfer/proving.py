"""What was appended is read back over the connection that appended it, and what is not as it was sent is named in the ledger. What a run
that died, or was told to wait, did not read back is recalled from the ledger, and read back by the next.

Must not: append, remove or repair anything. The comparison itself is proof.py's.
"""
from __future__ import annotations

from engine.causes import Cause, Side
from engine.errors import EngineError, MessageRefused, Refused, Throttled
from engine.imap.fetch import Metadata, fetch_digests, fetch_headers, fetch_metadata
from engine.imap.session import Session
from engine.ledger import Outcome, Repair, RepairRow, Run, SetAsideRow
from engine.providers.catalogue import provider
from engine.providers.provider import Quirk
from engine.transfer import points
from engine.transfer.proof import Difference, Proof, folded
from engine.transfer.records import FolderRecords
from engine.transfer.writing import FolderLost
from engine.wire import encoder

GONE = "the folder that was filled is not there any more"
NOT_THERE = "not there when read back"
NOT_THERE_NOW = "not there when the next run read it back"


def prove(target: Session, records: FolderRecords, proof: Proof) -> None:
    """Reads back that each message of this run is there with as many octets as were sent, its date and its flags. What is not is
    named, never passed over. (A destination that estimates sizes cannot be asked for them.) Then nothing of the folder is unproven,
    which the next write says."""
    if proof:
        points.reached("before what was appended is read back")
        unlike = _read_back(target, records.row.target, proof)
        if len(unlike) == len(proof) and all(u.there is None for u in unlike):
            raise FolderLost(Cause.X_FOLDER, side=Side.DESTINATION, detail=GONE)
        altered = _altered_headers(target, proof)
        target.unselect()
        _name(target, records, unlike, altered, NOT_THERE)
    records.row = records.row._replace(unproven_from=0)


def prove_earlier(source: Session, target: Session, records: FolderRecords) -> None:
    """Reads back what an earlier run appended and did not, as the source's EXAMINEd folder lists it today. What the source says of a size
    may be a guess: where the sizes are unlike, every octet is compared. Flags are not: they may have changed on either side since."""
    floor, repaired, proof = records.row.unproven_from, records.repaired(), Proof()
    for run in [run for run in records.runs if run.outcome is Outcome.MOVED and run.target_first + run.count > floor]:
        for meta, target_uid in _as_listed_today(source, run, floor):
            if meta.uid not in repaired:  # another message was stored
                proof.add(meta, target_uid)
    if proof:
        points.reached("before what an earlier run appended is read back")
        unlike = [u._replace(octets=u.octets and not _is_equal(source, target, u),
                             sent=u.sent._replace(flags=u.there.flags) if u.there is not None else u.sent)
                  for u in _read_back(target, records.row.target, proof)]
        target.unselect()
        _name(target, records, unlike, [], NOT_THERE_NOW)
    records.row = records.row._replace(unproven_from=0)


def _is_equal(source: Session, target: Session, unlike: Difference) -> bool:
    here, there = (list(fetch_digests(*one)) for one in ((source, [unlike.source_uid]), (target, [unlike.target_uid])))
    return bool(here and there) and here[0][1] == there[0][1]


def _as_listed_today(source: Session, run: Run, floor: int) -> list[tuple[Metadata, int]]:
    """The run's messages from destination UID `floor` on, each with its own. Empty where one left the source since: nobody knows whose
    copy is whose."""
    skipped = max(0, floor - run.target_first)
    dense = run.source_last - run.source_first + 1 == run.count
    first = run.source_first + skipped if dense else run.source_first
    listed = sorted(fetch_metadata(source, first, run.source_last), key=_uid)
    if len(listed) != (run.count - skipped if dense else run.count):
        return []
    rest = listed if dense else listed[skipped:]
    return list(zip(rest, range(run.target_first + skipped, run.target_first + run.count), strict=True))


def _uid(meta: Metadata) -> int:
    return meta.uid


def _name(target: Session, records: FolderRecords, unlike: list[Difference], altered: list[tuple[int, int]], not_there: str) -> None:
    """Into the ledger: what is not there or not as it was sent is set aside, a date or keyword that was not stored is a repair."""
    exact = Quirk.SIZE_IS_ESTIMATE not in provider(target.provider).quirks
    aside = {u.source_uid: SetAsideRow(u.source_uid, Cause.INCOMPLETE, _unlike_words(u, not_there), u.sent.size)
             for u in unlike if u.there is None or (u.octets and exact)}
    aside |= {uid: SetAsideRow(uid, Cause.INCOMPLETE, f"at the destination as UID {copy}, but its server changed octets of the header")
              for uid, copy in altered}
    changed = [RepairRow(u.source_uid, Repair.DATE if u.date else Repair.KEYWORDS, _changed_words(u)) for u in unlike
               if u.there is not None and u.source_uid not in aside and (u.date or folded(u.sent.flags) - folded(u.there.flags))]
    if aside or changed:
        records.write(row=records.row._replace(moved=records.row.moved - len(aside)),
                      set_aside=list(aside.values()), repairs=changed)


def _read_back(target: Session, name: str, proof: Proof) -> list[Difference]:
    """EXAMINE and FETCH in one round trip: where the first is refused, what it said counts, not the second's "no mailbox selected"."""
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
        raise refused
    return unlike


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
