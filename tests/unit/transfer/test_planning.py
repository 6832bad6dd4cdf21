"""Given two mailboxes, when they are looked at before anything is moved, then folders take their turns as they should, and a look that
broke off misleads neither the next look nor the report. In the simulation's world, where time is virtual."""
from __future__ import annotations

from dataclasses import replace

import pytest

from engine.causes import Cause, Side
from engine.folders.mapping import FolderPlan
from engine.folders.roles import FolderRole
from engine.ledger import FolderRow
from engine.progress import Progress, Silent
from engine.transfer.planning import Plan, Rows
from engine.transfer.tally import Tally
from tests.support.provider_simulator import PROFILES, Action, AppendRefusal, Fault, message
from tests.unit.folders.listing import folder
from tests.unit.simulation.rig import Make, Rig
from tests.unit.transfer.moving import Bench, MakeBench


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


# -- which folders, and where to


def names(one: Bench) -> dict[str, str]:
    """Destination folders by source folder, as the ledger has them; "" where one is left out."""
    return {row.source: row.target for row in one.ledger.folders()}


def test_names_are_those_of_the_destination(bench: MakeBench) -> None:
    """Another prefix and separator on either side, and a destination to which "Case" and "case" are the same."""
    one = bench(replace(PROFILES["plain"], prefix="INBOX.", separator="."), replace(PROFILES["exchange"], prefix="Mail|", separator="|"))
    for name in ("INBOX.Work.2019", "INBOX.Case", "INBOX.case"):
        one.source.add_folder(name)
    report = one.copy()
    assert report.outcome.value == "complete"
    assert names(one)["INBOX.Work.2019"] == "Mail|Work|2019"
    assert names(one)["INBOX.Case"].lower() != names(one)["INBOX.case"].lower()
    assert [f.note for f in report.folders if f.source == "INBOX.case"] == ["renamed:INBOX.case"]


@pytest.mark.parametrize(("profile", "named", "arrives_as"), [
    ("qq", None, "&mHl27g-"), ("plain", "qq", "&mHl27g-"), ("plain", None, "&UXZO1mWHTvZZOQ-/&mHl27g-")])
def test_a_providers_own_way_to_keep_folders_is_known_by_its_greeting_and_by_the_account(bench: MakeBench, profile: str, named: str | None,
                                                                                        arrives_as: str) -> None:
    """Tencent puts what its users made under "其他文件夹"."""
    one = bench(profile)
    if profile == "plain":
        one.source.add_folder("&UXZO1mWHTvZZOQ-", "\\Noselect")
        one.source.add_folder("&UXZO1mWHTvZZOQ-/&mHl27g-")
    account = one.source.login_for()
    assert account.endpoint.provider is None
    assert one.copy(replace(account, endpoint=replace(account.endpoint, provider=named))).outcome.value == "complete"
    assert names(one)["&UXZO1mWHTvZZOQ-/&mHl27g-"] == arrives_as


def test_a_folder_that_was_moved_stays_where_it_went(bench: MakeBench) -> None:
    """Even if somebody makes a folder of its own name at the destination later."""
    one = bench()
    reports = one.source.add_folder("Reports", "\\Archive")
    one.destination.add_folder("Kept", "\\Archive")
    assert one.copy().outcome.value == "complete"
    one.destination.add_folder("Reports")
    reports.put(message("a", "b"))
    assert one.copy().outcome.value == "complete"
    assert names(one)["Reports"] == "Kept"
    assert [len(one.destination.account()[name].messages) for name in ("Kept", "Reports")] == [1, 0]


def test_a_folder_that_is_left_out_is_counted_and_written_down_when_that_changes(bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    one = bench()
    view = one.source.add_folder("&bUuL1Q-", "\\Flagged")
    for count in (3, 4):
        view.put(*(message(str(n), "seen elsewhere") for n in range(count - len(view.messages))))
        report = one.copy()
        [told] = [f for f in report.folders if f.rule]
        assert (report.outcome.value, told.source, told.target, told.role, told.total, told.excluded, told.rule) == (
            "complete", "测试", "", "flagged", count, count, "view")
        [row] = [row for row in one.ledger.folders() if row.rule]
        assert row == FolderRow("&bUuL1Q-", "", row.id, source_display="测试", role="flagged", total=count, excluded=count, rule="view")
    written: list[FolderRow] = []
    monkeypatch.setattr(one.ledger, "put_folder", written.append)
    assert one.copy().outcome.value == "complete"
    assert written == []


def test_a_folder_that_nobody_counted_has_none_and_its_first_row_is_as_planned() -> None:
    plan = FolderPlan(folder("项目"), "&XXdStw-", "工具", FolderRole.ARCHIVE, False, note="renamed:项目")
    assert Plan(Tally(Silent(), 0, 0, 0)).messages(plan) == 0
    rows = Rows()
    assert rows.of(plan) == FolderRow(plan.source.name, "&XXdStw-", source_display="项目", target_display="工具", role="archive",
                                      note="renamed:项目")
    known = FolderRow(plan.source.name, "elsewhere", 7, moved=3)
    rows.begin([known])
    assert (rows.of(plan), rows.before) == (known, {plan.source.name: known})


class Told(Silent):
    """A sink that remembers the totals that it was told."""

    def __init__(self) -> None:
        self.totals: set[tuple[int, int, int]] = set()

    def progress(self, at: Progress) -> None:
        self.totals.add((at.folders_total, at.messages_total, at.bytes_total))


@pytest.mark.parametrize(("profile", "sizes"), [("dovecot", True), ("plain", False)])
def test_whoever_looks_on_is_told_how_much_there_is(bench: MakeBench, profile: str, sizes: bool) -> None:
    one = bench(profile)
    one.fill(3)
    one.source.add_folder("Projects").put(message("x", "y" * 100))
    told = Told()
    assert one.copy(progress=told).outcome.value == "complete"
    selectable = [f for f in one.source.account().folders.values() if f.selectable]
    octets = sum(len(m.content) for f in selectable for m in f.messages)
    assert told.totals == {(len(selectable), 4, octets if sizes else 0)}


# -- what is done with


def lists(one: Rig) -> int:
    """How often the source was asked for a list of messages, to move them."""
    return sum(b"RFC822.SIZE" in line for line in one.source.lines("UID FETCH"))


def test_a_folder_in_which_something_was_set_aside_is_not_read_again_before_that_is_asked(rig: Make) -> None:
    one = rig()
    one.fill(3)
    one.destination.append_refusals.append(AppendRefusal(b"NO [TOOBIG] not this one", contains=b"body 1 "))
    assert one.copy().ended == "partial"
    before = lists(one)
    assert one.copy().ended == "partial"
    assert lists(one) == before
    assert one.copy(retry_set_aside=True).ended == "partial"
    assert lists(one) > before


def test_a_folder_whose_copy_was_deleted_is_moved_again(moved: Rig) -> None:
    moved.source.add_folder("Projects")
    moved.fill(3, "Projects")
    assert moved.copy().ended == "complete"
    del moved.destination.account().folders["Projects"]
    report = moved.copy().report
    assert report is not None and (report.outcome.value, report.totals()["moved"]) == ("complete", 3)
    assert moved.contents("source", "Projects") == moved.contents("destination", "Projects")


def test_what_the_destination_says_while_it_is_looked_at_is_what_the_report_says(moved: Rig) -> None:
    moved.destination.faults.append(Fault("LIST", Action.REPLY, text=b"NO [UNAVAILABLE] come back later"))
    report = moved.copy().report
    assert report is not None and report.side is Side.DESTINATION and "come back later" in report.server_text
    assert report.outcome.value in ("failed", "paused") and report.cause is Cause.DESTINATION_BUSY
