"""What is shared about the pace of one account, and how it changes: pure values, the time is given.

Additive increase, multiplicative decrease (facts, engine §6.10): `share` is the part of our full speed that we use now. It is halved
when the server asks for less, never below FLOOR, and grows back evenly, from nothing to all in RECOVERY_SECONDS. While it is below 1, rates
(those that the server complained about) and windows are multiplied by it; at 1 nothing is held back and nothing is counted.

Always: a wait that was stated is never shortened by a later, shorter one; text that cannot be read is no state at all, because whoever
keeps it may lose it at any time, and then we begin carefully: with one login and what its server says.
"""
from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from engine.causes import Cause
from engine.pacing.budget import Budget, Spent

FLOOR = 1 / 32
DECREASE = 0.5
RECOVERY_SECONDS = 240.0
ONE_EVENT_SECONDS = 5.0       # the answers to one window of commands complain of the same thing
GROWS_AT_MOST_SECONDS = 5.0   # of a gap between two clean moments: idleness proves nothing
LONGEST_HOLD = 86_400.0       # seconds; a server that states more is asked again after a day
LEASE_SECONDS = 45.0          # a connection that gave no sign for so long is not counted


class Rates(NamedTuple):
    """Per second; 0: not known."""

    octets: float = 0.0
    messages: float = 0.0


class PaceState(NamedTuple):
    """Times are seconds since the epoch on the store's clock. Before `not_before` no command is sent, before `no_opening` no connection
    is opened. `rates` are those at which `share` fell from 1. `leases`: who holds a connection, and until when that is believed."""

    not_before: float = 0.0
    no_opening: float = 0.0
    cause: Cause = Cause.THROTTLED
    share: float = 1.0
    rates: Rates = Rates()
    changed_at: float = 0.0  # `share`
    eased_at: float = 0.0
    spent: Mapping[str, Spent] = MappingProxyType({})
    leases: Mapping[str, float] = MappingProxyType({})

    # -- waits ---------------------------------------------------------------------------------------------------------------------

    def held(self, now: float, seconds: float, cause: Cause) -> PaceState:
        until = now + min(seconds, LONGEST_HOLD)
        return self if until <= self.not_before else self._replace(not_before=until, cause=cause)

    def shut(self, now: float, seconds: float, cause: Cause) -> PaceState:
        """For new connections only: the open ones may go on."""
        until = now + min(seconds, LONGEST_HOLD)
        return self if until <= self.no_opening else self._replace(no_opening=until, cause=cause)

    def wait(self, now: float, *, opening: bool = False) -> float:
        """Seconds until a command may be sent, or a connection opened; 0: now."""
        until = max(self.not_before, self.no_opening) if opening else self.not_before
        return min(max(0.0, until - now), LONGEST_HOLD)

    # -- speed ---------------------------------------------------------------------------------------------------------------------

    def eased(self, now: float, full: Rates) -> PaceState:
        """After the server asked for less while we went at `full` rates (counted only where nothing was held back before)."""
        if self.eased_at <= now < self.eased_at + ONE_EVENT_SECONDS:
            return self
        return self._replace(share=max(FLOOR, self.share * DECREASE), rates=full if self.share >= 1 else self.rates,
                       changed_at=now, eased_at=now)

    def recovered(self, now: float) -> PaceState:
        """After a clean moment."""
        if self.share >= 1:
            return self
        share = min(1.0, self.share + min(max(0.0, now - self.changed_at), GROWS_AT_MOST_SECONDS) / RECOVERY_SECONDS)
        return self._replace(share=share, changed_at=now, rates=Rates() if share >= 1 else self.rates)

    # -- budgets -------------------------------------------------------------------------------------------------------------------

    def used(self, now: float, amounts: Iterable[tuple[Budget, int]]) -> PaceState:
        spent = dict(self.spent)
        for budget, amount in amounts:
            spent[budget.unit] = budget.add(spent.get(budget.unit, ()), now, amount)
        return self._replace(spent=spent)

    # -- connections ---------------------------------------------------------------------------------------------------------------

    def others(self, now: float, holder: str) -> dict[str, int]:
        """How many connections each other holder has (a lease is called "<holder>/<number>")."""
        found: dict[str, int] = {}
        for name, until in self.leases.items():
            other = name.rpartition("/")[0]
            if until > now and other != holder:
                found[other] = found.get(other, 0) + 1
        return found

    def leased(self, now: float, names: Iterable[str]) -> PaceState:
        """With these connections counted for another LEASE_SECONDS; expired ones are forgotten."""
        live = {name: until for name, until in self.leases.items() if until > now}
        return self._replace(leases=live | dict.fromkeys(names, now + LEASE_SECONDS))

    def returned(self, names: Iterable[str]) -> PaceState:
        gone = set(names)
        return self._replace(leases={name: until for name, until in self.leases.items() if name not in gone})

    # -- as text -------------------------------------------------------------------------------------------------------------------

    def to_text(self) -> str:
        return json.dumps({
            "not_before": self.not_before, "no_opening": self.no_opening, "cause": self.cause.value, "share": self.share,
            "rates": [self.rates.octets, self.rates.messages], "changed_at": self.changed_at, "eased_at": self.eased_at,
            "spent": {unit: [list(pair) for pair in spent] for unit, spent in self.spent.items()}, "leases": dict(self.leases),
        }, separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_text(cls, text: str | bytes | None) -> PaceState:
        """The state that `to_text` wrote; the careful beginning for anything else."""
        if not text:
            return cls()
        try:
            told: dict[str, Any] = json.loads(text)
            octets, messages = map(_number, told["rates"])
            return cls(_number(told["not_before"]), _number(told["no_opening"]), Cause(told["cause"]),
                       min(1.0, max(FLOOR, _number(told["share"]))), Rates(octets, messages), _number(told["changed_at"]),
                       _number(told["eased_at"]), {str(unit): tuple((int(bucket), int(amount)) for bucket, amount in spent)
                                                   for unit, spent in told["spent"].items()},
                       {str(name): _number(until) for name, until in told["leases"].items()})
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return cls()


def _number(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a number")
    return float(value)
