"""The only place where an argument becomes bytes on an IMAP command line (RFC 3501 §9).

Owns: quoting, flag lists, dates, ID lists, UID sets.
Must not: send anything, know a session, accept what it cannot express.
Always: CR, LF and NUL never pass, whatever the caller holds (IMAPClient and imaplib let them through: facts, reliability finding 8);
UIDs are integers, ascending (Tencent refuses others: facts, engine §5.2); flags and dates obey their grammar.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

_FORBIDDEN = re.compile(rb"[\r\n\0]")
# RFC 3501 §9: flag-keyword is an atom, a system flag "\" and an atom. "]" is not allowed in an atom by the letter, but servers
# store keywords that hold it ("[Gmail]"), so it is sent and left to the server to refuse.
_FLAG = re.compile(r"\A\\?[!#$&'+-\[\]-z|}~]+\Z")
MAX_UID = 0xFFFFFFFF
_ID_FIELDS, _ID_NAME, _ID_VALUE = 30, 30, 1024  # RFC 2971 §3.3


class EncodeError(ValueError):
    """A value that has no safe form on the wire. The text never holds the value: it may be a secret."""

@cache
def _date() -> re.Pattern[str]:
    """These take milliseconds to compile, and only who writes mail or flags needs them."""
    return re.compile(
        r"\A([ 0][1-9]|[12][0-9]|3[01])-(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)-[0-9]{4} "
        r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60) [+-]([0-9]{2})[0-5][0-9]\Z",
        re.IGNORECASE,
    )


@cache
def _ordinary() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """(a flag, a date) that no server has a reason to call malformed. Dovecot answers BAD to the rest and then reads a literal that came
    unasked as commands (measured on 2.3.19: `APPEND INBOX (\\Unheard) {n+}`), so only the ordinary may precede such a literal."""
    month = "jan|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
    return re.compile(r"\A(?:\\(?:Seen|Answered|Flagged|Deleted|Draft|Recent)|[A-Za-z0-9$_.+-]{1,64})\Z", re.IGNORECASE), re.compile(
        rf"\A(?:(?:[ 0][1-9]|1[0-9]|2[0-8])-(?:feb|{month})|(?:29|30)-(?:{month})|31-(?:jan|mar|may|jul|aug|oct|dec))-"
        r"(?:19[7-9][0-9]|20[0-9]{2}) (?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9] [+-](?:0[0-9]|1[0-4])[0-5][0-9]\Z",
        re.IGNORECASE,
    )


def _clean(data: bytes, what: str) -> bytes:
    if _FORBIDDEN.search(data):
        raise EncodeError(f"{what} holds a line break or a zero byte")
    return data


def quoted(text: str | bytes, what: str = "argument") -> bytes:
    """A quoted string. Only 7-bit text; see `astring` for the rest."""
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    _clean(data, what)
    if not data.isascii():
        raise EncodeError(f"{what} holds characters outside ASCII, which a quoted string cannot carry")
    return b'"' + data.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def astring(text: str, what: str = "argument") -> tuple[bytes, bytes | None]:
    """(what stands on the line, literal that follows or None). ASCII is always quoted (Tencent wants both LOGIN arguments quoted),
    other text becomes a UTF-8 literal whose announcement `{n}` stands on the line."""
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:
        raise EncodeError(f"{what} holds half a character") from None
    _clean(data, what)
    if data.isascii():
        return quoted(data, what), None
    return b"{%d}" % len(data), data


def mailbox(wire_name: str) -> bytes:
    """A folder name as the wire has it (modified UTF-7), quoted. Characters U+0080 to U+00FF stand for raw octets that a server
    itself listed (see `wire_name`) and go back unchanged; anything above was not encoded and is refused."""
    try:
        data = wire_name.encode("latin-1")
    except UnicodeEncodeError:
        raise EncodeError("folder name is not in its wire form") from None
    _clean(data, "folder name")
    return b'"' + data.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def wire_name(raw: bytes) -> str:
    """The octets of a folder name as text that `mailbox` turns back into the same octets."""
    return raw.decode("latin-1")


def flag(name: str) -> bytes:
    """One flag or keyword that can stand in a flag list; EncodeError names the reason, not the connection, as broken."""
    if not _FLAG.match(name):
        raise EncodeError(f"keyword {name[:60]!a} cannot be written as an IMAP flag")
    return name.encode("ascii")


def flag_list(flags: Iterable[str]) -> bytes:
    r"""`(\Seen $Label1)`. \Recent is dropped: only the server may set it (RFC 3501 §2.3.2)."""
    return b"(" + b" ".join(flag(name) for name in flags if name.lower() != "\\recent") + b")"


def ordinary(flags: Iterable[str], date: str) -> bool:
    r"""Whether flags and date (already found sendable; \Recent is not sent) are such as every server takes: see _ordinary."""
    a_flag, a_date = _ordinary()
    return all(map(a_flag.match, flags)) and (not date or a_date.match(date) is not None)


def internal_date(text: str) -> tuple[bytes, bool]:
    """A date-time as it stood on the wire, quoted, unchanged, if it obeys RFC 3501's date-time; and whether it is `ordinary`."""
    is_ordinary = _ordinary()[1].match(text) is not None
    if not is_ordinary and not _date().match(text):
        raise EncodeError(f"internal date {text[:40]!a} is not an IMAP date-time")
    return b'"%b"' % text.encode("ascii"), is_ordinary


def id_list(fields: Mapping[str, str]) -> bytes:
    """RFC 2971 §3.3 parameter list, within its limits."""
    if len(fields) > _ID_FIELDS:
        raise EncodeError("an ID list holds at most 30 fields")
    words = []
    for name, value in fields.items():
        if len(name) > _ID_NAME or len(value) > _ID_VALUE:
            raise EncodeError(f"ID field {name[:30]!a} is too long")
        words += [quoted(name, "ID field"), quoted(value, "ID value")]
    return b"(" + b" ".join(words) + b")" if words else b"NIL"


def _uid(value: int) -> int:
    if type(value) is not int or not 0 < value <= MAX_UID:
        raise EncodeError("a UID is an integer from 1 to 4294967295")
    return value


def uid_range(first: int, last: int | None) -> bytes:
    """`first:last`; None is `*`."""
    if last is None:
        return b"%d:*" % _uid(first)
    if _uid(last) < _uid(first):
        raise EncodeError("a UID range ascends")
    return b"%d:%d" % (first, last) if last != first else b"%d" % first


def uid_sets(uids: Sequence[int], max_bytes: int = 8000) -> list[bytes]:
    """Compact ascending sets, each at most `max_bytes` long (servers cut command lines at 8,000 octets, RFC 2683 §3.2.1.5)."""
    ordered = sorted({_uid(uid) for uid in uids})
    sets: list[bytes] = []
    current: list[bytes] = []
    length = 0
    index = 0
    while index < len(ordered):
        first = last = ordered[index]
        while index + 1 < len(ordered) and ordered[index + 1] == last + 1:
            index += 1
            last = ordered[index]
        index += 1
        piece = uid_range(first, last)
        if current and length + len(piece) + 1 > max_bytes:
            sets.append(b",".join(current))
            current, length = [], 0
        current.append(piece)
        length += len(piece) + 1
    if current:
        sets.append(b",".join(current))
    return sets
