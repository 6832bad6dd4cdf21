"""Reading one side: sessions shared by a few threads, and one part of a folder (a range of UIDs) brought into the spool.

Must not: change anything (EXAMINE and BODY.PEEK), hold a message, give up a part for a connection that broke while it still gets on, read
faster than the account's pace.
Always: a part that is read again goes on where it stopped; what the server does not give stays without a digest; a folder that the
server does not open is named, and the others are read.
"""
from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from engine.causes import Cause, Side, at_destination
from engine.endpoint import Account, Route
from engine.errors import ConnectionBroken, MessageRefused, Refused, Throttled
from engine.imap.fetch import fetch_bodies, fetch_digests, fetch_metadata, fetch_uids
from engine.imap.session import Session
from engine.pacing.key import PaceKey
from engine.pacing.pace import Pace
from engine.pacing.store import PaceStore
from engine.providers.catalogue import provider
from engine.redact import redact
from engine.verify.spool import Spool

TRIES = 3                   # of a part whose connection breaks without having brought anything new
PAUSE = 1.0                 # seconds before the second try, doubling
LONGEST_WAIT = 300.0        # seconds of a stated back-off that is waited out (facts: M04)
_SLICE = 2_000              # messages that the pace is asked for at once, and that are asked for one by one at most
_BATCH = 200                # messages of one FETCH
WORTH_A_PART = 2_000        # messages that another connection is opened for
_LAST_UID = (1 << 32) - 1
_LINE_END = re.compile(rb"\r\n|\r|\n")


class Readers:
    """Threads of one side, each with its own session, opened when first needed. A session that broke is replaced. `connections` None: as
    many as we hold ourselves to at this provider."""

    def __init__(self, account: Account, route: Route, side: Side, connections: int | None, pacing: PaceStore) -> None:
        self._account, self._route, self.side = account, route, side
        key = PaceKey.of(account, route)
        limits = provider(key.provider).limits
        self.connections = max(1, connections or limits.connections)
        self._pace = Pace(key, pacing, side=side, limits=limits, pairs=self.connections, stopped=lambda: self._ended.is_set())
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(self.connections, thread_name_prefix=f"verify-{side.value}")
        self._lock = threading.Lock()
        self._idle: list[Session] = []
        self._busy: set[Session] = set()

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *failed: object) -> None:
        self._ended.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            busy = list(self._busy)
        if failed[0] is not None:
            for session in busy:
                session.close()  # ends the reading in the other threads
        self._pool.shutdown(wait=True)
        for session in self._idle:
            session.logout()
        self._pace.leave()

    @contextmanager
    def session(self) -> Iterator[Session]:
        with self._lock:
            session = self._idle.pop() if self._idle else None
        if session is None:
            session = self._pace.connect(lambda gate: Session.open(self._account, self._route, side=self.side, gate=gate))
        with self._lock:
            self._busy.add(session)
        try:
            yield session
        except BaseException:
            session.close()
            raise
        else:
            with self._lock:
                self._idle.append(session)
        finally:
            with self._lock:
                self._busy.discard(session)

    def read(self, part: Part, spool: Spool) -> Future[None]:
        return self._pool.submit(self._patiently, part, spool)

    def _patiently(self, part: Part, spool: Spool) -> None:
        """A stated back-off is waited out, a broken connection opened again; both at most TRIES times without anything new between."""
        failures = 0
        while True:
            before = part.brought
            try:
                with self.session() as session:
                    part.read(session, spool)
                return
            except (ConnectionBroken, Throttled) as error:
                failures = 1 if part.brought > before else failures + 1
                wait = error.retry_after if isinstance(error, Throttled) and error.retry_after else PAUSE * 2 ** (failures - 1)
                if failures == TRIES or wait > LONGEST_WAIT or self._ended.wait(wait):
                    raise


@dataclass
class Part:
    """The messages of a folder from UID `first` to `last` (None: to the end). `number` is the folder's in the spool; `octets`: read the
    bodies, too; `line_ends`: UIDs whose octets are compared with bare CR and LF as CRLF, because that is how they were moved."""

    side: Side
    number: int
    folder: str
    octets: bool
    first: int = 1
    last: int | None = None
    line_ends: frozenset[int] = frozenset()
    brought: int = 0  # digests so far
    refused: str = ""  # the server's words when it does not open the folder

    def read(self, session: Session, spool: Spool) -> None:
        """Raises what ends the comparison; a message that cannot be read stays without a digest."""
        try:
            selected = session.examine(self.folder)
        except Refused as error:
            if error.cause not in (Cause.X_FOLDER, at_destination(Cause.X_FOLDER)):
                raise
            self.refused = redact(error.server_text or error.detail) or error.cause.value
            return
        spool.opened(self.side, self.number, selected.uidvalidity)
        last = self.last or (selected.uidnext - 1 if selected.uidnext else None)
        if not selected.messages or (last is not None and last < self.first):
            return
        spool.put(self.side, self.number, fetch_metadata(session, self.first, last))
        if self.octets:
            waiting = spool.unread(self.side, self.number, self.first, last or _LAST_UID)
            for at in range(0, len(waiting), _SLICE):
                uids = waiting[at : at + _SLICE].tolist()
                if self.side is Side.SOURCE:  # what a provider allows a day counts for a proof as for a move
                    session.channel.gate.before(len(uids), spool.octets(self.side, self.number, uids[0], uids[-1]))
                try:
                    self._read_slice(session, spool, uids)
                finally:
                    session.channel.gate.settled()

    def _read_slice(self, session: Session, spool: Spool, uids: Sequence[int]) -> None:
        left = self._in_batches(session, spool, [uid for uid in uids if uid not in self.line_ends])
        left += [uid for uid in uids if uid in self.line_ends]
        for uid in left:
            try:
                if self._take(spool, self._digests(session, [uid])) or any(True for _ in fetch_uids(session, uid, uid)):
                    continue
            except MessageRefused:
                continue
            spool.forget(self.side, self.number, uid)

    def _in_batches(self, session: Session, spool: Spool, uids: list[int]) -> list[int]:
        """What was not answered, to be asked for one by one: a refusal of a batch says little of each message in it."""
        left: list[int] = []
        while uids:
            answered: set[int] = set()
            refused: MessageRefused | None = None
            try:
                self._take(spool, fetch_digests(session, uids), answered)
            except MessageRefused as error:
                refused = error
            uids = [uid for uid in uids if uid not in answered]
            named = set(refused.uids) & set(uids) if refused is not None else set()
            left += [uid for uid in uids if not named or uid in named]
            uids = [uid for uid in uids if named and uid not in named]
        return left

    def _take(self, spool: Spool, found: Iterable[tuple[int, str]], answered: set[int] | None = None) -> int:
        """Into the spool, a few at a time, also when the stream breaks. How many they were."""
        batch: list[tuple[int, bytes]] = []
        count = 0
        try:
            for uid, digest in found:
                batch.append((uid, bytes.fromhex(digest)))
                if answered is not None:
                    answered.add(uid)
                count += 1
                if len(batch) >= _BATCH:
                    self._keep(spool, batch)
                    batch = []
        finally:
            self._keep(spool, batch)
        return count

    def _keep(self, spool: Spool, digests: list[tuple[int, bytes]]) -> None:
        spool.put_digests(self.side, self.number, digests)
        self.brought += len(digests)

    def _digests(self, session: Session, uids: Sequence[int]) -> Iterator[tuple[int, str]]:
        if self.line_ends.isdisjoint(uids):
            yield from fetch_digests(session, uids)
            return
        for body in fetch_bodies(session, [uids]):
            digest = hashlib.sha256()
            for piece in with_crlf(body.chunks()):
                digest.update(piece)
            yield body.uid, digest.hexdigest()


def with_crlf(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The octets with each bare CR and LF as CRLF; a CRLF that two chunks share stays one."""
    held = b""
    for chunk in chunks:
        piece = held + chunk
        held = b"\r" if piece.endswith(b"\r") else b""
        yield _LINE_END.sub(b"\r\n", piece[: len(piece) - len(held)])
    if held:
        yield b"\r\n"


def parts_of(side: Side, number: int, folder: str, octets: bool, *, messages: int, uidnext: int, pieces: int,
             line_ends: frozenset[int] = frozenset()) -> list[Part]:
    """A folder as ranges of UIDs that several connections read at once, where it is worth their while."""
    most = max(1, min(pieces, messages // WORTH_A_PART)) if uidnext else 1
    span = -(-max(1, uidnext - 1) // most)
    firsts = [1 + n * span for n in range(most)]
    lasts: list[int | None] = [first + span - 1 for first in firsts]
    lasts[-1] = None
    return [Part(side, number, folder, octets, first, last, line_ends) for first, last in zip(firsts, lasts, strict=True)]
