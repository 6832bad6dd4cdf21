"""What a server says about its folders, as values: LIST, STATUS, EXAMINE, NAMESPACE, QUOTA answers.

Pure: responses in, named tuples out. Names stay the exact octets of the wire (as text); the display name is for people.
Must not: drop a folder it cannot decode; raise anything but ProtocolError.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from engine.errors import ProtocolError
from engine.imap.channel import Answer, Untagged
from engine.wire import utf7
from engine.wire.decoder import StatusText, Value, decode, number, pairs
from engine.wire.encoder import wire_name


class RemoteFolder(NamedTuple):
    """`name` is the wire name (modified UTF-7; raw octets of a server that does not encode stand as U+0080 to U+00FF). `attributes` are
    lower case with their backslash. `separator` None: the server has no hierarchy here."""

    name: str
    display: str
    separator: str | None
    attributes: frozenset[str]

    @property
    def selectable(self) -> bool:
        return self.attributes.isdisjoint((r"\noselect", r"\nonexistent"))


class FolderStatus(NamedTuple):
    """`size` in octets where the server tells it (STATUS=SIZE, RFC 8438). `uidnext` 0: not told (NetEase). `highestmodseq` 0: not told, or
    the server keeps none for this folder (CONDSTORE, RFC 7162 §3.1.7)."""

    messages: int
    uidnext: int
    uidvalidity: int
    size: int | None = None
    highestmodseq: int = 0


class Selected(NamedTuple):
    """`permanent_flags` None: not known. An EXAMINE's empty list says only that the folder is open read-only (RFC 3501 §7.1).
    `highestmodseq` 0: not told, or NOMODSEQ (RFC 7162 §3.1.2.2)."""

    messages: int
    uidnext: int | None
    uidvalidity: int
    permanent_flags: tuple[str, ...] | None
    read_only: bool
    highestmodseq: int = 0


class Survey(NamedTuple):
    """What a mailbox looks like from outside: `prefix` that every personal folder bears (wire name), hierarchy `separator`, `folders` in
    the server's order, `statuses` by wire name of those that can be selected and whose STATUS was not refused."""

    prefix: str
    separator: str | None
    folders: list[RemoteFolder]
    statuses: dict[str, FolderStatus]


class Quota(NamedTuple):
    """Octets."""

    used: int
    limit: int

    @property
    def free(self) -> int:
        return max(0, self.limit - self.used)


def folder(response: Untagged) -> RemoteFolder | None:
    """One LIST or XLIST response: attributes, separator, name, and further data that LIST-EXTENDED may add. None: unreadable."""
    values = response.values()
    if len(values) < 3 or not isinstance(values[0], list | None):
        return None
    attributes = frozenset(v.decode("latin-1").lower() for v in values[0] or () if isinstance(v, bytes))
    separator = values[1].decode("latin-1") if isinstance(values[1], bytes) and values[1] else None
    name = b"NIL" if values[2] is None else values[2]  # a folder may be called NIL
    if not isinstance(name, bytes) or not name:
        return None
    wire = wire_name(name)
    if wire.upper() == "INBOX" or r"\inbox" in attributes:  # XLIST gives INBOX a name in the mailbox's language
        wire = "INBOX"
    return RemoteFolder(wire, utf7.decode(wire), separator, attributes)


def merged(responses: Iterable[Untagged]) -> list[RemoteFolder]:
    """Folders in the server's order, each once, with the attributes of all its mentions (LIST and XLIST; duplicates are a known quirk)."""
    found: dict[str, RemoteFolder] = {}
    for response in responses:
        one = folder(response)
        if one is None:
            continue
        before = found.get(one.name)
        if before is not None:
            one = before._replace(attributes=before.attributes | one.attributes, separator=before.separator or one.separator)
        found[one.name] = one
    return list(found.values())


def same_folder(one: str, other: str) -> bool:
    """INBOX is the same in any case, every other name is exact (RFC 3501 §5.1)."""
    return one == other or (one.upper() == "INBOX" == other.upper())


def status(response: Untagged) -> tuple[str, FolderStatus] | None:
    """One STATUS response: the folder's wire name and what was told. None: it told no message count."""
    values = response.values()
    if len(values) < 2 or not isinstance(values[0], bytes):
        return None
    told = pairs(values[-1])
    messages = number(told.get(b"MESSAGES"))
    if messages is None:
        return None
    return wire_name(values[0]), FolderStatus(
        messages, number(told.get(b"UIDNEXT")) or 0, number(told.get(b"UIDVALIDITY")) or 0, number(told.get(b"SIZE")),
        number(told.get(b"HIGHESTMODSEQ")) or 0)


def statuses(answer: Answer) -> dict[str, FolderStatus]:
    """Every STATUS response of an answer by the folder's name, INBOX under that name however the server spells it."""
    told = dict(one for response in answer.of_kind(b"STATUS") if (one := status(response)) is not None)
    for name in [name for name in told if name.upper() == "INBOX" and name != "INBOX"]:
        told.setdefault("INBOX", told[name])
    return told


def selected(answer: Answer) -> Selected | None:
    """What an EXAMINE's answer tells (RFC 3501 §7.1, RFC 7162 §3.1.2). `uidvalidity` 0: not told. None: it holds something unreadable."""
    messages = 0
    codes: dict[bytes, bytes] = {}
    for response in answer.untagged:
        if response.kind == b"EXISTS":
            messages = response.number or 0
        elif response.kind == b"OK":
            code = StatusText.of(response.parts[0])
            codes[code.code] = code.arguments
    codes[answer.tagged.text.code] = answer.tagged.text.arguments
    told = {code: number(codes[code].strip()) for code in (b"UIDVALIDITY", b"UIDNEXT") if codes.get(code)}
    if None in told.values():
        return None
    try:
        listed = decode([codes[b"PERMANENTFLAGS"]])[0] if codes.get(b"PERMANENTFLAGS") else None
    except (ProtocolError, IndexError):
        return None
    flags = tuple(str(flag, "latin-1") for flag in listed if isinstance(flag, bytes)) if isinstance(listed, list) and listed else None
    return Selected(messages, told.get(b"UIDNEXT") or None, told.get(b"UIDVALIDITY") or 0, flags, True,
                    number(codes.get(b"HIGHESTMODSEQ")) or 0)



def first_separator(answer: Answer) -> str | None:
    """The hierarchy separator that `LIST "" ""` tells (RFC 3501 §6.3.8)."""
    for response in answer.of_kind(b"LIST"):
        values = response.values()
        if len(values) > 1 and isinstance(values[1], bytes) and values[1]:
            return values[1].decode("latin-1")
    return None


def personal_namespace(response: Untagged) -> tuple[str, str | None] | None:
    """(prefix as wire name, separator) of the first personal namespace (RFC 2342); None when there is none."""
    values = response.values()
    first: Value = values[0] if values else None
    while isinstance(first, list) and first and isinstance(first[0], list):
        first = first[0]
    if not isinstance(first, list) or not first or not isinstance(first[0], bytes):
        return None
    separator = first[1] if len(first) > 1 else None
    return wire_name(first[0]), separator.decode("latin-1") if isinstance(separator, bytes) and separator else None


def common_prefix(found: Iterable[RemoteFolder], separator: str | None) -> str:
    """The prefix at a server without NAMESPACE: "INBOX." where every other folder stands below INBOX (Courier, Cyrus), else ""."""
    others = [folder.name for folder in found if not same_folder(folder.name, "INBOX")]
    length = len("INBOX") + len(separator or "")
    below = all(name[:length].upper() == f"INBOX{separator}" for name in others)
    return others[0][:length] if separator and others and below else ""


def storage_quota(responses: Iterable[Untagged]) -> Quota | None:
    """The tightest STORAGE resource of all roots (RFC 2087 counts units of 1,024 octets)."""
    found: list[Quota] = []
    for response in responses:
        values = response.values()
        resources = values[-1] if values else None
        if not isinstance(resources, list):
            continue
        for index in range(0, len(resources) - 2, 3):
            name, used, limit = resources[index], number(resources[index + 1]), number(resources[index + 2])
            if isinstance(name, bytes) and name.upper() == b"STORAGE" and used is not None and limit:
                found.append(Quota(used * 1024, limit * 1024))
    return min(found, key=lambda quota: quota.free, default=None)
