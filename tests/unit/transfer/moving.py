"""Two simulated servers and a ledger between them: what the scenarios of this directory move mail with."""
from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from engine.endpoint import Account
from engine.ledger_file import SqliteLedger
from engine.report.copy import CopyReport
from engine.transfer.copier import copy_mailbox
from engine.transfer.recover import Clock
from tests.support.provider_simulator import LOOPBACK, PROFILES, Profile, ProviderSimulator, message, with_capabilities

# Settling takes seconds by design; here it takes tenths.
TEN_TIMES = Clock(monotonic=lambda: time.monotonic() * 10, sleep=lambda seconds: time.sleep(seconds / 10))


@dataclass
class Bench:
    source: ProviderSimulator
    destination: ProviderSimulator
    ledger: SqliteLedger

    def fill(self, count: int) -> None:
        self.source.account()["INBOX"].put(*(message(str(n), f"body {n} ") for n in range(count)))

    def copy(self, source: Account | None = None, **options: Any) -> CopyReport:
        return copy_mailbox(source or self.source.login_for(), self.destination.login_for(), ledger=self.ledger,
                            source_route=LOOPBACK, destination_route=LOOPBACK, clock=TEN_TIMES, **options)

    def contents(self, server: ProviderSimulator) -> Counter[bytes]:
        return Counter(m.content for m in server.account()["INBOX"].messages)

    def is_exact(self) -> bool:
        return self.contents(self.source) == self.contents(self.destination)


B = TypeVar("B", bound=Bench)
MakeBench = Callable[..., Bench]


@contextmanager
def benches(kind: type[B], directory: Path) -> Iterator[Callable[..., B]]:
    """make(source="dovecot", destination="dovecot") of this kind; all are closed at the end."""
    with ExitStack() as stack:
        opened: list[B] = []

        def make(source: str | Profile = "dovecot", destination: str | Profile = "dovecot") -> B:
            servers = [stack.enter_context(ProviderSimulator(profile)) for profile in (source, destination)]
            one = kind(*servers, SqliteLedger(directory / f"{len(opened)}", "pair"))
            stack.callback(lambda: one.ledger.close())
            opened.append(one)
            return one

        yield make


def offering(capabilities: str) -> Profile:
    """A plain server with exactly these capabilities."""
    plain = PROFILES["plain"]
    return with_capabilities(plain, *capabilities.split(), without=tuple(plain.after.split()))
