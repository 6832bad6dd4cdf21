"""One connection of the simulated server: reads commands, commits the faults asked for, answers as the profile's server would.

Owns: the IMAP grammar of the server's side, one method per verb. Must not: know what a test wants (profile and faults are data).
Always: commands are executed in order, also those that were already received when the client went away (a dead client's pipelined
APPENDs are stored by real servers; facts: reliability, finding 1); a literal that did not arrive whole stores nothing.
"""
from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import re
import time
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from tests.support.simulator_faults import Action, Fault
from tests.support.simulator_mail import SYSTEM_FLAGS, BodyFault, Folder, Form, MailAccount, Message

if TYPE_CHECKING:
    from tests.support.provider_simulator import ProviderSimulator

TOKEN = re.compile(rb'\s*(?:\x00(?P<literal>\d+)\x00|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<open>\()|(?P<close>\))|'
                   rb'(?P<atom>[^\s()"\x00\[]+(?:\[[^\]]*\](?:<[\d.]+>)?)?|\[[^\]]*\]))')
LITERAL = re.compile(rb"~?\{(\d+)([+-])?\}$")
DATE = re.compile(r"[ \d]\d-(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)-\d{4} \d\d:\d\d:\d\d [+-]\d{4}", re.I)
UID_VERBS = (b"FETCH", b"STORE", b"COPY", b"MOVE", b"SEARCH", b"EXPUNGE")
NO_LOGIN_NEEDED = {"CAPABILITY", "NOOP", "LOGOUT", "LOGIN", "AUTHENTICATE", "STARTTLS", "ID"}
LITERAL_MINUS = 4096  # octets (RFC 7888 §5)
BOMB = 1_500_000_000


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


class Gone(ConnectionError):
    """The session ends here."""


@dataclass
class Command:
    tag: bytes
    verb: str
    line: bytes
    rest: bytes
    literals: list[bytes]
    refusal: bytes = b""  # decided while a literal arrived

    def arguments(self) -> list[Any]:
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


def _form(items: list[bytes], by_uid: bool, messages: int) -> Form:
    if any(b"]<" in item for item in items):
        return Form.PIECES
    if any(b"[TEXT]" in item for item in items):
        return Form.APART
    if not by_uid:
        return Form.NUMBER
    return Form.ALONE if messages == 1 else Form.BATCH


class SimulatedSession:
    def __init__(self, sim: ProviderSimulator, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.sim, self.reader, self.writer, self.number = sim, reader, writer, number
        reader.set_exception = lambda _: reader.feed_eof()  # type: ignore[method-assign]  # a reset leaves what was received readable
        self.profile = sim.profile
        self.box: MailAccount | None = None
        self.folder: Folder | None = None
        self.read_only = True
        self.identified = False
        self.secured = sim.tls
        self._held: bytearray | None = None    # output while an answer is delayed
        self._cut_after: int | None = None
        self._trailing = b""

    # ---- lines in and out

    def abort(self) -> None:
        self.writer.transport.abort()

    def _gone(self) -> NoReturn:
        self.abort()
        raise Gone

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

    async def _hang(self) -> NoReturn:
        await asyncio.Event().wait()
        raise Gone

    async def read_command(self) -> Command | None:
        text, literals, refusal = b"", [], b""
        while True:
            line = await self.reader.readline()
            if not line.endswith(b"\n"):
                return None
            text += line.rstrip(b"\r\n")
            if not line.endswith(b"\r\n"):
                refusal = refusal or b"BAD Request not ending with \\r\\n"
            found = LITERAL.search(text)
            command = self._split(text[:found.start()] if found else text, literals)
            command.refusal = refusal
            if not found:
                return command
            size, mark = int(found[1]), found[2]
            refusal = refusal or self._refused_at_announcement(command, size, mark)
            if refusal and not mark:
                self.sim.record(self.number, command.verb, command.line, self.box and self.box.login)
                await self.tagged(command, refusal)
                self.sim.changed()
                text, literals, refusal = b"", [], b""
                continue
            if not mark:
                await self.send(b"+ OK\r\n")
            cut = self.sim.fault_for(command.verb, command.line, literal=True)
            if cut:
                self.sim.record(self.number, command.verb, command.line, self.box and self.box.login)
                await self.reader.readexactly(min(cut.at, size))
                self._gone()
            text = text[:found.start()] + b"\0%d\0" % len(literals)
            literals.append(await self.reader.readexactly(size))

    def _split(self, text: bytes, literals: list[bytes]) -> Command:
        tag, _, rest = text.partition(b" ")
        verb, _, rest = rest.partition(b" ")
        if verb.upper() == b"UID":
            follow, _, rest = rest.partition(b" ")
            verb += b" " + follow
        return Command(tag or b"*", verb.upper().decode("latin-1"), text, rest, literals)

    def _refused_at_announcement(self, command: Command, size: int, mark: bytes | None) -> bytes:
        """Dovecot refuses an APPEND when its literal is announced (facts: reliability 2b): nothing of it is sent then."""
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

    # ---- life

    async def serve(self) -> None:
        if not await self._greet():
            return
        while True:
            command = await self.read_command()
            if command is None:
                return
            self.sim.record(self.number, command.verb, command.line, self.box and self.box.login)
            try:
                await self._meet_faults_and_execute(command)
            finally:
                self.sim.changed()
            if command.verb == "LOGOUT":
                self.writer.close()
                return

    async def _greet(self) -> bool:
        fault = self.sim.fault_for("GREETING", b"")
        if fault and fault.action is Action.HANG:
            await self._hang()
        if fault and fault.action is Action.CLOSE:
            self._gone()
        limit = self.profile.max_connections
        if limit is not None and self.sim.open_now > limit:
            await self.send(b"* " + self.profile.too_many + b"\r\n")
        elif fault:
            await self.send(fault.text + b"\r\n")
        else:
            await self.send(b"* " + self.profile.greeting + b"\r\n")
            return True
        if fault and not fault.text.startswith(b"* BYE"):
            return True
        self.writer.close()
        return False

    async def _meet_faults_and_execute(self, command: Command) -> None:
        fault = self.sim.fault_for(command.verb, command.line)
        action = fault.action if fault else None
        if fault is None:
            await self._execute(command)
        elif action is Action.REPLY:
            await self._refuse(command, fault)
        elif action is Action.HANG:
            await self._hang()
        elif action is Action.CLOSE:
            self._gone()
        elif action in (Action.DELAY, Action.EXECUTE_THEN_CLOSE):
            await self._execute_with_late_answer(command, fault)
        else:
            if action is Action.UNTAGGED:
                await self.send(fault.text + b"\r\n")
            elif action is Action.LATE:
                await asyncio.sleep(fault.seconds)
            self._trailing = fault.text if action is Action.TRAILING else b""
            self._cut_after = fault.at if action is Action.CUT_ANSWER else None
            await self._execute(command)

    async def _execute_with_late_answer(self, command: Command, fault: Fault) -> None:
        self._held = bytearray()
        await self._execute(command)
        held, self._held = bytes(self._held), None
        self.sim.changed()
        if fault.action is Action.EXECUTE_THEN_CLOSE:
            self._gone()
        await asyncio.sleep(fault.seconds)
        await self.send(held)

    async def _refuse(self, command: Command, fault: Fault) -> None:
        if fault.seconds and self.box:
            self.sim.backoff_until[self.box.login] = time.monotonic() + fault.seconds
        if fault.text.startswith(b"BYE"):
            await self.send(b"* " + fault.text + b"\r\n")
            self.writer.close()
            raise Gone
        await self.tagged(command, fault.text)

    async def _execute(self, command: Command) -> None:
        try:
            if command.refusal:
                raise Bad(command.refusal)
            if len(command.line) > self.profile.max_command:
                raise Bad(b"BAD Command Argument Error. 11")
            if command.verb in self.profile.hang_on:
                await self._hang()
            if self.box is None and command.verb not in NO_LOGIN_NEEDED:
                raise Bad(b"BAD Command received in invalid state")
            act = getattr(self, "do_" + command.verb.lower().replace(" ", "_"), None)
            if act is None:
                raise Bad(b"BAD Unknown command")
            await self.tagged(command, await act(command))
        except Answered:
            return
        except Bad as refused:
            await self.tagged(command, refused.text)

    # ---- any state

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

    # ---- folders

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

    async def _list(self, word: bytes, pattern: bytes, attributes_of: Any, status: list[Any] | None = None) -> None:
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
            structural = ("\\noselect", "\\haschildren", "\\hasnochildren", "\\noinferiors", "\\nonexistent")
            return [a for a in attributes if roles or a.lower() in structural]
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
        shown = b" ".join(b"%s %d" % (self.word(item), values[item]) for item in wanted if values[item] is not None)
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

    # ---- messages

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

    async def do_fetch(self, command: Command) -> bytes:
        return await self._fetch(command, by_uid=False)

    async def do_uid_fetch(self, command: Command) -> bytes:
        return await self._fetch(command, by_uid=True)

    async def _fetch(self, command: Command, by_uid: bool) -> bytes:
        arguments = command.arguments()
        if len(arguments) < 2:
            raise Bad(b"BAD Missing argument")
        items = [bytes(i).upper() for i in (arguments[1] if isinstance(arguments[1], list) else [arguments[1]])]
        if by_uid and b"UID" not in items:
            items.insert(0, b"UID")
        body = any(i.startswith((b"BODY", b"RFC822")) and i != b"RFC822.SIZE" for i in items)
        whole = any(i in (b"BODY[]", b"BODY.PEEK[]", b"RFC822") or b"[]<" in i or b"[TEXT]" in i for i in items)
        chosen = self._changed_since(self.chosen(arguments[0], by_uid), arguments[2:], items)
        form = _form(items, by_uid, len(chosen))
        refused: bytes = b""
        served = 0
        responses: list[bytes] | None = [] if self.sim.oddity else None
        for number, m in chosen:
            fault = m.take_fault(form) if whole else None
            silent = not (self.profile.uid_bodies if whole else self.profile.uid_lists)
            if fault is BodyFault.MISSING or (by_uid and silent):
                continue
            if fault is BodyFault.REFUSED or (not body and m.unlisted and b"RFC822.SIZE" in items):
                refused = m.words if whole else m.unlisted
                continue
            served += 1
            self.sim.bodies_opened += whole
            await self._send_message(number, m, items, fault, responses)
        if responses is not None and self.sim.oddity:
            for response in self.sim.oddity(responses):
                await self.send(response)
        if refused:
            raise Bad(refused)
        return self.profile.missing_text if body and not served and chosen else b"OK %s completed" % command.verb.encode()

    def _changed_since(self, chosen: list[tuple[int, Message]], modifiers: list[Any], items: list[bytes]) -> list[tuple[int, Message]]:
        """FETCH … (CHANGEDSINCE n) (RFC 7162 §3.1.4.1): those with a greater modification sequence, which is told with them."""
        if not modifiers:
            return chosen
        folder = self.opened()
        if not (self.profile.offers("CONDSTORE") and folder.highestmodseq and modifiers[0][0].upper() == b"CHANGEDSINCE"):
            raise Bad(b"BAD Unknown FETCH modifier")
        items.append(b"MODSEQ")
        folder.count_changes()
        return [(number, m) for number, m in chosen if folder.modseq(m) > int(modifiers[0][1])]

    async def _send_message(self, number: int, m: Message, items: list[bytes], fault: BodyFault | None,
                            responses: list[bytes] | None) -> None:
        if fault is BodyFault.BYE:
            await self.send(b"* BYE Connection closed. 14\r\n")
            self._gone()
        if fault is BodyFault.ENDLESS:
            await self.send(b"* %d FETCH (UID %d X-LONG \"" % (number, m.uid) + b"x" * 3_000_000)
            self._gone()
        answer = b"* %d %s (" % (number, self.word(b"FETCH"))
        for position, item in enumerate(items):
            value = self._value(m, item, fault)
            answer += (b" " if position else b"") + self.word(re.sub(rb"\.\d+>\Z", b">", item.replace(b".PEEK", b""))) + b" " + value
            if fault is BodyFault.BOMB and value.startswith(b"{%d}" % BOMB):
                await self.send(answer)
                await self._hang()
        if fault is BodyFault.CUT:
            await self.send(answer[:-max(1, len(m.content) // 2)])
            self._gone()
        if responses is None:
            await self.send(answer + b")\r\n")
        else:
            responses.append(answer + b")\r\n")

    def _value(self, m: Message, item: bytes, fault: BodyFault | None) -> bytes:
        if item == b"UID":
            return b"%d" % m.uid
        if item == b"FLAGS":
            return b"(%s)" % " ".join([*m.flags, *(["\\Recent"] if m.recent else [])]).encode()
        if item == b"INTERNALDATE":
            return b'"%s"' % m.internal_date.encode()
        if item == b"MODSEQ" and self.profile.offers("CONDSTORE"):
            return b"(%d)" % self.opened().modseq(m)
        if item == b"RFC822.SIZE":
            return b"%d" % (m.size() + (m.size() // 50 + 3 if self.profile.size_guess and m.announced_size is None else 0))
        if item in (b"X-GM-MSGID", b"X-GM-THRID") and self.profile.offers("X-GM-EXT-1"):
            return b"%d" % (1_000_000_000_000 + hash(m.content) % 1_000_000_000)
        section = re.fullmatch(rb"BODY(?:\.PEEK)?\[(.*?)\](?:<(\d+)\.(\d+)>)?", item, re.DOTALL)
        if not section and item not in (b"RFC822", b"RFC822.HEADER", b"RFC822.TEXT"):
            raise Bad(b"BAD Invalid FETCH item")
        name = section[1] if section else {b"RFC822": b"", b"RFC822.HEADER": b"HEADER", b"RFC822.TEXT": b"TEXT"}[item]
        data = self._section(m, name, fault)
        if section and section[2] is not None:
            first, length = int(section[2]), int(section[3])
            data = data[first:first + length]
        whole = name in (b"", b"TEXT")
        if whole and fault is BodyFault.NIL:
            return b"NIL"
        if whole and fault is BodyFault.EMPTY:
            return b'""'
        return b"{%d}\r\n" % (BOMB if whole and fault is BodyFault.BOMB else len(data)) + data

    def _section(self, m: Message, name: bytes, fault: BodyFault | None) -> bytes:
        header = m.header()
        if name.startswith(b"HEADER.FIELDS"):
            names = {n.lower() for n in re.findall(rb"[^\s()]+", name[len(b"HEADER.FIELDS"):])}
            fields = re.findall(rb"(?m)^[^\s:][^\r\n]*(?:\r\n[ \t][^\r\n]*)*\r\n", header)
            return b"".join(f for f in fields if f.split(b":")[0].strip().lower() in names) + b"\r\n"
        if name == b"HEADER":
            return header
        if fault is BodyFault.HEADER_ONLY or self.profile.header_only:
            return header if name == b"" else b""
        return m.content if name == b"" else m.content[len(header):]

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

    # ---- APPEND

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
                coming.append(Message(bytes(argument), flags, date or "23-Nov-2026 12:00:00 +0800"))
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
