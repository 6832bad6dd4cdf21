"""A folder is read while the destination is busy with other things: when, when not, and what becomes of it when something breaks."""
from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.provider_simulator import message
from tests.support.simulator_faults import Action, Fault
from tests.unit.simulation.rig import Make, Rig

Heard = list[tuple[str, str]]


@pytest.fixture
def two(rig: Make) -> Rig:
    """An inbox and one more folder at the source, and a destination that takes its time."""
    one = rig()
    one.source.add_folder("Projects")
    one.fill(6)
    one.fill(6, "Projects")
    one.destination.manners.service = 1.0
    return one


def listen(one: Rig) -> Heard:
    """(side, command) as they are executed."""
    heard: Heard = []

    def beside(side: str, record: Callable[..., None]) -> Callable[..., None]:
        def both(connection: int, verb: str, line: bytes, login: str | None) -> None:
            heard.append((side, line.decode()))
            record(connection, verb, line, login)
        return both

    one.source.record = beside("source", one.source.record)  # type: ignore[method-assign]
    one.destination.record = beside("destination", one.destination.record)  # type: ignore[method-assign]
    return heard


def first(heard: Heard, side: str, *words: str) -> int:
    """Its place among what was heard; those that were not heard stand behind all others."""
    return next((at for at, (where, line) in enumerate(heard) if where == side and all(word in line for word in words)), len(heard))


def all_is_there(one: Rig, *folders: str) -> bool:
    return all(one.contents("source", folder) == one.contents("destination", folder) for folder in ("INBOX", *folders))


def test_the_next_folder_is_read_while_the_end_of_the_last_is_proven(two: Rig) -> None:
    heard = listen(two)
    assert two.copy().ended == "complete"
    assert first(heard, "source", "EXAMINE", "Projects") < first(heard, "destination", "EXAMINE", "INBOX") < len(heard)


def test_what_the_ledger_knows_of_is_not_read_before_its_turn(two: Rig) -> None:
    assert two.copy().ended == "complete"
    two.fill(2)
    two.fill(2, "Projects")
    heard = listen(two)
    assert two.copy().ended == "complete"
    proven, opened = first(heard, "destination", "EXAMINE", "INBOX"), first(heard[::-1], "source", "EXAMINE", "Projects")
    assert proven < len(heard) - opened < len(heard)
    assert all_is_there(two, "Projects")


def test_what_has_mail_at_the_destination_already_is_not_read_before_its_turn(two: Rig) -> None:
    mail = two.source.account()["Projects"].messages[2]
    two.destination.add_folder("Projects")
    two.destination.account()["Projects"].put(message("there", "already"))
    heard = listen(two)
    assert two.copy().ended == "complete"
    assert first(heard, "destination", "EXAMINE", "INBOX") < first(heard, "source", "EXAMINE", "Projects") < len(heard)
    assert two.contents("destination", "Projects")[mail.content] == 1


def test_mail_that_comes_into_a_folder_that_was_just_made_stays_and_nothing_is_doubled(two: Rig) -> None:
    record, stray = two.destination.record, []

    def record_and_deliver(connection: int, verb: str, line: bytes, login: str | None) -> None:
        if verb == "STATUS" and b"Projects" in line and not stray:
            stray.extend(two.destination.account()["Projects"].put(message("stray", "not ours")))
        record(connection, verb, line, login)

    two.destination.record = record_and_deliver  # type: ignore[method-assign]
    assert two.copy().ended == "complete"
    assert stray
    assert two.contents("destination", "Projects") - two.contents("source", "Projects") == {stray[0].content: 1}
    assert all_is_there(two)


def test_a_folder_that_is_lost_while_the_next_is_read_is_filled_again(two: Rig) -> None:
    two.source.add_folder("Zoo")
    two.fill(3, "Zoo")
    folders, record, left = two.destination.account().folders, two.destination.record, [1]

    def record_and_delete(connection: int, verb: str, line: bytes, login: str | None) -> None:
        if verb == "EXAMINE" and b"Projects" in line and left[0] and folders["Projects"].messages:
            left[0] = 0
            del folders["Projects"]
        record(connection, verb, line, login)

    two.destination.record = record_and_delete  # type: ignore[method-assign]
    assert two.copy().ended == "complete"
    assert left == [0] and all_is_there(two, "Projects", "Zoo")


def test_a_folder_that_the_source_does_not_open_stops_no_other(two: Rig) -> None:
    two.source.add_folder("Zoo")
    two.fill(3, "Zoo")
    two.source.faults.append(Fault("EXAMINE", Action.REPLY, text=b"NO no such folder", contains=b"Projects", times=None))
    report = two.copy().report
    assert report is not None and report.outcome.value == "partial"
    assert [aside.folder for aside in report.set_aside] == ["Projects"]
    assert all_is_there(two, "Zoo")
    assert two.source.connections == two.destination.connections == 1


def test_a_folder_that_the_destination_takes_under_no_name_is_moved_once_it_does(two: Rig) -> None:
    refusal = Fault("CREATE", Action.REPLY, text=b"NO the number of mailboxes is limited", contains=b"Projects", times=None)
    two.destination.faults.append(refusal)
    report = two.copy().report
    assert report is not None and report.outcome.value == "failed"
    assert all_is_there(two)
    two.destination.faults.remove(refusal)
    assert two.copy().ended == "complete"
    assert all_is_there(two, "Projects")


@pytest.mark.parametrize("verb", ["EXAMINE", "FETCH"])
def test_a_source_that_breaks_while_it_is_read_ahead_costs_a_reconnect(two: Rig, verb: str) -> None:
    left = [1]

    def record_and_break(connection: int, command: str, line: bytes, login: str | None) -> None:
        record(connection, command, line, login)
        if verb.encode() in line and left[0] and first(heard, "source", "EXAMINE", "Projects") < len(heard):
            left[0] = 0
            for link in two.source.links:
                link.to_client(None)

    heard = listen(two)
    record = two.source.record
    two.source.record = record_and_break  # type: ignore[method-assign]
    assert two.copy().ended == "complete"
    assert left == [0] and all_is_there(two, "Projects")
    assert two.source.connections == 2
