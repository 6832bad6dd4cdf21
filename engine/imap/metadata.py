r"""What one FETCH response says of a message besides its octets: UID, size, flags, date (RFC 3501 §7.4.2).

Pure functions over a line or its parts; must not read or send anything. Always: a value that is missing or no value is told as missing,
never as an exception; \Recent is left out.
"""
from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from engine.wire import encoder
from engine.wire.decoder import Value, decode, number, pairs

ITEMS = b"(UID RFC822.SIZE FLAGS INTERNALDATE)"
ITEMS_WITHOUT_SIZE = b"(UID FLAGS INTERNALDATE)"
_LARGEST_SIZE = 1 << 40       # octets: what claims to be larger is no size

# As most servers answer to ITEMS: found in half the time.
_IN_ORDER = re.compile(
    rb'\* (\d{1,10}) FETCH \(UID (\d{1,10}) RFC822\.SIZE (\d{1,20}) FLAGS \(([^()"]*)\) INTERNALDATE "([^"\\]*)"\)\Z')
# The order of items is the server's choice (RFC 3501 §7.4.2), their case too.
_LINE = re.compile(
    rb'\* (\d{1,10}) FETCH \((?:UID (\d{1,10})|RFC822\.SIZE (\d{1,20})|FLAGS \(([^()"]*)\)|INTERNALDATE "([^"\\]*)"| )+\)\Z', re.IGNORECASE)


class Metadata(NamedTuple):
    r"""`size` is RFC822.SIZE in octets, a hint (Exchange guesses); 0 when not told. `flags` without \Recent. `internal_date` as on
    the wire, "" when not told."""

    uid: int
    size: int
    flags: tuple[str, ...]
    internal_date: str


@lru_cache(maxsize=4096)
def _flags(text: bytes) -> tuple[str, ...]:
    return tuple(word.decode("latin-1") for word in text.split() if word.lower() != b"\\recent")


def _credible(size: int) -> int:
    return size if size <= _LARGEST_SIZE else 0


def items_of(parts: Sequence[bytes]) -> dict[bytes, Value]:
    """The items of a FETCH response by name; doubled parentheses are Tencent's (facts, engine §5.2)."""
    values = decode(parts)
    inner: Value = values[0] if values else None
    while isinstance(inner, list) and len(inner) == 1 and isinstance(inner[0], list):
        inner = inner[0]
    return pairs(inner)


def of_line(line: bytes) -> tuple[int, Metadata] | None:
    """(sequence number, metadata) of a response in the usual form; None when it has another one, or tells neither size nor date: that is
    a flag update that nobody asked for."""
    match = _IN_ORDER.match(line) or _LINE.match(line)
    if match is None:
        return None
    sequence, uid, size, flags, date = match.groups()
    if size is None and date is None:
        return None
    return int(sequence), Metadata(int(uid or 0), _credible(int(size or 0)), _flags(flags or b""), (date or b"").decode("latin-1"))


def of_items(items: dict[bytes, Value]) -> Metadata | None:
    """The same of a response in any form; None for a flag update."""
    if b"RFC822.SIZE" not in items and b"INTERNALDATE" not in items:
        return None
    flags, date = items.get(b"FLAGS"), items.get(b"INTERNALDATE")
    words = b" ".join(word for word in flags if isinstance(word, bytes)) if isinstance(flags, list) else b""
    uid = number(items.get(b"UID")) or 0
    return Metadata(uid if uid <= encoder.MAX_UID else 0, _credible(number(items.get(b"RFC822.SIZE")) or 0), _flags(words),
                    date.decode("latin-1") if isinstance(date, bytes) else "")
