"""Two simulated servers' mailboxes and a session to each, for what compares them (`mailboxes(source, destination)` of conftest.py)."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from engine.causes import Side
from engine.imap.fetch import Metadata, fetch_metadata
from engine.imap.session import Session
from engine.transfer.careful import CarefulReading
from engine.transfer.matching import Claims
from tests.support.provider_simulator import LOOPBACK, ProviderSimulator, message
from tests.support.simulator_mail import Folder

DATE, LATER = "06-May-2024 07:08:09 +0800", "07-May-2024 07:08:09 +0800"
SAME_INSTANT = "05-May-2024 23:08:09 +0000"


@dataclass
class TwoMailboxes:
    source_server: ProviderSimulator
    destination_server: ProviderSimulator
    source_session: Session
    destination_session: Session
    claims: Claims = field(default_factory=Claims)

    @property
    def inbox(self) -> Folder:
        return self.source_server.account()["INBOX"]

    @property
    def copies(self) -> Folder:
        return self.destination_server.account()["INBOX"]

    def careful(self, *hopeless: int) -> CarefulReading:
        self.source_session.examine("INBOX")
        return CarefulReading(self.source_session, lambda uid: uid in hopeless)

    def wanted(self, *uids: int) -> list[Metadata]:
        self.source_session.examine("INBOX")
        return [one for one in fetch_metadata(self.source_session, 1, None) if one.uid in uids]


MakeMailboxes = Callable[..., TwoMailboxes]


def two_mailboxes() -> Iterator[MakeMailboxes]:
    with ExitStack() as stack:
        def make(source: str = "dovecot", destination: str = "dovecot") -> TwoMailboxes:
            servers = [stack.enter_context(ProviderSimulator(profile)) for profile in (source, destination)]
            sessions = []
            for server, side in zip(servers, (Side.SOURCE, Side.DESTINATION), strict=True):
                sessions.append(Session.open(server.login_for(), LOOPBACK, side=side))
                stack.callback(sessions[-1].close)
            return TwoMailboxes(servers[0], servers[1], sessions[0], sessions[1])

        yield make


def mail(n: int, body: str = "") -> bytes:
    return message(str(n), body or f"body {n}\r\n")
