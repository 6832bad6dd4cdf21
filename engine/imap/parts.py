"""A message that BODY[] does not give, read in other forms that set no flag: by pieces, or header and text apart (RFC 3501 §6.4.5).

Must not: send BODY[] without PEEK, take a guess for the message. Always: pieces are bounded and their sum is capped; what is given back is
whole as far as the server's own words go (the last piece was short, or the parts add up to what it announced), or nothing.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import IO

from engine.errors import EngineError, MessageRefused
from engine.imap.bodies import Body
from engine.imap.channel import Answer
from engine.imap.metadata import items_of
from engine.imap.session import Session
from engine.wire import encoder
from engine.wire.decoder import number

PIECE = 256 * 1024            # octets asked for at once; a reply is capped at 1 MiB
AT_ONCE = 8                   # messages whose first piece is asked for together
JOINED_UP_TO = 512 * 1024     # octets announced: header and text come as whole literals
_SPOOL_MEMORY = 1 << 20
_RANGE = re.compile(rb"<\d+\.\d+>\Z")  # of a name that a server echoes as it was asked: BODY[]<0.262144>


def fetch_in_parts(session: Session, asked: Sequence[tuple[int, int]], good: Callable[[int, bytes, int], bool],
                   largest: Callable[[int], int]) -> dict[int, Body]:
    """Those of the (UID, announced octets) that could be read so: at most AT_ONCE of them. `good(announced, beginning, octets)` judges
    what came by pieces; header and text have to add up. Raises what speaks of more than a message: Throttled, Refused, ConnectionBroken."""
    found: dict[int, Body] = {}
    first = _together(session, [(uid, b"(UID BODY.PEEK[]<0.%d>)" % PIECE) for uid, _ in asked])
    left: list[tuple[int, int]] = []
    for uid, announced in asked:
        body = _by_pieces(session, uid, announced, first.get(uid), good, largest(announced))
        if body is not None:
            found[uid] = body
        elif 0 < announced <= JOINED_UP_TO:
            left.append((uid, announced))
    joined = _together(session, [(uid, b"(UID BODY.PEEK[HEADER] BODY.PEEK[TEXT])") for uid, _ in left])
    for uid, announced in left:
        items = joined.get(uid, {})
        content = items.get(b"BODY[HEADER]", b"") + items.get(b"BODY[TEXT]", b"")
        if len(content) == announced:
            found[uid] = Body(uid, len(content), None, content)
    return found


def _by_pieces(session: Session, uid: int, announced: int, first: dict[bytes, bytes] | None, good: Callable[[int, bytes, int], bool],
               largest: int) -> Body | None:
    piece = _piece(first)
    if piece is None:
        return None
    if len(piece) < PIECE:
        return Body(uid, len(piece), None, piece) if good(announced, piece, len(piece)) else None
    import tempfile  # rarely needed, and slow to load

    # Closed when the body is forgotten: the file has no name.
    spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_SPOOL_MEMORY)  # noqa: SIM115  # its Body closes it
    beginning, octets = piece, 0
    while piece:
        spool.write(piece)
        octets += len(piece)
        if len(piece) < PIECE or octets > largest:
            break
        piece = _piece(_together(session, [(uid, b"(UID BODY.PEEK[]<%d.%d>)" % (octets, PIECE))]).get(uid))
    if piece is None or octets > largest or not good(announced, beginning, octets):
        spool.close()
        return None
    spool.seek(0)
    return Body(uid, octets, None, spool=spool)


def _piece(items: dict[bytes, bytes] | None) -> bytes | None:
    """The octets of BODY[]<n>; one that is longer than was asked for is no piece."""
    found = next((value for name, value in (items or {}).items() if name.startswith(b"BODY[]")), None)
    return found if found is not None and len(found) <= PIECE and not _RANGE.match(found) else None


def _together(session: Session, asked: Sequence[tuple[int, bytes]]) -> dict[int, dict[bytes, bytes]]:
    """One UID FETCH each, all sent before the first is read; the strings of each answer by name. Refused ones are left out."""
    channel = session.channel
    channel.must_be_free()
    sent = [(uid, channel.send(b"UID FETCH %s %s" % (encoder.uid_range(uid, uid), items))) for uid, items in asked]
    found: dict[int, dict[bytes, bytes]] = {}
    raised: EngineError | None = None
    for uid, tag in sent:
        answer = channel.finish(tag)
        if answer.tagged.status == b"OK":
            found[uid] = _strings(answer, uid)
            continue
        error = channel.refusal(answer.tagged, "fetch", (uid,))
        if not isinstance(error, MessageRefused):
            raised = raised or error
    if raised is not None:
        raise raised
    return found


def _strings(answer: Answer, uid: int) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for response in answer.of_kind(b"FETCH"):
        try:
            items = items_of(response.parts)
        except EngineError:
            continue  # malformed, and read whole: the connection is in step
        if number(items.get(b"UID")) == uid:
            found.update((name, value) for name, value in items.items() if isinstance(value, bytes))
    return found
