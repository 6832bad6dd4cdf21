"""Pairs of connections: opened on both sides at once, opened again when they break, never more often than its numbers say.

Owns: how often a broken connection is tried again, how long a stated wait is sat out here, what counts as a try at LOGIN.
Must not: move anything.
"""
from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.causes import Cause, Side
from engine.endpoint import Account, Route
from engine.errors import ConnectionBroken, EngineError, Throttled
from engine.imap.append import AppendMethod, method_of, takes_batches_unasked
from engine.imap.compress import pays
from engine.imap.held_ends import NEAR_SECONDS
from engine.imap.session import Session
from engine.pacing.pace import UNSTATED_WAIT_SECONDS, WAIT_HERE_SECONDS, Pace
from engine.progress import ProgressSink
from engine.redact import redact
from engine.report.steps import Step, StepState
from engine.transfer.sessions import Sessions

BREAKS_IN_A_ROW = 5              # reconnects without any progress between them
BREAKS_AT_THE_START = 2          # and when the first connections cannot be made at all
LOGIN_TRIES = 2                  # a server that hangs up at LOGIN may have counted it
QUICK_SECONDS = 30.0             # a failure that took longer is final for this run
RECONNECT_SECONDS = (0.5, 2.0, 5.0, 15.0, 30.0)  # each with up to half as much again, at random
COMPRESS_AFTER_OCTETS = 2 << 20  # a link is judged by so many
COMPRESS_WAITED = 0.7            # … and is the bottleneck when it was waited for this share of the time
LANES = 1                        # further connections of a pair to a destination that must be asked for each literal
LANES_OF_FIRST = 2               # … of the pair that begins with the inbox
LANES_FROM_CONNECTIONS = 3       # that a provider lets a mailbox have, before a pair may have two at the destination
LANES_FROM_SECONDS = 0.005       # round trip from which a second connection for asked literals pays


class Stopped(Exception):
    """Stop was asked; everything sent is answered and stored."""


class Link(NamedTuple):
    """What one connection had done at a moment: octets both ways, and seconds in which it waited for its peer."""

    at: float
    octets: int
    waited: float

    @classmethod
    def of(cls, session: Session) -> Link:
        stream = session.channel.stream
        return cls(time.monotonic(), stream.bytes_in + stream.bytes_out, stream.waited)


def compress_where_it_pays(session: Session, since: Link) -> bool:
    """Compresses a connection that was the bottleneck since then: it moved enough to tell, waited most of the time, and was slower than
    deflate is. (A pair that waits for the other side's disk, or is quick, gains nothing: facts, engine §4.) True when it does now."""
    now = Link.of(session)
    octets, seconds = now.octets - since.octets, now.at - since.at
    if octets < COMPRESS_AFTER_OCTETS or now.waited - since.waited < COMPRESS_WAITED * seconds:
        return False
    return pays(octets_per_second=octets / seconds, rtt=session.rtt) and session.compress()


@dataclass
class Pairs:
    """The roads to both mailboxes, and how fast each may be used. `stopping` is asked while waiting. `single`: a destination next door
    gets no connection beyond each pair's own, because the move is over one pair, or because it was seen to lock a folder."""

    source: Account
    destination: Account
    source_route: Route
    destination_route: Route
    sink: ProgressSink
    stopping: Callable[[], bool]
    paces: Mapping[Side, Pace]
    single: bool = False
    _at_login: set[Side] = field(default_factory=set)  # the secret was sent and not answered

    def open(self, *, here: bool = True, first: bool = False) -> Sessions:
        """One connection to each side, both at once, and further ones to a destination where they pay. Raises what the source said, else
        what the destination said. Not `here`: only if it may be opened at once."""
        self._at_login = set()
        opened: dict[Side, Session | BaseException] = {}

        def open_target() -> None:
            try:
                opened[Side.DESTINATION] = self._open_side(Side.DESTINATION, here)
            except BaseException as error:  # raised by the thread that asked
                opened[Side.DESTINATION] = error

        helper = threading.Thread(target=open_target, name="open-destination", daemon=True)
        helper.start()
        try:
            opened[Side.SOURCE] = self._open_side(Side.SOURCE, here)
        except BaseException as error:
            opened[Side.SOURCE] = error
        helper.join()
        source, target = opened[Side.SOURCE], opened[Side.DESTINATION]
        if isinstance(source, Session) and isinstance(target, Session):
            return Sessions(source, target, self._open_lanes(target, first), first)
        for one in (source, target):
            if isinstance(one, Session):
                one.close()
        raise source if isinstance(source, BaseException) else target  # type: ignore[misc]  # one of the two failed

    def _open_side(self, side: Side, here: bool) -> Session:
        def note(step: Step, state: StepState) -> None:
            if step is Step.LOGIN:
                (self._at_login.discard if state is StepState.OK else self._at_login.add)(side)

        account, route = (self.source, self.source_route) if side is Side.SOURCE else (self.destination, self.destination_route)
        return self.paces[side].connect(lambda gate: Session.open(account, route, side=side, on_step=note, gate=gate), here=here)

    def _lanes(self, target: Session, first: bool) -> int:
        """Further connections that pay. Where the server must be asked for each literal and is not next door, each pair has some. Where
        it stores whole batches and is next door, the first of several has one, so that the inbox, mostly the largest folder, is not the
        last to end."""
        if target.limits.connections < LANES_FROM_CONNECTIONS:
            return 0
        if takes_batches_unasked(target):
            return int(first and not self.single and target.rtt <= 2 * NEAR_SECONDS)  # so far only a bound is known
        asked = method_of(target) in (AppendMethod.PLAIN, AppendMethod.LITERAL_MINUS)
        return (LANES_OF_FIRST if first else LANES) if asked and target.rtt >= LANES_FROM_SECONDS else 0

    def _open_lanes(self, target: Session, first: bool) -> list[Session]:
        """That one cannot be opened is no failure: the others do the work."""
        lanes = self._lanes(target, first)
        opened: list[Session] = []
        try:
            while len(opened) < lanes:
                opened.append(self.paces[Side.DESTINATION].connect(lambda gate: Session.open(
                    self.destination, self.destination_route, side=Side.DESTINATION, gate=gate), here=False))
        except EngineError as error:
            self.tell(error)
        return opened

    def open_first(self) -> Sessions:
        """The pair that moves the inbox, mostly the largest folder."""
        return self._persist(BREAKS_AT_THE_START, first=True)

    def reopen(self, sessions: Sessions) -> None:
        """The same pair on new connections."""
        close(sessions)
        fresh = self._persist(BREAKS_IN_A_ROW, first=sessions.first)
        sessions.source, sessions.target, sessions.lanes = fresh.source, fresh.target, fresh.lanes

    def _persist(self, most: int, *, first: bool) -> Sessions:
        """Opens the connections; a broken one is tried again `most` times, a stated wait is obeyed. A server that took long to fail
        is not tried again: each try may count as a login there, and somebody waits for our word."""
        for tries in range(most + 1):
            begun = time.monotonic()
            try:
                return self.open(first=first)
            except (ConnectionBroken, Throttled) as error:
                slow = isinstance(error, ConnectionBroken) and time.monotonic() - begun > QUICK_SECONDS
                at_login = error.side in self._at_login and isinstance(error, ConnectionBroken)
                self.wait_or_give_up(error, tries, tries if slow else min(most, LOGIN_TRIES - 1) if at_login else most)
        raise AssertionError("wait_or_give_up raises at the last try")

    def wait_or_give_up(self, error: EngineError, tries: int, most: int) -> None:
        """Waits before try number `tries` + 1, or raises: PAUSED's Throttled for a long wait or one wait too many, the error itself after
        the last try, Stopped when stop was asked."""
        self.tell(error)
        if self.stopping():
            raise Stopped from error
        if error.server_text and (error.retry_after or 0) > WAIT_HERE_SECONDS:  # a wait counts in a goodbye, too
            raise Throttled(error.cause, side=error.side, server_text=error.server_text, detail=error.detail, causes=error.causes,
                            retry_after=error.retry_after) from error
        wait = RECONNECT_SECONDS[min(tries, len(RECONNECT_SECONDS) - 1)]
        if isinstance(error, Throttled):
            wait = error.retry_after if error.retry_after is not None else max(wait, UNSTATED_WAIT_SECONDS)
            if wait > WAIT_HERE_SECONDS or tries >= most:
                raise error
        elif tries >= most or error.cause in (Cause.TLS, Cause.ADDRESS_REFUSED):
            raise error
        if error.server_text:  # what a rule knows of a server that says nothing is for whoever begins the next run
            wait = max(wait, error.retry_after or 0.0)
        deadline = time.monotonic() + wait * random.uniform(1.0, 1.5)  # noqa: S311  # jitter, not a secret
        while time.monotonic() < deadline:
            if self.stopping():
                raise Stopped from error
            time.sleep(0.1)

    def tell(self, error: EngineError) -> None:
        self.sink.server_line(error.side, error.cause, redact(error.server_text or error.detail))


def close(sessions: Sessions) -> None:
    """Says goodbye where the connection still allows it, to all at once."""
    everyone = (sessions.source, sessions.target, *sessions.lanes)
    for session in everyone:
        session.say_goodbye()
    for session in everyone:
        session.logout()
