"""What became of every source message: the ledger's rows, and the one interface through which they are stored.

Identity of a message is (source folder, its UIDVALIDITY, UID). Ordinary messages are kept as runs: `count` consecutive existing
source UIDs whose destination UIDs are consecutive too; exceptions are rows. Before a batch is appended its intent is stored;
after, its outcome, in one durable transaction with the next intent. A restart looks up open intents only.

Two stores implement `LedgerStore`: a SQLite file (engine/ledger_file.py, command line), and the portal's database
(portal/store/ledger.py), where each write is conditional on the worker's fence. Stores hold rows and decide nothing;
engine/transfer/ decides.

Rows are named tuples: making the class costs a start a quarter of what a dataclass does. (`Run` has a field that tuples have as a method.)

`write` and `forget_folder` are durable when they return (fsync): an APPEND may follow only a stored intent. Entries that can wait, folders
and passes reach the disk with the next durable write, in their order, or when the ledger is closed: a power cut then sets it back to a
moment before, as if the program had been killed there.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple, Protocol

from engine.causes import Cause


class Outcome(StrEnum):
    MOVED = "moved"
    ALREADY_THERE = "already_there"
    UNDOING = "undoing"        # moved, and about to be removed from the destination: an undo's mark, stored before it removes


class Repair(StrEnum):
    """What a destination forced us to change so that it would take a message; the octets are changed by LINE_ENDS only."""

    KEYWORDS = "keywords"      # keywords that it refuses were left off
    DATE = "date"              # the internal date was replaced by the message's own Date, or left to the server
    LINE_ENDS = "line_ends"    # bare CR and LF became CRLF


class PassRow(NamedTuple):
    """One run of the mover over a mailbox. What it appended bears its id, so that exactly that can be undone. Unix times; `ended_at`
    None: under way, or killed."""

    id: int
    begun_at: float
    ended_at: float | None = None
    outcome: str = ""


class FolderRow(NamedTuple):
    """One source folder of this move. Names are wire names (modified UTF-7, ASCII). Counts are messages, sizes octets."""

    source: str
    target: str
    id: int = 0
    source_uidvalidity: int = 0
    source_uidnext: int = 0     # with `complete`: everything below is accounted for
    source_messages: int = 0
    target_uidvalidity: int = 0
    source_display: str = ""
    target_display: str = ""
    role: str | None = None
    total: int = 0
    moved: int = 0
    already_there: int = 0
    excluded: int = 0
    vanished: int = 0           # left the source while we worked
    set_aside: int = 0
    bytes_moved: int = 0
    repaired: int = 0
    gone: int = 0               # moved, and deleted at the source since; never replayed
    flags_updated: int = 0      # messages whose changed flags were carried over after the copy
    source_modseq: int = 0      # HIGHESTMODSEQ up to which flags are carried over (RFC 7162); 0: the source does not tell
    unproven_from: int = 0      # what was appended at this destination UID and above was not read back yet; 0: all was
    rule: str | None = None     # why the folder is left out
    note: str | None = None     # how its name was changed for the destination
    complete: bool = False


@dataclass(frozen=True)
class Run:
    """`count` source messages, UIDs from `source_first` to `source_last`, at destination UIDs `target_first`, +1, +2 …

    Stored only once the destination UIDs are known; where the destination does not tell them (no UIDPLUS) the intent stays open
    until its window was read."""

    source_first: int
    source_last: int
    count: int
    target_first: int
    outcome: Outcome
    id: int = 0
    pass_id: int = 0            # the pass that appended them; 0: found there

    @property
    def dense(self) -> bool:
        """Whether every UID of its range was a message, so that each has its place whatever was deleted since."""
        return self.source_last - self.source_first + 1 == self.count

    def joined(self, after: Run) -> Run | None:
        """This run extended by `after`, the very next messages of the folder; None when they cannot be one run."""
        if (self.outcome, self.pass_id) != (after.outcome, after.pass_id) or after.target_first != self.target_first + self.count:
            return None
        return replace(self, source_last=after.source_last, count=self.count + after.count)


class Intent(NamedTuple):
    """A batch about to be appended: its source UIDs, the destination's UIDVALIDITY and UIDNEXT before it. `begun_at` is Unix time; `flags`
    are those that each message had at the source then, packed (engine/transfer/flags.py); empty: an older program did not say.

    An intent found at a start (its worker died) is kept after its messages were looked up, as a watch: a dead client's APPEND may
    still be executed by the server, and the sweep at the end removes the surplus copy."""

    uids: tuple[int, ...]
    target_uidvalidity: int
    target_uidnext: int
    begun_at: float
    id: int = 0
    flags: bytes = b""


class SetAsideRow(NamedTuple):
    """A message that was not moved, and why."""

    uid: int
    reason: Cause
    server_text: str
    size: int = 0
    internal_date: str = ""


class RepairRow(NamedTuple):
    """A message that was moved changed, and in which words the destination had refused it unchanged."""

    uid: int
    repair: Repair
    words: str

    @property
    def made(self) -> frozenset[Repair]:
        """All of its repairs: where several were needed the row bears the last, and its words begin with "keywords + date: "."""
        named = set(self.words.partition(": ")[0].split(" + "))
        return frozenset({self.repair} | {repair for repair in Repair if len(named) > 1 and repair.value in named})

    def and_then(self, later: RepairRow) -> RepairRow:
        """One row for both."""
        made = [repair for repair in Repair if repair in self.made and repair is not later.repair]
        words = f"{later.words}; {self.words}" if later.words != self.words else self.words
        return RepairRow(self.uid, later.repair, f"{' + '.join([*made, later.repair])}: {words}" if made else words)


class FlagChunk(NamedTuple):
    """The source's flags as they were last carried over, of the messages from `first_uid` to `last_uid`; coded by
    engine/transfer/flags.py. A later chunk (higher id) overrides an earlier one for the same UID."""

    first_uid: int
    last_uid: int
    data: bytes
    id: int = 0


class Entry(NamedTuple):
    """What one durable transaction changes in one folder."""

    folder: FolderRow                            # its new counters; written whole
    close_intents: Sequence[int] = ()
    runs: Sequence[Run] = ()                     # id 0: new; else replaces that row
    set_aside: Sequence[SetAsideRow] = ()        # replaces a row with the same UID
    clear_set_aside: Sequence[int] = ()          # UIDs that will be tried again, or arrived after all
    open_intents: Sequence[Intent] = ()
    append_seconds: float = 0.0                  # slowest APPEND answered since the last entry
    repairs: Sequence[RepairRow] = ()            # replaces a row with the same UID
    flags: Sequence[FlagChunk] = ()              # added after those that are there
    drop_flags: bool = False                     # … which are all removed first
    drop_runs: Sequence[int] = ()                # ids of runs that hold no longer (undone)
    drop_repairs: Sequence[int] = ()             # UIDs whose repaired copy was undone
    can_wait: bool = False                       # nothing is done at the destination because of it


class Written(NamedTuple):
    """Ids of the rows that an Entry added, in its order (an updated run keeps its id)."""

    runs: Sequence[int] = ()
    intents: Sequence[int] = ()


class LedgerStore(Protocol):
    """Rows of one move (or one command-line ledger file). Raises LeaseLost when another worker took over, and
    EngineError(LEDGER_UNWRITABLE) when a write could not be made durable."""

    def folders(self) -> list[FolderRow]: ...

    def put_folder(self, row: FolderRow) -> FolderRow:
        """Inserts (id 0) or replaces a folder row; returns it with its id. It can wait for the disk."""
        ...

    def runs(self, folder_id: int) -> list[Run]:
        """In order of source_first."""
        ...

    def intents(self, folder_id: int) -> list[Intent]: ...

    def set_aside(self, folder_id: int) -> list[SetAsideRow]: ...

    def repairs(self, folder_id: int) -> list[RepairRow]: ...

    def flags(self, folder_id: int) -> Iterator[FlagChunk]:
        """In the order in which they were written, a few at a time: a large folder has many."""
        ...

    def begin_pass(self, begun_at: float) -> int:
        """The id of the pass that begins now (or goes on: the portal's slices of one attempt are one pass). It can wait for the disk."""
        ...

    def end_pass(self, pass_id: int, ended_at: float, outcome: str) -> None:
        """It can wait for the disk."""
        ...

    def passes(self) -> list[PassRow]:
        """Oldest first."""
        ...

    def write(self, entry: Entry) -> Written:
        """One transaction; durable unless the entry can wait."""
        ...

    def forget_folder(self, row: FolderRow) -> None:
        """Drops runs, intents, set-aside rows, repairs and flags of a folder (its UIDVALIDITY changed; it will be re-adopted), and stores
        this row in place of its own, in one transaction: an old end without its runs would hide what is to be read."""
        ...

    def append_seconds_peak(self) -> float:
        """Slowest answered APPEND that was ever written, seconds; 0.0 when none was."""
        ...

    def close(self) -> None: ...
