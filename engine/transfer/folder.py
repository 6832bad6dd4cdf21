"""One folder, from whatever state the last worker left it in to the proof that everything is accounted for.

Order: examine the source, make sure the destination exists, look up open intents, adopt what is there already, move the rest,
prove. Every step may be interrupted anywhere and is then simply done again.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from engine.causes import Cause, Side
from engine.errors import ConnectionBroken, EngineError, Throttled
from engine.folders.mapping import FolderPlan
from engine.imap.fetch import fetch_metadata, fetch_uids
from engine.imap.session import FolderStatus, Selected, Session
from engine.ledger import FolderRow, Outcome, SetAsideRow
from engine.providers.catalogue import provider
from engine.providers.provider import Quirk
from engine.transfer import recover
from engine.transfer.adopt import adopt
from engine.transfer.matching import Claims, Pair
from engine.transfer.reading import Reader, Wanted
from engine.transfer.records import Accounted, Arrived, FolderRecords, Listed, SerialStore, listed
from engine.transfer.tally import Tally
from engine.transfer.target import ensure_target
from engine.transfer.writing import AppendedList, Writer

BREAKS_BEFORE_SET_ASIDE = 3  # times that one message may take the connection down with it


@dataclass
class Sessions:
    """One connection to each side."""

    source: Session
    target: Session


@dataclass
class Breaks:
    """How often the connection broke while a message was under way; lives as long as the mailbox's run."""

    counts: Counter[tuple[str, int]] = field(default_factory=Counter)

    def suspect(self, folder: str, uid: int) -> bool:
        return self.counts[folder, uid] > 0

    def hopeless(self, folder: str, uid: int) -> bool:
        return self.counts[folder, uid] >= BREAKS_BEFORE_SET_ASIDE


@dataclass
class FolderMove:
    """Moves one folder over one pair of connections."""

    sessions: Sessions
    store: SerialStore
    plan: FolderPlan
    claims: Claims                  # destination UIDs taken by any source folder with the same target
    target_status: FolderStatus | None
    tally: Tally
    stopped: Callable[[], bool]
    breaks: Breaks
    retry_set_aside: bool
    clock: recover.Clock
    row: FolderRow                  # as the ledger has it, also after a failure
    anew: bool = False              # the ledger's rows were dropped and its counters began at 0

    def run(self) -> bool:
        """Whether the folder came to its end (False: stopped; everything sent is stored). Raises EngineError, LeaseLost."""
        source, target = self.sessions.source, self.sessions.target
        selected = source.examine(self.plan.source.name)
        self.plan = ensure_target(target, self.plan)
        status = self.target_status or target.status(self.plan.target)
        records = self._open(selected, status)
        try:
            return self._run(records, selected, status)
        finally:
            self.row = records.row

    def _run(self, records: FolderRecords, selected: Selected, status: FolderStatus) -> bool:
        if self.retry_set_aside:
            self._try_set_aside_again(records)
        if not self._look_up_intents(records):
            return False
        if not records.row.target_uidvalidity:
            self._adopt(records, selected, status)
        whole = not records.row.source_uidnext
        finished, appended, seen = self._move_rest(records, selected, status)
        if finished:
            self._prove(records, appended)
            if whole and seen < selected.messages:
                self._name_what_is_not_listed(records, seen)
            self._complete(records, selected)
        self.tally.put(records.row, now=True)
        return finished

    def _open(self, selected: Selected, status: FolderStatus) -> FolderRecords:
        """The folder's records; started anew where the ledger speaks of another UIDVALIDITY, on either side, or of fewer messages
        than the source now shows below its old end."""
        plan = self.plan
        row = replace(self.row, target=plan.target, target_display=plan.target_display, note=plan.note)
        records = FolderRecords(self.store, self.store.put_folder(row))
        known = records.row
        if (known.source_uidvalidity not in (0, selected.uidvalidity) or known.target_uidvalidity not in (0, status.uidvalidity)
                or self._shows_older_mail(known, selected)):
            self._start_anew(records, status)
        records.write(row=replace(records.row, source_uidvalidity=selected.uidvalidity, rule=None, excluded=0,
                                  total=max(records.row.total, selected.messages)))
        return records

    def _shows_older_mail(self, known: FolderRow, selected: Selected) -> bool:
        """The source counts more than at the proof and not because mail came in: its owner widened the range that mail programs may
        see (facts, providers section 4: 30 days by default at Tencent, NetEase and 263). Such mail lies between the UIDs of old runs."""
        if not known.complete or selected.messages <= known.source_messages:
            return False
        arrived = sum(1 for _ in fetch_uids(self.sessions.source, known.source_uidnext, None))
        return selected.messages > known.source_messages + arrived

    def _start_anew(self, records: FolderRecords, status: FolderStatus) -> None:
        """Nothing that the ledger says of this folder counts any more, and nobody's claims of another UIDVALIDITY do: what is at the
        destination is adopted, not claimed away by rows that are gone."""
        records.forget()
        self.anew = True
        self.claims.renew(run for row in self.store.folders()
                          if row.target == self.plan.target and row.target_uidvalidity == status.uidvalidity
                          for run in self.store.runs(row.id))

    def _try_set_aside_again(self, records: FolderRecords) -> None:
        """What was set aside is unaccounted again, but for messages that the destination did accept once (they would be doubled)."""
        in_runs = Accounted(records.runs, ())
        again = [uid for uid in records.set_aside if uid not in in_runs]
        if again:
            records.write(clear_set_aside=again, row=replace(records.row, source_uidnext=0, complete=False))

    def _look_up_intents(self, records: FolderRecords) -> bool:
        """What a dead worker had in flight: once the destination has settled, what is found there becomes runs. The intents stay,
        as watches. False: stopped before it had settled."""
        accounted = records.accounted()
        open_uids = {uid for i in records.intents for uid in i.uids if uid not in accounted}
        if not open_uids:
            return True
        source, target, name = self.sessions.source, self.sessions.target, self.plan.target
        if not recover.settle(target, name, records.intents, self.store.append_seconds_peak(), self.clock, self.stopped):
            return False
        found = listed(fetch_metadata(source, min(open_uids), max(open_uids)))
        wanted = [item.meta for item in found if item.meta.uid in open_uids]
        pairs = recover.look_up(source, target, name, wanted, min(i.target_uidnext for i in records.intents), self.claims)
        target.unselect()
        self._write_pairs(records, found, pairs, Outcome.MOVED)
        return True

    def _adopt(self, records: FolderRecords, selected: Selected, status: FolderStatus) -> None:
        """Runs for what is at the destination already. `target_uidvalidity` is stored with them: adoption is done."""
        pairs: list[Pair] = []
        altered: list[Pair] = []
        found: list[Listed] = []
        if status.messages and selected.messages:
            source, target, accounted = self.sessions.source, self.sessions.target, records.accounted()
            exact = Quirk.SIZE_IS_ESTIMATE not in provider(source.provider).quirks
            found = listed(fetch_metadata(source, 1, None))
            wanted = [item.meta for item in found if item.meta.uid not in accounted]
            pairs, altered = adopt(source, target, self.plan.target, wanted, self.claims, sizes_are_exact=exact)
            target.unselect()
        self._write_pairs(records, found, sorted(pairs + altered, key=lambda p: p.source_uid), Outcome.ALREADY_THERE,
                          replace(records.row, target_uidvalidity=status.uidvalidity))
        if altered:
            sizes = {item.meta.uid: item.meta.size for item in found}
            records.write(row=replace(records.row, already_there=records.row.already_there - len(altered)), set_aside=[
                SetAsideRow(p.source_uid, Cause.INCOMPLETE, f"at the destination as UID {p.target_uid}, altered by its server",
                            sizes[p.source_uid]) for p in altered])

    def _write_pairs(self, records: FolderRecords, found: list[Listed], pairs: list[Pair], outcome: Outcome,
                     row: FolderRow | None = None) -> None:
        by_uid = {item.meta.uid: item for item in found}
        octets = sum(by_uid[p.source_uid].meta.size for p in pairs) if outcome is Outcome.MOVED else 0
        records.write(arrived=[Arrived(by_uid[p.source_uid], p.target_uid) for p in pairs], outcome=outcome, octets=octets, row=row)
        self.claims.add(p.target_uid for p in pairs)

    def _move_rest(self, records: FolderRecords, selected: Selected, status: FolderStatus) -> tuple[bool, AppendedList, int]:
        name, accounted = self.plan.source.name, records.accounted()
        first = records.row.source_uidnext or 1
        wanted = Wanted(first, accounted.last_below(first), selected.uidnext, selected.messages, accounted,
                        lambda uid: self.breaks.hopeless(name, uid))
        reader = Reader(self.sessions.source, wanted)
        writer = Writer(self.sessions.target, records, self.claims, uidvalidity=status.uidvalidity, floor=status.uidnext or 1,
                        goes_alone=lambda uid: self.breaks.suspect(name, uid), stopped=self.stopped,
                        told=lambda: self.tally.put(records.row))
        reader.start()
        try:
            finished = writer.take(reader.queue)
        except BaseException as error:
            self._note_break(error, reader, writer)
            reader.abandon()
            if isinstance(error, EngineError):
                self._save(writer, error)
            raise
        if finished:
            reader.finish()
        else:
            reader.abandon()
        return finished, writer.appended, reader.seen

    def _note_break(self, error: BaseException, reader: Reader, writer: Writer) -> None:
        if isinstance(error, ConnectionBroken):
            uids = writer.suspects() if error.side is Side.DESTINATION else [reader.reading_uid]
            for uid in uids:
                self.breaks.counts[self.plan.source.name, uid] += 1

    def _save(self, writer: Writer, error: EngineError) -> None:
        """Keeps what is known. Where the destination's connection still stands, its outstanding answers are waited for first."""
        if error.side is Side.SOURCE or isinstance(error, Throttled):
            try:
                writer.drain()
                return
            except EngineError:
                pass  # the first failure is the one to report; the intents stay open
        if error.cause is not Cause.LEDGER_UNWRITABLE:
            writer.save()

    def _prove(self, records: FolderRecords, appended: AppendedList) -> None:
        """Reads back that each message of this run is there with as many octets as were sent. What is not is named, never passed
        over. (A destination that estimates sizes cannot be asked for them.)"""
        if not appended.target_uids:
            return
        target = self.sessions.target
        exact = Quirk.SIZE_IS_ESTIMATE not in provider(target.provider).quirks
        target.examine(self.plan.target)
        first, last = min(appended.target_uids), max(appended.target_uids)
        unlike = appended.unlike((m.uid, m.size) for m in fetch_metadata(target, first, last))
        target.unselect()
        aside = [SetAsideRow(source_uid, Cause.INCOMPLETE, _unlike_words(target_uid, sent, there), sent)
                 for source_uid, target_uid, sent, there in unlike if there is None or exact]
        if aside:
            records.write(row=replace(records.row, moved=records.row.moved - len(aside)), set_aside=aside)

    def _name_what_is_not_listed(self, records: FolderRecords, seen: int) -> None:
        """The source counts more messages than it lists, and still does when asked again: the gap is named, not passed over
        (facts: QQ counts two too many after sending)."""
        counted = self.sessions.source.status(self.plan.source.name).messages
        if counted > seen:
            records.write(set_aside=[SetAsideRow(0, Cause.INCOMPLETE, f"the server counts {counted} messages and lists {seen}")])

    def _complete(self, records: FolderRecords, selected: Selected) -> None:
        row = records.row
        uidnext = selected.uidnext or records.accounted().last_below(1 << 33) + 1
        total = row.moved + row.already_there + row.excluded + row.set_aside + row.vanished
        records.write(row=replace(row, complete=True, source_uidnext=uidnext, source_messages=selected.messages, total=total))


def _unlike_words(target_uid: int, sent: int, there: int | None) -> str:
    if there is None:
        return f"accepted by the destination as UID {target_uid}, and not there when read back"
    return f"at the destination as UID {target_uid}, but with {there} octets instead of {sent}: the server altered it"


def sweep(sessions: Sessions, store: SerialStore, row: FolderRow, claims: Claims, clock: recover.Clock) -> int:
    """Removes surplus copies that a dead worker's APPENDs left after its intents were looked up, and ends old watches.

    A copy is surplus only while every message that the ledger claims in the folder is still there: where a person has moved or
    deleted mail, an unclaimed copy may be the only one, and nothing is removed. Returns how many surplus copies stay because the
    destination cannot remove just them (no UIDPLUS).
    """
    records = FolderRecords(store, row)
    old = [i.id for i in records.intents if clock.wall() - i.begun_at > recover.WATCH_SECONDS]
    young = [i for i in records.intents if i.id not in old]
    accounted = records.accounted()
    watched = {uid for i in young for uid in i.uids if uid in accounted and uid not in records.set_aside}
    stay = 0
    if watched and _all_claimed_are_there(sessions.target, records):
        sessions.source.examine(row.source)
        messages = [m for m in fetch_metadata(sessions.source, min(watched), max(watched)) if m.uid in watched]
        extra = recover.surplus(sessions.source, sessions.target, row.target, messages,
                                min(i.target_uidnext for i in young), claims)
        sessions.target.unselect()
        if extra and "UIDPLUS" in sessions.target.capabilities:
            sessions.target.uid_expunge(row.target, extra)
        else:
            stay = len(extra)
    if old:
        records.write(close=old)
    return stay


def _all_claimed_are_there(target: Session, records: FolderRecords) -> bool:
    target.examine(records.row.target)
    there = set(fetch_uids(target, 1, None))
    target.unselect()
    return all(uid in there for run in records.runs for uid in range(run.target_first, run.target_first + run.count))
