"""The state of one connection to the simulated server, and what goes out over it. Every group of verbs rests on this.

Must not: know a verb (simulator_login.py, _folders, _selected, _fetch, _append), or who is served next (simulator_session.py).
"""
from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, NoReturn

from tests.support.simulator_commands import Bad, Command
from tests.support.simulator_mail import Folder, MailAccount

if TYPE_CHECKING:
    from tests.support.provider_simulator import ProviderSimulator


class Gone(ConnectionError):
    """The session ends here."""


class Connection:
    """`box` is the account once somebody has logged in, `folder` what is open. Nothing is sent while `_held` gathers an answer."""

    def __init__(self, sim: ProviderSimulator, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.sim, self.reader, self.writer, self.number = sim, reader, writer, number
        reader.set_exception = lambda exc: reader.feed_eof()  # type: ignore[method-assign]  # a reset leaves what was received readable
        self.profile = sim.profile
        self.box: MailAccount | None = None
        self.folder: Folder | None = None
        self.read_only = True
        self.identified = False
        self.secured = sim.tls
        self._held: bytearray | None = None    # output while an answer is delayed
        self._cut_after: int | None = None
        self._trailing = b""

    # ---- its end

    def abort(self) -> None:
        self.writer.transport.abort()

    def end(self) -> NoReturn:
        self.abort()
        raise Gone

    async def hang(self) -> NoReturn:
        await asyncio.Event().wait()
        raise Gone

    # ---- what is sent

    async def send(self, data: bytes) -> None:
        if self._held is not None:
            self._held += data
            return
        if self._cut_after is not None:
            data, self._cut_after = data[:self._cut_after], self._cut_after - len(data)
        with contextlib.suppress(ConnectionError):  # a client that is gone: what it sent is executed all the same
            self.writer.write(data)
            await self.writer.drain()
        if self._cut_after is not None and self._cut_after <= 0:
            self.writer.close()
            await self.writer.wait_closed()
            raise Gone

    def word(self, text: bytes) -> bytes:
        return text.lower() if self.profile.lower_case else text

    async def untagged(self, word: bytes, rest: bytes = b"") -> None:
        await self.send(b"* " + self.word(word) + (b" " + rest if rest else b"") + b"\r\n")

    async def tagged(self, command: Command, text: bytes) -> None:
        trailing, self._trailing = self._trailing, b""
        await self.send(command.tag + b" " + text + b"\r\n" + trailing)

    # ---- folders by name

    def same(self, name: str) -> str:
        head, separator, rest = name.partition(self.profile.separator)
        name = ("INBOX" if head.upper() == "INBOX" else head) + separator + rest
        return name.casefold() if self.profile.case_insensitive else name

    def find(self, name: bytes) -> Folder | None:
        assert self.box is not None
        wanted = self.same(name.decode("utf-8", "surrogateescape"))
        return next((f for f in self.box.folders.values() if self.same(f.name) == wanted and f.selectable), None)

    def need(self, name: bytes, verb: bytes) -> Folder:
        found = self.find(name)
        if found is None:
            raise Bad(b"NO [NONEXISTENT] " + verb + b" failed: mailbox doesn't exist")
        return found
