"""What a client says to the simulated server, read: the grammar of the server's side (RFC 3501 §9), and how a command may end.

Must not: know a mailbox or a connection.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

TOKEN = re.compile(rb'\s*(?:\x00(?P<literal>\d+)\x00|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<open>\()|(?P<close>\))|'
                   rb'(?P<atom>[^\s()"\x00\[]+(?:\[[^\]]*\](?:<[\d.]+>)?)?|\[[^\]]*\]))')


class Atom(bytes):
    """A word that was neither quoted nor a literal."""


class Literal(bytes):
    """A string that came as a literal."""


class Bad(Exception):
    """The command ends with this tagged text."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


class Answered(Exception):
    """The verb has sent its tagged answer itself."""


@dataclass
class Command:
    """`line` and `rest` (what follows the verb) hold each literal as NUL, its number in `literals`, NUL."""

    tag: bytes
    verb: str
    line: bytes
    rest: bytes
    literals: list[bytes]
    refusal: bytes = b""  # decided while a literal arrived

    @classmethod
    def of(cls, text: bytes, literals: list[bytes], refusal: bytes) -> Command:
        tag, _, rest = text.partition(b" ")
        verb, _, rest = rest.partition(b" ")
        if verb.upper() == b"UID":
            follow, _, rest = rest.partition(b" ")
            verb += b" " + follow
        return cls(tag or b"*", verb.upper().decode("latin-1"), text, rest, literals, refusal)

    def arguments(self) -> list[Any]:
        """Atoms, quoted strings (plain octets), literals, and lists of these. Raises Bad."""
        stack: list[list[Any]] = [[]]
        at = 0
        while at < len(self.rest):
            found = TOKEN.match(self.rest, at)
            if not found:
                if self.rest[at:].strip():
                    raise Bad(b"BAD Could not parse command")
                break
            at = found.end()
            if found["literal"] is not None:
                stack[-1].append(Literal(self.literals[int(found["literal"])]))
            elif found["quoted"] is not None:
                stack[-1].append(re.sub(rb"\\(.)", rb"\1", found["quoted"]))
            elif found["open"]:
                stack.append([])
            elif found["close"]:
                if len(stack) < 2:
                    raise Bad(b"BAD Unbalanced parentheses")
                done = stack.pop()
                stack[-1].append(done)
            else:
                stack[-1].append(Atom(found["atom"]))
        if len(stack) != 1:
            raise Bad(b"BAD Unbalanced parentheses")
        return stack[0]


def quoted(name: str) -> bytes:
    return b'"' + name.encode("utf-8", "surrogateescape").replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
