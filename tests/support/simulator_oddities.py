"""Odd ways to put FETCH responses on the wire, as functions that a test gives to the simulator.

An oddity gets the responses of one command (whole: `* 3 FETCH (…)` and line end) and returns what is sent instead. Pure functions; what the
command means, and which messages fail, is not theirs (simulator_mail.BodyFault).
"""
from __future__ import annotations

import re
from collections.abc import Callable

Oddity = Callable[[list[bytes]], list[bytes]]

_LITERAL = re.compile(rb"(BODY\[[A-Z]*\](?:<\d+>)?) \{(\d+)\}\r\n")
_DATE = re.compile(rb'INTERNALDATE ("[^"]*")')
_SIZE = re.compile(rb" ?RFC822\.SIZE (\d+)")


def each(change: Callable[[bytes], bytes]) -> Oddity:
    """An oddity that changes one response at a time."""
    return lambda responses: [change(response) for response in responses]


def _head(response: bytes) -> int:
    """Where the first literal begins: what stands before it may be rewritten."""
    return response.find(b"\r\n")


def doubled_parentheses(responses: list[bytes]) -> list[bytes]:
    """Tencent (facts, engine §5.2)."""
    return [response.replace(b"FETCH (", b"FETCH ((", 1)[:-2] + b")\r\n" for response in responses]


def surplus_parenthesis(responses: list[bytes]) -> list[bytes]:
    return [response[:-2] + b")\r\n" for response in responses]


def backwards(responses: list[bytes]) -> list[bytes]:
    return responses[::-1]


def twice(responses: list[bytes]) -> list[bytes]:
    return [response for response in responses for _ in range(2)]


def uid_last(response: bytes) -> bytes:
    found = re.match(rb"(\* \d+ FETCH \()(UID \d+) (.*)\)\r\n\Z", response, re.DOTALL)
    return found[1] + found[3] + b" " + found[2] + b")\r\n" if found else response


def as_rfc822(response: bytes) -> bytes:
    at = _head(response)
    return response[:at].replace(b"BODY[] {", b"RFC822 {") + response[at:]


def echoing_peek(response: bytes) -> bytes:
    at = _head(response)
    return response[:at].replace(b"BODY[] {", b"BODY.PEEK[] {") + response[at:]


def with_flags_behind(response: bytes) -> bytes:
    return response[:-3] + b" FLAGS (\\Seen))\r\n" if b"BODY[" in response else response


def quoted_bodies(response: bytes) -> bytes:
    """Only where a quoted string can hold the octets."""
    found = _LITERAL.search(response)
    if found is None:
        return response
    content = response[found.end() : found.end() + int(found[2])]
    if re.search(rb"[\r\n\0\x80-\xff]", content):
        return response
    text = b'"' + content.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return response[: found.start()] + found[1] + b" " + text + response[found.end() + len(content) :]


def dates_as_literals(response: bytes) -> bytes:
    return _DATE.sub(lambda m: b"INTERNALDATE {%d}\r\n%b" % (len(m[1]) - 2, m[1][1:-1]), response)


def without_sizes(response: bytes) -> bytes:
    return _SIZE.sub(b"", response)


def with_sizes(value: bytes) -> Callable[[bytes], bytes]:
    """Every RFC822.SIZE is this text."""
    return lambda response: re.sub(rb"RFC822\.SIZE \d+", b"RFC822.SIZE " + value, response)


def noisy(responses: list[bytes]) -> list[bytes]:
    """What another session's changes and an IDLE make a server say in the middle, and a flag update and strangers' messages besides."""
    noise = [b"* 12 EXISTS\r\n", b"* 3 RECENT\r\n", b"* OK Still here\r\n", b"* FLAGS (\\Seen $Label1)\r\n",
             b"* 1 FETCH (FLAGS (\\Seen))\r\n",
             b"* 2 FETCH (UID 2 FLAGS (\\Seen) MODSEQ (12))\r\n", b"* 9 FETCH (UID 4000000000 BODY[] {5}\r\nhello)\r\n",
             b"* 9 FETCH (UID 4000000001 RFC822.SIZE 5 FLAGS () INTERNALDATE NIL)\r\n", b"* SEARCH\r\n", b"* VANISHED 77\r\n", b"\r\n",
             b"* 9 FETCH (BODY[] {5}\r\nhello)\r\n", b"* 9 FETCH (UID -1 BODY[] NIL)\r\n", b"* OK [EXPUNGEISSUED] somewhere\r\n",
             b"* CAPABILITY IMAP4rev1\r\n", b"* 0 FETCH NIL\r\n", b"* 4 FETCH (UID 1 BODY[] \"unclosed)\r\n"]
    out: list[bytes] = []
    for number, response in enumerate(responses):
        out += [noise[number % len(noise)], response]
    return out + noise


def expunging(responses: list[bytes]) -> list[bytes]:
    """EXPUNGE in the middle, as a server may not say it here (RFC 3501 §7.4.1) and some do."""
    return [*responses[: len(responses) // 2], b"* 40 EXPUNGE\r\n", *responses[len(responses) // 2 :]]


def short_by(octets: int, marked: bytes) -> Callable[[bytes], bytes]:
    """The literal of a whole message that holds `marked` announces more octets than come."""
    def change(response: bytes) -> bytes:
        if marked not in response:
            return response
        return re.sub(rb"BODY\[\] \{(\d+)\}", lambda m: b"BODY[] {%d}" % (int(m[1]) + octets), response, count=1)
    return change


def instead_of(marked: bytes, text: bytes) -> Callable[[bytes], bytes]:
    """The response of a body that holds `marked` is this text."""
    return lambda response: text if marked in response and b"BODY[" in response else response


ODDITIES: dict[str, Oddity] = {
    "doubled parentheses": doubled_parentheses, "a surplus parenthesis": surplus_parenthesis, "messages out of order": backwards,
    "every response twice": twice, "the UID behind the body": each(uid_last), "BODY[] answered as RFC822": each(as_rfc822),
    "BODY[] answered as BODY.PEEK[]": each(echoing_peek), "flags behind the body": each(with_flags_behind),
    "quoted strings for literals": each(quoted_bodies), "literals for quoted strings": each(dates_as_literals),
    "sizes left out": each(without_sizes), "negative sizes": each(with_sizes(b"-12")),
    "sizes that are no numbers": each(with_sizes(b"big")),
    "sizes that are NIL": each(with_sizes(b"NIL")), "sizes of twenty digits": each(with_sizes(b"99999999999999999999")),
    "noise in the middle": noisy, "EXPUNGE in the middle": expunging,
}
