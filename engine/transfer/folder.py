"""One folder, from whatever state the last worker left it in to the proof that everything is accounted for.

Order: examine the source, make sure the destination exists, look up open intents, adopt what is there already, move the rest,
prove. Every step may be interrupted anywhere and is then simply done again.
"""
from __future__ import annotations

import contextlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field

from engine.causes import Cause, Side
from engine.errors import ConnectionBroken, EngineError, MessageRefused, ProtocolError, Throttled
from engine.folders.mapping import FolderPlan
from engine.imap.fetch import fetch_digests, fetch_metadata, fetch_uids
from engine.imap.held_ends import FolderIsLocked
from engine.imap.session import FolderStatus, Selected
from engine.ledger import FolderRow, Outcome, Run, SetAsideRow
from engine.providers.catalogue import provider
from engine.providers.provider import Quirk
from engine.transfer import points, recover
from engine.transfer.adopt import UNREAD, Adoption
from engine.transfer.ahead import Ahead
from engine.transfer.breaks import Breaks
from engine.transfer.careful import CarefulReading
from engine.transfer.earlier_proof import prove_earlier
from engine.transfer.matching import Claims, instant
from engine.transfer.proof import Difference, Proof
from engine.transfer.proving import name_what_is_unlike, prove, tells_sizes
from engine.transfer.reading import Reader, reader_of
from engine.transfer.records import Accounted, Arrived, FolderRecords, Listed, SerialStore, listed, place_of, source_uids
from engine.transfer.sessions import Sessions
from engine.transfer.tally import Tally
from engine.transfer.target import TargetFolder
from engine.transfer.writing import UNASKED_LITERAL, FolderLost, Writer


def _nothing() -> None:
    return


class ReadTooEarly(Exception):
    """Mail came into the destination's folder after it was read ahead for: that is compared with what is to be moved first. The source's
    connection is over, because it was being read."""


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
    row: FolderRow                  # as the ledger has it or will with the next write, also after a failure
    pass_id: int = 0
    recent_since: float | None = None  # Unix time: what is younger goes first
    anew: bool = False              # the ledger's rows were dropped and its counters began at 0
    out_of_order: int | None = None  # messages of this pass that stand behind one that follows them at the source
    proof: Proof = field(default_factory=Proof)  # what was appended to this folder in this run and not read back yet
    ahead: Ahead | None = None      # of this folder, if it was opened and read already
    source_is_free: Callable[[], None] = _nothing  # told when all is read (next door: and stored), before the end of it is proven
    _reader: Reader | None = None   # … until what it reads is appended

    def run(self) -> bool:
        """Whether the folder came to its end (False: stopped; everything sent is stored). Raises EngineError, LeaseLost."""
        try:
            selected, status = self._opened()
            records = self._open(selected, status)
            if records is None:
                return False
            try:
                return self._run(records, selected, status)
            except FolderLost:
                self.plan = self.plan._replace(exists=False)
                raise
            finally:
                self.row = records.row
                # By the last days first it is another order on purpose.
                self.out_of_order = records.out_of_order() if self.recent_since is None else 0
        finally:
            if self.ahead is not None:
                self.ahead.abandon()
            if self._reader is not None:  # what it read is not wanted after all
                self._reader.abandon()

    def _opened(self) -> tuple[Selected, FolderStatus]:
        """The source's folder, and the destination's counts: both open at once."""
        asked = TargetFolder(self.sessions.target, self.plan, self.target_status)
        if self.ahead is None:
            selected = self.sessions.source.examine(self.plan.source.name)
        else:
            selected, self._reader = self.ahead.take()
        self.plan, status = asked.ready()
        if self._reader is not None and status.messages:
            raise ReadTooEarly
        return selected, status

    def _run(self, records: FolderRecords, selected: Selected, status: FolderStatus) -> bool:
        again = self.retry_set_aside and self._try_set_aside_again(records)
        try:
            if not self._look_up_intents(records):
                return False
            if again or not records.row.target_uidvalidity:
                self._adopt(records, selected, status)
            if records.row.unproven_from and not self.proof and not prove_earlier(self._careful(), self.sessions.target, records,
                                                                                  self.stopped):
                return False
        except (ConnectionBroken, ProtocolError) as error:
            self.breaks.count(self.plan.source.name, error.uids)
            raise
        whole = not records.row.source_uidnext
        finished, reader = self._move_rest(records, selected, status)
        if finished:
            if whole and reader.seen_before < selected.messages:
                self._name_what_is_not_listed(records, reader.seen)
            self._complete(records, selected, reader.seen, whole)
        self.tally.put(records.row, now=True)
        return finished

    def _open(self, selected: Selected, status: FolderStatus) -> FolderRecords | None:
        """The folder's records; started anew where the ledger speaks of another UIDVALIDITY, on either side, or of fewer messages
        than the source now shows below its old end. None: stopped before the destination had settled for that."""
        plan = self.plan
        row = self.row._replace(target=plan.target, target_display=plan.target_display, note=plan.note)
        row = row if row.id and row == self.row else self.store.put_folder(row)
        records = FolderRecords(self.store, row, self.pass_id)
        known = records.row
        if (known.source_uidvalidity not in (0, selected.uidvalidity) or known.target_uidvalidity not in (0, status.uidvalidity)
                or self._was_made_again(records, selected, status) or self._shows_older_mail(records, selected)):
            if not self._settled(records):
                self.row = records.row
                return None
            self._start_anew(records, status)
        # Stored with the first intent, or at the end: what nothing was done for yet needs no durable word.
        # Flags are carried over from where they stood when the first message was read, not the last: there may be days between.
        records.row = records.row._replace(source_uidvalidity=selected.uidvalidity, rule=None, excluded=0,
                              total=max(records.row.total, selected.messages),
                              source_modseq=records.row.source_modseq or selected.highestmodseq)
        return records

    def _was_made_again(self, records: FolderRecords, selected: Selected, status: FolderStatus) -> bool:
        """The UIDVALIDITY is the old one and the folder another: UIDs went back to lower numbers, or (where the server's UIDVALIDITY is
        constant: Alibaba) what the ledger calls a message's copy is no copy of what bears its UID now. RFC 3501 §2.3.1.1 forbids both."""
        source, target = self.sessions.source, self.sessions.target
        highest = records.runs[-1] if records.runs else None
        if highest is None:
            return False
        if selected.uidnext is not None and selected.uidnext <= highest.source_last:
            return True
        if status.uidnext and status.uidnext <= (last := max(run.target_first + run.count - 1 for run in records.runs)):
            there = target.examine(self.plan.target)  # a STATUS may be an old one; what a folder says when it is opened is not
            target.unselect()
            if there.uidnext is not None and there.uidnext <= last:
                return True
        constant = any(Quirk.UIDVALIDITY_CONSTANT in provider(side.provider).quirks for side in (source, target))
        return constant and not self._samples_agree(records.runs)

    def _samples_agree(self, runs: Sequence[Run]) -> bool:
        """The first messages of the oldest, a middle and the newest run, compared by every byte; one that is gone says nothing."""
        source, target = self.sessions.source, self.sessions.target
        pairs = {run.source_first: run.target_first for run in (runs[0], runs[len(runs) // 2], runs[-1])}
        here = dict(fetch_digests(source, list(pairs)))
        target.examine(self.plan.target)
        there = dict(fetch_digests(target, list(pairs.values())))
        target.unselect()
        both = [(here[uid], there[copy]) for uid, copy in pairs.items() if uid in here and copy in there]
        return not both or any(a == b for a, b in both)

    def _shows_older_mail(self, records: FolderRecords, selected: Selected) -> bool:
        """The source shows more than it did and not because mail came in: its owner widened the range that mail programs may see (facts,
        providers section 4: 30 days by default at Tencent, NetEase and 263). Such mail lies between the UIDs of old runs."""
        source, known = self.sessions.source, records.row
        since = known.source_uidnext if known.complete else 1  # what is below was proven, and is counted
        gaps = [run for run in records.runs if not run.dense and run.outcome is not Outcome.UNDOING and run.source_last >= since]
        if gaps:
            stored, last = records.stored_flags(), max(run.source_last for run in gaps)
            listed_now = array("Q")
            with contextlib.suppress(MessageRefused):  # else nobody knows
                listed_now = array("Q", sorted(fetch_uids(source, max(since, gaps[0].source_first), last)))
            if any(_lists_others(listed_now, run, source_uids(run, stored), records.set_aside) for run in gaps):
                return True
        if not known.complete or selected.messages <= known.source_messages:
            return False
        arrived = sum(1 for _ in fetch_uids(source, known.source_uidnext, None))
        return selected.messages > known.source_messages + arrived

    def _start_anew(self, records: FolderRecords, status: FolderStatus) -> None:
        """Nothing that the ledger says of this folder counts any more, and nobody's claims of another UIDVALIDITY do: what is at the
        destination is adopted, not claimed away by rows that are gone."""
        records.forget()
        self.proof.clear()
        self.anew = True
        self.claims.renew(run for row in self.store.folders()
                          if row.target == self.plan.target and row.target_uidvalidity == status.uidvalidity
                          for run in self.store.runs(row.id))

    def _try_set_aside_again(self, records: FolderRecords) -> bool:
        """What was set aside is unaccounted again, but for messages that the destination did accept once (they would be doubled). Whether
        there was any: it is compared with what is there before it is moved, because some were set aside for not being comparable."""
        in_runs = Accounted(records.runs, ())
        again = [uid for uid in records.set_aside if uid not in in_runs]
        if again:
            records.write(clear_set_aside=again, row=records.row._replace(source_uidnext=0, complete=False))
        return bool(again)

    def _look_up_intents(self, records: FolderRecords) -> bool:
        """What a dead worker had in flight: once the destination has settled, what is found there becomes runs. The intents stay,
        as watches. False: stopped before it had settled."""
        accounted = records.accounted()
        open_uids = {uid for i in records.intents for uid in i.uids if uid not in accounted}
        if not open_uids:
            return True
        source, target, name = self.sessions.source, self.sessions.target, self.plan.target
        if not self._settled(records):
            return False
        found = listed(fetch_metadata(source, min(open_uids), max(open_uids)))
        wanted = [item.meta for item in found if item.meta.uid in open_uids]
        looked_up = recover.look_up(self._careful(), target, name, wanted, min(i.target_uidnext for i in records.intents), self.claims)
        target.unselect()
        self._write_pairs(records, found, looked_up)
        if looked_up.unread:
            records.write(set_aside=[SetAsideRow(uid, Cause.X_ITEM, UNREAD) for uid in looked_up.unread])
        return True

    def _settled(self, records: FolderRecords) -> bool:
        """Whether nothing more comes of what a dead worker had in flight; False: stopped before that was clear."""
        return not records.intents or recover.settle(self.sessions.target, self.plan.target, records.intents,
                                                     self.store.append_seconds_peak(), self.clock, self.stopped)

    def _careful(self) -> CarefulReading:
        return CarefulReading(self.sessions.source, lambda uid: self.breaks.hopeless(self.plan.source.name, uid))

    def _adopt(self, records: FolderRecords, selected: Selected, status: FolderStatus) -> None:
        """Runs for what is at the destination already. `target_uidvalidity` is stored last: then adoption is done."""
        if selected.messages and (status.messages or self.anew):
            Adoption(self._careful(), self.sessions.target, self.plan.target, records, self.claims).run()
            records.write(row=records.row._replace(target_uidvalidity=status.uidvalidity))
        else:
            records.row = records.row._replace(target_uidvalidity=status.uidvalidity)

    def _write_pairs(self, records: FolderRecords, found: list[Listed], looked_up: recover.LookedUp) -> None:
        """With the flags that they were sent with: what changed at the source since is carried over like any later change. What the
        destination did not store as it was sent is named."""
        by_uid, sent, arrived, unlike = {item.meta.uid: item for item in found}, records.flags_on_their_way(), [], []
        for source_uid, target_uid in looked_up.pairs:
            item, there = by_uid[source_uid], looked_up.there[target_uid]
            meta = item.meta._replace(flags=sent.get(source_uid, item.meta.flags))
            arrived.append(Arrived(item._replace(meta=meta), target_uid))
            unlike.append(Difference(source_uid, target_uid, meta, there, octets=source_uid in looked_up.altered,
                                     date=bool(meta.internal_date) and instant(there.internal_date) != instant(meta.internal_date)))
        records.write(arrived=arrived, octets=sum(one.listed.meta.size for one in arrived))
        self.claims.add(pair.target_uid for pair in looked_up.pairs)
        name_what_is_unlike(records, unlike, exact=tells_sizes(self.sessions.target), unproven_from=records.row.unproven_from)

    def _move_rest(self, records: FolderRecords, selected: Selected, status: FolderStatus) -> tuple[bool, Reader]:
        """Whether it came to its end, and who knows how many messages the source listed."""
        name = self.plan.source.name
        reader, self._reader = self._reader, None
        if reader is None:
            reader = reader_of(self.sessions.source, name, selected, self.breaks, self.recent_since, records.accounted(),
                               records.row.source_uidnext or 1)
            reader.start()
        writer = Writer(self.sessions.target, records, self.claims, uidvalidity=status.uidvalidity, floor=status.uidnext or 1,
                        goes_alone=lambda uid: self.breaks.suspect(name, uid), stopped=self.stopped,
                        told=lambda: self.tally.put(records.row), prove=lambda proof: prove(self.sessions.target, records, proof),
                        proof=self.proof, lanes=self.sessions.lanes, ask_first=self.breaks.ask_first)
        try:
            finished = writer.take(reader.queue, source_is_free=lambda: self._all_read(reader, records, selected))
            prove(self.sessions.target, records, self.proof)
            self.proof.clear()
        except BaseException as error:
            self._note_break(error, reader, writer)
            reader.abandon()
            if isinstance(error, EngineError):
                self._save(records, writer, error)
            raise
        if not finished:
            reader.abandon()
            records.write(can_wait=True)  # that all is proven
        return finished, reader

    def _all_read(self, reader: Reader, records: FolderRecords, selected: Selected) -> None:
        reader.finish()
        if records.row.source_uidnext or reader.seen_before >= selected.messages:  # else the source is asked once more, at the end
            self.source_is_free()

    def _note_break(self, error: BaseException, reader: Reader, writer: Writer) -> None:
        """What broke the connection, or put it out of step, counts as this message's doing."""
        if not isinstance(error, ConnectionBroken | ProtocolError) or isinstance(error, FolderIsLocked):
            return
        if error.side is Side.DESTINATION:
            if not self.breaks.ask_first and UNASKED_LITERAL.search(error.server_text):
                self.breaks.ask_from_now()
                return
            self.breaks.count(self.plan.source.name, writer.suspects())
        elif reader.reading_uid:
            self.breaks.count(self.plan.source.name, [reader.reading_uid])

    def _save(self, records: FolderRecords, writer: Writer, error: EngineError) -> None:
        """Keeps what is known. Where the destination's connection still stands, its outstanding answers are waited for first, and what was
        appended is read back; nothing more is sent to a server that asked to wait."""
        if error.side is Side.SOURCE or isinstance(error, Throttled):
            asks = error.side is Side.SOURCE
            try:
                writer.drain(ask=asks)
                if asks:
                    prove(self.sessions.target, records, self.proof)
                    self.proof.clear()
                    records.write(can_wait=True)  # that all is proven
                return
            except EngineError:
                pass  # the first failure is the one to report; the intents stay open
        if error.cause is not Cause.LEDGER_UNWRITABLE:
            writer.save()

    def _name_what_is_not_listed(self, records: FolderRecords, seen: int) -> None:
        """The source counts more messages than it lists, and still does when asked again: the gap is named, not passed over
        (facts: QQ counts two too many after sending)."""
        counted = self.sessions.source.status(self.plan.source.name).messages
        if counted > seen:
            records.write(set_aside=[SetAsideRow(0, Cause.INCOMPLETE, f"the server counts {counted} messages and lists {seen}")])

    def _complete(self, records: FolderRecords, selected: Selected, seen: int, whole: bool) -> None:
        """`gone`: of the messages that the folder had at its last proof, those that are not among today's."""
        row = records.row
        uidnext = selected.uidnext or records.accounted().last_below(1 << 33) + 1
        total = row.moved + row.already_there + row.excluded + row.set_aside + row.vanished
        gone = 0 if whole else max(0, row.source_messages + seen - selected.messages)
        records.write(row=row._replace(complete=True, source_uidnext=uidnext, source_messages=selected.messages, total=total,
                                  gone=row.gone + gone),
                      can_wait=True)
        points.reached("after a folder was completed")


def _lists_others(listed_now: array[int], run: Run, known: Sequence[int], set_aside: Container[int]) -> bool:
    """Whether a UID of the run's range is listed that was no message when the run was made. `known`: its messages, () if that is lost."""
    between = listed_now[bisect_left(listed_now, run.source_first):bisect_right(listed_now, run.source_last)]
    return bool(known) and any(place_of(uid, known) is None and uid not in set_aside for uid in between)
