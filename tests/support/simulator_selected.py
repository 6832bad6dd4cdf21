"""Messages of the folder that is open at the simulated server: chosen by number or UID, searched, flagged, removed."""
from __future__ import annotations

import re
from bisect import bisect_left, bisect_right

from tests.support.simulator_commands import Bad, Command
from tests.support.simulator_connection import Connection
from tests.support.simulator_mail import Folder, Message


class SelectedVerbs(Connection):
    def opened(self) -> Folder:
        if self.folder is None:
            raise Bad(b"NO SEARCH State error" if self.profile.id_before_select else b"BAD No mailbox selected")
        return self.folder

    def chosen(self, numbers: bytes, by_uid: bool) -> list[tuple[int, Message]]:
        """(sequence number, message) for a set. RFC 3501 §6.4.8: UIDs that do not exist are no error."""
        messages = self.opened().messages
        parts = [part.split(b":") for part in numbers.split(b",")]
        if not all(1 <= len(part) <= 2 and all(re.fullmatch(rb"[1-9]\d{0,9}|\*", n) for n in part) for part in parts):
            raise Bad(b"BAD Invalid messageset")
        if by_uid and self.profile.strict_uid_sets:
            flat = [int(n) for part in parts for n in part if n != b"*"]
            if b"*" in numbers or flat != sorted(flat):
                raise Bad(b"BAD UID parameters!")
        last = (messages[-1].uid if by_uid else len(messages)) if messages else 0
        found: dict[int, Message] = {}
        for part in parts:
            ends = [last if n == b"*" else int(n) for n in part]
            low, high = min(ends), max(ends)
            first = bisect_left(messages, low, key=lambda m: m.uid) if by_uid else low - 1
            beyond = bisect_right(messages, high, key=lambda m: m.uid) if by_uid else high
            found.update((number, m) for number, m in enumerate(messages[first:beyond], first + 1) if not m.hidden)
        return sorted(found.items())

    async def do_search(self, command: Command) -> bytes:
        return await self._search(command, by_uid=False)

    async def do_uid_search(self, command: Command) -> bytes:
        return await self._search(command, by_uid=True)

    async def _search(self, command: Command, by_uid: bool) -> bytes:
        arguments = command.arguments()
        messages = self.opened().messages
        simple = len(arguments) == 1 and bytes(arguments[0]).upper() == b"ALL"
        ranged = len(arguments) == 2 and bytes(arguments[0]).upper() == b"UID"
        if not (simple or ranged):
            if self.profile.search == "refused":
                raise Bad(b"BAD Missing or invalid or unimplemented argument")
            messages = []
        found = self.chosen(arguments[1], True) if ranged else list(enumerate(messages, 1))
        await self.untagged(b"SEARCH", b" ".join(b"%d" % (m.uid if by_uid else number) for number, m in found))
        return b"OK SEARCH completed"

    async def do_store(self, command: Command) -> bytes:
        return self._store(command, by_uid=False)

    async def do_uid_store(self, command: Command) -> bytes:
        return self._store(command, by_uid=True)

    def _store(self, command: Command, by_uid: bool) -> bytes:
        numbers, how, flags = command.arguments()
        chosen = self.chosen(numbers, by_uid)
        if self.read_only:
            raise Bad(b"NO [READ-ONLY] Mailbox is read-only")
        named = tuple(bytes(f).decode() for f in flags)
        for _, m in chosen:
            kept = tuple(f for f in m.flags if f not in named)
            m.flags = kept if how.startswith(b"-") else (kept + named if how.startswith(b"+") else named)
        return b"OK STORE completed"

    async def do_expunge(self, command: Command) -> bytes:
        return await self._expunge(self.opened().messages)

    async def do_uid_expunge(self, command: Command) -> bytes:
        if not self.profile.offers("UIDPLUS"):
            raise Bad(b"BAD Unknown command")
        return await self._expunge([m for _, m in self.chosen(command.arguments()[0], True)])

    async def _expunge(self, among: list[Message]) -> bytes:
        if self.read_only:
            raise Bad(b"NO [READ-ONLY] Mailbox is read-only")
        folder = self.opened()
        doomed = {m.uid for m in among if "\\Deleted" in m.flags}
        for number in [n for n, m in enumerate(folder.messages, 1) if m.uid in doomed][::-1]:
            await self.untagged(b"%d EXPUNGE" % number)
        folder.messages = [m for m in folder.messages if m.uid not in doomed]
        return b"OK EXPUNGE completed"
