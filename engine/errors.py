"""What can go wrong in the engine, as types that carry a cause.

Four classes, each with its own policy (engine/transfer/ carries it out): the connection broke (reconnect, resume), the server
asked for less (wait, does not burn tries), one message will not go (repair, then set aside), and what only a person can mend (stop).
No text of an exception ever holds a secret or the command that was sent.
"""
from __future__ import annotations

from engine.causes import Cause, Side


class EngineError(Exception):
    """A failure with one cause. `server_text` is what the server said, decoded but not yet redacted for display."""

    def __init__(self, cause: Cause, *, side: Side = Side.SOURCE, server_text: str = "", detail: str = "",
                 causes: tuple[Cause, ...] = (), retry_after: float | None = None) -> None:
        super().__init__(detail or cause.value)
        self.cause = cause
        self.causes = causes or (cause,)
        self.side = side
        self.server_text = server_text
        self.detail = detail
        self.retry_after = retry_after  # seconds, as the server stated or the reply rule says; None: not stated
        self.uids: tuple[int, ...] = ()  # source messages this refusal is about, where it is about some


class ConnectionBroken(EngineError):
    """The connection was lost or timed out; nothing is known about commands still in flight. Reconnect and resume."""


class Throttled(EngineError):
    """The server asked us to wait. Obeyed, and not counted as a try."""


class Refused(EngineError):
    """A person has to do something (or the server must change) before another attempt makes sense."""


class MessageRefused(EngineError):
    """One message could not be read or was not accepted; the mailbox goes on."""


class ProtocolError(EngineError):
    """The server said something that we must not act upon (over a cap, malformed, out of place)."""


class LeaseLost(Exception):
    """Another worker holds this mailbox now; stop before the next APPEND. Raised by a ledger store."""
