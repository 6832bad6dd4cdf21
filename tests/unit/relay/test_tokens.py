"""Tokens: made once, stored as a hash, refused for five reasons that look the same from outside."""
from __future__ import annotations

import ipaddress
import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.endpoint import Secret
from relay.config import Client, Limits, RelayConfig, Upstream
from relay.tokens import TOKEN, Denied, Grant, authenticate, new_token, still_good, token_sha256

NOW = datetime(2026, 12, 1, tzinfo=UTC)
TOKEN_1, TOKEN_2, STRANGE = new_token("worker-1"), new_token("worker-1"), new_token("worker-1")
CLIENT = Client("worker-1", (token_sha256(TOKEN_1), token_sha256(TOKEN_2)), frozenset({"cn"}))
UPSTREAMS = {"cn": Upstream("cn", "imap.example.com", 993)}


def config(client: Client = CLIENT) -> RelayConfig:
    return RelayConfig(Path("relay.toml"), (), None, None, "json", Limits(), {client.id: client}, UPSTREAMS)


def test_new_tokens_have_the_form_and_are_never_the_same() -> None:
    tokens = {new_token("worker-1").reveal() for _ in range(50)}
    assert len(tokens) == 50 and all(TOKEN.fullmatch(token) for token in tokens)
    assert len(TOKEN_1.reveal().rpartition(".")[2]) == 43


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "a-", "a" * 33, "a.b", "ü"])
def test_a_client_id_outside_the_alphabet_gets_no_token(name: str) -> None:
    with pytest.raises(ValueError, match="lower-case"):
        new_token(name)


@pytest.mark.parametrize("token", [TOKEN_1, TOKEN_2])
def test_each_stored_token_is_good_while_one_is_replaced(token: Secret) -> None:
    grant = authenticate(config(), token, "198.51.100.7", NOW)
    assert isinstance(grant, Grant) and grant.client.id == "worker-1"
    assert token_sha256(token) not in repr(grant) and token_sha256(TOKEN_1) not in repr(config())


@pytest.mark.parametrize(("token", "why"), [
    (None, Denied.MISSING),
    (Secret(""), Denied.UNKNOWN_CLIENT),
    (Secret("x"), Denied.UNKNOWN_CLIENT),
    (new_token("worker-2"), Denied.UNKNOWN_CLIENT),
    (STRANGE, Denied.WRONG_TOKEN),
    (Secret(TOKEN_1.reveal() + "A"), Denied.UNKNOWN_CLIENT),
    (Secret(TOKEN_1.reveal()[:-1]), Denied.UNKNOWN_CLIENT),
    (Secret(TOKEN_1.reveal() + "\n"), Denied.UNKNOWN_CLIENT),
    (Secret("é" + TOKEN_1.reveal()), Denied.UNKNOWN_CLIENT),
    (Secret(token_sha256(TOKEN_1)), Denied.UNKNOWN_CLIENT),
])
def test_other_tokens_are_refused(token: Secret | None, why: Denied) -> None:
    assert authenticate(config(), token, "198.51.100.7", NOW) is why


def test_a_client_expires_at_its_instant() -> None:
    client = replace(CLIENT, expires=NOW)
    assert isinstance(authenticate(config(client), TOKEN_1, "::1", NOW - timedelta(seconds=1)), Grant)
    assert authenticate(config(client), TOKEN_1, "::1", NOW) is Denied.EXPIRED


@pytest.mark.parametrize(("source", "good"), [("198.51.100.7", True), ("::ffff:198.51.100.7", True), ("198.51.101.7", False),
                                              ("2001:db8::1", True), ("fe80::1%eth0", False)])
def test_a_client_comes_from_its_networks_only(source: str, good: bool) -> None:
    client = replace(CLIENT, sources=(ipaddress.ip_network("198.51.100.0/24"), ipaddress.ip_network("2001:db8::/32")))
    outcome = authenticate(config(client), TOKEN_1, source, NOW)
    assert isinstance(outcome, Grant) if good else outcome is Denied.SOURCE


def test_a_grant_ends_with_its_token() -> None:
    grant = authenticate(config(), TOKEN_1, "::1", NOW)
    assert isinstance(grant, Grant) and still_good(config(), grant)
    assert not still_good(config(replace(CLIENT, token_hashes=(token_sha256(TOKEN_2),))), grant)
    assert not still_good(config(replace(CLIENT, id="worker-2")), grant)


def test_a_token_does_not_leave_by_accident() -> None:
    assert TOKEN_1.reveal() not in f"{TOKEN_1} {TOKEN_1!r}"
    with pytest.raises(TypeError):
        pickle.dumps(TOKEN_1)
