"""Folders of the simulated server: listed, counted, opened, made and removed; and the account's quota."""
from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.support.simulator_commands import Bad, Command, quoted
from tests.support.simulator_connection import Connection
from tests.support.simulator_mail import Folder

AttributesOf = Callable[[str, tuple[str, ...]], list[str]]  # of a folder's name and attributes: those to show
STRUCTURAL = ("\\noselect", "\\haschildren", "\\hasnochildren", "\\noinferiors", "\\nonexistent")  # attributes that are no roles


class FolderVerbs(Connection):
    # ---- listing

    async def do_namespace(self, command: Command) -> bytes:
        if not self.profile.offers("NAMESPACE"):
            raise Bad(b"BAD Unknown command")
        await self.untagged(b"NAMESPACE", b"((%s %s)) NIL NIL" % (quoted(self.profile.prefix), quoted(self.profile.separator)))
        return b"OK NAMESPACE completed"

    def _listed(self, pattern: bytes) -> list[tuple[str, tuple[str, ...]]]:
        """Folders and the \\Noselect parents that their names imply, as LIST shows them."""
        assert self.box is not None
        separator = re.escape(self.profile.separator)
        wildcards = {"*": ".*", "%": f"[^{separator}]*"}
        expression = "".join(wildcards.get(c, re.escape(c)) for c in pattern.decode("utf-8", "surrogateescape"))
        rows: dict[str, tuple[str, ...]] = {}
        for folder in self.box.folders.values():
            parts = folder.name.split(self.profile.separator)
            for depth in range(1, len(parts)):
                rows.setdefault(self.profile.separator.join(parts[:depth]), ("\\Noselect",))
            rows[folder.name] = folder.attributes
        return [(name, attributes) for name, attributes in rows.items() if re.fullmatch(expression, name, re.DOTALL)]

    async def _list(self, word: bytes, pattern: bytes, attributes_of: AttributesOf, status: list[Any] | None = None) -> None:
        if not pattern:
            await self.untagged(word, b"(\\Noselect) %s \"\"" % quoted(self.profile.separator))
            return
        for name, attributes in self._listed(pattern):
            shown = " ".join(attributes_of(name, attributes)).encode()
            await self.untagged(word, b"(%s) %s %s" % (shown, quoted(self.profile.separator), quoted(name)))
            folder = self.find(name.encode("utf-8", "surrogateescape"))
            if status is not None and folder:
                await self._send_status(folder, status)

    async def do_list(self, command: Command) -> bytes:
        arguments = command.arguments()
        asked = {bytes(word).upper() for word in arguments[3] if isinstance(word, bytes)} if len(arguments) > 3 else set()
        if len(arguments) > 3 and not (self.profile.offers("LIST-EXTENDED") or self.profile.offers("SPECIAL-USE")):
            raise Bad(b"BAD Extra arguments")
        status = None
        if b"STATUS" in asked and self.profile.offers("LIST-STATUS"):
            status = arguments[3][next(i for i, word in enumerate(arguments[3]) if word == b"STATUS") + 1]
        roles = self.profile.roles_in_list or b"SPECIAL-USE" in asked

        def attributes_of(name: str, attributes: tuple[str, ...]) -> list[str]:
            return [a for a in attributes if roles or a.lower() in STRUCTURAL]
        await self._list(b"LIST", arguments[1], attributes_of, status)
        return b"OK LIST completed"

    async def do_xlist(self, command: Command) -> bytes:
        if not self.profile.offers("XLIST"):
            raise Bad(b"BAD Unknown command")
        extra = dict(self.profile.xlist_attributes)
        await self._list(b"XLIST", command.arguments()[1], lambda name, has: [*has, *([extra[name]] if name in extra else [])])
        return b"OK XLIST completed"

    async def do_lsub(self, command: Command) -> bytes:
        assert self.box is not None
        for name in sorted(self.box.subscribed):
            await self.untagged(b"LSUB", b"() %s %s" % (quoted(self.profile.separator), quoted(name)))
        return b"OK LSUB completed"

    # ---- counting and opening

    async def _send_status(self, folder: Folder, items: list[Any]) -> None:
        values: dict[bytes, int | None] = {
            b"MESSAGES": len(folder.messages), b"RECENT": sum(m.recent for m in folder.messages),
            b"UIDVALIDITY": folder.uidvalidity,
            b"UIDNEXT": folder.uidnext if self.profile.status_uidnext else None,
            b"UNSEEN": sum("\\Seen" not in m.flags for m in folder.messages),
            b"SIZE": folder.size() if self.profile.offers("STATUS=SIZE") else None,
        }
        if self.profile.offers("CONDSTORE"):
            folder.count_changes()
            values[b"HIGHESTMODSEQ"] = folder.highestmodseq
        wanted = [bytes(item).upper() for item in items]
        if any(item not in values for item in wanted) or (b"SIZE" in wanted and values[b"SIZE"] is None):
            raise Bad(b"BAD Invalid STATUS item")
        shown = b" ".join(b"%s %d" % (self.word(item), value) for item in wanted if (value := values[item]) is not None)
        await self.untagged(b"STATUS", b"%s (%s)" % (quoted(folder.name), shown))

    async def do_status(self, command: Command) -> bytes:
        name, items = command.arguments()
        await self._send_status(self.need(name, b"STATUS"), items)
        return b"OK STATUS completed"

    async def _open(self, command: Command, read_only: bool) -> bytes:
        if self.profile.id_before_select and not self.identified:
            raise Bad(b"NO %s Unsafe Login. Please contact kefu@188.com for help" % command.verb.encode())
        self.folder = None
        folder = self.need(command.arguments()[0], command.verb.encode())
        self.folder, self.read_only = folder, read_only
        await self.untagged(b"FLAGS", b"(\\Answered \\Flagged \\Deleted \\Seen \\Draft)")
        await self.untagged(b"OK", b"[PERMANENTFLAGS (%s)] Limited" % self.profile.permanent_flags.encode())
        await self.untagged(b"%d EXISTS" % len(folder.messages))
        await self.untagged(b"%d RECENT" % sum(m.recent for m in folder.messages))
        await self.untagged(b"OK", b"[UIDVALIDITY %d] UIDs valid" % folder.uidvalidity)
        if self.profile.select_uidnext:
            await self.untagged(b"OK", b"[UIDNEXT %d] Predicted next UID" % folder.uidnext)
        if self.profile.offers("CONDSTORE"):
            folder.count_changes()
            await self.untagged(b"OK", b"[HIGHESTMODSEQ %d] Highest" % folder.highestmodseq if folder.highestmodseq else b"[NOMODSEQ] None")
        return b"OK [READ-%s] %s completed" % (b"ONLY" if read_only else b"WRITE", command.verb.encode())

    async def do_examine(self, command: Command) -> bytes:
        return await self._open(command, True)

    async def do_select(self, command: Command) -> bytes:
        return await self._open(command, False)

    async def do_unselect(self, command: Command) -> bytes:
        if not self.profile.offers("UNSELECT"):
            raise Bad(b"BAD Unknown command")
        self.folder = None
        return b"OK UNSELECT completed"

    async def do_close(self, command: Command) -> bytes:
        if self.folder and not self.read_only:
            self.folder.messages = [m for m in self.folder.messages if "\\Deleted" not in m.flags]
        self.folder = None
        return b"OK CLOSE completed"

    # ---- making and removing

    async def do_create(self, command: Command) -> bytes:
        assert self.box is not None
        raw: bytes = command.arguments()[0]
        name = raw.decode("utf-8", "surrogateescape").rstrip(self.profile.separator)
        if self.find(name.encode("utf-8", "surrogateescape")):
            raise Bad(b"NO [ALREADYEXISTS] Mailbox already exists")
        if not name or set(name.replace(self.profile.separator, "")) & set(self.profile.refused_name_characters):
            raise Bad(b"NO [CANNOT] Invalid mailbox name")
        self.sim.add_folder(name, box=self.box)
        return b"OK CREATE completed"

    async def do_delete(self, command: Command) -> bytes:
        assert self.box is not None
        del self.box.folders[self.need(command.arguments()[0], b"DELETE").name]
        return b"OK DELETE completed"

    async def do_subscribe(self, command: Command) -> bytes:
        assert self.box is not None
        self.box.subscribed.add(command.arguments()[0].decode("utf-8", "surrogateescape"))
        return b"OK SUBSCRIBE completed"

    async def do_enable(self, command: Command) -> bytes:
        await self.untagged(b"ENABLED")
        return b"OK ENABLE completed"

    # ---- quota

    async def do_getquotaroot(self, command: Command) -> bytes:
        assert self.box is not None
        if not self.profile.offers("QUOTA"):
            raise Bad(b"BAD Unknown command")
        await self.untagged(b"QUOTAROOT", quoted(command.arguments()[0].decode()) + b' "User quota"')
        return await self.do_getquota(command)

    async def do_getquota(self, command: Command) -> bytes:
        assert self.box is not None
        if not self.profile.offers("QUOTA"):
            raise Bad(b"BAD Unknown command")
        limit = b"STORAGE %d %d" % (self.box.used() // 1024, self.box.quota // 1024) if self.box.quota is not None else b""
        await self.untagged(b"QUOTA", b'"User quota" (%s)' % limit)
        return b"OK GETQUOTA completed"
