"""What a copy is worth: two accounts compared completely, as the multiset of (SHA-256 of all octets, date, flags) of each folder.

Reads over IMAP, directly from the servers, and shares no code with the engine. Always: a message counts as equal only when every octet,
the date as an instant and every flag and keyword are; what is not equal is named by what is wrong with it.
"""
from __future__ import annotations

import contextlib
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from portal.demo.imap import ImapSaysNo, SmallImap, parse_date

_CHUNK = 1 << 18
_FETCHED = re.compile(rb'\* \d+ FETCH \(UID (\d+) FLAGS \(([^)]*)\) INTERNALDATE "([^"]*)" BODY\[\] \{(\d+)\}\r\n\Z')
_ADDED = re.compile(rb"^X-TUID: [^\r\n]*\r\n", re.MULTILINE)  # the mark that mbsync leaves in what it copies


@dataclass(frozen=True, slots=True)
class Seen:
    """One message. `without_mark`: the digest of its octets without a header that a peer added; "" where there is none."""

    digest: str
    date: int
    flags: frozenset[str]
    without_mark: str = ""


Account = dict[str, list[Seen]]  # by the folder's parts (wire names) joined by "/"; in order of UID


class Reader(SmallImap):
    """A connection that reads messages without holding them."""

    def seen(self, wire: str) -> list[Seen]:
        quoted = wire.replace("\\", "\\\\").replace('"', '\\"').encode()
        exists = any(re.match(rb"\* [1-9]\d* EXISTS", line.text) for line in self.command(b'EXAMINE "%s"' % quoted))
        if not exists:
            return []
        self._socket.sendall(b"f FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])\r\n")
        found = []
        while (line := self._file.readline()).startswith(b"*"):
            told = _FETCHED.match(line)
            if told is not None:
                found.append(self._one(told))
                self._file.readline()
        if not line.startswith(b"f OK"):
            raise ImapSaysNo(line.decode("utf-8", "replace"))
        return found

    def _one(self, told: re.Match[bytes]) -> Seen:
        left = int(told[4])
        first = self._file.read(min(left, _CHUNK))
        digest = hashlib.sha256(first)
        marked = _ADDED.search(first)
        unmarked = hashlib.sha256(first[: marked.start()] + first[marked.end() :]) if marked else None
        left -= len(first)
        while left:
            chunk = self._file.read(min(left, _CHUNK))
            if not chunk:
                raise ImapSaysNo("the connection closed in the middle of a message")
            left -= len(chunk)
            digest.update(chunk)
            if unmarked:
                unmarked.update(chunk)
        flags = frozenset(told[2].decode("latin-1").lower().split()) - {"\\recent"}
        return Seen(digest.hexdigest(), int(parse_date(told[3].decode()).timestamp()), flags, unmarked.hexdigest() if unmarked else "")


def read_account(port: int, login: str, secret: str) -> Account:
    """Every selectable folder. Raises ImapSaysNo."""
    with contextlib.closing(Reader("127.0.0.1", port, login, secret)) as reader:
        return {"/".join(name.split(reader.delimiter)): reader.seen(name) for name in reader.folders()}


@dataclass
class Verdict:
    """Counts of messages by what is wrong with them, and of folders that are not there; `order`: folders whose order differs."""

    wrong: Counter[str] = field(default_factory=Counter)
    order: int = 0

    @property
    def exact(self) -> bool:
        return not self.wrong

    def __str__(self) -> str:
        return "exact" if self.exact else ", ".join(f"{count:,} {what}" for what, count in sorted(self.wrong.items()))


def compare(source: Account, destination: Account) -> Verdict:
    """How the destination differs from the source. A folder that is empty at the source and absent is told as well."""
    verdict = Verdict()
    for folder, wanted in source.items():
        if folder not in destination:
            verdict.wrong["folders missing"] += 1
        there = destination.get(folder, [])
        verdict.order += [m.digest for m in wanted] != [m.digest for m in there]
        _compare_folder(wanted, there, verdict.wrong)
    for folder in destination.keys() - source.keys():
        verdict.wrong["extra"] += len(destination[folder])
    verdict.wrong = +verdict.wrong
    return verdict


def _compare_folder(source: list[Seen], destination: list[Seen], wrong: Counter[str]) -> None:
    here = Counter((m.digest, m.date, m.flags) for m in source)
    there = Counter((m.digest, m.date, m.flags, m.without_mark) for m in destination)
    for identity in list(there):
        equal = min(there[identity], here[identity[:3]])
        there[identity] -= equal
        here[identity[:3]] -= equal
    left = _by_digest(here.elements())
    for digest, date, flags, unmarked in there.elements():
        marked = not left[digest] and bool(left[unmarked])
        like = left[unmarked if marked else digest]
        if not like:
            wrong["extra"] += 1
            continue
        wanted_date, wanted_flags = like.pop(0)
        wrong["with a header added"] += marked
        wrong["with another date"] += date != wanted_date
        wrong["with other flags"] += flags != wanted_flags
    wrong["missing"] += sum(map(len, left.values()))


def _by_digest(messages: Iterable[tuple[str, int, frozenset[str]]]) -> defaultdict[str, list[tuple[int, frozenset[str]]]]:
    found: defaultdict[str, list[tuple[int, frozenset[str]]]] = defaultdict(list)
    for digest, date, flags in messages:
        found[digest].append((date, flags))
    return found
