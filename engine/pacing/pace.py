"""The pace of one account in one run: all its connections ask here before they send, and tell here what the server says.

Owns: waiting. A short wait is sat out, a long one is raised as Throttled with what is left of it, so that nobody is held by it: the
run ends, and the next one begins when the time has come. Must not: know IMAP, or keep what others need to know (that is the store's).
Always: while the server's stated wait runs, no command leaves on any connection of the key and none is opened; what this process hears
counts in it at once, what another hears within FRESH_SECONDS; a server of which nothing is known and that never complained costs
one comparison of times per command.
"""
from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

from engine.causes import Cause, Side, at_destination
from engine.errors import Throttled
from engine.pacing.budget import HOUR, Budget, Unit
from engine.pacing.key import PaceKey
from engine.pacing.pacer import Meter
from engine.pacing.silent import Sample, SilentThrottle
from engine.pacing.state import LEASE_SECONDS, PaceState, Rates
from engine.pacing.store import PaceStore
from engine.providers.provider import Limits

WAIT_HERE_SECONDS = 20.0      # a longer wait ends the run
UNSTATED_WAIT_SECONDS = 10.0  # when the server does not say how long
SHUT_SECONDS = 60.0           # no new connection, when there were too many and nobody says for how long
SILENT_WAIT_SECONDS = 10.0    # after silent throttling: so long, divided by the share that we go on with
CONNECTION_WAIT_SECONDS = 5.0  # when others hold all connections that the account may have
FRESH_SECONDS = 0.25          # what the store said is believed for so long
RATE_WAIT_MOST = 60.0         # seconds that one batch may cost at a lowered rate
MESSAGE_COSTS = 200           # octets of a message beside its own: its line in the list, its answer
POLL_SECONDS = 0.1

T = TypeVar("T")


class Clock(NamedTuple):
    """Time as the pace sees it, in seconds; tests give another."""

    monotonic: Callable[[], float]
    sleep: Callable[[float], None]


def budgets_of(limits: Limits, side: Side) -> tuple[Budget, ...]:
    """What a provider lets an account use on this side."""
    octets = (Unit.DOWNLOAD, limits.download_per_day) if side is Side.SOURCE else (Unit.UPLOAD, limits.upload_per_day)
    told = [Budget(unit, amount) for unit, amount in (octets, (Unit.MESSAGES, limits.messages_per_day)) if amount is not None]
    if limits.logins_per_hour is not None:
        told.append(Budget(Unit.LOGINS, limits.logins_per_hour, HOUR))
    return tuple(told)


def most_connections(limits: Limits, pairs: int | None) -> int:
    """How many connections one account may have in all: twice what a mailbox is moved over, because a pair may have two at the destination
    and a check may look at a mailbox that is being moved; never more than the provider says it takes."""
    most = 2 * max(limits.connections, pairs or 0)
    return most if limits.published_connections is None else min(most, limits.published_connections)


class Pace:
    """`pairs`: how many connections the move was told to use, None: as many as the limits say. `stopped` is asked during each wait."""

    def __init__(self, key: PaceKey, store: PaceStore, *, side: Side = Side.SOURCE, limits: Limits | None = None,
                 pairs: int | None = None, stopped: Callable[[], bool] = lambda: False, clock: Clock | None = None) -> None:
        self.key = key
        self.side = side
        self._store = store
        limits = limits or Limits()
        self._budgets = budgets_of(limits, side)
        self._connections = most_connections(limits, pairs)
        self._stopped = stopped
        self._clock = clock or Clock(time.monotonic, time.sleep)
        self._silent = SilentThrottle()
        self._gates: list[PacedGate] = []
        self._lock = threading.RLock()
        self._share = 1.0
        self._rates = Rates()
        self._holders = 1
        self._free_at = 0.0        # monotonic: when the rate lets the next batch go
        self._sampled_at = self._renewed_at = self._clock.monotonic()
        self.fresh_until = 0.0     # monotonic

    # -- connections ---------------------------------------------------------------------------------------------------------------

    def connect(self, open_: Callable[[PacedGate], T], *, here: bool = True) -> T:
        """Opens a connection when one may be opened. Raises Throttled when that is long from now, or not at once and not `here`."""
        gate = self._enter(here)
        try:
            return open_(gate)
        except BaseException:
            self.leave(gate)
            raise

    def _enter(self, here: bool) -> PacedGate:
        logins = [(budget, 1) for budget in self._budgets if budget.unit is Unit.LOGINS]
        while True:
            with self._lock:
                self._forget_closed()
                taken = {gate.name for gate in self._gates}
                name = next(name for n in range(1, len(taken) + 2) if (name := f"{self._store.holder}/{n}") not in taken)
                most = self._connections - len(taken)
                refused: list[Throttled] = []

                def enter(state: PaceState, now: float, name: str = name, most: int = most,
                          refused: list[Throttled] = refused) -> PaceState:
                    refused.clear()
                    refusal = self._closed_door(state, now, most) or self._spent(state, now, logins)
                    if refusal is not None:
                        refused.append(refusal)
                        return state
                    return state.leased(now, (name,)).used(now, logins)

                state, now = self._store.change(self.key, enter)
                self._learn(state, now)
                if not refused:
                    gate = PacedGate(self, name, self._clock.monotonic)
                    self._gates.append(gate)
                    return gate
            if refused[0].cause is self._said(Cause.TOO_MANY_CONNECTIONS) and not state.wait(now, opening=True):
                raise refused[0]
            self._sit_out(refused[0], here)

    def _closed_door(self, state: PaceState, now: float, most: int) -> Throttled | None:
        wait = state.wait(now, opening=True)
        if wait > 0:
            return self._asked_to_wait(state.cause, now, wait)
        others = sum(state.others(now, self._store.holder).values())
        if others and others >= most:  # our own are counted by whoever opens them
            return Throttled(self._said(Cause.TOO_MANY_CONNECTIONS), side=self.side, retry_after=CONNECTION_WAIT_SECONDS,
                             detail="others hold all the connections that this account may have")
        return None

    def leave(self, *gates: PacedGate) -> None:
        """These connections are closed; without any named, all."""
        with self._lock:
            gone = list(gates or self._gates)
            self._gates = [gate for gate in self._gates if gate not in gone]
            if gone:
                self._store.change(self.key, lambda state, now: state.returned(gate.name for gate in gone))

    def _forget_closed(self) -> None:
        closed = [gate for gate in self._gates if gate.meter is not None and gate.meter.closed]
        if closed:
            self.leave(*closed)

    def standing_wait(self) -> list[tuple[Cause, float]]:
        """What stands against a new connection, and for how many seconds: the server's word, or our own pause. One or none."""
        with self._lock:
            state, now = self._store.look(self.key)
            wait = state.wait(now, opening=True)
            return [(self._said(state.cause), wait)] if wait > 0 else []

    # -- asked before something is sent ------------------------------------------------------------------------------------------------

    def look(self, gate: PacedGate, here: bool) -> None:
        """Returns when a command may be sent. Raises Throttled as Gate.allow says."""
        while True:
            with self._lock:
                state, now = self._store.look(self.key)
                wait = state.wait(now)
                if wait <= 0:
                    state, now = self._keep(state, now)
                    wait = state.wait(now)
                self._learn(state, now)
                if wait <= 0:
                    self.fresh_until = self._clock.monotonic() + FRESH_SECONDS
                    return
            if gate.meter is not None and gate.meter.closed:
                return  # nothing will be sent
            self._sit_out(self._asked_to_wait(state.cause, now, wait), here, gate)

    def _learn(self, state: PaceState, now: float) -> None:
        self._share, self._rates = state.share, state.rates
        self._holders = 1 + len(state.others(now, self._store.holder))

    def _keep(self, state: PaceState, now: float) -> tuple[PaceState, float]:
        """What is done now and then while nothing stands against sending: renews the leases, looks for silent throttling, lets the speed
        grow back."""
        if self._clock.monotonic() - self._renewed_at > LEASE_SECONDS / 3:
            self._renewed_at = self._clock.monotonic()
            self._forget_closed()
            state, now = self._store.change(self.key, lambda state, now: state.leased(now, [gate.name for gate in self._gates]))
        sample = self._sample()
        if sample is None:
            return state, now
        verdict = self._silent.add(sample)
        if verdict is not None:
            self._tell(f"throttles silently: {verdict.value}")
            return self._ease(lambda state, now: state.held(now, SILENT_WAIT_SECONDS / state.share, Cause.THROTTLED))
        if state.share < 1 and (sample.messages or sample.octets):
            return self._store.change(self.key, lambda state, now: state.recovered(now))
        return state, now

    def _sample(self) -> Sample | None:
        """What happened since the last look on connections with messages under way; None: nothing to judge."""
        at = self._clock.monotonic()
        seconds, self._sampled_at = at - self._sampled_at, at
        told = [counted for gate in self._gates if (counted := gate.counted(self.side)) is not None]
        if not told or seconds <= 0:
            return None
        return Sample(seconds, sum(waited for waited, _, _ in told) / len(told), sum(octets for _, octets, _ in told),
                      sum(messages for _, _, messages in told))

    def before(self, gate: PacedGate, messages: int, octets: int) -> None:
        gate.allow()
        amounts = [(budget, messages if budget.unit is Unit.MESSAGES else octets + messages * MESSAGE_COSTS)
                   for budget in self._budgets if budget.unit is not Unit.LOGINS]
        while amounts and not gate.closed and (refused := self._spend(amounts)) is not None:
            self._sit_out(refused, True, gate)
        if self._share < 1:
            self._wait_for_rate(gate, messages, octets)

    def _spend(self, amounts: list[tuple[Budget, int]]) -> Throttled | None:
        refused: list[Throttled] = []

        def spend(state: PaceState, now: float) -> PaceState:
            refused.clear()
            refusal = self._spent(state, now, amounts)
            if refusal is not None:
                refused.append(refusal)
                return state
            return state.used(now, amounts)

        self._store.change(self.key, spend)
        return refused[0] if refused else None

    def _spent(self, state: PaceState, now: float, amounts: list[tuple[Budget, int]]) -> Throttled | None:
        waits = [(budget.wait(state.spent.get(budget.unit, ()), now, amount), budget) for budget, amount in amounts]
        wait, budget = max(waits, key=lambda one: one[0], default=(0.0, None))
        if wait <= 0 or budget is None:
            return None
        stretch = "a day" if budget.seconds > HOUR else "an hour"
        return Throttled(self._said(Cause.THROTTLED), side=self.side, retry_after=wait,
                         detail=f"what {self.key.provider} allows in {stretch} is used up ({budget.unit.value}: {budget.amount}); "
                                f"goes on at {_when(now + wait)}")

    def _wait_for_rate(self, gate: PacedGate, messages: int, octets: int) -> None:
        with self._lock:
            costs = [amount / (full * self._share / self._holders)
                     for amount, full in ((octets, self._rates.octets), (messages, self._rates.messages)) if full > 0]
            now = self._clock.monotonic()
            until = max(self._free_at, now)
            self._free_at = until + min(max(costs, default=0.0), RATE_WAIT_MOST)
        while (left := until - self._clock.monotonic()) > 0 and not self._stopped() and not gate.closed:
            self._clock.sleep(min(left, POLL_SECONDS))
        self._forget_sample()

    # -- waiting -----------------------------------------------------------------------------------------------------------------------

    def _sit_out(self, wait: Throttled, here: bool, gate: PacedGate | None = None) -> None:
        """Waits as long as it is to be waited; raises it when that is too long, or when we are stopped meanwhile."""
        assert wait.retry_after is not None
        until = self._clock.monotonic() + wait.retry_after
        if wait.retry_after > WAIT_HERE_SECONDS or not here:
            raise wait
        while (left := until - self._clock.monotonic()) > 0:
            if self._stopped():
                wait.retry_after = left
                raise wait
            if gate is not None and gate.closed:
                return
            self._clock.sleep(min(left, POLL_SECONDS))
        self._forget_sample()

    def _forget_sample(self) -> None:
        """Time in which we waited by ourselves says nothing about the server."""
        with self._lock:
            self._silent.forget()
            self._sample()

    def _asked_to_wait(self, cause: Cause, now: float, wait: float) -> Throttled:
        return Throttled(self._said(cause), side=self.side, retry_after=wait,
                         detail=f"{self.key.provider} asked us to wait; goes on at {_when(now + wait)}")

    def _said(self, cause: Cause) -> Cause:
        return at_destination(cause) if self.side is Side.DESTINATION else cause

    # -- told by the server --------------------------------------------------------------------------------------------------------------

    def notice(self, cause: Cause, seconds: float | None) -> None:
        self._tell(f"asks for less ({cause.value}, {'no time stated' if seconds is None else f'{seconds:.0f} s'})")
        if cause is Cause.TOO_MANY_CONNECTIONS:
            with self._lock:
                self._store.change(self.key, lambda state, now: state.shut(now, SHUT_SECONDS if seconds is None else seconds, cause))
            return
        if seconds is None and cause is Cause.THROTTLED:
            seconds = UNSTATED_WAIT_SECONDS
        self._ease(lambda state, now: state if seconds is None else state.held(now, seconds, cause))

    def _ease(self, and_: Callable[[PaceState, float], PaceState]) -> tuple[PaceState, float]:
        with self._lock:
            full = self._silent.full_rates()
            state, now = self._store.change(self.key, lambda state, now: and_(state.eased(now, full), now))
            self._learn(state, now)
            self._silent.forget()
            self.fresh_until = 0.0
            return state, now

    def _tell(self, what: str) -> None:
        import logging  # seldom needed, and slow to load

        logging.getLogger(__name__).info("%s %s", self.key.provider, what)

    def window(self, base: int) -> int:
        return base if self._share >= 1 else max(1, round(base * self._share))


class PacedGate:
    """One connection of an account (engine/pacing/pacer.py: Gate). Used by the thread that uses the connection."""

    def __init__(self, pace: Pace, name: str, monotonic: Callable[[], float]) -> None:
        self.name = name
        self.meter: Meter | None = None
        self._pace = pace
        self._monotonic = monotonic
        self._asked = self._done = 0
        self._messages = 0                     # came or went since the last look
        self._seen = (0.0, 0, 0)               # of the meter: waited, in, out
        self._under_way = False                # at some time since the last look

    @property
    def closed(self) -> bool:
        return self.meter is not None and self.meter.closed

    def drive(self, meter: Meter) -> None:
        self.meter = meter
        self._seen = (meter.waited, meter.bytes_in, meter.bytes_out)

    def allow(self, *, leaving: bool = False) -> None:
        if self._monotonic() >= self._pace.fresh_until:
            self._pace.look(self, not leaving)

    def notice(self, cause: Cause, seconds: float | None) -> None:
        self._pace.notice(cause, seconds)

    def before(self, messages: int, octets: int) -> None:
        self._pace.before(self, messages, octets)
        self._asked += messages
        self._under_way = True

    def done(self, messages: int) -> None:
        self._done += messages
        self._messages += messages

    def settled(self) -> None:
        self._done = self._asked

    def window(self, base: int) -> int:
        return self._pace.window(base)

    def counted(self, side: Side) -> tuple[float, int, int] | None:
        """Seconds waited for the server, octets, messages since it was asked before; None where no messages were under way."""
        meter = self.meter
        if meter is None or meter.closed:
            return None
        seen, self._seen = self._seen, (meter.waited, meter.bytes_in, meter.bytes_out)
        messages, self._messages = self._messages, 0
        under_way, self._under_way = self._under_way, self._asked > self._done
        if not under_way:
            return None
        octets = self._seen[1] - seen[1] if side is Side.SOURCE else self._seen[2] - seen[2]
        return self._seen[0] - seen[0], octets, messages


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
