"""Faults that a simulated server commits, as data: on which command, how often, what."""
from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    REPLY = "reply"                    # answer the tagged `text` ("NO …") instead of executing; "BYE …" goes untagged, then closed
    UNTAGGED = "untagged"              # send the line `text` ("* …" without CRLF), then execute as usual
    TRAILING = "trailing"              # execute, and send `text` in the same segment as the tagged answer (STARTTLS leftovers)
    CLOSE = "close"                    # close instead of executing
    EXECUTE_THEN_CLOSE = "execute_then_close"  # execute, swallow the answer, close
    DELAY = "delay"                    # execute now, answer after `seconds`
    LATE = "late"                      # execute only after `seconds` (even when the client is gone by then), then answer
    HANG = "hang"                      # never answer; the connection stays open
    CUT_ANSWER = "cut_answer"          # close after `at` octets of the answer
    CUT_LITERAL = "cut_literal"        # close after `at` octets of the command's literal were received


@dataclass
class Fault:
    """`on` is a verb as counted ("LOGIN", "UID FETCH", "APPEND", "GREETING", "*"). `contains` must be in the command line (literals
    not included). The first `skip` matching commands are served as usual, then the fault happens `times` times (None: always).
    With REPLY, `seconds` is a back-off that the answer demands: commands of that account within it count as impatient."""

    on: str
    action: Action
    text: bytes = b""
    times: int | None = 1
    skip: int = 0
    contains: bytes = b""
    seconds: float = 0.0
    at: int = 0

    def matches(self, verb: str, line: bytes) -> bool:
        """Counts the occasion."""
        if self.on not in ("*", verb) or self.contains not in line or self.times == 0:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass
class AppendRefusal:
    """APPEND is refused with the tagged `reply` when every condition given holds. Nothing of the command is stored."""

    reply: bytes
    contains: bytes = b""              # octets of the message
    larger_than: int | None = None     # octets
    folder: str | None = None          # wire name
    keyword: str | None = None         # a flag of the message
    times: int | None = None

    def applies(self, folder: str, flags: tuple[str, ...], content: bytes) -> bool:
        if self.times == 0 or self.contains not in content or (self.folder is not None and self.folder != folder):
            return False
        if (self.larger_than is not None and len(content) <= self.larger_than) or (self.keyword and self.keyword not in flags):
            return False
        if self.times is not None:
            self.times -= 1
        return True
