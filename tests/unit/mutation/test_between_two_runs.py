"""Given a run that died, waited, lost its connection or was undone, when mail or flags change on either side before the next goes on, then
nothing is left behind, doubled or taken back. In the simulation's world."""
from __future__ import annotations

import pytest

from engine.transfer.undo import undo_pass
from tests.support.provider_simulator import Action, Fault, message
from tests.support.simulator_mail import Message
from tests.unit.mutation.interrupted import LATER, go_on, inbox, set_aside, there, with_ledger
from tests.unit.simulation.rig import Make


@pytest.mark.parametrize("source", ["dovecot", "gmail", "qq", "exchange"])
def test_what_somebody_set_at_the_destination_meanwhile_stays(rig: Make, source: str) -> None:
    """Read there between the death and the next run, while the source did not change."""
    seen = 0
    for step in range(150, 300, 3):
        one = rig(source)
        one.fill(4)
        if one.copy(kill_at=step).ended != "killed":
            break
        early = list(there(one))
        for mail in early:
            mail.flags = ("\\Seen",)
        one.world.pass_time(700)
        for _ in range(3):
            one.copy()
        assert all("\\Seen" in mail.flags for mail in early), step
        seen += len(early)
    assert seen


@pytest.mark.parametrize("source", ["dovecot", "gmail"])
def test_flags_that_changed_at_the_source_meanwhile_are_carried_over(rig: Make, source: str) -> None:
    for step in range(150, 400, 5):
        one = rig(source)
        mails = one.fill(5)
        mails[1].flags = ("\\Flagged",)
        if one.copy(kill_at=step).ended != "killed":
            break
        mails[0].flags, mails[1].flags, mails[3].flags = ("\\Seen",), (), ("\\Draft",)
        one.source.account()["INBOX"].count_changes()
        one.world.pass_time(700)
        for _ in range(3):
            one.copy()
        assert {mail.content: mail.flags for mail in there(one)} == {mail.content: mail.flags for mail in mails}, step


@pytest.mark.parametrize("deleted", [False, True])
def test_mail_that_becomes_visible_between_what_is_moved_is_moved_too(rig: Make, deleted: bool) -> None:
    """The owner widens the range that mail programs may see while the first copy waits."""
    one = rig()
    one.fill(10)
    box = one.source.account()["INBOX"]
    older = box.messages.pop(3)
    one.destination.faults.append(Fault("EXAMINE", Action.REPLY, text=LATER))
    assert one.copy().ended == "paused"
    go_on(one)
    box.messages.insert(3, older)
    if deleted:
        del box.messages[7]
    one.copy()
    contents = [mail.content for mail in there(one)]
    assert contents.count(older.content) == 1 and len(contents) == len(set(contents)) == 10


def test_mail_that_becomes_visible_between_new_mail_is_moved_too(rig: Make) -> None:
    """As before a folder is complete, so in a later pass that was interrupted."""
    one = rig()
    one.fill(10)
    assert one.copy().ended == "complete"
    box = one.source.account()["INBOX"].messages
    hidden = one.source.account()["INBOX"].put(*(message(f"new {n}") for n in range(8)))[3]
    box.remove(hidden)
    one.destination.faults.append(Fault("EXAMINE", Action.REPLY, text=LATER))
    assert one.copy().ended == "paused"
    go_on(one)
    box.insert(13, hidden)
    one.copy()
    contents = [mail.content for mail in there(one)]
    assert contents.count(hidden.content) == 1 and len(contents) == len(set(contents)) == 18


@pytest.mark.parametrize("what", ["date", "octets", "keyword"])
@pytest.mark.parametrize("skip", [3, 9, 15, 24])
def test_what_was_found_after_a_connection_broke_is_judged_too(rig: Make, skip: int, what: str) -> None:
    one = rig()
    mails, box = one.fill(30), one.destination.account()["INBOX"]
    for mail in mails:
        mail.flags = ("$label",)
    add = box.add

    def alter(mail: Message) -> Message:
        if what == "date":
            mail.internal_date = "01-Jan-2020 00:00:00 +0000"
        elif what == "octets":
            mail.content += b"x\r\n"
        else:
            mail.flags = ()
        return add(mail)

    box.add = alter  # type: ignore[method-assign]
    one.destination.faults.append(Fault("APPEND", Action.CLOSE, skip=skip))
    one.copy()
    row = inbox(one).row
    assert (row.set_aside, row.moved, row.repaired) == ((30, 0, 0) if what == "octets" else (0, 30, 30))


@pytest.mark.parametrize("older", [False, True])
def test_after_an_undo_the_ledger_still_knows_whose_copy_is_whose(rig: Make, older: bool) -> None:
    """One of what was undone is gone from the source, or hidden and shown again."""
    one = rig()
    mails = one.fill(10)
    box = one.source.account()["INBOX"].messages
    assert one.copy().ended == "complete"
    report = with_ledger(one, lambda ledger: undo_pass(one.account_at(one.destination), ledger=ledger, pass_id=1))
    assert report.outcome.value == "complete" and not there(one)
    box.remove(mails[4])
    one.destination.faults.append(Fault("EXAMINE", Action.REPLY, text=LATER))
    assert one.copy().ended == "paused"
    go_on(one)
    if older:
        box.insert(4, mails[4])
        one.copy()
        assert sorted(mail.content for mail in there(one)) == sorted(mail.content for mail in mails)
    else:
        del there(one)[2]
        one.copy()
        assert list(set_aside(one)) == [3]
