"""Sealing people's passwords so that only a worker can open them.

Owns: the sealed text form, the key files, key rotation. Must not: touch the database or a log.
Always: `Sealer` holds a public key and cannot open; `Vault` holds private keys and is made in worker processes only; a sealed text
is bound to (owner kind, owner id, field) and opens nowhere else; key files are readable by their owner only.

HPKE (RFC 9180) in base mode: DHKEM X25519, HKDF-SHA256, AES-256-GCM, a fresh ephemeral key for every sealing. The binding goes into
`info`, which enters the key schedule. Text form: `v1.<key id>.<base64url of enc || ciphertext>`; the key id is the first 12 hex
digits of SHA-256 of the public key.
"""
from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from engine.endpoint import Secret
from portal.security.keyfiles import create_private, read_private, replace_private

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_VERSION = "v1"
_PUBLIC = "banjia-vault-public-1"
_PRIVATE = "banjia-vault-private-1"


class VaultError(Exception):
    """A key or a sealed text that cannot be used. The text names files and key ids, never contents."""


class UnknownKey(VaultError):
    """The text was sealed to a key that this keyring does not hold."""


class NotSealedHere(VaultError):
    """The text was altered, or sealed for another row or field."""


def _info(owner_kind: str, owner_id: int, field: str) -> bytes:
    return f"{owner_kind}:{owner_id}:{field}".encode()


def key_id(public: X25519PublicKey) -> str:
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:12]


class Sealer:
    """Seals; cannot open."""

    def __init__(self, public: X25519PublicKey) -> None:
        self._public = public
        self.key_id = key_id(public)

    @classmethod
    def from_file(cls, path: Path) -> Sealer:
        """Raises VaultError."""
        try:
            lines = path.read_text(encoding="ascii").splitlines()
        except (OSError, UnicodeDecodeError) as problem:
            raise VaultError(f"{path}: the vault's public key cannot be read ({type(problem).__name__})") from None
        keys = [_decode(key) for key in _keys_in(lines, _PUBLIC, path)]
        if len(keys) != 1:
            raise VaultError(f"{path}: one public key is expected, {len(keys)} found")
        return cls(X25519PublicKey.from_public_bytes(keys[0]))

    def seal(self, secret: Secret, owner_kind: str, owner_id: int, field: str) -> str:
        sealed = _SUITE.encrypt(secret.reveal().encode(), self._public, _info(owner_kind, owner_id, field))
        return f"{_VERSION}.{self.key_id}.{base64.urlsafe_b64encode(sealed).decode()}"


class Vault:
    """The private keys, by key id. Only worker processes make one."""

    def __init__(self, keys: Iterable[X25519PrivateKey]) -> None:
        self._keys = {key_id(key.public_key()): key for key in keys}

    @classmethod
    def from_file(cls, path: Path) -> Vault:
        """Raises VaultError, also when others than the owner may read the file."""
        lines = _read_keyring(path)
        keys = [X25519PrivateKey.from_private_bytes(_decode(key)) for key in _keys_in(lines, _PRIVATE, path)]
        if not keys:
            raise VaultError(f"{path}: holds no private key")
        return cls(keys)

    @property
    def key_ids(self) -> frozenset[str]:
        return frozenset(self._keys)

    def open(self, sealed: str, owner_kind: str, owner_id: int, field: str) -> Secret:
        """Raises UnknownKey, NotSealedHere."""
        version, _, rest = sealed.partition(".")
        kid, _, body = rest.partition(".")
        if version != _VERSION or not body:
            raise NotSealedHere(f"unknown form {version[:8]!r}")
        if kid not in self._keys:
            raise UnknownKey(f"sealed to key {kid[:12]!r}, which is not in the keyring")
        try:
            ciphertext = base64.b64decode(body, altchars=b"-_", validate=True)
            opened = _SUITE.decrypt(ciphertext, self._keys[kid], _info(owner_kind, owner_id, field))
        except (InvalidTag, ValueError):
            raise NotSealedHere(f"does not open as {owner_kind}:{owner_id}:{field}") from None
        return Secret(opened.decode())

    def __repr__(self) -> str:
        return f"Vault({', '.join(sorted(self._keys))})"


@dataclass(frozen=True)
class KeyFiles:
    public: Path
    private: Path


def generate_keys(files: KeyFiles) -> str:
    """Makes the first key pair; both files must not exist yet. Returns the key id. The private file is written first, so that
    nothing is ever sealed to a key that was lost."""
    if files.public.exists():
        raise VaultError(f"{files.public} exists; use rotate_keys")
    key = X25519PrivateKey.generate()
    try:
        create_private(files.private, _line(_PRIVATE, key.private_bytes_raw()).encode())
        create_private(files.public, _line(_PUBLIC, key.public_key().public_bytes_raw()).encode())
    except FileExistsError:
        raise VaultError(f"{files.private} exists; use rotate_keys") from None
    return key_id(key.public_key())


def rotate_keys(files: KeyFiles) -> str:
    """Adds a new key to the keyring and seals to it from now on; what was sealed before still opens. Workers first: they must hold
    the new keyring before a portal uses the new public key. Returns the new key id."""
    key = X25519PrivateKey.generate()
    old = read_private(files.private)
    separator = b"" if old.endswith(b"\n") else b"\n"
    replace_private(files.private, old + separator + _line(_PRIVATE, key.private_bytes_raw()).encode())
    replace_private(files.public, _line(_PUBLIC, key.public_key().public_bytes_raw()).encode())
    return key_id(key.public_key())


def forget_key(files: KeyFiles, kid: str) -> None:
    """Takes an old key out of the keyring: what is still sealed to it never opens again. The newest cannot be taken."""
    if Sealer.from_file(files.public).key_id == kid:
        raise VaultError(f"{kid} is the key in use; rotate first")
    kept = [line for line in _read_keyring(files.private) if not _is_key(line, kid)]
    replace_private(files.private, ("\n".join(kept) + "\n").encode())


def _is_key(line: str, kid: str) -> bool:
    marker, _, key = line.strip().partition(" ")
    return marker == _PRIVATE and key_id(X25519PrivateKey.from_private_bytes(_decode(key)).public_key()) == kid


def _read_keyring(path: Path) -> list[str]:
    try:
        return read_private(path).decode("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        words = str(problem) if isinstance(problem, PermissionError) else type(problem).__name__
        raise VaultError(f"{path}: the vault's keyring cannot be read ({words})") from None


def _keys_in(lines: list[str], marker: str, path: Path) -> list[str]:
    found: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        word, _, key = line.strip().partition(" ")
        if word != marker:
            raise VaultError(f"{path}, line {number}: does not begin with {marker}")
        found.append(key)
    return found


def _line(marker: str, raw: bytes) -> str:
    return f"{marker} {base64.urlsafe_b64encode(raw).decode()}\n"


def _decode(key: str) -> bytes:
    try:
        raw = base64.b64decode(key, altchars=b"-_", validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != 32:
        raise VaultError("a key in the file is damaged")
    return raw
