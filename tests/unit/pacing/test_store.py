"""A keeper for one process, and one whose file the next run reads."""
from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from engine.causes import Cause
from engine.endpoint import Account, Endpoint, RelayRoute, Route, Secret
from engine.pacing.budget import Budget, Unit
from engine.pacing.key import PaceKey
from engine.pacing.state import PaceState, Rates
from engine.pacing.store import FilePaceStore, MemoryPaceStore

KEY, OTHER = PaceKey("one", "0" * 32), PaceKey("fe80::1", "1" * 32, "relay.example")


def test_accounts_have_each_their_own_pace() -> None:
    store = MemoryPaceStore()
    state, now = store.change(KEY, lambda state, now: state.held(now, 60, Cause.THROTTLED))
    assert store.look(KEY)[0] == state
    assert store.look(OTHER)[0] == PaceState()
    store.learn(OTHER, state)
    assert store.look(OTHER)[0].wait(now) == 60


def test_no_change_is_lost_among_threads() -> None:
    store, budget = MemoryPaceStore(), Budget(Unit.MESSAGES, 10**9)

    def spend() -> None:
        for _ in range(500):
            store.change(KEY, lambda state, now: state.used(now, [(budget, 1)]))

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state, now = store.look(KEY)
    assert budget.used(state.spent[Unit.MESSAGES], now) == 2000


def test_the_next_run_knows_what_the_last_was_told(tmp_path: Path) -> None:
    path = tmp_path / "a.pace"
    first = FilePaceStore(path, clock=lambda: 1000.0)
    first.change(KEY, lambda state, now: state.eased(now, Rates(5, 6)).held(now, 900, Cause.SERVER_BUSY))
    first.change(OTHER, lambda state, now: state.used(now, [(Budget(Unit.UPLOAD, 10), 3)]).leased(now, ["self/1"]))
    second = FilePaceStore(path, clock=lambda: 1500.0)
    state, now = second.look(KEY)
    assert (state.wait(now), state.share, state.cause) == (400, 0.5, Cause.SERVER_BUSY)
    state, _ = second.look(OTHER)
    assert (sum(amount for _, amount in state.spent[Unit.UPLOAD]), state.leases) == (3, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_where_nothing_is_to_be_remembered_there_is_no_file(tmp_path: Path) -> None:
    store = FilePaceStore(tmp_path / "a.pace")
    store.change(KEY, lambda state, now: state.leased(now, ["self/1"]))
    store.change(KEY, lambda state, now: state.leased(now, ["self/2"]))
    store.change(KEY, lambda state, now: state.returned(["self/1", "self/2"]))
    assert list(tmp_path.iterdir()) == []


def test_what_the_file_says_already_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "a.pace"
    store = FilePaceStore(path, "mover")
    store.change(KEY, lambda state, now: state.held(now, 60, Cause.THROTTLED))
    path.unlink()
    store.change(KEY, lambda state, now: state.leased(now, ["mover/1"]))
    assert not path.exists()
    store.change(KEY, lambda state, now: state.held(now, 90, Cause.THROTTLED))
    assert path.exists()
    assert store.holder == "mover"


@pytest.mark.parametrize("text", ["", "not json", "{}", "[1]", "[[1, 2]]", '[[["a"], "{}"]]', '[[["a", "b", "c", "d"], "x"]]', "null"])
def test_a_damaged_file_is_the_careful_beginning(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.pace"
    path.write_text(text)
    store = FilePaceStore(path)
    assert store.look(KEY)[0] == PaceState()
    store.change(KEY, lambda state, now: state.held(now, 60, Cause.THROTTLED))
    assert FilePaceStore(path).look(KEY)[0].not_before > 0


def test_a_file_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    store = FilePaceStore(tmp_path / "no such place" / "a.pace")
    store.change(KEY, lambda state, now: state.held(now, 60, Cause.THROTTLED))
    assert store.look(KEY)[0].not_before > 0


def test_a_key_names_the_provider_the_account_by_a_hash_and_the_road() -> None:
    def account(login: str, host: str, provider: str | None = None) -> Account:
        return Account(Endpoint(host, 993, provider=provider), login, Secret("x"))

    key = PaceKey.of(account("me@example.com", "imap.exmail.qq.com"), Route())
    assert (key.provider, key.egress, len(key.account)) == ("exmail", "direct", 32)
    assert "example" not in str(key)
    assert PaceKey.of(account("ME@example.com", "IMAP.exmail.qq.com"), Route()).account == key.account
    assert PaceKey.of(account("you@example.com", "imap.exmail.qq.com"), Route()).account != key.account
    assert PaceKey.of(account("me", "mail.example.com"), Route()).provider == "mail.example.com"
    assert PaceKey.of(account("me", "mail.example.com", "generic"), Route()).provider == "mail.example.com"
    assert PaceKey.of(account("me", "mail.example.com", "coremail"), Route()).provider == "coremail"
    relayed = PaceKey.of(account("me", "mail.example.com"), Route(RelayRoute("relay.example.com", 443, Secret("t"))))
    assert relayed.egress == "relay.example.com"
