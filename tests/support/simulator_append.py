"""APPEND at the simulated server: what is refused when its literal is announced, what when it is there, and what is stored."""
from __future__ import annotations

import re
from typing import Any

from tests.support.simulator_commands import Atom, Bad, Command, Literal
from tests.support.simulator_connection import Connection
from tests.support.simulator_mail import SYSTEM_FLAGS, Folder, Message

DATE = re.compile(r"[ \d]\d-(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)-\d{4} \d\d:\d\d:\d\d [+-]\d{4}", re.I)
LITERAL_MINUS = 4096  # octets (RFC 7888 §5)
UNDATED = "23-Nov-2026 12:00:00 +0800"  # the internal date of what comes without one


class AppendVerb(Connection):
    def refused_at_announcement(self, command: Command, size: int, mark: bytes | None) -> bytes:
        """The tagged text that refuses a literal of this size, or nothing. Dovecot refuses an APPEND when its literal is announced
        (facts: reliability 2b): nothing of it is sent then."""
        if mark and not (self.profile.offers("LITERAL+") or (self.profile.offers("LITERAL-") and size <= LITERAL_MINUS)):
            return b"BAD Non-synchronizing literal not offered"
        if command.verb != "APPEND" or not self.box:
            return b""
        try:
            target = self.find(command.arguments()[0])
        except (Bad, IndexError):
            return b""
        if target is None:
            return b"NO [TRYCREATE] Mailbox doesn't exist"
        limit = self.profile.append_limit()
        if limit is not None and size > limit:
            return self.profile.too_big
        coming = size + sum(map(len, command.literals))
        if self.box.quota is not None and self.box.used() + coming > self.box.quota:
            return self.profile.over_quota
        return b""

    async def do_append(self, command: Command) -> bytes:
        arguments = command.arguments()
        folder = self.find(arguments[0])
        if folder is None:
            raise Bad(b"NO [TRYCREATE] Mailbox doesn't exist")
        coming = self._messages_of(arguments[1:])
        if len(coming) > 1 and not self.profile.offers("MULTIAPPEND"):
            raise Bad(b"BAD Extra arguments")
        for m in coming:
            self._refuse_content(folder, m)
        if self.box and self.box.quota is not None and self.box.used() + sum(m.size() for m in coming) > self.box.quota:
            raise Bad(self.profile.over_quota)
        uids = [folder.add(m).uid for m in coming]
        if self.folder is folder:
            await self.untagged(b"%d EXISTS" % len(folder.messages))
        if not self.profile.offers("UIDPLUS"):
            return b"OK APPEND completed"
        consecutive = len(uids) > 1 and uids == list(range(uids[0], uids[-1] + 1))
        shown = b"%d:%d" % (uids[0], uids[-1]) if consecutive else b",".join(b"%d" % uid for uid in uids)
        return b"OK [%s %d %s] APPEND completed" % (self.word(b"APPENDUID"), folder.uidvalidity, shown)

    def _messages_of(self, arguments: list[Any]) -> list[Message]:
        coming: list[Message] = []
        flags: tuple[str, ...] = ()
        date = ""
        for argument in arguments:
            if isinstance(argument, list):
                flags = tuple(bytes(f).decode() for f in argument)
            elif isinstance(argument, Literal):
                coming.append(Message(bytes(argument), flags, date or UNDATED))
                flags, date = (), ""
            else:
                date = argument.decode("latin-1")
                if isinstance(argument, Atom) or not DATE.fullmatch(date):
                    raise Bad(b"BAD Invalid internal date.")
        if not coming or flags or date:
            raise Bad(b"BAD Missing message literal")
        return coming

    def _refuse_content(self, folder: Folder, m: Message) -> None:
        if not m.content and not self.profile.takes_empty:
            raise Bad(b"NO Can't save a zero byte message.")
        if self.profile.refuse_nul and b"\0" in m.content:
            raise Bad(self.profile.refuse_nul)
        unknown = [f for f in m.flags if f.startswith("\\") and f.lower() not in SYSTEM_FLAGS]
        if unknown:
            raise Bad(b"BAD Invalid system flag " + unknown[0].encode())
        for refusal in self.sim.append_refusals:
            if refusal.applies(folder.name, m.flags, m.content):
                raise Bad(refusal.reply)
        keywords = [f for f in m.flags if not f.startswith("\\")]
        if keywords and self.profile.keywords == "refused":
            raise Bad(b"NO APPEND failed: Unknown flag: " + keywords[0].encode())
        if self.profile.keywords == "dropped":
            m.flags = tuple(f for f in m.flags if f.startswith("\\"))
