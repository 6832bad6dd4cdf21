"""Given a destination next door that is filled over two connections, when it is slow, silent or loses one of them, then the order is kept,
nothing waits for ever, and one folder's trouble is one folder's. In the simulation's world."""
from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.provider_simulator import Action, Fault, message
from tests.unit.simulation import invariants
from tests.unit.simulation.mailboxes import Ever
from tests.unit.simulation.rig import Make, Rig
from tests.unit.simulation.scenario import Story

TOGETHER = "IMAP4rev1 UIDPLUS LITERAL+ MULTIAPPEND"
UNTOLD = "IMAP4rev1 LITERAL+ MULTIAPPEND"


def near(one: Rig) -> Rig:
    one.destination.manners.latency = one.source.manners.latency = 0.0005
    return one


@pytest.mark.parametrize("destination", [TOGETHER, UNTOLD])
@pytest.mark.parametrize("late", range(6))
def test_a_command_that_takes_long_ends_the_two_connections_and_not_the_order(rig: Make, destination: str, late: int) -> None:
    """Messages of one size and date, so that only their places tell them apart; afterwards a flag changes on some."""
    one = near(rig(destination=destination, connections=2))
    put = one.source.account()["INBOX"].put(*(message(f"{n:02}", f"body {n:02} " * 20) for n in range(12)))
    for mail in put:
        one.ever.setdefault("INBOX", Ever()).add(mail)
        mail.internal_date = put[0].internal_date
    one.destination.faults.append(Fault("APPEND", Action.LATE, seconds=40.0, skip=late))
    report = one.copy().report
    assert report is not None and report.outcome.value == "complete"
    assert one.in_order("INBOX") and report.out_of_order == 0
    for at, mail in enumerate(put):
        mail.flags = ("\\Flagged",) if at % 5 == 1 else ()
    one.copy()
    flagged = {m.content for m in one.destination.account()["INBOX"].messages if "\\Flagged" in m.flags}
    assert flagged == {m.content for m in put if m.flags}


def test_a_folder_that_was_locked_goes_on_over_one_connection(rig: Make) -> None:
    one = near(rig(destination=TOGETHER, connections=2))
    one.fill(40)
    one.destination.faults.append(Fault("APPEND", Action.HANG, skip=2))
    assert one.copy().ended == "complete"
    assert one.in_order("INBOX")
    lines = one.destination.commands
    logins = [at for at, c in enumerate(lines) if c.verb == "LOGIN"]
    assert len({c.connection for c in lines[logins[-1]:] if c.verb == "APPEND"}) == 1
    hung = [at for at, c in enumerate(lines) if c.verb == "APPEND"][2]
    assert len([at for at in logins if at > hung]) == 1, "no connection is opened that nothing is sent over"


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("late", range(12))
def test_a_folder_deleted_at_the_source_while_a_connection_is_lost_costs_that_folder_only(rig: Make, late: int, known: bool) -> None:
    """A message is gone, and the STATUS that is to say so is refused, because the folder is. Meanwhile the destination loses one of two
    connections."""
    one = near(rig(destination=TOGETHER, connections=2))
    one.destination.manners.append_service = 0.05
    for folder in ("Projects", "Archive 2019"):
        one.source.add_folder(folder)
    if known:
        one.fill(2)
        assert one.copy().ended == "complete"
    for folder, count in (("INBOX", 12), ("Projects", 12), ("Archive 2019", 12)):
        one.fill(count, folder)
    record, came = one.source.record, []

    def record_and_delete(connection: int, verb: str, line: bytes, login: str | None) -> None:
        if b"BODY.PEEK" in line and not came and b"INBOX" not in line:
            came.append(one.source.account()["INBOX"].messages.pop(4))
            one.source.faults.append(Fault("STATUS", Action.REPLY, text=b"NO [NONEXISTENT] no such mailbox", contains=b"INBOX", times=None))
        record(connection, verb, line, login)

    one.source.record = record_and_delete  # type: ignore[method-assign]
    one.destination.faults.append(Fault("APPEND", Action.CLOSE, contains=b"INBOX", skip=late))
    attempt = one.copy()
    assert came and attempt.ended in ("complete", "partial")
    assert one.contents("source", "Projects") == one.contents("destination", "Projects")


@pytest.mark.parametrize("destination", [TOGETHER, UNTOLD])
@pytest.mark.parametrize("seed", [300371, 400403])
def test_a_pause_is_kept_and_flags_that_changed_in_it_are_carried_over(seed: int, destination: str, tmp_path: Path) -> None:
    """A goodbye behind an answer that was waited for; flags that changed while a first copy was paused."""
    story = Story(f"next door {seed}", tmp_path, destination=destination)
    story.small = True
    story.next_door()
    story.run()
    invariants.check(story)
