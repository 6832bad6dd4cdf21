"""A run in the simulation's world that ended before what it had appended was read back, and what the tests look at afterwards."""
from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeVar

from engine.ledger import LedgerStore
from tests.support.provider_simulator import Action, Fault
from tests.support.simulator_mail import Message
from tests.unit.simulation.rig import Make, Rig
from tests.unit.simulation.scenario import FolderInLedger

T = TypeVar("T")
LATER = b"NO [THROTTLED] Suggested Backoff Time: 7200000 milliseconds"


def stopped_before_the_proof(rig: Make, source: str = "dovecot", messages: int = 8) -> Rig:
    """Everything is appended; the destination asks to wait when it is asked what is there."""
    one = rig(source)
    one.fill(messages)
    one.destination.faults.append(Fault("EXAMINE", Action.REPLY, text=LATER))
    assert one.copy().ended == "paused"
    assert len(there(one)) == messages
    row = inbox(one).row
    assert (row.moved, row.unproven_from, row.complete) == (messages, 1, False)
    go_on(one)
    return one


def go_on(one: Rig) -> None:
    one.world.pass_time(7300)
    one.destination.back_off_until = -1.0


def with_ledger(one: Rig, act: Callable[[LedgerStore], T]) -> T:
    def process() -> T:
        with contextlib.closing(one.disk.open()) as ledger:
            return act(ledger)

    return one.world.run_process(process)


def inbox(one: Rig) -> FolderInLedger:
    return next(folder for folder in one.read_ledger() if folder.row.source == "INBOX")


def there(one: Rig) -> list[Message]:
    return one.destination.account()["INBOX"].messages


def set_aside(one: Rig) -> dict[int, str]:
    return {row.uid: row.server_text for row in inbox(one).set_aside}


def appended(one: Rig) -> int:
    return one.destination.counts()["APPEND"]
