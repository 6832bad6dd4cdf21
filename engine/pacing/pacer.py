"""What a connection knows of pacing: a gate that lets it send, hears what the server says, and counts what moves.

Owns the interface, and the gate of those who are not paced. pace.py owns the other.
"""
from __future__ import annotations

from typing import Protocol

from engine.causes import Cause


class Meter(Protocol):
    """What a stream counts: octets both ways, and seconds in which it waited for the peer."""

    bytes_in: int
    bytes_out: int
    waited: float
    closed: bool


class Gate(Protocol):
    """One connection's. All may be called for each batch; `allow` for each command."""

    def drive(self, meter: Meter) -> None:
        """The connection is there; this is what it counts."""
        ...

    def allow(self, *, leaving: bool = False) -> None:
        """Before each command. Returns when it may be sent: at once, or after a short wait. Raises Throttled when the wait is long (or
        we are `leaving` or stopped, and not to wait at all); `retry_after` is what is left of it."""
        ...

    def notice(self, cause: Cause, seconds: float | None) -> None:
        """The server asked for less: in an answer, in a goodbye, inside an OK. `cause` is what a source would be said to have, on either
        side; `seconds` as stated, None: not stated."""
        ...

    def before(self, messages: int, octets: int) -> None:
        """Before each batch of messages: waits as `allow` does, and for the rate; raises Throttled when a budget is spent."""
        ...

    def done(self, messages: int) -> None:
        """So many of them came or went."""
        ...

    def settled(self) -> None:
        """Nothing is under way on this connection, whatever was asked for."""
        ...

    def window(self, base: int) -> int:
        """How much of `base` (batches or octets in flight) may be used now; at least 1."""
        ...


class OpenGate:
    """Never waits, remembers nothing."""

    def drive(self, meter: Meter) -> None:
        pass

    def allow(self, *, leaving: bool = False) -> None:
        pass

    def notice(self, cause: Cause, seconds: float | None) -> None:
        pass

    def before(self, messages: int, octets: int) -> None:
        pass

    def done(self, messages: int) -> None:
        pass

    def settled(self) -> None:
        pass

    def window(self, base: int) -> int:
        return base


OPEN = OpenGate()
