"""Given two mailboxes, when they are looked at before anything is moved, then folders take their turns as they should, and a look that
broke off misleads neither the next look nor the report. In the simulation's world, where time is virtual."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.provider_simulator import Action, Fault
from tests.unit.simulation.rig import Make, Rig, rigs


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Make]:
    with rigs(tmp_path) as make:
        yield make


@pytest.fixture
def moved(rig: Make) -> Rig:
    """Twelve messages in the inbox, moved and accounted for."""
    one = rig()
    one.fill(12)
    assert one.copy().ended == "complete"
    return one


def opened(one: Rig) -> list[str]:
    """Source folders as they were opened, each once."""
    return list(dict.fromkeys(line.decode().rsplit(" ", 1)[-1].strip('"\r\n') for line in one.source.lines("EXAMINE")))


def test_the_inbox_comes_first_then_the_largest(rig: Make) -> None:
    one = rig()
    for name, count in (("Few", 2), ("Many", 9), ("Some", 5)):
        one.source.add_folder(name)
        one.fill(count, name)
    one.fill(1)
    assert one.copy().ended == "complete"
    assert opened(one)[:4] == ["INBOX", "Many", "Some", "Few"]


def test_what_is_missing_at_the_destination_is_made_before_the_first_message_is_appended(rig: Make) -> None:
    one = rig()
    one.fill(2)
    for name in ("Projects", "Archive 2019"):
        one.source.add_folder(name)
        one.fill(2, name)
    assert one.copy().ended == "complete"
    verbs = [c.verb for c in one.destination.commands if c.verb in ("CREATE", "APPEND")]
    assert verbs.count("APPEND") == 6 and "CREATE" not in verbs[verbs.index("APPEND"):]
    assert all(one.contents("source", name) == one.contents("destination", name) for name in ("INBOX", "Projects", "Archive 2019"))


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_side_that_breaks_while_both_are_looked_at_is_looked_at_again(moved: Rig, side: str) -> None:
    moved.fill(1)
    server = getattr(moved, side)
    server.faults.append(Fault("LIST", Action.CLOSE))
    report = moved.copy().report
    assert report is not None and report.outcome.value == "complete"
    assert (server.connections, report.totals()["moved"], report.totals()["already_there"]) == (3, 1, 12)
    assert moved.is_exact()


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
