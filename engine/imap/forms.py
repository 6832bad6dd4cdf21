"""The other forms in which servers give a body (RFC 3501 §7.4.2 leaves order and items to them): other order or items, lower case, NIL,
quoted, doubled parentheses, the UID behind the body, no body at all. The usual form is the pipe's own.

Must not: know who asked. Always: a malformed response is read whole, so that the connection is in step, and says nothing.
"""
from __future__ import annotations

import re
from collections.abc import Sequence

from engine.errors import ProtocolError
from engine.imap.channel import Channel
from engine.imap.metadata import items_of
from engine.wire.decoder import LONG_LINE_CAP, REPLY_CAP, Value, number

# Some servers answer BODY[] as RFC822, or echo BODY.PEEK[].
_BODY_LAST = re.compile(rb"(BODY(?:\.PEEK)?\[(?:HEADER)?\]|RFC822(?:\.HEADER)?) ~?\{(\d{1,20})\+?\}\Z", re.IGNORECASE)
_STRING = re.compile(rb"(?:\]|RFC822(?:\.HEADER)?) (?:\"|NIL\b)", re.IGNORECASE)  # nstring (RFC 3501 §9): no atom is a body
# What may stand behind a body's literal: more items, and the response's end.
_REST = re.compile(rb"(?: [A-Z][A-Z0-9.\[\]<>-]* .*)?(?:\)+ *|(?<=[^)])\{\d+\+?\})\Z", re.IGNORECASE)
_LITERAL = re.compile(rb"\{(\d{1,20})\+?\}\Z")
_NAMES = {b"BODY[]": (b"BODY[]", b"RFC822", b"BODY.PEEK[]"), b"BODY[HEADER]": (b"BODY[HEADER]", b"RFC822.HEADER", b"BODY.PEEK[HEADER]")}


class Forms:
    """`section`: what was asked for."""

    def __init__(self, channel: Channel, section: bytes) -> None:
        self._channel = channel
        self._names = _NAMES[section]

    def announced(self, parts: list[bytes]) -> tuple[int, int] | None:
        """(UID, octets) of the body whose literal begins now; UID 0: it comes behind the body. None: no body's literal is in the response,
        and `parts`, to which the literals before it are added, are all of it."""
        line = parts[0]
        while (match := _BODY_LAST.search(line)) is None:
            if not self._one_literal(parts):
                return None
            line = parts[-1]
        if match[1].upper() not in self._names:
            raise self._channel.misbehaved("another part of a message than was asked for")
        # What stands before the body, with the value left open: closed here so that it can be decoded.
        parts[-1] = line[: match.start()] + b"BODY[] NIL" + b")" * 8
        return _uid_of(_items(parts)), int(match[2])

    def without_literal(self, parts: Sequence[bytes]) -> tuple[int, bytes | None, dict[bytes, Value]]:
        """(UID, body, items) of a whole response; UID 0: not told. Without a body it tells something else of a message, or nothing."""
        items = _items(parts)
        name = next((name for name in self._names if name in items), None)
        if name is None:
            return _uid_of(items), None, items
        if not _STRING.search(parts[0]):
            return 0, None, {}
        value = items[name]
        return _uid_of(items), value if isinstance(value, bytes) else b"", items  # NIL: the server has no octets for it

    def rest(self, line: bytes) -> list[bytes]:
        """What stands behind a body, beginning with this line. ProtocolError where that cannot be: the literal was not as long as
        announced, and what was taken for the body is not it."""
        if not _REST.match(line):
            raise self._channel.misbehaved("a message that is not as long as its literal says")
        return self._channel.rest_of([line], REPLY_CAP)

    def uid_behind(self, rest: Sequence[bytes]) -> int:
        """The UID among the items that stand behind a body; 0: not told."""
        return _uid_of(_items([b"(" + rest[0], *rest[1:]]))

    def _one_literal(self, parts: list[bytes]) -> bool:
        """Reads one literal that is not the body, and the line after it; False: none was announced."""
        match = _LITERAL.search(parts[-1])
        if match is None:
            return False
        length = int(match[1])
        if length + sum(map(len, parts)) > REPLY_CAP:
            raise self._channel.misbehaved("a reply is larger than it may be")
        parts.append(self._channel.stream.read_exact(length))
        parts.append(self._channel.stream.read_line(LONG_LINE_CAP))
        return True


def _items(parts: Sequence[bytes]) -> dict[bytes, Value]:
    """No items where the response is malformed: it was read whole, so the connection is in step, and its message counts as unanswered."""
    try:
        return items_of(parts)
    except ProtocolError:
        return {}


def _uid_of(items: dict[bytes, Value]) -> int:
    return number(items.get(b"UID")) or 0
