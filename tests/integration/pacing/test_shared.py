"""Workers that share a Redis: what a server told one of them holds the others; a Redis that is wiped or away stops nobody."""
from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.causes import Cause
from engine.check import check_account
from engine.ledger_file import SqliteLedger
from engine.pacing.budget import Budget, Unit
from engine.pacing.key import PaceKey
from engine.pacing.state import PaceState, Rates
from engine.report.copy import CopyOutcome
from engine.transfer.copier import copy_mailbox
from portal.store.pacing import RedisPaceStore
from tests.support.provider_simulator import LOOPBACK, Action, Fault, ProviderSimulator, message
from tests.support.redis_server import RedisForTests, running_redis

KEY, OTHER = PaceKey("exchange", "0" * 32), PaceKey("exchange", "0" * 32, "relay.example")
BACKOFF = b"* OK [THROTTLED] Suggested Backoff Time: 3600000 milliseconds"


def test_what_one_says_another_hears(redis_url: str) -> None:
    one, two = RedisPaceStore(redis_url, "move-1"), RedisPaceStore(redis_url, "move-2")
    state, now = one.change(KEY, lambda state, now: state.held(now, 100, Cause.THROTTLED))
    assert two.look(KEY)[0] == state
    assert 99 < two.look(KEY)[0].wait(two.look(KEY)[1]) <= 100
    assert two.look(OTHER)[0] == PaceState()
    assert state.wait(now) == pytest.approx(100)


def test_no_change_is_lost_when_many_write_at_once(redis_url: str) -> None:
    budget, each, workers = Budget(Unit.MESSAGES, 10**9), 60, 8
    started = threading.Barrier(workers)

    def spend(number: int) -> None:
        store = RedisPaceStore(redis_url, f"move-{number}")
        started.wait()
        for _ in range(each):
            store.change(KEY, lambda state, now: state.used(now, [(budget, 1)]))
        store.close()

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(spend, range(workers)))
    state, now = RedisPaceStore(redis_url, "reader").look(KEY)
    assert budget.used(state.spent[Unit.MESSAGES], now) == each * workers


def test_what_stands_there_expires_and_names_nobody(redis_server: RedisForTests) -> None:
    with ProviderSimulator("plain", accounts={"somebody@example.com": "secret"}) as server:
        key = PaceKey.of(server.login_for(), LOOPBACK)
    RedisPaceStore(redis_server.url, "move-1").change(key, lambda state, now: state.eased(now, Rates(1, 1)).leased(now, ["move-1/1"]))
    client = redis_server.client()
    [name] = client.keys("banjia:pace:*")
    assert 86_400 < client.ttl(name) <= 27 * 3600
    assert b"somebody" not in name + client.get(name)
    client.close()


def test_a_wiped_redis_is_the_careful_beginning(redis_server: RedisForTests) -> None:
    store = RedisPaceStore(redis_server.url, "move-1")
    store.change(KEY, lambda state, now: state.held(now, 100, Cause.THROTTLED).eased(now, Rates(1, 1)))
    redis_server.flush()
    assert store.look(KEY)[0] == PaceState()
    assert store.change(KEY, lambda state, now: state.eased(now, Rates(2, 2)))[0].share == 0.5


def test_something_else_in_its_place_is_passed_over(redis_server: RedisForTests) -> None:
    store = RedisPaceStore(redis_server.url, "move-1")
    store.change(KEY, lambda state, now: state)
    client = redis_server.client()
    [name] = client.keys("banjia:pace:*")
    client.set(name, b"\xff not ours")
    assert store.look(KEY)[0] == PaceState()
    assert store.change(KEY, lambda state, now: state.held(now, 5, Cause.THROTTLED))[0].not_before > 0
    assert store.look(KEY)[0].not_before > 0
    client.close()


def test_without_redis_a_worker_goes_on_with_what_it_knew(caplog: pytest.LogCaptureFixture) -> None:
    away = [0.0]
    with running_redis() as server:
        store = RedisPaceStore(server.url, "move-1", monotonic=lambda: away[0])
        store.change(KEY, lambda state, now: state.held(now, 1000, Cause.THROTTLED))
        server.stop()
        with caplog.at_level(logging.WARNING):
            state, now = store.look(KEY)
            assert 900 < state.wait(now) <= 1000
            assert store.change(KEY, lambda state, now: state.eased(now, Rates(1, 1)))[0].share == 0.5
            assert store.look(KEY)[0].share == 0.5
        assert len(caplog.records) == 1  # one line for one outage
        server.start()
        assert store.look(KEY)[0].share == 0.5  # not asked yet
        away[0] = 60.0
        store.change(KEY, lambda state, now: state.eased(now, Rates(1, 1)))
        assert RedisPaceStore(server.url, "move-2").look(KEY)[0].share == 0.5


def test_a_second_worker_does_not_connect_while_the_first_was_told_to_wait(redis_url: str, tmp_path: Path) -> None:
    with ProviderSimulator("gmail") as source, ProviderSimulator("dovecot") as destination:
        source.account()["INBOX"].put(*(message(str(n)) for n in range(30)))
        source.faults.append(Fault("UID FETCH", Action.UNTAGGED, text=BACKOFF))

        def copy(number: int, redis: str) -> CopyOutcome:
            ledger, store = SqliteLedger(tmp_path / f"{number}", "pair"), RedisPaceStore(redis, f"move-{number}")
            report = copy_mailbox(source.login_for(), destination.login_for(), ledger=ledger, source_route=LOOPBACK,
                                  destination_route=LOOPBACK, pacing=store)
            ledger.close()
            store.close()
            assert report.retry_after is not None and 3500 < report.retry_after <= 3600
            assert (report.outcome, report.cause) == (CopyOutcome.PAUSED, Cause.THROTTLED)
            return report.outcome

        copy(1, redis_url)
        seen = source.connections
        copy(2, redis_url)
        check = check_account(source.login_for(), LOOPBACK, pacing=RedisPaceStore(redis_url, "check-1"))
        assert (check.cause, source.connections) == (Cause.THROTTLED, seen)
        assert check.retry_after is not None and check.retry_after > 3500
        assert not source.impatient


def test_a_wipe_in_the_middle_of_a_move_loses_nothing(redis_server: RedisForTests, tmp_path: Path) -> None:
    with ProviderSimulator("dovecot") as source, ProviderSimulator("dovecot") as destination:
        for number in range(6):
            folder = source.add_folder(f"folder {number}")
            folder.put(*(message(f"{number} {n}") for n in range(40)))
        ledger, store = SqliteLedger(tmp_path / "ledger", "pair"), RedisPaceStore(redis_server.url, "move-1")
        over = threading.Event()

        def wipe() -> None:
            while not over.wait(0.005):
                redis_server.flush()

        wiper = threading.Thread(target=wipe, daemon=True)
        wiper.start()
        report = copy_mailbox(source.login_for(), destination.login_for(), ledger=ledger, source_route=LOOPBACK,
                              destination_route=LOOPBACK, connections=3, pacing=store)
        over.set()
        wiper.join()
        assert (report.outcome, report.totals()["moved"]) == (CopyOutcome.COMPLETE, 240)
        ledger.close()
        store.close()
