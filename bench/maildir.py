"""Writes a mailbox as Maildir++ files with Dovecot's UID list: fifty thousand messages in seconds. Clones such a mailbox, and changes it.

Owns the directory it is given. Must not be used while a server has the mailbox open, but for `change`, which does what a mail program
would. Always: what is on disk has CRLF line ends, so that sizes, S= and W= agree; file times are the internal dates.
"""
from __future__ import annotations

import base64
import os
import random
import re
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

_LETTERS = {"\\Seen": "S", "\\Answered": "R", "\\Flagged": "F", "\\Draft": "D", "\\Deleted": "T"}
_UIDVALIDITY = 1_700_000_000


@dataclass(frozen=True)
class Mail:
    """`date`: internal date, Unix seconds; `flags` with their backslash, keywords without."""

    content: bytes
    date: int
    flags: tuple[str, ...] = ()


@dataclass
class Maildir:
    """A mailbox in the making. Folders are paths of parts; ("INBOX",) is the inbox."""

    home: Path
    messages: int = 0
    octets: int = 0
    _uid_lists: dict[tuple[str, ...], list[str]] = field(default_factory=dict)
    _keywords: dict[tuple[str, ...], list[str]] = field(default_factory=dict)

    def folder(self, path: tuple[str, ...]) -> Path:
        place = self.home if path == ("INBOX",) else self.home / ("." + ".".join(map(_wire, path)))
        if path not in self._uid_lists:
            self._uid_lists[path], self._keywords[path] = [], []
            for name in ("cur", "new", "tmp"):
                (place / name).mkdir(parents=True)
            if path != ("INBOX",):
                (place / "maildirfolder").touch()
        return place

    def add(self, path: tuple[str, ...], mail: Mail) -> None:
        place, keywords = self.folder(path), self._keywords[path]
        letters = []
        for flag in mail.flags:
            if flag not in _LETTERS and flag not in keywords:
                keywords.append(flag)
            letters.append(_LETTERS.get(flag) or chr(ord("a") + keywords.index(flag)))
        size = len(mail.content)
        name = f"{mail.date}.M{self.messages}.bench,S={size},W={size}"
        _write(place / "cur" / f"{name}:2,{''.join(sorted(letters))}", mail)
        self._uid_lists[path].append(name)
        self.messages += 1
        self.octets += size

    def finish(self) -> None:
        """Writes the UID lists and keyword names: the server then assigns nothing itself, and the order is this one."""
        for path, names in self._uid_lists.items():
            place = self.folder(path)
            lines = [f"3 V{_UIDVALIDITY} N{len(names) + 1}", *(f"{uid} :{name}" for uid, name in enumerate(names, 1))]
            (place / "dovecot-uidlist").write_text("\n".join(lines) + "\n")
            (place / "dovecot-keywords").write_text("".join(f"{n} {word}\n" for n, word in enumerate(self._keywords[path])))


def clone(pristine: Path, copy: Path) -> None:
    """The same mailbox again: messages are hard links, everything that the server writes to is a copy."""
    for place, _, names in os.walk(pristine):
        there = copy / Path(place).relative_to(pristine)
        there.mkdir(parents=True)
        linked = there.name == "cur"
        for name in names:
            (os.link if linked else shutil.copy2)(Path(place) / name, there / name)


def give_away(place: Path, *, like: Path) -> None:
    """Everything below belongs to who owns `like`: the servers do not run as root."""
    owner = like.stat()
    for top, _, names in os.walk(place):
        for path in (top, *(os.path.join(top, name) for name in names)):
            os.chown(path, owner.st_uid, owner.st_gid)


def change(home: Path, share: float, seed: str) -> int:
    """What a day does to a mailbox: the `share` of its messages (at least one) new, and as many with \\Seen or \\Flagged turned over.
    Returns how many of each."""
    draw = random.Random(seed)
    places = sorted(path.parent for path in home.rglob("cur"))
    mails = [path for place in places for path in sorted((place / "cur").iterdir())]
    count = max(1, round(len(mails) * share))
    for path in draw.sample(mails, count):
        base, _, letters = path.name.partition(":2,")
        turned = set(letters) ^ {draw.choice("SF")}
        path.rename(path.with_name(f"{base}:2,{''.join(sorted(turned))}"))
    for number in range(count):
        place = draw.choice(mails).parent
        mail = Mail(b"Subject: new %d\r\nMessage-ID: <new-%d@bench.example>\r\n\r\n" % (number, number)
                    + b"new mail\r\n" * draw.randrange(50, 2000), 1_750_000_000 + number)
        size = len(mail.content)
        path = place / f"{mail.date}.M{number}.new,S={size},W={size}:2,"
        _write(path, mail)
        os.chown(path, place.stat().st_uid, place.stat().st_gid)
    for place in places:  # two seconds on, so that the server notices within the same second too
        os.utime(place / "cur", (time.time() + 2, time.time() + 2))
    return count


def _write(path: Path, mail: Mail) -> None:
    path.write_bytes(mail.content)
    os.utime(path, (mail.date, mail.date))


def _wire(part: str) -> str:
    """Modified UTF-7 (RFC 3501 §5.1.3), as Maildir++ keeps names on disk."""
    def shifted(match: re.Match[str]) -> str:
        return "&" + base64.b64encode(match[0].encode("utf-16-be")).decode().rstrip("=").replace("/", ",") + "-"
    return re.sub(r"[^\x20-\x7e]+", shifted, part.replace("&", "&-"))
