"""What may be said to the simulated server in any state, and how one logs in."""
from __future__ import annotations

import base64
import binascii

from tests.support.simulator_commands import Answered, Bad, Command
from tests.support.simulator_connection import Connection


class LoginVerbs(Connection):
    async def do_capability(self, command: Command) -> bytes:
        offered = self.profile.after if self.box else self.profile.before
        if self.secured:
            offered = " ".join(word for word in offered.split() if word != "STARTTLS")
        await self.untagged(b"CAPABILITY", self.word(offered.encode()))
        return b"OK CAPABILITY completed"

    async def do_noop(self, command: Command) -> bytes:
        if self.folder:
            await self.untagged(b"%d EXISTS" % len(self.folder.messages))
        return b"OK NOOP completed"

    async def do_logout(self, command: Command) -> bytes:
        await self.untagged(b"BYE", b"IMAP4rev1 Server logging out")
        return b"OK LOGOUT completed"

    async def do_id(self, command: Command) -> bytes:
        if "ID" not in self.profile.before.split() and "ID" not in self.profile.after.split():
            raise Bad(b"BAD Unknown command")
        self.identified = True
        await self.untagged(b"ID", self.profile.id_reply)
        return b"OK ID completed"

    async def do_starttls(self, command: Command) -> bytes:
        if self.secured:
            raise Bad(b"BAD TLS is already active")
        await self.tagged(command, b"OK Begin TLS negotiation now")
        await self.writer.start_tls(self.sim.tls_context())
        self.secured = True
        raise Answered

    async def do_login(self, command: Command) -> bytes:
        arguments = command.arguments()
        if "LOGINDISABLED" in self.profile.before.split():
            raise Bad(b"NO [PRIVACYREQUIRED] LOGIN is disabled")
        if len(arguments) != 2:
            raise Bad(b"BAD Login parameters!")
        return self._check(*arguments)

    async def do_authenticate(self, command: Command) -> bytes:
        arguments = command.arguments()
        if arguments[0].upper() != b"PLAIN" or self.profile.authenticate_refused:
            raise Bad(self.profile.authenticate_refused or b"NO Unsupported authentication mechanism")
        if len(arguments) > 1 and self.profile.sasl_ir_refused:
            raise Bad(self.profile.sasl_ir_refused)
        if len(arguments) == 1:
            await self.send(b"+ \r\n")
            response = (await self.reader.readline()).strip()
        else:
            response = bytes(arguments[1])
        try:
            _, user, secret = base64.b64decode(response, validate=True).split(b"\0")
        except (binascii.Error, ValueError):
            raise Bad(b"BAD Invalid SASL response") from None
        return self._check(user, secret)

    def _check(self, user: bytes, secret: bytes) -> bytes:
        box = self.sim.accounts.get(user.decode("utf-8", "replace"))
        if box is None or box.secret.encode() != bytes(secret):
            raise Bad(self.profile.login_refused)
        self.box = box
        return self.profile.login_ok
