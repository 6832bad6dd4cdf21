"""Given servers that ask for less, when a mailbox is moved, then they get less, on every connection, and in the end all is there."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.causes import Cause
from engine.ledger_file import SqliteLedger
from engine.pacing import pace
from engine.pacing.budget import DAY
from engine.pacing.key import PaceKey
from engine.pacing.store import MemoryPaceStore
from engine.providers.provider import Limits
from engine.report.copy import CopyOutcome, CopyReport
from engine.transfer import copier, pairs
from engine.transfer.copier import copy_mailbox
from tests.support.provider_simulator import LOOPBACK, Action, Fault, ProviderSimulator, message
from tests.unit.pacing.fake_time import EPOCH

IN_FLIGHT_SECONDS = 0.4  # what was on the wire when the notice came is read by the server as much later at most


@dataclass
class Bench:
    source: ProviderSimulator
    destination: ProviderSimulator
    ledger: SqliteLedger
    past: list[float] = field(default_factory=lambda: [0.0])
    store: MemoryPaceStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = MemoryPaceStore(clock=lambda: EPOCH + self.past[0])

    def fill(self, folders: int, messages: int) -> None:
        for number in range(folders):
            folder = self.source.add_folder(f"folder {number}")
            folder.put(*(message(f"{number} {n}", f"body {number} {n} " * 100) for n in range(messages)))

    def copy(self, **given: Any) -> CopyReport:
        return copy_mailbox(self.source.login_for(), self.destination.login_for(), ledger=self.ledger, source_route=LOOPBACK,
                            destination_route=LOOPBACK, **{"pacing": self.store} | given)

    def is_exact(self) -> bool:
        def contents(server: ProviderSimulator) -> dict[str, list[bytes]]:
            return {name: sorted(m.content for m in folder.messages) for name, folder in server.account().folders.items()
                    if folder.messages}
        return contents(self.source) == contents(self.destination)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with ProviderSimulator("dovecot") as source, ProviderSimulator("dovecot") as destination:
        ledger = SqliteLedger(tmp_path / "ledger", "pair")
        yield Bench(source, destination, ledger)
        ledger.close()


def commands_within(server: ProviderSimulator, verb: str, seconds: float) -> list[str]:
    """What came on any connection within the wait that began at the first `verb`, but for what was on its way."""
    begun = next(c.at for c in server.commands if c.verb == verb)
    return [c.verb for c in server.commands if begun + IN_FLIGHT_SECONDS < c.at < begun + seconds]


@pytest.mark.parametrize("notice", [
    b"* OK [THROTTLED] Suggested Backoff Time: 2500 milliseconds", b"* NO Request is throttled. Suggested Backoff Time: 2500 milliseconds"])
@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_short_wait_inside_an_ok_holds_every_connection(bench: Bench, notice: bytes, side: str) -> None:
    bench.fill(6, 20)
    server, verb = (bench.source, "UID FETCH") if side == "source" else (bench.destination, "APPEND")
    server.faults.append(Fault(verb, Action.UNTAGGED, text=notice))
    report = bench.copy(connections=3, pacing=None)  # time is real here
    assert report.outcome is CopyOutcome.COMPLETE
    assert server.connections > 1
    assert commands_within(server, verb, 2.4) == []
    assert bench.is_exact()


def test_a_refusal_with_a_stated_wait_is_obeyed_to_its_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.fill(1, 5)
    bench.source.faults.append(Fault("EXAMINE", Action.REPLY, seconds=2.0,
                                     text=b"NO [THROTTLED] Suggested Backoff Time: 2000 milliseconds"))
    monkeypatch.setattr(pairs.random, "uniform", lambda *_: 0.01)  # not our jitter keeps it, but the gate
    assert bench.copy(pacing=None).outcome is CopyOutcome.COMPLETE
    assert not bench.source.impatient
    assert bench.is_exact()


def test_a_goodbye_with_a_long_wait_is_obeyed_by_the_next_run_too(bench: Bench) -> None:
    bench.fill(2, 5)
    bench.source.faults.append(Fault("UID FETCH", Action.REPLY,
                                     text=b"BYE Request is throttled. Suggested Backoff Time: 92000 milliseconds"))
    first = bench.copy()
    assert (first.outcome, first.cause) == (CopyOutcome.PAUSED, Cause.THROTTLED)
    seen = bench.source.connections
    bench.past[0] = 60
    second = bench.copy()
    assert (second.outcome, second.cause, second.retry_after) == (CopyOutcome.PAUSED, Cause.THROTTLED, pytest.approx(32))
    assert bench.source.connections == seen
    bench.past[0] = 92
    assert bench.copy().outcome is CopyOutcome.COMPLETE
    assert bench.is_exact()


def test_another_road_to_the_same_account_has_its_own_pace(bench: Bench) -> None:
    key = PaceKey.of(bench.source.login_for(), LOOPBACK)
    bench.fill(1, 3)
    bench.store.change(PaceKey(key.provider, key.account, "relay.example"), lambda state, now: state.held(now, 900, Cause.THROTTLED))
    assert bench.copy().outcome is CopyOutcome.COMPLETE


def test_too_frequent_logins_told_in_gbk_are_a_wait(bench: Bench) -> None:
    bench.fill(1, 3)
    bench.source.faults.append(Fault("LOGIN", Action.REPLY, text="NO LOGIN Login error 登录太频繁，请稍后再试".encode("gbk")))
    report = bench.copy()
    assert (report.outcome, report.cause, report.retry_after) == (CopyOutcome.PAUSED, Cause.THROTTLED, pytest.approx(1800))
    assert "登录太频繁" in report.server_text
    assert bench.copy().retry_after == pytest.approx(1800)
    assert bench.source.count("LOGIN") == 1
    bench.past[0] = 1800
    assert bench.copy().outcome is CopyOutcome.COMPLETE
    assert bench.is_exact()


def test_a_helper_that_is_one_too_many_stops_nobody(bench: Bench) -> None:
    bench.fill(4, 10)
    bench.source.faults.append(Fault("LOGIN", Action.REPLY, skip=1, times=None, text=b"NO [LIMIT] Too many simultaneous connections"))
    report = bench.copy(connections=3)
    assert report.outcome is CopyOutcome.COMPLETE
    assert bench.is_exact()


def test_a_days_budget_spent_in_the_middle_goes_on_the_next_day(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.fill(3, 60)
    whole = sum(len(m.content) for folder in bench.source.account().folders.values() for m in folder.messages)
    monkeypatch.setattr(copier, "provider", lambda _: type("Known", (), {"limits": Limits(download_per_day=whole // 3)}))
    moved, days = 0, 0
    while True:
        report = bench.copy()
        moved += report.totals()["moved"]
        if report.outcome is not CopyOutcome.PAUSED:
            break
        assert report.cause is Cause.THROTTLED
        assert "download" in report.detail and "UTC" in report.detail
        assert report.retry_after is not None and DAY - 3600 <= report.retry_after <= DAY + 3600
        again = bench.copy()  # asked too early: nothing moves
        assert (again.outcome, again.totals()["moved"]) == (CopyOutcome.PAUSED, 0)
        bench.past[0] += report.retry_after
        days += 1
        assert days < 9
    assert (report.outcome, moved) == (CopyOutcome.COMPLETE, 180)
    assert days >= 2
    assert bench.is_exact()


def test_a_days_upload_is_kept_at_the_destination(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.fill(2, 60)
    whole = sum(len(m.content) for folder in bench.source.account().folders.values() for m in folder.messages)
    monkeypatch.setattr(copier, "provider", lambda _: type("Known", (), {"limits": Limits(upload_per_day=whole // 2)}))
    report = bench.copy()
    assert (report.outcome, report.cause) == (CopyOutcome.PAUSED, Cause.DESTINATION_BUSY)
    there = sum(len(m.content) for folder in bench.destination.account().folders.values() for m in folder.messages)
    assert 0 < there <= whole // 2
    for _ in range(5):
        if report.outcome is CopyOutcome.COMPLETE:
            break
        assert report.retry_after is not None
        bench.past[0] += report.retry_after
        report = bench.copy()
    assert report.outcome is CopyOutcome.COMPLETE
    assert bench.is_exact()


def test_after_an_easing_off_less_is_in_flight_and_nothing_is_lost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "UNSTATED_WAIT_SECONDS", 0.2)
    bench.fill(4, 100)
    bench.source.faults.append(Fault("UID FETCH", Action.UNTAGGED, skip=2, times=3, text=b"* OK [THROTTLED]"))
    assert bench.copy(connections=2, pacing=None).outcome is CopyOutcome.COMPLETE
    assert bench.is_exact()
