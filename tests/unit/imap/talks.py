"""What scripted servers (scripted.py) say in several suites."""
from __future__ import annotations

from collections.abc import Callable

from tests.unit.imap.scripted import Peer

Talk = Callable[[Peer], None]
BACKOFF = b"Request is throttled. Suggested Backoff Time: 300000 milliseconds"


def after_login(talk: Talk) -> Talk:
    def whole(peer: Peer) -> None:
        peer.greet()
        talk(peer)
    return whole
