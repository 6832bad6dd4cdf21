"""Given a mailbox that was moved before, when it is looked at again and the look breaks off, then nothing that it had found misleads the
next look or the report. In the simulation's world, where time is virtual."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.provider_simulator import Action, Fault
from tests.unit.simulation.rig import Rig, rigs


@pytest.fixture
def moved(tmp_path: Path) -> Iterator[Rig]:
    """Twelve messages in the inbox, moved and accounted for."""
    with rigs(tmp_path) as make:
        one = make()
        one.fill(12)
        assert one.copy().ended == "complete"
        yield one


def test_a_run_that_never_comes_to_a_plan_has_moved_nothing(moved: Rig) -> None:
    moved.source.faults.append(Fault("LIST", Action.CLOSE, times=None))
    report = moved.copy().report
    assert report is not None and report.outcome.value == "failed"
    assert report.bytes == 0


def test_mail_that_arrives_between_two_looks_is_moved(moved: Rig) -> None:
    """The inbox was unchanged at the first look, which broke off when the missing folder was made."""
    moved.source.add_folder("Projects")
    moved.fill(3, "Projects")
    record = moved.destination.record

    def record_and_deliver(connection: int, verb: str, line: bytes, login: str | None) -> None:
        if verb == "CREATE":
            moved.destination.record = record  # type: ignore[method-assign]
            moved.fill(1)
        record(connection, verb, line, login)

    moved.destination.record = record_and_deliver  # type: ignore[method-assign]
    moved.destination.faults.append(Fault("CREATE", Action.CLOSE))
    assert moved.copy().ended == "complete"
    assert moved.destination.connections == 3
    assert moved.contents("source", "Projects") == moved.contents("destination", "Projects")
    assert moved.is_exact()
