"""What the simulated server holds: accounts, folders, messages. Plain data; a test may change it while the server runs.

Names are wire names (modified UTF-7), separators as the profile has them.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

SYSTEM_FLAGS = frozenset({"\\seen", "\\answered", "\\flagged", "\\deleted", "\\draft"})


class BodyFault(StrEnum):
    """How the server serves this one message's octets, when it does not serve them properly."""

    NIL = "nil"                  # BODY[] NIL
    EMPTY = "empty"              # BODY[] ""
    HEADER_ONLY = "header_only"  # the header and its blank line, nothing after (263; facts: providers §9)
    MISSING = "missing"          # OK, and no data for this UID (QQ; facts: providers §5)
    REFUSED = "refused"          # tagged NO after the others were served (Gmail; facts: G13)
    CUT = "cut"                  # the connection is cut in the middle of the literal
    BOMB = "bomb"                # a literal of 1 500 000 000 octets is announced (facts: reliability, finding 9)
    BYE = "bye"                  # the server ends the session instead
    ENDLESS = "endless"          # a line without end instead of the response


class Form(StrEnum):
    """How a message's octets are asked for."""

    BATCH = "batch"              # UID FETCH 1:9 BODY.PEEK[]
    ALONE = "alone"              # UID FETCH 5 BODY.PEEK[]
    NUMBER = "number"            # FETCH 5 BODY.PEEK[]
    PIECES = "pieces"            # BODY.PEEK[]<0.n>
    APART = "apart"              # BODY.PEEK[HEADER] BODY.PEEK[TEXT]


@dataclass
class Message:
    content: bytes
    flags: tuple[str, ...] = ()
    internal_date: str = "14-Nov-2023 22:13:20 +0800"
    uid: int = 0
    announced_size: int | None = None   # RFC822.SIZE when it is not the truth
    fault: BodyFault | None = None
    fault_times: int | None = None      # None: for ever
    cure: Form | None = None            # … but not where the message is asked for so
    words: bytes = b"NO Some messages could not be FETCHed (Failure)"  # of REFUSED
    unlisted: bytes = b""               # the tagged text with which every list that names this message is refused
    recent: bool = False
    hidden: bool = False                # counted and never listed (QQ's EXISTS; facts: providers §5)

    def size(self) -> int:
        return len(self.content) if self.announced_size is None else self.announced_size

    def take_fault(self, form: Form) -> BodyFault | None:
        if self.fault is None or self.fault_times == 0 or form is self.cure:
            return None
        if self.fault_times is not None:
            self.fault_times -= 1
        return self.fault

    def header(self) -> bytes:
        end = self.content.find(b"\r\n\r\n")
        return self.content if end < 0 else self.content[:end + 4]


@dataclass
class Folder:
    """`messages` are in ascending UIDs, as everywhere (RFC 3501 §2.3.1.1)."""

    name: str
    attributes: tuple[str, ...] = ()
    uidvalidity: int = 1_700_000_001
    uidnext: int = 1
    uid_step: int = 1
    messages: list[Message] = field(default_factory=list)
    selectable: bool = True
    altered: bytes = b""                # a message that holds these octets gets a line more when it is stored
    highestmodseq: int = 1              # CONDSTORE (RFC 7162); 0: this folder keeps none
    modseqs: dict[int, tuple[tuple[str, ...], int]] = field(default_factory=dict)  # UID -> flags as last looked at, and since when

    def add(self, message: Message) -> Message:
        if self.altered and self.altered in message.content:
            message.content += b"\r\n"
        if not message.uid:
            message.uid = self.uidnext
        self.uidnext = max(self.uidnext, message.uid + self.uid_step)
        self.messages.append(message)
        return message

    def modseq(self, message: Message) -> int:
        """When the message's flags last changed, whoever changed them."""
        return self.modseqs[message.uid][1]

    def count_changes(self) -> None:
        """Gives every message that is new or has other flags than when it was last looked at the next modification sequence."""
        for message in self.messages:
            known = self.modseqs.get(message.uid)
            if self.highestmodseq and (known is None or known[0] != message.flags):
                self.highestmodseq += 1
                self.modseqs[message.uid] = message.flags, self.highestmodseq

    def put(self, *contents: bytes, **attributes: object) -> list[Message]:
        """Adds messages with these contents; `attributes` are fields of Message."""
        return [self.add(Message(content, **attributes)) for content in contents]  # type: ignore[arg-type]

    def size(self) -> int:
        return sum(message.size() for message in self.messages)


@dataclass
class MailAccount:
    """One login with its mail. `quota` is in octets."""

    login: str
    secret: str
    folders: dict[str, Folder] = field(default_factory=dict)
    subscribed: set[str] = field(default_factory=set)
    quota: int | None = None

    def __getitem__(self, name: str) -> Folder:
        return self.folders[name]

    def used(self) -> int:
        return sum(folder.size() for folder in self.folders.values())


def message(subject: str, body: str = "hello\r\n", **headers: str) -> bytes:
    """The octets of a small message with CRLF line ends."""
    lines = [f"Subject: {subject}", "From: a@example.com", "To: b@example.net", f"Message-ID: <{subject}@example.com>"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()
