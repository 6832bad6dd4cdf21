"""The ledger in the portal's database: the LedgerStore of a worker.

Every write is one transaction that begins by taking the fence: the row of the move is updated where its fence is still ours, and
if none is, another worker holds the mailbox and LeaseLost is raised with nothing written. So an intent is never stored, and no
APPEND ever sent, beside a successor. A write renews the lease as well.

Reads use their own short transactions. Decides nothing (engine/transfer/ does).
"""
from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from engine.causes import Cause, Side
from engine.errors import EngineError, LeaseLost
from engine.ledger import Entry, FlagChunk, FolderRow, Intent, Outcome, PassRow, Repair, RepairRow, Run, SetAsideRow, Written
from portal.models import Attempt, LedgerFlags, LedgerFolder, LedgerIntent, LedgerRepair, LedgerRun, Move, MoveState, SetAside, now
from portal.store.db import Database

CHUNKS_AT_ONCE = 64
IDS_AT_ONCE = 1000  # in one IN (…): SQLite takes 32,766 at most


def batched(ids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for at in range(0, len(ids), size):
        yield ids[at:at + size]


class SqlLedger:
    """The ledger of one move, held with one fence. `lease_seconds` is how long a write keeps the lease alive."""

    def __init__(self, database: Database, move_id: int, fence: int, lease_seconds: int) -> None:
        self._database = database
        self._move_id = move_id
        self._fence = fence
        self._lease = dt.timedelta(seconds=lease_seconds)

    def folders(self) -> list[FolderRow]:
        with self._reading() as session:
            rows = session.scalars(select(LedgerFolder).where(LedgerFolder.move_id == self._move_id).order_by(LedgerFolder.id))
            return [_folder_row(row) for row in rows]

    def put_folder(self, row: FolderRow) -> FolderRow:
        with self._writing() as session:
            return self._put_folder(session, row)

    def runs(self, folder_id: int) -> list[Run]:
        with self._reading() as session:
            rows = session.scalars(select(LedgerRun).where(LedgerRun.folder_id == folder_id).order_by(LedgerRun.source_first))
            return [Run(r.source_first, r.source_last, r.count, r.target_first, Outcome(r.outcome), r.id, r.pass_id) for r in rows]

    def intents(self, folder_id: int) -> list[Intent]:
        with self._reading() as session:
            rows = session.scalars(select(LedgerIntent).where(LedgerIntent.folder_id == folder_id).order_by(LedgerIntent.id))
            return [Intent(tuple(i.uids), i.target_uidvalidity, i.target_uidnext, i.begun_at, i.id, i.flags or b"") for i in rows]

    def set_aside(self, folder_id: int) -> list[SetAsideRow]:
        with self._reading() as session:
            rows = session.scalars(select(SetAside).where(SetAside.folder_id == folder_id).order_by(SetAside.uid))
            return [SetAsideRow(s.uid, Cause(s.reason), s.server_text, s.size, s.internal_date) for s in rows]

    def repairs(self, folder_id: int) -> list[RepairRow]:
        with self._reading() as session:
            rows = session.scalars(select(LedgerRepair).where(LedgerRepair.folder_id == folder_id).order_by(LedgerRepair.uid))
            return [RepairRow(r.uid, Repair(r.repair), r.words) for r in rows]

    def flags(self, folder_id: int) -> Iterator[FlagChunk]:
        last = 0
        while True:
            with self._reading() as session:
                rows = session.scalars(select(LedgerFlags).where(LedgerFlags.folder_id == folder_id, LedgerFlags.id > last)
                                       .order_by(LedgerFlags.id).limit(CHUNKS_AT_ONCE))
                chunks = [FlagChunk(f.first_uid, f.last_uid, f.data, f.id) for f in rows]
            if not chunks:
                return
            yield from chunks
            last = chunks[-1].id

    def begin_pass(self, begun_at: float) -> int:
        """An attempt of the portal is one pass, however many slices it takes."""
        with self._reading() as session:
            return session.scalar(select(func.max(Attempt.id)).where(Attempt.move_id == self._move_id)) or 0

    def end_pass(self, pass_id: int, ended_at: float, outcome: str) -> None:
        """The attempt's end is stored with the slice's (portal/services/leases.py)."""

    def passes(self) -> list[PassRow]:
        with self._reading() as session:
            rows = session.scalars(select(Attempt).where(Attempt.move_id == self._move_id).order_by(Attempt.id))
            return [PassRow(a.id, a.started_at.timestamp() if a.started_at else 0.0, a.ended_at.timestamp() if a.ended_at else None,
                            a.outcome or "") for a in rows]

    def write(self, entry: Entry) -> Written:
        with self._writing(entry.append_seconds) as session:
            self._put_folder(session, entry.folder)
            folder = entry.folder.id
            if entry.close_intents:
                session.execute(delete(LedgerIntent).where(LedgerIntent.id.in_(entry.close_intents)))
            replaced = {*entry.clear_set_aside, *(s.uid for s in entry.set_aside)}
            for some in batched(sorted(replaced), IDS_AT_ONCE):
                session.execute(delete(SetAside).where(SetAside.folder_id == folder, SetAside.uid.in_(some)))
            session.add_all(SetAside(folder_id=folder, uid=s.uid, reason=s.reason.value, server_text=s.server_text, size=s.size,
                                     internal_date=s.internal_date, noticed_at=now()) for s in entry.set_aside)
            for ids in batched(list(entry.drop_runs), IDS_AT_ONCE):
                session.execute(delete(LedgerRun).where(LedgerRun.folder_id == folder, LedgerRun.id.in_(ids)))
            for some in batched(sorted({*entry.drop_repairs, *(r.uid for r in entry.repairs)}), IDS_AT_ONCE):
                session.execute(delete(LedgerRepair).where(LedgerRepair.folder_id == folder, LedgerRepair.uid.in_(some)))
            session.add_all(LedgerRepair(folder_id=folder, uid=r.uid, repair=r.repair.value, words=r.words) for r in entry.repairs)
            if entry.drop_flags:
                session.execute(delete(LedgerFlags).where(LedgerFlags.folder_id == folder))
            session.add_all(LedgerFlags(folder_id=folder, first_uid=f.first_uid, last_uid=f.last_uid, data=f.data) for f in entry.flags)
            runs = [self._put_run(session, folder, run) for run in entry.runs]
            intents = [LedgerIntent(folder_id=folder, uids=list(i.uids), target_uidvalidity=i.target_uidvalidity,
                                    target_uidnext=i.target_uidnext, begun_at=i.begun_at, flags=i.flags) for i in entry.open_intents]
            session.add_all(intents)
            session.flush()
            return Written([run.id for run in runs], [intent.id for intent in intents])

    def forget_folder(self, row: FolderRow) -> None:
        with self._writing() as session:
            for table in (LedgerRun, LedgerIntent, SetAside, LedgerRepair, LedgerFlags):
                session.execute(delete(table).where(table.folder_id == row.id))
            self._put_folder(session, row)

    def append_seconds_peak(self) -> float:
        with self._reading() as session:
            return session.scalar(select(Move.append_seconds_peak).where(Move.id == self._move_id)) or 0.0

    def close(self) -> None:
        """Nothing is kept open between calls."""

    def _put_folder(self, session: Session, row: FolderRow) -> FolderRow:
        values: dict[str, Any] = {**row._asdict(), "move_id": self._move_id}
        row_id = values.pop("id")
        if row_id:
            session.execute(update(LedgerFolder).values(values).where(
                LedgerFolder.id == row_id, LedgerFolder.move_id == self._move_id))
            return row
        added = LedgerFolder(**values)
        session.add(added)
        session.flush()
        return row._replace(id=added.id)

    def _put_run(self, session: Session, folder: int, run: Run) -> LedgerRun:
        row = session.get(LedgerRun, run.id) if run.id else None
        if row is None:
            row = LedgerRun(folder_id=folder)
            session.add(row)
        row.source_first, row.source_last, row.count = run.source_first, run.source_last, run.count
        row.target_first, row.outcome, row.pass_id = run.target_first, run.outcome.value, run.pass_id
        return row

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        with _as_unwritable(), self._database.reading() as session:
            yield session

    @contextmanager
    def _writing(self, append_seconds: float = 0.0) -> Iterator[Session]:
        """A transaction that holds the fence. Raises LeaseLost before anything is written."""
        with _as_unwritable(), self._database.session() as session:
            at = now()
            held = session.execute(update(Move).where(
                Move.id == self._move_id, Move.fence == self._fence, Move.state == MoveState.MOVING).values(
                    lease_until=at + self._lease, last_sign_at=at,
                    append_seconds_peak=func.max(Move.append_seconds_peak, append_seconds) if _is_sqlite(session)
                    else func.greatest(Move.append_seconds_peak, append_seconds)))
            if held.rowcount != 1:  # type: ignore[attr-defined]  # an UPDATE has one
                raise LeaseLost(f"move {self._move_id}: fence {self._fence} is not the newest")
            yield session


@contextmanager
def _as_unwritable() -> Iterator[None]:
    """The database failed (locked too long, disk full, gone): no APPEND may follow."""
    try:
        yield
    except DatabaseError as error:
        raise EngineError(Cause.LEDGER_UNWRITABLE, side=Side.DESTINATION,
                          detail=f"database: {type(error.orig).__name__}") from error


def _is_sqlite(session: Session) -> bool:
    return session.get_bind().dialect.name == "sqlite"


def _folder_row(row: LedgerFolder) -> FolderRow:
    names = FolderRow._fields
    return FolderRow(**{name: getattr(row, name) for name in names})
