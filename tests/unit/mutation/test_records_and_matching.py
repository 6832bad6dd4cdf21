"""What the mutation run showed that nothing else held: counters, ids and runs of a folder's records, the store that serves one caller
at a time, half-hour zones, and how many UIDs are claimed."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.causes import Cause
from engine.errors import EngineError
from engine.imap.fetch import Metadata
from engine.ledger import Entry, FlagChunk, FolderRow, Intent, Outcome, PassRow, Repair, RepairRow, Run, SetAsideRow
from engine.ledger_file import SqliteLedger
from engine.transfer.matching import Claims, instant
from engine.transfer.records import Accounted, Arrived, FolderRecords, SerialStore, listed

ROW = FolderRow("INBOX", "Inbox", source_display="收件箱", target_display="Inbox.", role="inbox", note="renamed")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    one = SqliteLedger(tmp_path / "ledger", "a -> b")
    one.put_folder(FolderRow("before", "before"))  # so that no folder's id is 1 by chance
    yield one
    one.close()


@pytest.fixture
def records(ledger: SqliteLedger) -> FolderRecords:
    return FolderRecords(ledger, ledger.put_folder(ROW), pass_id=6)


def arrivals(uids: range, first: int, *, previous: int = 0, flags: tuple[str, ...] = ()) -> list[Arrived]:
    found = listed((Metadata(uid, 100, flags, "") for uid in uids), previous)
    return [Arrived(item, first + n) for n, item in enumerate(found)]


def test_every_result_is_added_to_its_own_counter(ledger: SqliteLedger, records: FolderRecords) -> None:
    for turn in (1, 2):
        records.write(arrived=arrivals(range(10 * turn, 10 * turn + 3), 50 * turn), octets=300, vanished=2,
                      repairs=[RepairRow(10 * turn, Repair.DATE, "no")], set_aside=[SetAsideRow(90 + turn, Cause.X_ITEM, "NO", 7, "then")])
        records.write(arrived=arrivals(range(100 * turn, 100 * turn + 1), 900 + turn), outcome=Outcome.ALREADY_THERE)
    row = records.row
    assert (row.moved, row.already_there, row.bytes_moved, row.vanished, row.repaired, row.set_aside) == (6, 2, 600, 4, 2, 2)
    assert [stored for stored in ledger.folders() if stored.id == row.id] == [row]
    assert ledger.append_seconds_peak() == 0.0
    assert ledger.set_aside(row.id)[0] == SetAsideRow(91, Cause.X_ITEM, "NO", 7, "then")


def test_a_batch_is_one_run_that_bears_its_pass_and_what_was_found_bears_none(ledger: SqliteLedger, records: FolderRecords) -> None:
    records.write(arrived=arrivals(range(1, 4), 50))
    [run] = ledger.runs(records.row.id)
    assert run == Run(1, 3, 3, 50, Outcome.MOVED, run.id, 6)
    records.write(arrived=arrivals(range(4, 6), 53, previous=3))
    assert [(r.source_last, r.count, r.id) for r in ledger.runs(records.row.id)] == [(5, 5, run.id)]
    assert records.runs == ledger.runs(records.row.id)
    records.write(arrived=arrivals(range(6, 8), 80, previous=5), outcome=Outcome.ALREADY_THERE)
    assert [(r.count, r.pass_id) for r in ledger.runs(records.row.id)] == [(5, 6), (2, 0)]
    assert records.runs == ledger.runs(records.row.id)  # with their ids


def test_what_lies_between_two_runs_extends_the_one_before_it(ledger: SqliteLedger, records: FolderRecords) -> None:
    """As where a folder's newest mail went first, or a message that was set aside is tried again."""
    records.write(arrived=arrivals(range(1, 4), 50))
    records.write(arrived=arrivals(range(20, 23), 80, previous=19))
    records.write(arrived=arrivals(range(40, 42), 90, previous=39))
    first, middle, last = records.runs
    records.write(arrived=arrivals(range(4, 6), 53, previous=3))
    records.write(arrived=arrivals(range(23, 25), 83, previous=22))
    records.write(arrived=arrivals(range(30, 31), 70, previous=29))   # after nothing: a run of its own
    records.write(arrived=arrivals(range(25, 26), 60, previous=24))   # not the next place there: likewise
    records.write(arrived=arrivals(range(6, 7), 55, previous=5), outcome=Outcome.ALREADY_THERE)
    expected = [(1, 5, 5, first.id), (6, 6, 1, None), (20, 24, 5, middle.id), (25, 25, 1, None), (30, 30, 1, None), (40, 41, 2, last.id)]
    assert records.runs == ledger.runs(records.row.id)
    assert [(r.source_first, r.source_last, r.count) for r in records.runs] == [one[:3] for one in expected]
    assert all(r.id == one[3] for r, one in zip(records.runs, expected, strict=True) if one[3])


def test_one_write_holds_several_runs_and_only_its_first_may_extend_another(ledger: SqliteLedger, records: FolderRecords) -> None:
    records.write(arrived=arrivals(range(1, 3), 50))
    records.write(arrived=[*arrivals(range(3, 5), 52, previous=2), *arrivals(range(5, 7), 70, previous=4),
                           *arrivals(range(9, 11), 72, previous=7)][::-1])
    assert [(r.source_first, r.source_last, r.count, r.target_first) for r in ledger.runs(records.row.id)] == [
        (1, 4, 4, 50), (5, 6, 2, 70), (9, 10, 2, 72)]
    assert records.runs == ledger.runs(records.row.id)


def test_a_later_run_of_a_write_extends_nothing_that_was_there_before(ledger: SqliteLedger, records: FolderRecords) -> None:
    records.write(arrived=arrivals(range(1, 3), 50))
    records.write(arrived=[*arrivals(range(3, 4), 90, previous=2), *arrivals(range(4, 5), 52, previous=3)])
    assert [(r.source_first, r.source_last, r.count, r.target_first) for r in ledger.runs(records.row.id)] == [
        (1, 2, 2, 50), (3, 3, 1, 90), (4, 4, 1, 52)]


def test_what_stands_behind_a_message_that_follows_it_is_out_of_order(records: FolderRecords) -> None:
    assert records.out_of_order() == 0
    records.write(arrived=arrivals(range(1, 3), 50))
    records.write(arrived=arrivals(range(10, 11), 60, previous=9))
    assert records.out_of_order() == 0
    records.write(arrived=arrivals(range(20, 21), 55, previous=19))             # before 10
    assert records.out_of_order() == 1
    records.write(arrived=arrivals(range(3, 6), 90, previous=1))                # three behind 10 and 20
    assert records.out_of_order() == 4
    records.write(arrived=arrivals(range(30, 32), 1, previous=29), outcome=Outcome.ALREADY_THERE)
    assert records.out_of_order() == 4                                          # what was found there says nothing
    records.pass_id = 7
    assert records.out_of_order() == 0                                          # nor does what another pass moved
    records.write(arrived=arrivals(range(40, 41), 200, previous=39))
    records.write(arrived=arrivals(range(50, 51), 199, previous=49))
    assert records.out_of_order() == 1


def test_records_that_are_opened_again_say_the_same(ledger: SqliteLedger, records: FolderRecords) -> None:
    records.write(arrived=arrivals(range(20, 23), 80, previous=19), append_seconds=2.5, repairs=[RepairRow(20, Repair.DATE, "no")])
    records.write(arrived=arrivals(range(1, 4), 50))
    records.write(set_aside=[SetAsideRow(30, Cause.X_ITEM, "NO")], open_=[Intent((31,), 1, 1, 1.0)])
    again = FolderRecords(ledger, records.row)
    assert (again.runs, again.set_aside, again.intents) == (records.runs, records.set_aside, records.intents)
    assert [(run.source_first, run.pass_id) for run in again.runs] == [(1, 6), (20, 6)]
    assert (ledger.append_seconds_peak(), ledger.repairs(records.row.id)) == (2.5, [RepairRow(20, Repair.DATE, "no")])
    assert len([*ledger.flags(records.row.id)]) == 2  # what only sets aside has no flags to keep
    again.write(arrived=arrivals(range(40, 41), 100, previous=39))
    assert again.runs[-1].pass_id == 0


def test_the_edges_of_what_is_accounted_for() -> None:
    accounted = Accounted([Run(5, 8, 2, 1, Outcome.MOVED), Run(10, 10, 1, 3, Outcome.MOVED)], [20, 3])
    assert [uid for uid in range(25) if uid in accounted] == [3, 5, 6, 7, 8, 10, 20]
    assert [accounted.last_below(uid) for uid in (3, 4, 8, 9, 10, 11, 20, 21)] == [0, 3, 3, 8, 8, 10, 10, 20]


def test_what_was_set_aside_and_is_set_aside_again_counts_once(ledger: SqliteLedger, records: FolderRecords) -> None:
    records.write(set_aside=[SetAsideRow(1, Cause.X_ITEM, "NO"), SetAsideRow(2, Cause.X_ITEM, "NO")])
    records.write(set_aside=[SetAsideRow(1, Cause.X_ITEM, "again")])
    assert (records.row.set_aside, records.set_aside[1].server_text) == (2, "again")
    records.write(clear_set_aside=[1, 7], set_aside=[SetAsideRow(1, Cause.X_ITEM, "third")])
    assert (records.row.set_aside, {*records.set_aside}) == (2, {1, 2})
    records.write(clear_set_aside=[1, 2])
    assert (records.row.set_aside, records.set_aside, ledger.set_aside(records.row.id)) == (0, {}, [])


def test_intents_are_those_of_the_folder_with_their_ids(ledger: SqliteLedger, records: FolderRecords) -> None:
    two = [Intent((1, 2), 3, 4, 5.0), Intent((3,), 3, 4, 6.0)]
    written = records.write(open_=two)
    assert [i.id for i in records.intents] == written.intents
    again = FolderRecords(ledger, records.row)
    assert again.intents == records.intents and len(again.intents) == 2
    records.write(close=[written.intents[0]])
    assert [i.uids for i in records.intents] == [(3,)] == [i.uids for i in ledger.intents(records.row.id)]


def test_a_folder_that_is_begun_anew_keeps_its_names_and_nothing_else(ledger: SqliteLedger, records: FolderRecords) -> None:
    records.write(arrived=arrivals(range(1, 4), 50, flags=("\\Seen",)), open_=[Intent((9,), 1, 1, 1.0)],
                  set_aside=[SetAsideRow(8, Cause.X_ITEM, "")])
    row_id = records.row.id
    records.forget()
    assert records.row == FolderRow("INBOX", "Inbox", row_id, source_display="收件箱", target_display="Inbox.", role="inbox",
                                    note="renamed")
    assert (ledger.runs(row_id), ledger.intents(row_id), ledger.set_aside(row_id), [*ledger.flags(row_id)]) == ([], [], [], [])
    assert (records.runs, records.intents, records.set_aside) == ([], [], {})


def test_flags_that_were_carried_over_follow_or_replace_the_older_ones(ledger: SqliteLedger, records: FolderRecords) -> None:
    records.write(arrived=arrivals(range(1, 3), 50, flags=("\\Seen",)))
    changed = records.row._replace(flags_updated=1)
    records.write_flags(changed, [(2, ("$x",))])
    assert records.row is changed and changed in ledger.folders()
    assert [*records.stored_flags()] == [(1, ("\\Seen",)), (2, ("$x",))]
    assert len([*ledger.flags(changed.id)]) == 2
    records.write_flags(changed, [(1, ()), (2, ("$y",))], all_of_them=True)
    assert [*records.stored_flags()] == [(1, ()), (2, ("$y",))]
    assert len([*ledger.flags(changed.id)]) == 1


def test_the_store_for_one_caller_at_a_time_passes_everything_on(ledger: SqliteLedger) -> None:
    store = SerialStore(ledger)
    row = store.put_folder(ROW)
    number = store.begin_pass(4.0)
    store.end_pass(number, 5.0, "complete")
    assert store.passes() == ledger.passes() == [PassRow(number, 4.0, 5.0, "complete")]
    store.write(Entry(row, runs=[Run(1, 1, 1, 1, Outcome.MOVED)], open_intents=[Intent((1,), 1, 1, 1.0)], append_seconds=2.0,
                      set_aside=[SetAsideRow(2, Cause.X_ITEM, "NO", 3, "then")], repairs=[RepairRow(1, Repair.DATE, "no")],
                      flags=[FlagChunk(1, 1, b"a"), FlagChunk(2, 2, b"b")]))
    assert [(c.data, c.id) for c in store.flags(row.id)] == [(c.data, c.id) for c in ledger.flags(row.id)]
    assert [c.data for c in store.flags(row.id)] == [b"a", b"b"]
    assert (len({c.id for c in store.flags(row.id)}), store.append_seconds_peak()) == (2, 2.0)
    for name in ("runs", "intents", "set_aside", "repairs"):
        assert getattr(store, name)(row.id) == getattr(ledger, name)(row.id) and len(getattr(store, name)(row.id)) == 1, name
    assert store.folders() == ledger.folders()
    store.forget_folder(row)
    assert (store.runs(row.id), [*store.flags(row.id)]) == ([], [])


def test_a_failed_write_says_where_and_why(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger = SqliteLedger(path, "a -> b")
    row = ledger.put_folder(ROW)
    ledger._db.execute("DROP TABLE runs")
    for act in (lambda: ledger.runs(row.id), lambda: ledger.write(Entry(row, runs=[Run(1, 1, 1, 1, Outcome.MOVED)]))):
        with pytest.raises(EngineError) as caught:
            act()
        assert str(path) in caught.value.detail and "no such table" in caught.value.detail
    ledger.close()


@pytest.mark.parametrize(("text", "seconds"), [
    (" 1-Jan-1970 05:30:00 +0530", 0.0), (" 1-Jan-1970 00:00:00 -0330", 12600.0), (" 1-Jan-1970 00:00:00 +0001", -60.0),
    ("17-Jul-0000 02:44:25 -0700", "17-Jul-0000 02:44:25 -0700"), ("29-Feb-2024 23:59:59 +0000", 1709251199.0),
])
def test_zones_of_half_an_hour_and_a_year_that_is_none(text: str, seconds: float | str) -> None:
    assert instant(text) == seconds


def test_claims_are_counted_once_however_they_were_made() -> None:
    claims = Claims([Run(1, 1, 5, 10, Outcome.MOVED), Run(2, 2, 3, 20, Outcome.MOVED)])
    assert len(claims) == 8
    claims.add((15, 14, 12, 19, 30))
    assert (len(claims), 16 in claims, 19 in claims) == (11, False, True)
    claims.add(range(16, 19))
    assert (len(claims), claims._first, claims._last) == (14, [10, 30], [22, 30])  # spans that meet are one
    claims.renew([Run(1, 1, 4, 1, Outcome.MOVED), Run(2, 2, 4, 4, Outcome.MOVED)])
    assert (len(claims), claims._first, claims._last) == (7, [1], [7])
