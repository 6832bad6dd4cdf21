"""What the mutation run showed that nothing else held: the command line's ledger file at its edges."""
from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from engine.causes import Cause, Side
from engine.errors import EngineError
from engine.ledger import Entry, FlagChunk, FolderRow, Intent, Outcome, PassRow, Repair, RepairRow, Run
from engine.ledger_file import SqliteLedger


def refusal(path: Path, pair: str = "a -> b") -> EngineError:
    with pytest.raises(EngineError) as caught:
        SqliteLedger(path, pair)
    assert (caught.value.cause, caught.value.side) == (Cause.LEDGER_UNWRITABLE, Side.DESTINATION)
    return caught.value


def test_a_ledger_of_another_pair_is_refused_by_name_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    mine = SqliteLedger(path, "a -> b")
    mine.put_folder(FolderRow("INBOX", "INBOX"))
    mine.close()
    error = refusal(path, "a -> c")
    assert error.detail == f"ledger {path} belongs to a -> b; give another file with --ledger"
    again = SqliteLedger(path, "a -> b")  # it was let go of, too
    assert [row.source for row in again.folders()] == ["INBOX"]
    again.close()


@pytest.mark.parametrize("begun", [False, True])
def test_each_write_is_on_the_disk_when_it_returns(tmp_path: Path, begun: bool) -> None:
    """Also in a file that was made just now: it is made without waiting for the disk step by step, and is there, whole, when it is open."""
    path = tmp_path / "ledger"
    if begun:
        SqliteLedger(path, "a -> b").close()
    ledger = SqliteLedger(path, "a -> b")
    try:
        assert ledger._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        if not begun:  # what a power cut leaves, if the log is lost with it
            (tmp_path / "alone").write_bytes(path.read_bytes())
            with sqlite3.connect(tmp_path / "alone") as db:
                assert db.execute("SELECT value FROM meta WHERE key='pair'").fetchone() == ("a -> b",)
            db.close()
    finally:
        ledger.close()


def test_what_can_wait_does_and_what_an_append_rests_on_does_not(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger = SqliteLedger(path, "a -> b")
    said: list[str] = []
    ledger._db.set_trace_callback(lambda words: said.append(words) if words.startswith(("PRAGMA", "COMMIT")) else None)
    row = ledger.put_folder(FolderRow("INBOX", "INBOX"))
    ledger.begin_pass(1.0)
    ledger.write(Entry(row, open_intents=[Intent((1, 2), 7, 1, 1.0)]))
    ledger.write(Entry(row._replace(moved=2), open_intents=[Intent((3,), 7, 3, 1.0)]))
    ledger.write(Entry(row._replace(moved=3), can_wait=True))
    ledger.end_pass(1, 2.0, "complete")
    ledger.write(Entry(row._replace(moved=1), runs=[Run(1, 1, 1, 1, Outcome.UNDOING)]))
    waits, does_not, commit = "PRAGMA synchronous=NORMAL", "PRAGMA synchronous=FULL", "COMMIT"
    assert said == [waits, commit, commit, does_not, commit, commit, waits, commit, commit, does_not, commit]
    ledger.close()
    again = SqliteLedger(path, "a -> b")
    assert [one.moved for one in again.folders()] == [1] and again.passes() == [PassRow(1, 1.0, 2.0, "complete")]
    again.close()


def test_a_ledger_of_a_later_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    SqliteLedger(path, "a -> b").close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value='99' WHERE key='format'")
    db.close()
    assert "has format 99, this program writes " in refusal(path).detail


def test_a_ledger_of_the_first_format_is_brought_up_to_date_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with sqlite3.connect(path) as db:
        db.executescript("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);"
                         "INSERT INTO meta VALUES ('format', '1'), ('pair', 'a -> b');"
                         "CREATE TABLE runs (id INTEGER PRIMARY KEY, folder INTEGER NOT NULL, source_first INTEGER NOT NULL,"
                         " source_last INTEGER NOT NULL, count INTEGER NOT NULL, target_first INTEGER NOT NULL, outcome TEXT NOT NULL);"
                         "INSERT INTO runs VALUES (1, 1, 3, 5, 3, 7, 'moved');"
                         "CREATE TABLE intents (id INTEGER PRIMARY KEY, folder INTEGER NOT NULL, uids TEXT NOT NULL,"
                         " target_uidvalidity INTEGER NOT NULL, target_uidnext INTEGER NOT NULL, begun_at REAL NOT NULL);"
                         "INSERT INTO intents VALUES (1, 1, '[6, 7]', 7, 10, 1.5)")
    db.close()
    for _ in range(2):
        ledger = SqliteLedger(path, "a -> b")
        assert ledger.runs(1) == [Run(3, 5, 3, 7, Outcome.MOVED, 1, 0)]
        assert ledger.intents(1) == [Intent((6, 7), 7, 10, 1.5, 1, b"")]
        ledger.close()


@pytest.mark.parametrize("older", ["2", "3"])
def test_a_ledger_whose_intents_have_no_flags_is_brought_up_to_date(tmp_path: Path, older: str) -> None:
    path = tmp_path / "ledger"
    ledger = SqliteLedger(path, "a -> b")
    row = ledger.put_folder(FolderRow("INBOX", "INBOX", total=3))
    ledger.write(Entry(row, open_intents=[Intent((3, 4), 7, 8, 1.5, flags=b"packed")]))
    ledger.close()
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE intents DROP COLUMN flags")
        db.execute("UPDATE meta SET value=? WHERE key='format'", (older,))
        if older == "2":
            db.execute("UPDATE folders SET row=json_remove(row, '$.unproven_from')")
    db.close()
    for _ in range(2):
        ledger = SqliteLedger(path, "a -> b")
        [folder] = ledger.folders()
        assert (folder.total, folder.unproven_from, ledger.intents(folder.id)) == (3, 0, [Intent((3, 4), 7, 8, 1.5, 1, b"")])
        ledger.close()


def test_a_ledger_is_its_owners_alone_and_says_whose_mail_it_is_about(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    SqliteLedger(path, "a -> b").close()
    assert path.stat().st_mode & 0o777 == 0o600
    again = SqliteLedger(path, None)
    assert again.pair == "a -> b"
    again.close()


def test_a_second_repair_of_a_message_leaves_the_words_of_the_first() -> None:
    first = RepairRow(4, Repair.LINE_ENDS, "bare newlines")
    both = first.and_then(RepairRow(4, Repair.DATE, "another date"))
    assert both == RepairRow(4, Repair.DATE, "line_ends + date: another date; bare newlines")
    assert both.made == {Repair.LINE_ENDS, Repair.DATE} and first.made == {Repair.LINE_ENDS}
    assert first.and_then(RepairRow(4, Repair.LINE_ENDS, "again")) == RepairRow(4, Repair.LINE_ENDS, "again; bare newlines")
    assert first.and_then(first) == first


def test_an_old_ledger_of_another_pair_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    SqliteLedger(path, "a -> b").close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value='1' WHERE key='format'")
    db.close()
    refusal(path, "a -> c")
    with sqlite3.connect(path) as db:
        assert dict(db.execute("SELECT key, value FROM meta"))["format"] == "1"
    db.close()


def test_a_ledger_is_one_process_s_until_it_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger"
    first = SqliteLedger(path, "a -> b")
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{**k, "timeout": 0}))
    assert "locked" in refusal(path).detail
    first.close()
    SqliteLedger(path, "a -> b").close()


def test_what_is_no_ledger_or_cannot_be_one_is_refused(tmp_path: Path) -> None:
    assert str(tmp_path / "none") in refusal(tmp_path / "none" / "ledger").detail
    (tmp_path / "text").write_text("this is no database, whatever it may be called" * 100)
    assert "not a database" in refusal(tmp_path / "text").detail


def test_a_failed_write_leaves_the_last_durable_state(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger", "a -> b")
    row = ledger.put_folder(FolderRow("INBOX", "INBOX"))
    broken = Entry(row, runs=[Run(1, 1, 1, 1, Outcome.MOVED)], open_intents=[Intent((1,), 1, 1, 1.0)],
                   flags=[FlagChunk(1, 1, None)])  # type: ignore[arg-type]  # a column that may not be empty
    with pytest.raises(EngineError) as caught:
        ledger.write(broken)
    assert caught.value.cause is Cause.LEDGER_UNWRITABLE
    assert (ledger.runs(row.id), ledger.intents(row.id)) == ([], [])
    assert ledger.write(Entry(row, runs=[Run(1, 1, 1, 1, Outcome.MOVED)])).runs
    ledger.close()


def test_a_failure_of_ours_inside_a_write_is_undone_as_well(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger", "a -> b")
    row = ledger.put_folder(FolderRow("INBOX", "INBOX"))
    with pytest.raises(AttributeError):
        ledger.write(Entry(row, runs=[Run(1, 1, 1, 1, Outcome.MOVED), None]))  # type: ignore[list-item]
    assert ledger.runs(row.id) == []
    ledger.close()


def test_ids_are_those_of_the_rows_and_an_id_replaces_its_row(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger", "a -> b")
    one, two = ledger.put_folder(FolderRow("a", "a")), ledger.put_folder(FolderRow("b", "b"))
    written = ledger.write(Entry(two, runs=[Run(9, 9, 1, 1, Outcome.MOVED), Run(1, 2, 2, 5, Outcome.ALREADY_THERE)],
                                 open_intents=[Intent((3, 4), 7, 8, 1.5), Intent((), 7, 8, 2.5)]))
    assert [r.id for r in ledger.runs(two.id)] == [written.runs[1], written.runs[0]]  # in order of the source
    assert [i.id for i in ledger.intents(two.id)] == written.intents and len(set(written.intents)) == 2
    assert ledger.intents(two.id)[0] == Intent((3, 4), 7, 8, 1.5, written.intents[0])
    again = ledger.write(Entry(two, runs=[Run(9, 12, 4, 1, Outcome.MOVED, written.runs[0])], close_intents=[written.intents[0]]))
    assert again.runs == [written.runs[0]]
    assert ledger.runs(two.id)[1] == Run(9, 12, 4, 1, Outcome.MOVED, written.runs[0])
    assert [i.id for i in ledger.intents(two.id)] == [written.intents[1]]
    assert (ledger.runs(one.id), ledger.intents(one.id)) == ([], [])
    ledger.forget_folder(one)
    assert len(ledger.runs(two.id)) == 2
    ledger.forget_folder(two)
    assert (ledger.runs(two.id), ledger.intents(two.id)) == ([], [])
    ledger.close()


def test_the_slowest_append_is_kept_not_the_last(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger", "a -> b")
    row = ledger.put_folder(FolderRow("a", "a"))
    assert ledger.append_seconds_peak() == 0.0
    for seconds, peak in ((1.5, 1.5), (0.5, 1.5), (2.25, 2.25)):
        ledger.write(Entry(row, append_seconds=seconds))
        assert ledger.append_seconds_peak() == peak
    ledger.close()


def test_passes_are_told_oldest_first_with_their_ends(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger", "a -> b")
    first, second = ledger.begin_pass(10.0), ledger.begin_pass(20.0)
    ledger.end_pass(first, 15.0, "complete")
    assert ledger.passes() == [PassRow(first, 10.0, 15.0, "complete"), PassRow(second, 20.0)]
    ledger.close()


def test_more_chunks_of_flags_than_are_read_at_once_come_in_their_order(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger", "a -> b")
    row = ledger.put_folder(FolderRow("a", "a"))
    chunks = [FlagChunk(500 - n, 500, bytes([n])) for n in range(150)]
    ledger.write(Entry(row, flags=chunks))
    assert [(c.first_uid, c.last_uid, c.data) for c in ledger.flags(row.id)] == [(c.first_uid, c.last_uid, c.data) for c in chunks]
    ledger.write(Entry(row, flags=[FlagChunk(1, 2, b"x")], drop_flags=True))
    assert [c.data for c in ledger.flags(row.id)] == [b"x"]
    ledger.close()


def test_whichever_thread_comes_writes(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger", "a -> b")
    helper = threading.Thread(target=lambda: ledger.put_folder(FolderRow("INBOX", "INBOX")))
    helper.start()
    helper.join(10)
    assert [row.source for row in ledger.folders()] == ["INBOX"]
    ledger.close()
