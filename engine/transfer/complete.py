"""Whether the octets that a server gave can be the message that it announced. Pure functions; they judge, they do not ask again."""
from __future__ import annotations

import re

SHORT_BY = 4096               # octets: less than half of what was announced, and this much less, is asked for again

# Compiled when a message is in doubt, which is rare.
_HEADER_END = rb"(?:\A|\r?\n)\r?\n"
_BOUNDARY = (rb'(?im)^content-type:[ \t\r\n]*multipart/[^\n]*(?:\n[ \t][^\n]*)*?boundary[ \t]*=[ \t]*(?:"([^"\r\n]+)"|([^\s;"]+))')


def header_only(content: bytes, announced: int, *, exact: bool = True) -> bool:
    """Whether a server gave the header block and no body although it announced more (263; facts: providers section 9): nothing or only
    blank lines after the header, or a multipart message without a part. A message that has no body (a draft) is as long as announced.

    Where sizes are guesses (`exact` False: Exchange) a small difference says nothing."""
    slack = 0 if exact else max(64, len(content) // 10)
    if announced <= len(content) + slack:
        return False
    end = re.search(_HEADER_END, content)
    if end is None or not content[end.end() :].strip(b"\r\n\t "):
        return True
    boundary = re.search(_BOUNDARY, content[: end.end()])
    return boundary is not None and b"--" + (boundary[1] or boundary[2]) not in content[end.start() :]


def far_too_short(octets: int, announced: int) -> bool:
    """Far fewer octets than announced: cut, or a size that lies. Asking again tells."""
    return octets * 2 < announced and announced - octets > SHORT_BY
