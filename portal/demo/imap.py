"""A small IMAP client of its own, for filling sample mailboxes and for comparing them afterwards.

It shares no code with the engine on purpose: what judges a copy must not share the mover's mistakes. It trusts the server it talks
to (loopback, started by us), so it caps nothing; it must never be pointed at a provider.
"""
from __future__ import annotations

import datetime as dt
import re
import socket
import ssl
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType

TIMEOUT = 30.0  # seconds for any single answer
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_BATCH = 200  # messages in one MULTIAPPEND


@dataclass(frozen=True)
class Sample:
    """A message to be stored. `folder` is written as people do, with `/` between its parts; `date` is aware."""

    content: bytes
    folder: str = "INBOX"
    flags: tuple[str, ...] = ()
    date: dt.datetime = dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.timezone(dt.timedelta(hours=8)))


@dataclass(frozen=True)
class Stored:
    """A message as the server has it. `flags` are without \\Recent; `date` is the internal date as on the wire."""

    uid: int
    content: bytes
    flags: frozenset[str]
    date: str

    @property
    def identity(self) -> tuple[bytes, frozenset[str], float]:
        """What must be equal on both sides: every octet, the flags and keywords (case is the server's), the instant."""
        return self.content, frozenset(f.lower() for f in self.flags), parse_date(self.date).timestamp()


class ImapSaysNo(Exception):
    """The server answered NO or BAD, or hung up."""


def format_date(date: dt.datetime) -> str:
    return f"{date.day:02d}-{MONTHS[date.month - 1]}-{date:%Y %H:%M:%S %z}"


def parse_date(text: str) -> dt.datetime:
    day, month, rest = text.strip().split("-", 2)
    return dt.datetime.strptime(f"{int(day):02d} {MONTHS.index(month.title()) + 1:02d} {rest}", "%d %m %Y %H:%M:%S %z")


def to_utf7(name: str) -> str:
    """RFC 3501 §5.1.3."""
    def shifted(match: re.Match[str]) -> str:
        return "&" + b64encode(match[0].encode("utf-16-be")).decode().rstrip("=").replace("/", ",") + "-"
    return re.sub(r"[^\x20-\x7e]+", shifted, name.replace("&", "&-"))


def from_utf7(name: str) -> str:
    def plain(match: re.Match[str]) -> str:
        coded = match[1].replace(",", "/")
        return b64decode(coded + "=" * (-len(coded) % 4)).decode("utf-16-be") if coded else "&"
    return re.sub(r"&([A-Za-z0-9+,]*)-", plain, name)


def _quoted(text: str) -> bytes:
    return b'"' + text.replace("\\", "\\\\").replace('"', '\\"').encode() + b'"'


@dataclass(frozen=True)
class _Line:
    """One response: its text with each literal replaced by {n}, and the literals."""

    text: bytes
    literals: tuple[bytes, ...]


class SmallImap:
    """One logged-in connection. `ca_pem` makes it TLS from the start, verified; without it the connection is plain (loopback)."""

    def __init__(self, host: str, port: int, login: str, password: str, *, ca_pem: str | None = None) -> None:
        raw = socket.create_connection((host, port), TIMEOUT)
        if ca_pem is not None:
            raw = ssl.create_default_context(cadata=ca_pem).wrap_socket(raw, server_hostname=host)
        self._socket = raw
        self._file = raw.makefile("rb")
        self._tags = 0
        self._delimiter: str | None = None
        self.greeting = self._line().text
        try:
            self.command(b"LOGIN " + _quoted(login) + b" " + _quoted(password))
            self.capabilities = frozenset(b" ".join(x.text for x in self.command(b"CAPABILITY")).upper().split())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> SmallImap:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def _line(self) -> _Line:
        text = b""
        literals: list[bytes] = []
        while True:
            piece = self._file.readline()
            if not piece.endswith(b"\n"):
                raise ImapSaysNo(f"connection closed after {piece[:200]!r}")
            text += piece
            announced = re.search(rb"\{(\d+)\}\r?\n$", piece)
            if not announced:
                return _Line(text.strip(), tuple(literals))
            literals.append(self._file.read(int(announced[1])))

    def command(self, *parts: bytes, literal: Sequence[bytes] = ()) -> list[_Line]:
        """Sends one command; `literal[i]` follows `parts[i]`. Returns the untagged answers; raises ImapSaysNo on NO and BAD."""
        self._tags += 1
        tag = f"s{self._tags}".encode()
        answers: list[_Line] = []
        plus = b"+" if b"LITERAL+" in getattr(self, "capabilities", ()) else b""
        out = [tag, b" "]
        for i, part in enumerate(parts):
            out.append(part)
            if i < len(literal):
                out.append(b"{%d%s}\r\n" % (len(literal[i]), plus))
                if not plus:
                    self._socket.sendall(b"".join(out))
                    out = []
                    while not (line := self._line()).text.startswith(b"+"):
                        if line.text.startswith(tag):
                            raise ImapSaysNo(line.text.decode("utf-8", "replace"))
                        answers.append(line)
                out.append(literal[i])
        self._socket.sendall(b"".join([*out, b"\r\n"]))
        while True:
            line = self._line()
            if line.text.startswith(tag + b" "):
                if not line.text[len(tag) + 1:].upper().startswith(b"OK"):
                    raise ImapSaysNo(line.text.decode("utf-8", "replace"))
                return answers
            answers.append(line)

    # ---- folders

    @property
    def delimiter(self) -> str:
        if self._delimiter is None:
            found = re.search(rb'LIST \([^)]*\) "((?:\\.|[^"\\]))"', b" ".join(x.text for x in self.command(b'LIST "" ""')))
            self._delimiter = found[1].decode()[-1] if found else "/"
        return self._delimiter

    def folders(self, *, selectable: bool = True) -> list[str]:
        """Wire names of all folders, INBOX among them."""
        names = []
        for line in self.command(b'LIST "" "*"'):
            found = re.match(rb'\* LIST \(([^)]*)\) (?:NIL|"(?:\\.|[^"\\])") (.+)$', line.text, re.DOTALL)
            if not found or (selectable and (b"\\noselect" in found[1].lower() or b"\\nonexistent" in found[1].lower())):
                continue
            name = line.literals[0] if line.literals else found[2]
            if name.startswith(b'"'):
                name = re.sub(rb"\\(.)", rb"\1", name[1:-1])
            names.append(name.decode("ascii", "surrogateescape"))
        return names

    def wire_name(self, display: str) -> str:
        return to_utf7(display.replace("/", self.delimiter))

    def display_name(self, wire: str) -> str:
        return from_utf7(wire.replace(self.delimiter, "/"))

    def create(self, wire: str) -> None:
        """Creates a folder; one that is already there is fine."""
        if wire.upper() == "INBOX":
            return
        try:
            self.command(b"CREATE " + _quoted(wire))
        except ImapSaysNo as error:
            if wire not in self.folders(selectable=False):
                raise ImapSaysNo(f"CREATE {wire}: {error}") from None

    # ---- messages

    def append_all(self, samples: Iterable[Sample]) -> int:
        """Stores samples in their order, folder by folder in order of first appearance; creates folders; returns how many."""
        by_folder: dict[str, list[Sample]] = {}
        for sample in samples:
            by_folder.setdefault(sample.folder, []).append(sample)
        for folder, mails in by_folder.items():
            wire = self.wire_name(folder)
            self.create(wire)
            step = _BATCH if b"MULTIAPPEND" in self.capabilities else 1
            for start in range(0, len(mails), step):
                batch = mails[start:start + step]
                heads = [b" (%s) %s " % (" ".join(m.flags).encode(), _quoted(format_date(m.date))) for m in batch]
                heads[0] = b"APPEND " + _quoted(wire) + heads[0]
                self.command(*heads, literal=[m.content for m in batch])
        return sum(map(len, by_folder.values()))

    def read_folder(self, wire: str) -> list[Stored]:
        """All messages of a folder in order of UID; opens it read-only."""
        exists = next((int(m[1]) for x in self.command(b"EXAMINE " + _quoted(wire))
                       if (m := re.match(rb"\* (\d+) EXISTS", x.text))), 0)
        if not exists:
            return []
        answers = self.command(b"FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])")
        return sorted((_stored(x) for x in answers if b"BODY[]" in x.text), key=lambda m: m.uid)

    def read_all(self) -> dict[str, list[Stored]]:
        """Every selectable folder by its display name (parts joined by `/`), each with all its messages."""
        return {self.display_name(name): self.read_folder(name) for name in self.folders()}


def _stored(line: _Line) -> Stored:
    def field(pattern: bytes) -> str:
        found = re.search(pattern, line.text, re.DOTALL)
        if not found:
            raise ImapSaysNo(f"no {pattern!r} in {line.text[:200]!r}")
        return found[1].decode("utf-8", "replace")
    if line.literals:
        content = line.literals[0]
    else:
        quoted = re.search(rb'BODY\[\] (?:NIL|"((?:[^"\\]|\\.)*)")', line.text)
        content = re.sub(rb"\\(.)", rb"\1", (quoted[1] or b"") if quoted else b"")
    flags = frozenset(field(rb"FLAGS \(([^)]*)\)").split()) - {"\\Recent"}
    return Stored(int(field(rb"UID (\d+)")), content, flags, field(rb'INTERNALDATE "([^"]+)"'))
