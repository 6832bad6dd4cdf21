"""What can be tried with a message that a destination refuses as it is: a short ladder, each rung of it named in the report.

Must not: change an octet unless the message has line ends that RFC 5322 does not know (bare CR or LF), and then nothing but those;
try a rung that the message gives no reason for. A message that is still refused is set aside with the server's first words.
"""
from __future__ import annotations

import re
from collections.abc import Iterator

from engine.errors import EngineError
from engine.imap.append import Outgoing
from engine.ledger import Repair
from engine.wire import encoder

HEADER_OCTETS = 64 * 1024  # how far the Date field is looked for

_ABOUT_FLAGS = re.compile(r"keyword|flag", re.IGNORECASE)
_ABOUT_DATE = re.compile(r"date|time", re.IGNORECASE)
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_DATE_FIELD = re.compile(rb"^date:[ \t]*([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)", re.IGNORECASE | re.MULTILINE)


def ladder(message: Outgoing, refusal: EngineError) -> Iterator[tuple[Repair, Outgoing]]:
    """Forms of the message to try one after the other, each with the repair that was added to those before it. At most three."""
    words = f"{refusal.server_text} {refusal.detail}"
    plain = tuple(flag for flag in message.flags if flag.startswith("\\") and encoder.ordinary((flag,), ""))
    if plain != message.flags and (_ABOUT_FLAGS.search(words) or not encoder.ordinary(message.flags, "")):
        message = message._replace(flags=plain)
        yield Repair.KEYWORDS, message
    if message.internal_date and (_ABOUT_DATE.search(words) or not encoder.ordinary((), message.internal_date)):
        message = message._replace(internal_date=own_date(message.content) if isinstance(message.content, bytes) else "")
        yield Repair.DATE, message
    if isinstance(message.content, bytes) and _BARE.search(message.content):
        content = _BARE.sub(b"\r\n", message.content)
        yield Repair.LINE_ENDS, message._replace(content=content, size=len(content))


def own_date(content: bytes) -> str:
    """The message's own Date as an IMAP date-time (RFC 3501 §9); "" when it has none that can be sent."""
    header = b"" if content.startswith(b"\r\n") else content[:HEADER_OCTETS].partition(b"\r\n\r\n")[0]
    found = _DATE_FIELD.search(header)
    if found is None:
        return ""
    import email.utils  # seldom needed, and slow to load

    try:
        at = email.utils.parsedate_to_datetime(found[1].decode("latin-1"))
        text = at.strftime("%d-%b-%Y %H:%M:%S ") + (at.strftime("%z") or "+0000")[:5]
        encoder.internal_date(text)
    except (ValueError, TypeError, OverflowError, encoder.EncodeError):
        return ""
    return text if encoder.ordinary((), text) else ""
