"""Response lines with their literals -> values. Pure functions over bytes; the session brings the octets.

Must not: raise anything but ProtocolError, recurse on nesting that a server chose, or interpret a value (names stay octets).
Always: quoted strings, literals and atoms come out as bytes, the atom NIL as None, lists as lists; caps on depth and number of values.
A surplus ")" is ignored: Tencent sends doubled parentheses (facts, engine §5.2).
"""
from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from engine.causes import Cause
from engine.errors import ProtocolError

Value: TypeAlias = "bytes | list[Value] | None"

LINE_CAP = 64 * 1024            # status text, tagged or untagged
LONG_LINE_CAP = 1024 * 1024     # lines that carry lists: LIST, FETCH …
REPLY_CAP = 1024 * 1024         # a whole session reply with its literals
MAX_DEPTH = 32
MAX_VALUES = 100_000

_LITERAL = re.compile(rb"~?\{(\d{1,20})\+?\}\Z")
_LITERAL_AT = re.compile(rb"~?\{\d{1,20}\+?\}\Z")
_SPACE = re.compile(rb"[ \t]*")
_QUOTED = re.compile(rb'"((?:[^"\\\r\n]|\\[^\r\n])*)"')
_ESCAPED = re.compile(rb"\\(.)")
# An atom as servers send them: BODY[...] keeps its brackets and what stands inside, flags may hold "]".
_ATOM = re.compile(rb"(?i:BODY|BODY\.PEEK|BINARY|BINARY\.SIZE)\[[^\]\r\n]*\](?:<\d+>)?|[^ \t()\"\r\n]+")
_RESPONSE = re.compile(rb"\* (?:(\d{1,20}) )?([A-Za-z][A-Za-z0-9.\-]*)(?: (.*))?\Z", re.DOTALL)
_CODE = re.compile(rb"[ \t]*\[([A-Za-z0-9][A-Za-z0-9.\-/=+_]*)(?: ([^\]]*))?\] ?")
_CODE_LIST = re.compile(rb"[ \t]*\[([A-Za-z0-9][A-Za-z0-9.\-]*) (\(.*?\))\] ?")


def protocol_error(detail: str) -> ProtocolError:
    return ProtocolError(Cause.X_STATE, detail=detail)


def literal_length(line: bytes) -> int | None:
    """Octets announced at the end of a line (without its CRLF), None when nothing is announced."""
    if not line.endswith(b"}"):
        return None
    match = _LITERAL.search(line)
    if match is None:
        return None
    return int(match[1])


def decode(parts: Sequence[bytes]) -> list[Value]:
    """`parts` alternates line text and literal octets: text, literal, text, … where each text but the last ends in `{n}`."""
    top: list[Value] = []
    stack: list[list[Value]] = [top]
    count = 0
    for index in range(0, len(parts), 2):
        text = parts[index]
        if index + 1 < len(parts):
            announced = _LITERAL_AT.search(text)
            if announced is None:
                raise protocol_error("a literal was not announced")
            text = text[: announced.start()]
        count += _decode_text(text, stack)
        if index + 1 < len(parts):
            stack[-1].append(parts[index + 1])
        if count > MAX_VALUES:
            raise protocol_error("too many values in one reply")
    if len(stack) > 1:
        raise protocol_error("a list was not closed")
    return top


def _decode_text(text: bytes, stack: list[list[Value]]) -> int:
    """Adds the values of one line piece to the innermost open list; returns how many."""
    position, end, count = 0, len(text), 0
    while True:
        position = _SPACE.match(text, position).end()  # type: ignore[union-attr]  # always matches
        if position >= end:
            return count
        count += 1
        octet = text[position]
        if octet == 0x28:  # (
            if len(stack) > MAX_DEPTH:
                raise protocol_error("lists are nested too deep")
            inner: list[Value] = []
            stack[-1].append(inner)
            stack.append(inner)
            position += 1
        elif octet == 0x29:  # )
            if len(stack) > 1:
                stack.pop()
            position += 1
        elif octet == 0x22:  # "
            match = _QUOTED.match(text, position)
            if match is None:
                raise protocol_error("a quoted string was not closed")
            value = match[1]
            stack[-1].append(_ESCAPED.sub(rb"\1", value) if b"\\" in value else value)
            position = match.end()
        else:
            match = _ATOM.match(text, position)
            if match is None:
                raise protocol_error("a line break inside a reply")
            atom = match[0]
            stack[-1].append(None if atom.upper() == b"NIL" else atom)
            position = match.end()


class StatusText(NamedTuple):
    """`[CODE arguments] text` of a status response. `code` is upper case, "" when there was none."""

    code: bytes
    arguments: bytes
    text: bytes   # whole, with the code: the reply rules read it so

    @classmethod
    def of(cls, text: bytes) -> StatusText:
        match = _CODE_LIST.match(text) or _CODE.match(text)
        if match is None:
            return cls(b"", b"", text)
        return cls(match[1].upper(), match[2] or b"", text)


def split_untagged(line: bytes) -> tuple[int | None, bytes, bytes] | None:
    """`* 12 FETCH (…` -> (12, b"FETCH", b"(…"); `* ok hi` -> (None, b"OK", b"hi"). None when it is no untagged response."""
    match = _RESPONSE.match(line)
    if match is None:
        return None
    return (int(match[1]) if match[1] else None), match[2].upper(), match[3] or b""


def pairs(values: Value) -> dict[bytes, Value]:
    """A list `NAME value NAME value` as a dict with upper-case names; a stray last name is ignored."""
    if not isinstance(values, list):
        return {}
    found: dict[bytes, Value] = {}
    for index in range(0, len(values) - 1, 2):
        name = values[index]
        if isinstance(name, bytes):
            found[name.upper()] = values[index + 1]
    return found


def number(value: Value) -> int | None:
    """A number of up to 20 digits, else None."""
    if isinstance(value, bytes) and 0 < len(value) <= 20 and value.isdigit():
        return int(value)
    return None


def uid_list(text: bytes, limit: int = 1_000_000) -> list[int]:
    """A UID set such as `3,5:7` written out (RFC 4315: a range may stand for the UIDs of one MULTIAPPEND). Raises ProtocolError."""
    found: list[int] = []
    for piece in text.split(b","):
        first, colon, last = piece.partition(b":")
        low, high = number(first), number(last) if colon else number(first)
        if not low or not high:
            raise protocol_error("a UID set is malformed")
        if high < low:
            low, high = high, low
        if len(found) + high - low >= limit:
            raise protocol_error("a UID set is too large")
        found.extend(range(low, high + 1))
    return found
