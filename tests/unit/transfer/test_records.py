"""Given results in the order of the source, which runs the ledger keeps, and what counts as accounted for."""
from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.causes import Cause
from engine.errors import EngineError
from engine.imap.fetch import Metadata
from engine.ledger import FolderRow, Outcome, SetAsideRow
from engine.ledger_file import SqliteLedger
from engine.transfer.records import Arrived, FolderRecords, Listed, listed


@pytest.fixture
def ledger(tmp_path: Path) -> SqliteLedger:
    return SqliteLedger(tmp_path / "a.ledger", "a -> b")


def records_in(ledger: SqliteLedger) -> FolderRecords:
    return FolderRecords(ledger, ledger.put_folder(FolderRow("INBOX", "INBOX")))


def message(uid: int) -> Metadata:
    return Metadata(uid, 100, (), "17-Jul-1996 02:44:25 -0700")


def arrivals(found: list[Listed], pairs: dict[int, int]) -> list[Arrived]:
    return [Arrived(item, pairs[item.meta.uid]) for item in found if item.meta.uid in pairs]


def test_ordinary_messages_are_one_run_over_gaps_in_the_uids(ledger: SqliteLedger) -> None:
    records = records_in(ledger)
    found = listed(message(uid) for uid in (3, 5, 6, 40))
    records.write(arrived=arrivals(found, {3: 1, 5: 2}))
    records.write(arrived=arrivals(found, {6: 3, 40: 4}))
    [run] = ledger.runs(records.row.id)
    assert (run.source_first, run.source_last, run.count, run.target_first) == (3, 40, 4, 1)
    assert records.row.moved == 4


def test_a_message_set_aside_breaks_the_run_and_can_be_tried_again(ledger: SqliteLedger) -> None:
    records = records_in(ledger)
    found = listed(message(uid) for uid in (1, 2, 3))
    records.write(arrived=arrivals(found, {1: 1}), set_aside=[SetAsideRow(2, Cause.X_ITEM, "NO too big")])
    records.write(arrived=arrivals(found, {3: 2}))
    assert [(r.source_first, r.source_last) for r in ledger.runs(records.row.id)] == [(1, 1), (3, 3)]
    assert 2 in records.accounted()
    records.write(clear_set_aside=[2])
    assert 2 not in records.accounted()
    assert records.row.set_aside == 0


def test_what_was_there_and_what_was_moved_are_different_runs(ledger: SqliteLedger) -> None:
    records = records_in(ledger)
    found = listed(message(uid) for uid in (1, 2))
    records.write(arrived=arrivals(found, {1: 7}), outcome=Outcome.ALREADY_THERE)
    records.write(arrived=arrivals(found, {2: 8}))
    assert [r.outcome for r in ledger.runs(records.row.id)] == [Outcome.ALREADY_THERE, Outcome.MOVED]
    assert (records.row.moved, records.row.already_there) == (1, 1)


def test_an_intent_is_closed_in_the_write_that_stores_its_outcome(ledger: SqliteLedger) -> None:
    records = records_in(ledger)
    found = listed([message(1), message(2)])
    [first] = records.write(open_=[records.intend([message(1)], 9, 1)]).intents
    [second] = records.write(arrived=arrivals(found, {1: 1}), close=[first], open_=[records.intend([message(2)], 9, 2)]).intents
    assert [i.id for i in ledger.intents(records.row.id)] == [second] == [i.id for i in records.intents]


@settings(deadline=None)
@given(data=st.data(), uids=st.sets(st.integers(1, 80), min_size=1, max_size=30))
def test_exactly_what_was_written_is_accounted_for(data: st.DataObject, uids: set[int]) -> None:
    """Whatever the order and the fate: a listed UID is accounted for if and only if it was written, also after a reload."""
    import tempfile
    with tempfile.TemporaryDirectory() as top:
        ledger = SqliteLedger(Path(top) / "l", "a -> b")
        records = records_in(ledger)
        found = listed(message(uid) for uid in uids)
        done: dict[int, int] = {}
        target = 1
        for item in data.draw(st.permutations(found)):
            fate = data.draw(st.sampled_from(["moved", "there", "aside", "left"]))
            target += data.draw(st.integers(1, 2))
            if fate in ("moved", "there"):
                records.write(arrived=[Arrived(item, target)], outcome=Outcome.MOVED if fate == "moved" else Outcome.ALREADY_THERE)
            elif fate == "aside":
                records.write(set_aside=[SetAsideRow(item.meta.uid, Cause.X_ITEM, "")])
            if fate != "left":
                done[item.meta.uid] = target
        again = FolderRecords(ledger, ledger.folders()[0])
        assert {u for u in uids if u in records.accounted()} == set(done) == {u for u in uids if u in again.accounted()}
        assert again.row.moved + again.row.already_there + again.row.set_aside == len(done)
        ledger.close()


def test_a_line_that_comes_twice_counts_once() -> None:
    assert [(i.meta.uid, i.previous) for i in listed([message(4), message(2), message(4)])] == [(2, 0), (4, 2)]


def test_a_ledger_of_another_pair_is_refused(tmp_path: Path) -> None:
    SqliteLedger(tmp_path / "l", "a -> b").close()
    with pytest.raises(EngineError) as refused:
        SqliteLedger(tmp_path / "l", "a -> c")
    assert refused.value.cause is Cause.LEDGER_UNWRITABLE
    assert "a -> b" in refused.value.detail


def test_a_ledger_in_use_is_refused(tmp_path: Path) -> None:
    SqliteLedger(tmp_path / "l", "a -> b")
    with pytest.raises(EngineError) as refused:
        SqliteLedger(tmp_path / "l", "a -> b")
    assert refused.value.cause is Cause.LEDGER_UNWRITABLE
