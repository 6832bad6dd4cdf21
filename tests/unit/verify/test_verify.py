"""The comparison of two mailboxes names every difference, and finds none where there is none."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from engine.causes import Cause, Side
from engine.endpoint import Account
from engine.imap.fetch import Metadata
from engine.progress import Progress, Silent
from engine.report.verify import FolderVerdict, VerifyReport
from engine.verify import VerifyMode, verify_mailboxes
from engine.verify.compare import Comparison
from engine.verify.spool import Spool
from tests.support.provider_simulator import PROFILES, Action, BodyFault, Fault, Folder, ProviderSimulator, message

DATE = "14-Nov-2023 22:13:20 +0800"
TWIN = message("twin")


@dataclass
class Two:
    """A source and a destination that holds an exact copy of it."""

    source: ProviderSimulator
    destination: ProviderSimulator

    def accounts(self) -> tuple[Account, Account]:
        return self.source.login_for(), self.destination.login_for()

    def verified(self, **options: object) -> VerifyReport:
        source, destination = self.accounts()
        return verify_mailboxes(source, destination, source_route=self.source.route, destination_route=self.destination.route,
                                **options)  # type: ignore[arg-type]

    def theirs(self, name: str) -> Folder:
        return self.destination.account()[name]


@pytest.fixture
def two() -> Iterator[Two]:
    with ProviderSimulator("netease") as source, ProviderSimulator("dovecot") as destination:
        box = source.account()
        box["INBOX"].put(message("one"), message("two", "\0\xff binary"), TWIN, TWIN, internal_date=DATE, flags=("\\Seen",))
        box["&XfJT0ZAB-"].put(message("sent"), internal_date=DATE, flags=("$Forwarded",))
        source.add_folder("&mHl27g-/2024").put(message("project"), b"no header at all", internal_date=DATE)
        box["&dcVr0mWHTvZZOQ-"].put(message("virus"))
        copy = destination.account()
        # The same instant in another zone, the flags in another case and order.
        copy["INBOX"].put(message("two", "\0\xff binary"), TWIN, message("one"), TWIN,
                          internal_date="14-Nov-2023 14:13:20 +0000", flags=("\\SEEN",))
        copy["Sent"].put(message("sent"), internal_date=DATE, flags=("$forwarded",))
        destination.add_folder("&mHl27g-/2024").put(message("project"), b"no header at all", internal_date=DATE)
        yield Two(source, destination)


def test_an_exact_copy_is_equal_and_both_sides_are_only_read(two: Two) -> None:
    report = two.verified(connections=2)
    assert (report.equal, report.cause) == (True, None)
    assert {f.folder: (f.source_messages, f.target_messages) for f in report.folders if f.source_messages} == {
        "INBOX": (4, 4), "Sent": (1, 1), "项目/2024": (2, 2)}
    assert not two.source.source_changes() and not two.destination.source_changes()
    assert two.source.bodies_opened == two.destination.bodies_opened == 7


def drop(two: Two) -> None:
    two.theirs("INBOX").messages.pop()


def add_foreign(two: Two) -> None:
    two.theirs("INBOX").put(message("foreign"))


def double(two: Two) -> None:
    two.theirs("INBOX").put(TWIN, internal_date=DATE, flags=("\\Seen",))


def change_an_octet(two: Two) -> None:
    inbox = two.theirs("INBOX")
    inbox.messages[0].content = inbox.messages[0].content.replace(b"binary", b"binarY")


def add_a_header(two: Two) -> None:
    two.theirs("INBOX").messages[0].content = b"X-Moved: yes\r\n" + two.theirs("INBOX").messages[0].content


def lose_a_flag(two: Two) -> None:
    two.theirs("INBOX").messages[1].flags = ()


def shift_a_date(two: Two) -> None:
    two.theirs("Sent").messages[0].internal_date = "14-Nov-2023 22:13:20 +0000"


def lose_the_folder(two: Two) -> None:
    del two.destination.account().folders["&mHl27g-/2024"]


def misplace(two: Two) -> None:
    two.theirs("Sent").add(two.theirs("INBOX").messages.pop(2))


@pytest.mark.parametrize(("harm", "expected"), [
    (drop, {"missing": 1}), (add_foreign, {"extra": 1}), (double, {"extra": 1}), (change_an_octet, {"missing": 1, "extra": 1}),
    (add_a_header, {"missing": 1, "extra": 1}), (lose_a_flag, {"altered_flags": 1}), (shift_a_date, {"altered_date": 1}),
    (lose_the_folder, {"missing": 2}), (misplace, {"missing": 1, "extra": 1})])
def test_each_kind_of_difference_is_named(two: Two, harm: Callable[[Two], None], expected: dict[str, int]) -> None:
    harm(two)
    report = two.verified()
    assert report.equal is False and report.cause is None
    found = {key: getattr(report, key) for key in ("missing", "extra", "altered_flags", "altered_date")}
    assert found == {"missing": 0, "extra": 0, "altered_flags": 0, "altered_date": 0, **expected}


@pytest.mark.parametrize("fault", [BodyFault.REFUSED, BodyFault.MISSING, BodyFault.NIL])
def test_a_message_that_cannot_be_read_is_never_equal(two: Two, fault: BodyFault) -> None:
    two.source.account()["INBOX"].messages[0].fault = fault
    report = two.verified()
    assert report.cause is None and report.missing == 1 and not report.equal


def test_a_folder_whose_name_the_destination_refused_is_found_under_the_name_it_took(two: Two) -> None:
    two.source.add_folder("a*b").put(message("star"), internal_date=DATE)
    two.destination.add_folder("a%2Ab").put(message("star"), internal_date=DATE)
    assert two.verified().equal


def test_merged_folders_are_compared_as_one(two: Two) -> None:
    source = two.source.account()
    source.folders = {"INBOX": source["INBOX"], "Sent Messages": Folder("Sent Messages"), "Sent Items": Folder("Sent Items")}
    source["Sent Messages"].put(message("a"), internal_date=DATE)
    source["Sent Items"].put(message("b"), internal_date=DATE)
    two.destination.account().folders["Sent"] = Folder("Sent", ("\\Sent",))
    two.theirs("Sent").put(message("a"), message("b"), internal_date=DATE)
    assert two.verified().equal


def test_a_broken_connection_is_opened_again(two: Two) -> None:
    two.source.faults.append(Fault("UID FETCH", Action.CUT_ANSWER, skip=1, at=100))
    assert two.verified().equal
    assert two.source.connections == 2


def test_a_short_back_off_is_waited_out(two: Two) -> None:
    two.destination.profile = replace(PROFILES["dovecot"], greeting=PROFILES["exchange"].greeting)
    two.destination.faults.append(Fault("EXAMINE", Action.REPLY, b"BAD Request is throttled. Suggested Backoff Time: 300 milliseconds",
                                        seconds=0.3))
    assert two.verified().equal
    assert two.destination.impatient == []


@pytest.mark.parametrize("side", [Side.SOURCE, Side.DESTINATION])
def test_a_wrong_secret_is_a_result_with_its_side(two: Two, side: Side) -> None:
    server = two.source if side is Side.SOURCE else two.destination
    server.account().secret = "changed since"
    accounts = [two.source.login_for(secret="old"), two.destination.login_for(secret="old")]
    if side is Side.SOURCE:
        accounts[1] = two.destination.login_for()
    else:
        accounts[0] = two.source.login_for()
    report = verify_mailboxes(*accounts, source_route=two.source.route, destination_route=two.destination.route)
    assert report.side is side and not report.equal
    assert report.cause in (Cause.NEEDS_AUTH_CODE, Cause.DESTINATION_LOGIN)
    assert server.count("LOGIN") == 1


def test_progress_is_told_folder_by_folder(two: Two) -> None:
    told: list[Progress] = []

    class Sink(Silent):
        def progress(self, at: Progress) -> None:
            told.append(at)

    two.verified(progress=Sink())
    assert told[-1].messages_total == told[-1].already_there == 7


def compared(source: list[Metadata], target: list[Metadata]) -> FolderVerdict:
    """Messages whose octets are all the same."""
    with Spool() as spool:
        for side, number, messages in ((Side.SOURCE, 1, source), (Side.DESTINATION, 0, target)):
            spool.put(side, number, messages)
            spool.put_digests(side, number, [(one.uid, b"x" * 32) for one in messages])
        return Comparison(spool, "INBOX", {1: "INBOX"}, VerifyMode.FULL).run()


def test_twins_are_paired_so_that_least_differs() -> None:
    def one(uid: int, date: int, *flags: str) -> Metadata:
        return Metadata(uid, 1, flags, f"{date:02}-Jan-2024 00:00:00 +0000")

    counts = compared([one(1, 1), one(2, 2, "\\seen"), one(3, 3)], [one(1, 2), one(2, 3), one(3, 9, "\\seen")])
    assert (counts.missing, counts.extra, counts.altered_flags, counts.altered_date) == (0, 0, 0, 2)
    counts = compared([one(1, 1, "a"), one(2, 2, "b")], [one(1, 2, "c"), one(2, 1, "d")])
    assert (counts.altered_flags, counts.altered_date) == (2, 0)
