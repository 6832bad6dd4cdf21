"""Files that hold a key: made once, readable by their owner only, never half written.

Must not: print or log what is in them.
"""
from __future__ import annotations

import os
import secrets
import shlex
import stat
from pathlib import Path


class LetsOthersIn(PermissionError):
    """The file's mode gives it to others than its owner. The text names the command that mends it."""

    def __init__(self, path: Path, mode: int) -> None:
        self.path, self.mode, self.command = path, f"{mode:04o}", f"chmod 600 {shlex.quote(str(path))}"
        super().__init__(f"mode {self.mode} lets others in; run: {self.command}")


def create_private(path: Path, content: bytes) -> None:
    """A new file with mode 0600, on the disk when this returns. Raises FileExistsError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_private(path: Path, content: bytes) -> None:
    """The whole file at once: readers see the old or the new one."""
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    create_private(new, content)
    os.replace(new, path)


def read_private(path: Path) -> bytes:
    """Raises LetsOthersIn when group or others may read or write the file, and OSError when it cannot be read."""
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise LetsOthersIn(path, mode)
        return file.read()


def ensure_secret_key(path: Path) -> bytes:
    """The key that signs sessions: 32 octets, made when the file is missing. Two processes that start at once get the same one."""
    if not path.exists():
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
        create_private(draft, secrets.token_bytes(32))
        try:
            os.link(draft, path)  # appears whole, and only if nobody was quicker
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    key = read_private(path)
    if len(key) < 32:
        raise ValueError(f"{path}: shorter than 32 octets; remove the file to get a new key (everybody signs in again)")
    return key
