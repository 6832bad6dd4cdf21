"""Sealing: who can open what, and what a stolen or swapped value is worth."""
from __future__ import annotations

import json
import logging
import os
import pickle
import threading
from pathlib import Path

import pytest

from engine.endpoint import Secret
from portal.security.keyfiles import ensure_secret_key, read_private
from portal.security.vault import (
    KeyFiles,
    NotSealedHere,
    Sealer,
    UnknownKey,
    Vault,
    VaultError,
    forget_key,
    generate_keys,
    rotate_keys,
)

CANARY = "kanarie-授权码-7731"


@pytest.fixture
def files(tmp_path: Path) -> KeyFiles:
    files = KeyFiles(tmp_path / "keys" / "vault.public", tmp_path / "keys" / "vault.private")
    generate_keys(files)
    return files


def test_what_is_sealed_opens_only_where_it_belongs(files: KeyFiles) -> None:
    sealer, vault = Sealer.from_file(files.public), Vault.from_file(files.private)
    sealed = sealer.seal(Secret(CANARY), "person", 7, "source_secret")
    assert vault.open(sealed, "person", 7, "source_secret") == Secret(CANARY)
    for owner, row, field in (("person", 8, "source_secret"), ("project", 7, "source_secret"), ("person", 7, "destination_secret")):
        with pytest.raises(NotSealedHere):
            vault.open(sealed, owner, row, field)


def test_the_text_form_names_version_and_key_and_never_repeats(files: KeyFiles) -> None:
    sealer = Sealer.from_file(files.public)
    one, two = (sealer.seal(Secret(CANARY), "person", 7, "source_secret") for _ in range(2))
    version, kid, body = one.split(".")
    assert (version, kid) == ("v1", sealer.key_id) and len(kid) == 12 and body
    assert one != two and CANARY not in one


def test_a_changed_value_does_not_open(files: KeyFiles) -> None:
    vault = Vault.from_file(files.private)
    sealed = Sealer.from_file(files.public).seal(Secret(CANARY), "person", 7, "source_secret")
    head, body = sealed.rsplit(".", 1)
    for broken in (
        f"{head}.{'A' if body[0] != 'A' else 'B'}{body[1:]}",
        f"{head}.{body[:-8]}",
        f"{head}.",
        f"{head}.!!!!",
        "v1",
        "",
        "v2" + sealed[2:],
    ):
        with pytest.raises(NotSealedHere):
            vault.open(broken, "person", 7, "source_secret")


def test_a_sealer_cannot_open(files: KeyFiles) -> None:
    sealer = Sealer.from_file(files.public)
    assert not hasattr(sealer, "open") and not any("rivate" in name for name in vars(sealer))
    private = [line.split()[1] for line in files.private.read_text().splitlines() if line.strip()]
    assert private and all(key not in files.public.read_text() for key in private)
    with pytest.raises(VaultError, match="does not begin with"):
        Vault.from_file(_private(files.public))


def _private(path: Path) -> Path:
    path.chmod(0o600)
    return path


def test_key_files_are_their_owners_alone(files: KeyFiles) -> None:
    for path in (files.public, files.private):
        assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(files.private.parent).st_mode & 0o777 == 0o700
    files.private.chmod(0o640)
    with pytest.raises(VaultError, match="lets others in; run: chmod 600"):
        Vault.from_file(files.private)


def test_keys_are_never_made_over_others(files: KeyFiles) -> None:
    before = files.private.read_bytes()
    with pytest.raises(VaultError, match="exists; use rotate_keys"):
        generate_keys(files)
    files.public.unlink()
    with pytest.raises(VaultError, match="exists; use rotate_keys"):
        generate_keys(files)
    assert files.private.read_bytes() == before


def test_after_a_rotation_old_values_still_open_and_new_ones_use_the_new_key(files: KeyFiles) -> None:
    old = Sealer.from_file(files.public)
    before = old.seal(Secret("old"), "person", 1, "source_secret")
    kid = rotate_keys(files)
    new = Sealer.from_file(files.public)
    vault = Vault.from_file(files.private)
    assert new.key_id == kid != old.key_id and vault.key_ids == {old.key_id, new.key_id}
    after = new.seal(Secret("new"), "person", 1, "source_secret")
    assert vault.open(before, "person", 1, "source_secret").reveal() == "old"
    assert vault.open(after, "person", 1, "source_secret").reveal() == "new"


def test_a_forgotten_key_opens_nothing_any_more(files: KeyFiles) -> None:
    old = Sealer.from_file(files.public)
    before = old.seal(Secret("old"), "person", 1, "source_secret")
    with pytest.raises(VaultError, match="rotate first"):
        forget_key(files, old.key_id)
    rotate_keys(files)
    forget_key(files, old.key_id)
    with pytest.raises(UnknownKey, match=old.key_id):
        Vault.from_file(files.private).open(before, "person", 1, "source_secret")


@pytest.mark.parametrize(("content", "problem"), [
    ("", "holds no private key"), ("nonsense\n", "line 1: does not begin with"), ("banjia-vault-private-1 AAAA\n", "damaged"),
    ("banjia-vault-private-1 !!!\n", "damaged"), ("# only a remark\n", "holds no private key"),
])
def test_a_damaged_keyring_is_named_and_not_shown(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "vault.private"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(VaultError, match=problem) as caught:
        Vault.from_file(path)
    assert "AAAA" not in str(caught.value)


def test_missing_key_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match=r"vault\.public: the vault's public key cannot be read"):
        Sealer.from_file(tmp_path / "vault.public")
    with pytest.raises(VaultError, match=r"vault\.private: the vault's keyring cannot be read"):
        Vault.from_file(tmp_path / "vault.private")


def test_nothing_prints_a_secret_or_a_key(files: KeyFiles) -> None:
    secret, vault = Secret(CANARY), Vault.from_file(files.private)
    key = files.private.read_text().split()[1]
    shown = f"{secret} {secret!r} {[secret]} {vault!r} {Sealer.from_file(files.public)!r}"
    assert CANARY not in shown and key not in shown
    for leave in (pickle.dumps, json.dumps):
        with pytest.raises(TypeError):
            leave(secret)  # type: ignore[operator]
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s", (secret,), None)
    assert CANARY not in record.getMessage()


def test_processes_that_start_together_share_one_session_key(tmp_path: Path) -> None:
    path, barrier, found = tmp_path / "instance" / "secret.key", threading.Barrier(8), []

    def start() -> None:
        barrier.wait(10)
        found.append(ensure_secret_key(path))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 8 and len(set(found)) == 1 and len(found[0]) == 32
    assert [p.name for p in path.parent.iterdir()] == ["secret.key"] and read_private(path) == found[0]


def test_a_session_key_that_is_too_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(ValueError, match="shorter than 32 octets"):
        ensure_secret_key(path)
