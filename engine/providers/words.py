"""A reply's octets as words. What they mean is classify.py's to say; that module and its rules are loaded when a server refuses.

Always: never raises; what it returns holds no control character.
"""
from __future__ import annotations

from engine.redact import visible


def decode_reply(raw: bytes) -> str:
    """UTF-8, else GB18030 (Tencent: facts T02), else UTF-8 with marks for what is broken; control characters written out."""
    raw = raw.strip(b"\r\n")
    for encoding in ("utf-8", "gb18030"):
        try:
            return visible(raw.decode(encoding))
        except UnicodeDecodeError:
            continue
    return visible(raw.decode("utf-8", "replace"))
