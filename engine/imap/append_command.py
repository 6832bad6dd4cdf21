"""One APPEND on the wire, and what its answer says of where the messages are (RFC 3502 §6.3.11, RFC 4315 §3)."""
from __future__ import annotations

from dataclasses import dataclass

from engine.errors import ProtocolError
from engine.imap.channel import Channel, Tagged
from engine.wire import encoder
from engine.wire.decoder import number, uid_list

DIGESTS = 256 * 1024  # octets a second a server may take to store (and scan) what it was sent, before it answers


@dataclass(slots=True)
class Command:
    """One APPEND on the wire: its connection, its tag and the places in the batch that it stores. Not `ended`: the line end that closes it
    was not sent."""

    channel: Channel
    tag: bytes
    places: list[int]
    octets: int = 0
    begun_at: float = 0.0  # when it was announced by turns
    ended_at: float = 0.0  # when its last octets were sent
    ended: bool = True
    answer: Tagged | None = None

    def patience(self) -> float:
        """Seconds that the server may be silent about it beyond the usual."""
        return self.octets / DIGESTS

    def finish(self) -> Tagged:
        """Waits for the answer."""
        if self.answer is None:
            self.answer = self.channel.finish(self.tag, patience=self.patience()).tagged
        return self.answer


def appenduid(tagged: Tagged, count: int) -> tuple[int | None, list[int]]:
    """UIDVALIDITY and the UIDs of `[APPENDUID v set]`, in the order of the messages (RFC 4315 §3). Empty when the server does not tell,
    or tells another number of UIDs than there were messages."""
    if tagged.text.code != b"APPENDUID":
        return None, []
    words = tagged.text.arguments.split()
    if len(words) != 2:
        return None, []
    try:
        uids = uid_list(words[1], limit=count + 1)
    except ProtocolError:
        return None, []
    uidvalidity = number(words[0])
    if uidvalidity is None or len(uids) != count or uids[-1] > encoder.MAX_UID:
        return None, []
    return uidvalidity, uids
