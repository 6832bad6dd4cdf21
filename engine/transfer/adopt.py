"""Finding what is at the destination already, when the ledger does not know: a lost ledger, a changed UIDVALIDITY, mail that
another mover brought.

Identity is content, every byte of it: an equal header block and size may hide another body (a tool that turned 8-bit octets into
question marks, a draft). Counts are kept: each destination message is given away once, equal ones in the order of their UIDs, those with
the same date first, so that copies that differ in their date only stay themselves. No SEARCH is used.
Bounded: the two listings lie in a temporary database on disk (census.py), digests are taken a few hundred messages at a time.
"""
from __future__ import annotations

import hashlib
from collections.abc import Iterator

from engine.causes import Cause
from engine.imap.fetch import Metadata, fetch_digests, fetch_headers, fetch_metadata
from engine.imap.flags import FlagChange, store_flags
from engine.imap.session import Session
from engine.ledger import Outcome, SetAsideRow
from engine.providers.catalogue import provider
from engine.providers.provider import Quirk
from engine.transfer import points
from engine.transfer.careful import CarefulReading
from engine.transfer.census import Census, Found, Key, Side
from engine.transfer.matching import Claims, instant
from engine.transfer.proof import folded
from engine.transfer.records import Arrived, FolderRecords, Listed

ALTERED_OCTETS = 64      # and 2 % of the message: what line ends, NULs and a final newline can make
UNREAD = "the server does not give the whole message, so it cannot be said whether it is at the destination already"
AT_ONCE = 500            # messages of one write of the ledger, and of one question for digests


class Adoption:
    """Of one folder, EXAMINEd at the source by the caller; the destination's is EXAMINEd here, and left."""

    def __init__(self, source: CarefulReading, target: Session, target_folder: str, records: FolderRecords, claims: Claims) -> None:
        self._careful, self._source, self._target = source, source.session, target
        self._folder = target_folder
        self._records = records
        self._claims = claims
        self._sizes_are_exact = Quirk.SIZE_IS_ESTIMATE not in provider(self._source.provider).quirks

    def run(self) -> None:
        """Stores a run for each message that is there already. What the destination's server altered when it stored it, and what the source
        does not give whole for comparing, is set aside by name. Flags that the source has and the copy lacks are added to the copy; none
        is taken away."""
        if not self._target.examine(self._folder).messages:
            return
        with Census() as census:
            census.add_there((m.uid, m.size, instant(m.internal_date), m.flags) for m in fetch_metadata(self._target, 1, None)
                             if m.uid not in self._claims)
            census.add_here(self._listed())
            self._take_digests(census)
            census.pair_equal()
            self._take_header_digests(census)
            census.pair_altered(ALTERED_OCTETS)
            self._target.unselect()
            self._store(census)

    def _listed(self) -> Iterator[tuple[int, int, int, float | str, tuple[str, ...], str]]:
        accounted, previous = self._records.accounted(), 0
        for m in fetch_metadata(self._source, 1, None):
            if m.uid not in accounted:
                yield m.uid, previous, m.size, instant(m.internal_date), m.flags, m.internal_date
            previous = m.uid

    def _sides(self) -> tuple[tuple[Side, Session], ...]:
        return ("here", self._source), ("there", self._target)

    def _take_digests(self, census: Census) -> None:
        """Of what could be equal: messages of a size, or else of a header block, that both sides have."""
        if not self._sizes_are_exact:
            census.set_headers("here", self._headers(self._source, census.all_uids("here")))
            census.set_headers("there", self._headers(self._target, census.all_uids("there")))
        key: Key = "size" if self._sizes_are_exact else "header"
        for uids in census.uids_in_common("there", key, AT_ONCE):
            census.set_digests("there", ((bytes.fromhex(digest), uid) for uid, digest in fetch_digests(self._target, uids)))
        for uids in census.uids_in_common("here", key, AT_ONCE):
            sizes = census.sizes(uids)
            census.set_digests("here", ((digest, uid) for uid, digest in self._careful.digests(sizes)))

    def _take_header_digests(self, census: Census) -> None:
        """Of messages without an equal whose date occurs on the other side: a destination's own mail costs nothing."""
        for side, session in self._sides():
            census.set_headers(side, self._headers(session, census.uids_in_common(side, "date", AT_ONCE)))

    @staticmethod
    def _headers(session: Session, several: Iterator[list[int]]) -> Iterator[tuple[bytes, int]]:
        for uids in several:
            for uid, header in fetch_headers(session, uids):
                yield hashlib.sha256(header).digest(), uid

    def _store(self, census: Census) -> None:
        if self._careful.unread:
            unread = census.sizes(self._careful.unread)
            self._records.write(set_aside=[SetAsideRow(uid, Cause.X_ITEM, UNREAD, size) for uid, size in unread])
        for some in census.pairs(AT_ONCE):
            self._add_flags(some)
            aside = [SetAsideRow(f.uid, Cause.INCOMPLETE, f"at the destination as UID {f.target_uid}, altered by its server", f.size)
                     for f in some if f.altered]
            points.reached("before what is there already is stored")
            self._records.write(arrived=[Arrived(_as_listed(f), f.target_uid) for f in some], outcome=Outcome.ALREADY_THERE)
            if aside:
                row = self._records.row
                self._records.write(row=row._replace(already_there=row.already_there - len(aside)), set_aside=aside)
            self._claims.add(f.target_uid for f in some)

    def _add_flags(self, some: list[Found]) -> None:
        lacking: dict[tuple[str, ...], list[int]] = {}
        for f in some:
            missing = folded(f.flags) - folded(f.target_flags)
            if missing:
                add = tuple(flag for flag in f.flags if flag.lower() in missing)
                lacking.setdefault(add, []).append(f.target_uid)
        if lacking:
            store_flags(self._target, self._folder, [FlagChange(tuple(sorted(uids)), add, ()) for add, uids in lacking.items()])


def _as_listed(found: Found) -> Listed:
    return Listed(Metadata(found.uid, found.size, found.flags, found.internal_date), found.previous)


def dated_headers(session: Session, messages: dict[int, Metadata]) -> dict[int, tuple[bytes, float | str]]:
    """(hash of the header block, date as an instant) by UID: what a server that alters bodies leaves alone."""
    return {uid: (hashlib.sha256(header).digest(), instant(messages[uid].internal_date))
            for uid, header in fetch_headers(session, sorted(messages))}
