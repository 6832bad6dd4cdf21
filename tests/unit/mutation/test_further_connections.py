"""Given more connections than one to a side, when a mailbox is moved, then they are opened where they pay and may be had, each does its
share, and what one of them met ends the run for all. In the simulation's world, where time is virtual."""
from __future__ import annotations

from typing import Any

import pytest

from engine.causes import Cause, Side
from engine.endpoint import Account, Route
from engine.imap.session import Session
from engine.pacing.key import PaceKey
from engine.pacing.pace import PacedGate
from engine.pacing.pacer import Gate
from engine.pacing.store import MemoryPaceStore
from engine.providers.provider import Limits
from engine.transfer import copier
from tests.support.provider_simulator import Action, Fault
from tests.unit.mutation.stories import Heard, Make, bodies_by, took, two_folders
from tests.unit.simulation.network import SimulatedServer
from tests.unit.simulation.rig import Rig

# -- the door

def shut_the_door(one: Rig, server: SimulatedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever shares the account is told, while the first logs in, that there are too many connections."""
    store = MemoryPaceStore(clock=one.world.wall)
    monkeypatch.setattr(copier, "MemoryPaceStore", lambda: store)
    key, record = PaceKey.of(one.account_at(server), Route()), server.record

    def record_and_shut(connection: int, verb: str, line: bytes, login: str | None) -> None:
        if verb == "LOGIN":
            store.change(key, lambda state, now: state.shut(now, 15, Cause.TOO_MANY_CONNECTIONS))
        record(connection, verb, line, login)

    server.record = record_and_shut  # type: ignore[method-assign]


@pytest.mark.parametrize("side", ["source", "destination"])
def test_the_first_pair_waits_at_the_door_without_a_word(filled_rig: Make, heard: Heard, monkeypatch: pytest.MonkeyPatch,
                                                         side: str) -> None:
    one = filled_rig()
    store = MemoryPaceStore(clock=one.world.wall)
    monkeypatch.setattr(copier, "MemoryPaceStore", lambda: store)
    server = getattr(one, side)
    key = PaceKey.of(one.account_at(server), Route())
    one.world.run_process(lambda: store.change(key, lambda state, now: state.shut(now, 12, Cause.TOO_MANY_CONNECTIONS)))
    assert 12 <= took(one) < 15
    assert (one.attempts[-1].ended, one.source.connections, one.destination.connections) == ("complete", 1, 1)
    assert heard.lines == []


# -- lanes: further connections to a destination that must be asked for each literal

PLAIN = "IMAP4rev1 UIDPLUS"


@pytest.mark.parametrize(("destination", "latency", "lanes"), [
    (PLAIN, 0.05, 2), ("IMAP4rev1 UIDPLUS LITERAL-", 0.05, 2), (PLAIN, 0.001, 0), (PLAIN, 0.0035, 2),
    ("IMAP4rev1 UIDPLUS LITERAL+", 0.05, 0), ("IMAP4rev1 UIDPLUS MULTIAPPEND", 0.05, 0)])
def test_the_first_pair_has_two_lanes_where_each_literal_must_be_asked_for_far_away(
        filled_rig: Make, destination: str, latency: float, lanes: int) -> None:
    one = filled_rig(destination)
    one.destination.manners.latency = latency
    assert one.copy().ended == "complete"
    assert (one.source.connections, one.destination.connections) == (1, 1 + lanes)
    assert one.is_exact()
    assert one.destination.open_now == 0


def test_where_a_mailbox_may_have_two_connections_at_most_none_is_a_lane(filled_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = filled_rig(PLAIN)
    one.destination.manners.latency = 0.05
    monkeypatch.setattr(Session, "limits", Limits(connections=2))
    assert one.copy().ended == "complete"
    assert one.destination.connections == 1
    monkeypatch.setattr(Session, "limits", Limits(connections=3))
    one.fill(2)
    assert one.copy().ended == "complete"
    assert one.destination.connections == 1 + 3


def test_a_lane_that_cannot_be_opened_is_told_and_the_others_do_the_work(filled_rig: Make, heard: Heard) -> None:
    one = filled_rig(PLAIN)
    one.destination.manners.latency = 0.05
    one.destination.faults.append(Fault("LOGIN", Action.REPLY, skip=2, times=None, text=b"NO [LIMIT] one too many"))
    assert one.copy().ended == "complete"
    assert one.destination.connections == 3
    assert [(side, text) for side, _, text in heard.lines] == [(Side.DESTINATION, "[LIMIT] one too many")]
    assert one.is_exact()


def test_a_wait_that_one_connection_hears_holds_every_lane(filled_rig: Make) -> None:
    one = filled_rig(PLAIN)
    one.destination.manners.latency = 0.05
    one.destination.faults.append(Fault("APPEND", Action.UNTAGGED, skip=3,
                                        text=b"* OK [THROTTLED] Suggested Backoff Time: 3000 milliseconds"))
    assert one.copy().ended == "complete"
    assert one.destination.connections == 3
    assert not one.destination.sent_in_back_off
    assert one.is_exact()


def test_every_connection_goes_by_the_road_of_its_side_and_asks_its_pace(filled_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = filled_rig(PLAIN)
    one.destination.manners.latency = 0.05
    opened: list[tuple[str, Side, type, type]] = []
    real = Session.open

    def open_(account: Account, route: Route, *, side: Side, gate: Gate, **given: Any) -> Session:
        opened.append((account.endpoint.host, side, type(route), type(gate)))
        return real(account, route, side=side, gate=gate, **given)

    monkeypatch.setattr(Session, "open", open_)
    assert one.copy().ended == "complete"
    lane = ("destination.example", Side.DESTINATION, Route, PacedGate)
    assert sorted(opened) == [lane, lane, lane, ("source.example", Side.SOURCE, Route, PacedGate)]


def test_a_pair_that_is_opened_again_has_as_many_lanes_as_it_had(filled_rig: Make) -> None:
    one = filled_rig(PLAIN)
    one.destination.manners.latency = 0.05
    one.source.faults.append(Fault("UID FETCH", Action.CLOSE))
    assert one.copy().ended == "complete"
    assert (one.source.connections, one.destination.connections) == (2, 6)
    assert one.is_exact()
    assert (one.source.open_now, one.destination.open_now) == (0, 0)


def test_that_lanes_stored_messages_out_of_their_order_is_counted_over_all_folders(filled_rig: Make) -> None:
    one = filled_rig(PLAIN)
    one.fill(18)
    one.source.add_folder("Projects")
    one.fill(30, "Projects")
    one.destination.manners.latency, one.destination.manners.append_service = 0.01, 0.3  # by chance half as much again, or half of it
    report = one.copy().report
    assert report is not None and report.outcome.value == "complete"
    for folder in ("INBOX", "Projects"):
        assert one.contents("source", folder) == one.contents("destination", folder) and not one.in_order(folder)
    assert report.out_of_order >= 2


# -- one more connection to a destination next door that stores whole batches

BATCHES = "IMAP4rev1 UIDPLUS LITERAL+ MULTIAPPEND"


@pytest.mark.parametrize(("destination", "pairs", "latency", "further"), [
    (BATCHES, 2, 0.0005, 1), (BATCHES, 1, 0.0005, 0), (BATCHES, 2, 0.012, 0), ("IMAP4rev1 UIDPLUS MULTIAPPEND", 2, 0.0005, 0)])
def test_the_inbox_has_one_more_connection_where_whole_batches_are_stored_next_door(
        filled_rig: Make, destination: str, pairs: int, latency: float, further: int) -> None:
    one = filled_rig(destination, connections=pairs)
    one.fill(40)
    one.destination.manners.latency = latency
    assert one.copy().ended == "complete"
    assert (one.source.connections, one.destination.connections) == (pairs, pairs + further)
    assert len({c.connection for c in one.destination.commands if c.verb == "APPEND"}) == 1 + further
    assert one.in_order("INBOX")
    assert (one.source.open_now, one.destination.open_now) == (0, 0)


def test_a_provider_that_gives_two_connections_gives_no_further_one(filled_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = filled_rig(BATCHES, connections=2)
    one.destination.manners.latency = 0.0005
    monkeypatch.setattr(Session, "limits", Limits(connections=2))
    assert one.copy().ended == "complete"
    assert one.destination.connections == 2


@pytest.mark.parametrize("skip", [1, 2, 3])
def test_the_inbox_has_its_connections_again_after_one_broke(filled_rig: Make, skip: int) -> None:
    one = filled_rig(BATCHES, connections=2)
    one.fill(40)
    one.destination.manners.latency = 0.0005
    one.destination.faults.append(Fault("APPEND", Action.CLOSE, skip=skip))
    assert one.copy().ended == "complete"
    assert one.destination.connections == 2 + 1 + 2
    assert one.in_order("INBOX")


# -- further pairs and the end

def test_a_further_pair_takes_its_share_of_the_folders(filled_rig: Make) -> None:
    one = two_folders(filled_rig)
    assert one.copy().ended == "complete"
    assert len(bodies_by(one)) == 2
    assert one.is_exact() and one.contents("source", "Projects") == one.contents("destination", "Projects")


def test_a_further_pair_is_opened_at_once_or_not_at_all(filled_rig: Make, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    one = two_folders(filled_rig)
    shut_the_door(one, one.source, monkeypatch)
    assert took(one) < 15
    assert (one.attempts[-1].ended, one.source.connections) == ("complete", 1)
    assert [line[:2] for line in heard.lines] == [(Side.SOURCE, Cause.TOO_MANY_CONNECTIONS)]


def test_a_lane_is_opened_at_once_or_not_at_all(filled_rig: Make, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    one = filled_rig(PLAIN)
    one.destination.manners.latency = 0.05
    shut_the_door(one, one.destination, monkeypatch)
    assert took(one) < 15
    assert (one.attempts[-1].ended, one.destination.connections) == ("complete", 1)
    assert [line[:2] for line in heard.lines] == [(Side.DESTINATION, Cause.DESTINATION_BUSY)]


@pytest.mark.parametrize("folder", ["INBOX", "Projects"])
def test_what_only_a_person_can_mend_ends_the_run_whichever_pair_met_it(filled_rig: Make, folder: str) -> None:
    one = two_folders(filled_rig)
    one.destination.faults.append(Fault("APPEND", Action.REPLY, contains=folder.encode(), skip=3, times=None,
                                        text=b"NO [OVERQUOTA] Quota exceeded"))
    report = one.copy().report
    assert report is not None
    assert (report.outcome.value, report.cause, report.side) == ("failed", Cause.DESTINATION_QUOTA, Side.DESTINATION)
    assert (one.source.open_now, one.destination.open_now) == (0, 0)


@pytest.mark.parametrize("folder", ["INBOX", "Projects"])
def test_a_stop_in_the_middle_of_any_folder_is_a_pause_from_which_the_next_run_goes_on(filled_rig: Make, folder: str) -> None:
    one = two_folders(filled_rig)
    record = one.destination.record

    def record_and_stop(connection: int, verb: str, line: bytes, login: str | None) -> None:
        record(connection, verb, line, login)
        if verb == "APPEND" and folder.encode() in line and one.stop is not None:
            one.stop.ask()

    one.destination.record = record_and_stop  # type: ignore[method-assign]
    report = one.copy().report
    assert report is not None and (report.outcome.value, report.cause) == ("paused", None)
    assert 0 < report.totals()["moved"] < 62
    one.destination.record = record  # type: ignore[method-assign]
    assert one.copy().ended == "complete"
    assert one.is_exact() and one.contents("source", "Projects") == one.contents("destination", "Projects")
