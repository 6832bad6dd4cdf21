"""Modified UTF-7 of folder names (RFC 3501 §5.1.3), both ways.

Must not: raise on what a server sent. A name that is not valid modified UTF-7 comes back unchanged, because only its exact octets
open the folder; people see it as it is.
Always: decode(encode(x)) == x for every text without lone surrogates.
"""
from __future__ import annotations

import binascii
import re

_SHIFT = re.compile(r"&([^-]*)-")
_PLAIN = re.compile(r"([\x20-\x25\x27-\x7e]+)|(&)|([^\x20-\x7e]+)")


def encode(display: str) -> str:
    """Text as people write it -> wire name."""

    def piece(match: re.Match[str]) -> str:
        if match[1]:
            return match[1]
        if match[2]:
            return "&-"
        packed = binascii.b2a_base64(match[3].encode("utf-16-be", "surrogatepass"), newline=False)
        return "&" + packed.rstrip(b"=").replace(b"/", b",").decode("ascii") + "-"

    return _PLAIN.sub(piece, display)


def _shifted(match: re.Match[str]) -> str:
    packed = match[1]
    if not packed:
        return "&"
    if len(packed) % 4 == 1 or not re.fullmatch(r"[A-Za-z0-9+,]+", packed):
        raise ValueError(packed)
    octets = binascii.a2b_base64(packed.replace(",", "/") + "=" * (-len(packed) % 4))
    return octets.decode("utf-16-be")


def decode(wire: str) -> str:
    """Wire name -> text as people write it. Raw octets (U+0080 to U+00FF here) are tried as UTF-8, then GB18030, for display."""
    if not wire.isascii():
        raw = wire.encode("latin-1", "replace")
        for charset in ("utf-8", "gb18030"):
            try:
                return raw.decode(charset)
            except UnicodeDecodeError:
                continue
        return wire
    if wire.count("&") != len(_SHIFT.findall(wire)):
        return wire
    try:
        return _SHIFT.sub(_shifted, wire)
    except ValueError:  # binascii.Error and UnicodeDecodeError are ValueErrors
        return wire
