"""What both stores of a ledger keep: the command line's file and the portal's database give back what was written, row by row."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.causes import Cause
from engine.errors import LeaseLost
from engine.ledger import Entry, FlagChunk, FolderRow, LedgerStore, Outcome, Repair, RepairRow, Run, SetAsideRow
from engine.ledger_file import SqliteLedger
from portal.models import Move
from portal.store import ledger as sql_ledger
from portal.store.ledger import SqlLedger
from tests.support.portal_app import PortalForTests
from tests.unit.portal.employee_pages import invite

INBOX = FolderRow("INBOX", "INBOX", source_display="收件箱", target_display="INBOX")


@pytest.fixture
def of_a_file(tmp_path: Path) -> Iterator[LedgerStore]:
    ledger = SqliteLedger(tmp_path / "ledger", "a -> b")
    ledger.begin_pass(1.0)
    yield ledger
    ledger.close()


@pytest.fixture
def of_the_portal(portal: PortalForTests) -> LedgerStore:
    someone = invite(portal).started()
    lease = someone.worker_takes()
    return SqlLedger(portal.database, someone.move_id, lease.fence, 60)


@pytest.fixture(params=["file", "portal"])
def store(request: pytest.FixtureRequest) -> LedgerStore:
    found: LedgerStore = request.getfixturevalue("of_a_file" if request.param == "file" else "of_the_portal")
    return found


def test_every_column_of_a_folder_comes_back(store: LedgerStore) -> None:
    row = store.put_folder(INBOX)
    full = FolderRow("INBOX", "Posteingang", row.id, 2**32 - 1, 2**32 - 1, 12, 2**32 - 2, "收件箱", "Eingang", "inbox", 10, 6, 1, 0, 1, 2,
                     2**40, 3, 4, 5, 2**63 - 1, 2**32 - 3, "ads", "renamed:x", True)
    assert 0 not in {getattr(full, name) for name in ("repaired", "gone", "flags_updated", "source_modseq", "unproven_from")}
    store.write(Entry(full))
    assert store.folders() == [full]


def test_a_run_keeps_its_pass_and_may_change_its_outcome_in_place(store: LedgerStore) -> None:
    row = store.put_folder(INBOX)
    [first, second] = store.write(Entry(row, runs=[Run(1, 9, 9, 2**32 - 10, Outcome.MOVED, pass_id=5),
                                                   Run(10, 10, 1, 3, Outcome.ALREADY_THERE)])).runs
    marked = Run(1, 9, 9, 2**32 - 10, Outcome.UNDOING, first, 5)
    store.write(Entry(row, runs=[marked]))
    assert store.runs(row.id) == [marked, Run(10, 10, 1, 3, Outcome.ALREADY_THERE, second, 0)]
    store.write(Entry(row, drop_runs=[first]))
    assert [run.id for run in store.runs(row.id)] == [second]


def test_repairs_are_replaced_by_uid_and_dropped(store: LedgerStore) -> None:
    row = store.put_folder(INBOX)
    store.write(Entry(row, repairs=[RepairRow(7, Repair.DATE, "a"), RepairRow(3, Repair.KEYWORDS, "b"), RepairRow(9, Repair.DATE, "c")]))
    store.write(Entry(row, repairs=[RepairRow(7, Repair.LINE_ENDS, "d")], drop_repairs=[9]))
    assert store.repairs(row.id) == [RepairRow(3, Repair.KEYWORDS, "b"), RepairRow(7, Repair.LINE_ENDS, "d")]


def test_flags_come_in_the_order_of_writing_however_many(store: LedgerStore) -> None:
    row = store.put_folder(INBOX)
    many = [FlagChunk(n, n + 1, bytes([n % 256, 0, 255])) for n in range(1, 200)]
    store.write(Entry(row, flags=many[:100]))
    store.write(Entry(row, flags=many[100:]))
    assert [chunk._replace(id=0) for chunk in store.flags(row.id)] == many
    store.write(Entry(row, drop_flags=True, flags=[FlagChunk(1, 9, b"new")]))
    assert [chunk.data for chunk in store.flags(row.id)] == [b"new"]


def test_what_is_dropped_of_one_folder_stays_in_another(store: LedgerStore) -> None:
    row, other = store.put_folder(INBOX), store.put_folder(INBOX._replace(source="Sent"))
    for one in (row, other):
        store.write(Entry(one, runs=[Run(1, 1, 1, 1, Outcome.MOVED)], repairs=[RepairRow(1, Repair.DATE, "x")],
                          flags=[FlagChunk(1, 1, b"f")], set_aside=[SetAsideRow(2, Cause.X_ITEM, "y")]))
    store.write(Entry(row, drop_runs=[run.id for run in store.runs(row.id)], drop_repairs=[1], drop_flags=True, clear_set_aside=[2]))
    assert (store.runs(row.id), store.repairs(row.id), list(store.flags(row.id)), store.set_aside(row.id)) == ([], [], [], [])
    assert [len(rows) for rows in (store.runs(other.id), store.repairs(other.id), list(store.flags(other.id)),
                                   store.set_aside(other.id))] == [1, 1, 1, 1]
    store.forget_folder(other)
    assert (store.runs(other.id), store.repairs(other.id), list(store.flags(other.id)), store.set_aside(other.id)) == ([], [], [], [])


def test_a_pass_is_there_when_it_has_begun(store: LedgerStore) -> None:
    number = store.begin_pass(1_700_000_000.0)
    assert number > 0
    found = next(one for one in store.passes() if one.id == number)
    assert (found.ended_at, found.outcome) == (None, "")


def test_the_portals_pass_is_the_attempt_for_all_its_slices(portal: PortalForTests) -> None:
    someone = invite(portal).started()
    lease = someone.worker_takes()
    first = SqlLedger(portal.database, someone.move_id, lease.fence, 60).begin_pass(0.0)
    assert SqlLedger(portal.database, someone.move_id, lease.fence, 60).begin_pass(9.0) == first
    with portal.database.reading() as session:
        assert [attempt.id for attempt in session.get_one(Move, someone.move_id).attempts] == [first]


def test_a_file_ends_its_pass(of_a_file: LedgerStore) -> None:
    number = of_a_file.begin_pass(5.0)
    of_a_file.end_pass(number, 6.5, "complete")
    assert [(p.id, p.begun_at, p.ended_at, p.outcome) for p in of_a_file.passes()][-1] == (number, 5.0, 6.5, "complete")


def test_more_ids_than_one_statement_takes(portal: PortalForTests, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_ledger, "IDS_AT_ONCE", 3)
    someone = invite(portal).started()
    store = SqlLedger(portal.database, someone.move_id, someone.worker_takes().fence, 60)
    row = store.put_folder(INBOX)
    ids = store.write(Entry(row, runs=[Run(n, n, 1, n, Outcome.MOVED) for n in range(1, 12)],
                            repairs=[RepairRow(n, Repair.DATE, "") for n in range(1, 12)])).runs
    store.write(Entry(row, drop_runs=ids[:10], drop_repairs=list(range(1, 11))))
    assert [run.source_first for run in store.runs(row.id)] == [11]
    assert [repair.uid for repair in store.repairs(row.id)] == [11]


def test_who_lost_the_lease_writes_nothing_and_may_read(portal: PortalForTests) -> None:
    """The report is read with a fence that no lease has."""
    someone = invite(portal).started()
    lease = someone.worker_takes()
    held = SqlLedger(portal.database, someone.move_id, lease.fence, 60)
    row = held.put_folder(INBOX)
    held.write(Entry(row, runs=[Run(1, 9, 9, 1, Outcome.MOVED)]))
    reader = SqlLedger(portal.database, someone.move_id, 0, 0)
    assert reader.runs(row.id)[0].count == 9
    for write in (lambda: reader.write(Entry(row, drop_runs=[reader.runs(row.id)[0].id], drop_flags=True)),
                  lambda: reader.forget_folder(row), lambda: reader.put_folder(INBOX)):
        with pytest.raises(LeaseLost):
            write()
    assert len(held.runs(row.id)) == 1


def test_a_file_of_the_first_format_is_taken_over(tmp_path: Path) -> None:
    """Its runs belong to no pass, so nothing of them can be undone."""
    import sqlite3
    path = tmp_path / "ledger"
    ledger = SqliteLedger(path, "a -> b")
    row = ledger.put_folder(INBOX)
    ledger.write(Entry(row, runs=[Run(1, 9, 9, 1, Outcome.MOVED, pass_id=3)]))
    ledger.close()
    database = sqlite3.connect(path)
    database.execute("ALTER TABLE runs DROP COLUMN pass")
    database.execute("ALTER TABLE intents DROP COLUMN flags")
    for table in ("repairs", "flags", "passes"):
        database.execute(f"DROP TABLE {table}")
    database.execute("UPDATE meta SET value = '1' WHERE key = 'format'")
    database.commit()
    database.close()
    again = SqliteLedger(path, "a -> b")
    assert [(run.count, run.pass_id) for run in again.runs(row.id)] == [(9, 0)]
    assert (again.passes(), again.repairs(row.id)) == ([], [])
    again.close()
