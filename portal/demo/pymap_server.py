"""A real IMAP server from PyPI alone, for machines without Dovecot: pymap with several users, TLS from the first octet, a memory.

    python -m portal.demo.pymap_server --directory DIR --port N      DIR holds users.json, server.pem, server.key

Owns DIR/mail.json. Always on loopback. pymap's in-memory backend keeps every octet, flag and date (its maildir backend rewrites
messages, so it is not used), but forgets all when it ends; here it is written down every second after a change and at SIGTERM, and
comes back under the same UIDVALIDITY and UIDs, so that a second start of the demo finds what the first one moved.
Reaches into pymap's `dict` backend, which has no interface for that; the version is pinned.
"""
from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import ssl
import sys
from argparse import Namespace
from base64 import b64decode, b64encode
from datetime import datetime
from pathlib import Path
from typing import Any

from proxyprotocol.noop import ProxyProtocolNoop
from proxyprotocol.reader import ProxyProtocolReader
from proxyprotocol.sock import SocketInfo
from pymap.backend.dict import Config, Login
from pymap.backend.dict.filter import FilterSet
from pymap.backend.dict.mailbox import MailboxData, MailboxSet, Message
from pymap.context import connection_exit
from pymap.imap import IMAPConnection, IMAPServer
from pymap.imap.state import ConnectionState
from pymap.mime import MessageContent
from pymap.parsing.command.select import CloseCommand
from pymap.parsing.response import ResponseOk
from pymap.parsing.specials.flag import Flag
from pymap.user import Passwords, UserMetadata

HOST = "127.0.0.1"
SAVE_SECONDS = 1.0


class _State(ConnectionState):
    """pymap refuses to CLOSE a folder that was opened by EXAMINE; RFC 3501 §6.4.2 says that no error is given."""

    async def do_close(self, cmd: CloseCommand) -> Any:
        if not self.selected.readonly:
            return await super().do_close(cmd)
        self._selected = None
        return ResponseOk(cmd.tag, cmd.command + b" completed."), None


class _Server(IMAPServer):
    """pymap's own, with that state."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sock_info: SocketInfo) -> None:
        connection = IMAPConnection(self.commands, self._config, reader, writer, sock_info)
        async with contextlib.AsyncExitStack() as stack:
            connection_exit.set(stack)
            stack.enter_context(contextlib.closing(connection))
            await connection.run(_State(self._login, self._config))


class Memory:
    """All mailboxes of all users as one JSON file; small on purpose (a demo's few megabytes)."""

    def __init__(self, path: Path, config: Config, logins: list[str]) -> None:
        self.path = path
        self.config = config
        self.logins = logins
        self._saved: Any = None

    async def restore(self) -> None:
        known = json.loads(self.path.read_text()) if self.path.exists() else {}
        for login in self.logins:
            folders = MailboxSet()
            self.config.set_cache[login] = (folders, FilterSet())
            for name, kept in known.get(login, {}).items():
                if name != "INBOX":
                    await folders.add_mailbox(name)
                await self._fill(await folders.get_mailbox(name), kept)
        self._saved = await self._marks()

    async def _fill(self, folder: MailboxData, kept: dict[str, Any]) -> None:
        folder._uid_validity, folder._max_uid = kept["uidvalidity"], kept["max_uid"]
        for uid, date, flags, content in kept["messages"]:
            parsed = MessageContent.parse(b64decode(content))
            folder._messages[uid] = Message(uid, datetime.fromisoformat(date), frozenset(Flag(f.encode()) for f in flags),
                                            email_id=folder._content_cache.add(parsed),
                                            thread_id=folder._thread_cache.add(parsed), content=parsed)
            folder._mod_sequences.update([uid])

    async def _marks(self) -> list[tuple[str, str, int]]:
        """What changes whenever anything changes."""
        return [(login, name, folder._mod_sequences.highest) async for login, name, folder in self._folders()]

    async def _folders(self) -> Any:
        for login in self.logins:
            folders = self.config.set_cache[login][0]
            for entry in (await folders.list_mailboxes()).list():
                if entry.exists:
                    yield login, entry.name, await folders.get_mailbox(entry.name)

    async def save(self) -> None:
        marks = await self._marks()
        if marks == self._saved:
            return
        kept: dict[str, dict[str, Any]] = {}
        async for login, name, folder in self._folders():
            kept.setdefault(login, {})[name] = {
                "uidvalidity": folder.uid_validity, "max_uid": folder._max_uid,
                "messages": [(m.uid, m.internal_date.isoformat(), [str(f) for f in m.permanent_flags],
                              b64encode(bytes(m._content)).decode()) for m in folder._messages.values()]}
        draft = self.path.with_suffix(".new")
        draft.write_text(json.dumps(kept))
        os.replace(draft, self.path)
        self._saved = marks


async def serve(directory: Path, port: int) -> None:
    users: dict[str, str] = json.loads((directory / "users.json").read_text())
    first = next(iter(users))
    config = Config(Namespace(passlib_cfg=None, proxy_protocol=None), host=HOST, port=port, tls_enabled=False, demo_data=False,
                    demo_user=first, demo_password=users[first])
    config.apply_context()
    login = Login(config)
    for name, password in users.items():
        login.users_dict[name] = UserMetadata(config, name, password=await Passwords(config).hash_password(password))
    memory = Memory(directory / "mail.json", config, list(users))
    await memory.restore()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(directory / "server.pem", directory / "server.key")
    imap = _Server(login, config)

    connected = ProxyProtocolReader(ProxyProtocolNoop()).get_callback(imap)  # as pymap's own service does, but with TLS
    server = await asyncio.start_server(connected, HOST, port, ssl=context)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    while not ended.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), SAVE_SECONDS)
        await memory.save()
    server.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m portal.demo.pymap_server")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    asyncio.run(serve(given.directory, given.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
