"""One account, as many gates as a test wants, and time in the test's hands."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.causes import Cause
from engine.pacing.key import PaceKey
from engine.pacing.pace import FRESH_SECONDS, Clock, Pace, PacedGate
from engine.pacing.state import PaceState, Rates
from tests.unit.pacing.fake_time import FakeMeter, FakeTime

KEY = PaceKey("test", "0" * 32)


def meter_of(gate: PacedGate) -> FakeMeter:
    assert isinstance(gate.meter, FakeMeter)
    return gate.meter


class Scene:
    """`given` is what Pace takes (limits, side, pairs), and `store` where another than the memory's is wanted."""

    def __init__(self, **given: Any) -> None:
        self.time = FakeTime()
        self.store = given.pop("store", None) or self.time.store()
        self.stopped = False
        self.pace = Pace(KEY, self.store, clock=self.time.clock, stopped=lambda: self.stopped, **given)

    def gate(self, **given: Any) -> PacedGate:
        gate = self.pace.connect(lambda gate: gate, **given)
        gate.drive(FakeMeter())
        return gate

    def state(self) -> PaceState:
        return self.store.look(KEY)[0]

    # -- at the server

    def work(self, gate: PacedGate, seconds: float, octets: int, messages: int, *, waited: float | None = None) -> None:
        """A batch at the source that takes so long."""
        gate.before(messages, octets)
        self.look(gate, seconds, octets=octets, waited=waited)
        gate.done(messages)

    def look(self, gate: PacedGate, seconds: float = 1.0, *, octets: int = 0, waited: float | None = None) -> None:
        """So many octets come in this time, in which the server is waited for (all of it: None); then the connection wants to send."""
        self.time.pass_(seconds)
        meter_of(gate).bytes_in += octets
        meter_of(gate).waited += seconds if waited is None else waited
        gate.allow()

    def crawl(self, gate: PacedGate, seconds: int, *, waited: float = 1.0) -> int | None:
        """Looks every second at a batch of which nothing comes, and waits for the server so much of the time. After how many seconds
        the account was eased off."""
        for second in range(1, seconds + 1):
            self.look(gate, waited=waited)
            if self.state().share < 1:
                return second
        return None

    def close_at(self, gate: PacedGate, past: float) -> None:
        """Somebody closes this connection while others sleep."""
        sleep = self.time.sleep

        def sleep_and_close(seconds: float) -> None:
            sleep(seconds)
            meter_of(gate).closed = self.time.past >= past

        self.pace._clock = Clock(self.time.monotonic, sleep_and_close)

    # -- at other workers

    def others_are_told_to_wait(self, seconds: float) -> None:
        self.store.change(KEY, lambda state, now: state.held(now, seconds, Cause.THROTTLED))

    def word_comes_round(self) -> None:
        """So much time passes that the store is asked again."""
        self.time.pass_(FRESH_SECONDS)

    def others_hold(self, leases: Sequence[str]) -> None:
        self.store.change(KEY, lambda state, now: state.leased(now, leases))

    def was_eased(self, rates: Rates) -> None:
        """Before we came, at these rates."""
        self.store.change(KEY, lambda state, now: state.eased(now, rates))
