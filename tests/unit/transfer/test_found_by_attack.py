"""Stories in which mail was once lost, doubled or left unproven under a "complete": each is told as short as it can be."""
from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise

import pytest

from engine.ledger import Outcome, Run
from engine.transfer import points
from engine.transfer.records import Accounted
from tests.support.provider_simulator import Action, Fault
from tests.support.simulator_fetch import FetchVerbs
from tests.support.simulator_mail import BodyFault, Form, Message
from tests.unit.simulation import scenario
from tests.unit.simulation.rig import Make
from tests.unit.simulation.world import Killed

# -- what was appended before a connection broke is read back, too ------------------------------------------------------------------


@pytest.mark.parametrize("breaks", [0, 1, 2])
def test_what_the_destination_drops_after_its_ok_is_named_though_the_connection_broke_since(
        rig: Make, breaks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    one = rig()
    one.fill(30)
    box = one.destination.account()["INBOX"]
    add = box.add

    def add_and_drop(mail: Message) -> Message:
        added = add(mail)
        if b"body 3 " in mail.content:
            box.messages.remove(mail)
        return added

    monkeypatch.setattr(box, "add", add_and_drop)
    for at in range(breaks):
        one.destination.faults.append(Fault("APPEND", Action.CLOSE, skip=12 + 6 * at))
    report = one.copy().report
    assert report is not None and report.outcome.value == "partial"
    [aside] = report.set_aside
    assert "not there when read back" in aside.server_text
    assert one.destination.connections == 1 + breaks


# -- a run is not joined over another ------------------------------------------------------------------------------------------------


def test_a_message_that_was_moved_first_and_deleted_since_hides_nothing(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last days first, a pause, a deletion, then the rest, and a break: what follows the deleted one was moved twice."""
    one = rig()
    monkeypatch.setattr(scenario, "copy_mailbox", partial(scenario.copy_mailbox, recent_days=3.0))
    now = datetime.fromtimestamp(one.world.wall(), UTC)
    mails = one.fill(20)
    for number, mail in enumerate(mails):
        mail.internal_date = (now - timedelta(days=1 if number == 6 else 100)).strftime("%d-%b-%Y %H:%M:%S +0000")
    pause = b"NO Request is throttled. Suggested Backoff Time: 400000 milliseconds"
    one.destination.faults.append(Fault("APPEND", Action.REPLY, skip=1, text=pause))
    assert one.copy().ended == "paused"
    one.source.account()["INBOX"].messages.remove(mails[6])
    one.world.pass_time(1000)
    one.destination.faults.append(Fault("APPEND", Action.CLOSE, skip=14))
    assert one.copy().ended == "complete"
    assert max(one.contents("destination").values()) == 1
    runs = sorted((run.source_first, run.source_last) for run in one.read_ledger()[0].runs)
    assert all(before[1] < after[0] for before, after in pairwise(runs)), runs


def test_a_run_of_an_older_ledger_that_lies_over_another_hides_nothing() -> None:
    accounted = Accounted([Run(1, 1, 1, 20, Outcome.MOVED), Run(2, 20, 18, 2, Outcome.MOVED), Run(7, 7, 1, 1, Outcome.MOVED)], ())
    assert [uid for uid in range(1, 23) if uid not in accounted] == [21, 22]


# -- a folder that is begun anew -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made_again", ["source", "destination"])
@pytest.mark.parametrize("moment", ["before a folder is forgotten", "after a folder was forgotten", "before a write of the ledger"])
def test_a_folder_that_was_made_again_is_read_from_its_start_wherever_the_copy_dies(rig: Make, made_again: str, moment: str) -> None:
    """Under the same UIDVALIDITY (Alibaba): once its runs are forgotten, nothing but its own row tells where to begin."""
    one = rig()
    one.fill(6)
    assert one.copy().ended == "complete"
    box = getattr(one, made_again).account()["INBOX"]
    box.messages.clear()
    box.uidnext = 1
    one.fill(4, size=30)

    def die(name: str) -> None:
        if name == moment:
            points.install(None)
            one.world.die()
            raise Killed

    points.install(die)
    try:
        assert one.copy().ended == "killed"
    finally:
        points.install(None)
    one.world.pass_time(700)
    assert one.copy().ended == "complete"
    assert not one.contents("source") - one.contents("destination")


# -- bodies by number ----------------------------------------------------------------------------------------------------------------


def test_a_message_is_not_taken_for_deleted_because_another_was_while_its_number_was_asked_for(
        rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = rig()
    mails = one.fill(4)
    mails[1].fault, mails[1].cure = BodyFault.MISSING, Form.NUMBER
    fetch, left = FetchVerbs._fetch, [1]

    async def fetch_and_expunge(self: FetchVerbs, command: object, by_uid: bool) -> object:
        out = await fetch(self, command, by_uid)  # type: ignore[arg-type]
        if by_uid and left[0] and b" 2 (UID)" in command.line:  # type: ignore[attr-defined]
            left[0] = 0
            del self.opened().messages[0]
            await self.send(b"* 1 EXPUNGE\r\n")
        return out

    monkeypatch.setattr(FetchVerbs, "_fetch", fetch_and_expunge)
    one.copy()
    assert left == [0]
    mails[1].fault = None
    assert one.copy(retry_set_aside=True).ended == "complete"
    assert one.contents("destination")[mails[1].content] == 1
