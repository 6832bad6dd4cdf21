"""Given a destination that tells UIDs for some messages only, or tells wrong ones, when a mailbox is moved, then what the ledger says is
true: each message is there once and under the UID that its run names."""
from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import simulator_session
from tests.unit.simulation.rig import Make, Rig

CODE = re.compile(rb"\[APPENDUID (\d+) ([\d:,]+)\] ")
DESTINATIONS = ["IMAP4rev1 UIDPLUS LITERAL+", "IMAP4rev1 UIDPLUS", "IMAP4rev1 UIDPLUS MULTIAPPEND LITERAL+"]


def twist(monkeypatch: pytest.MonkeyPatch, change: Callable[[int, bytes], bytes]) -> None:
    """`change(n, answer)` is what the n-th APPEND is answered with."""
    before, count = simulator_session.SimulatedSession.do_append, [0]

    async def answer(self: simulator_session.SimulatedSession, *arguments: Any) -> bytes:
        text = await before(self, *arguments)
        count[0] += 1
        return change(count[0], text)

    monkeypatch.setattr(simulator_session.SimulatedSession, "do_append", answer)


def assert_the_ledger_is_true(one: Rig) -> None:
    here = {m.uid: m.content for m in one.source.account()["INBOX"].messages}
    there = {m.uid: m.content for m in one.destination.account()["INBOX"].messages}
    order = sorted(here)
    for row, runs, _, _ in one.read_ledger():
        for run in runs if row.source == "INBOX" else ():
            first = order.index(run.source_first)
            assert [here[uid] for uid in order[first:first + run.count]] == [there[run.target_first + n] for n in range(run.count)]


@pytest.mark.parametrize("size", [20, 1500])
@pytest.mark.parametrize("untold", [(1,), (2, 5), tuple(range(2, 50, 2))])
@pytest.mark.parametrize("destination", DESTINATIONS)
def test_uids_that_some_answers_do_not_tell_are_read_back(rig: Make, monkeypatch: pytest.MonkeyPatch, destination: str,
                                                          untold: tuple[int, ...], size: int) -> None:
    one = rig(destination=destination)
    one.fill(4)
    one.fill(2, size=size)
    one.fill(14)
    twist(monkeypatch, lambda n, text: CODE.sub(b"", text) if n in untold else text)
    assert one.copy().ended == "complete"
    assert one.is_exact()
    assert_the_ledger_is_true(one)


@pytest.mark.parametrize("told", [
    b"[APPENDUID 5 %(uids)s] ", b"[APPENDUID %(validity)s 1] ", b"[APPENDUID %(validity)s 4294967295] ", b"[APPENDUID %(validity)s 2:3,] ",
    b"[APPENDUID %(validity)s %(uids)s,99] ", b"[APPENDUID] ", b"[appenduid %(validity)s %(uids)s] "])
@pytest.mark.parametrize("destination", DESTINATIONS)
def test_a_uid_that_cannot_be_is_not_believed(rig: Make, monkeypatch: pytest.MonkeyPatch, destination: str, told: bytes) -> None:
    def change(n: int, text: bytes) -> bytes:
        found = CODE.search(text)
        if found is None or n != 2:
            return text
        return text[:found.start()] + told % {b"validity": found[1], b"uids": found[2]} + text[found.end():]

    one = rig(destination=destination)
    one.fill(18)
    twist(monkeypatch, change)
    for retry in (False, False, True, True):
        attempt = one.copy(retry_set_aside=retry)
    assert attempt.ended == "complete"
    assert one.is_exact()


def test_a_told_uid_of_somebody_elses_mail_is_not_taken_for_ours(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the ledger calls moved, an undo removes."""
    one = rig(destination=DESTINATIONS[0])
    mails = one.fill(5)
    own = one.destination.account()["INBOX"].add(type(mails[0])(b"Subject: own\r\n\r\nmine\r\n", (), mails[2].internal_date))
    twist(monkeypatch, lambda n, text: CODE.sub(b"[APPENDUID \\1 1] ", text) if n == 3 else text)
    assert one.copy().ended == "complete"
    taken = [uid for row, runs, _, _ in one.read_ledger() if row.source == "INBOX"
             for run in runs for uid in range(run.target_first, run.target_first + run.count)]
    assert len(taken) == 5 and own.uid not in taken
    assert_the_ledger_is_true(one)
