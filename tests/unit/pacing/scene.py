"""One account, as many gates as a test wants, and time in the test's hands."""
from __future__ import annotations

from typing import Any

from engine.pacing.key import PaceKey
from engine.pacing.pace import Clock, Pace, PacedGate
from engine.pacing.state import PaceState
from tests.unit.pacing.fake_time import FakeMeter, FakeTime

KEY = PaceKey("test", "0" * 32)


class Scene:
    """An account with as many gates as the test wants, and time in its hands."""

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

    def work(self, gate: PacedGate, seconds: float, octets: int, messages: int, *, waited: float | None = None) -> None:
        """A batch at the source that takes so long."""
        assert isinstance(gate.meter, FakeMeter)
        gate.before(messages, octets)
        self.time.pass_(seconds)
        gate.meter.bytes_in += octets
        gate.meter.waited += seconds if waited is None else waited
        gate.allow()
        gate.done(messages)

    def close_at(self, gate: PacedGate, past: float) -> None:
        """Somebody closes this connection while others sleep."""
        sleep = self.time.sleep

        def sleep_and_close(seconds: float) -> None:
            sleep(seconds)
            assert isinstance(gate.meter, FakeMeter)
            gate.meter.closed = self.time.past >= past

        self.pace._clock = Clock(self.time.monotonic, sleep_and_close)
