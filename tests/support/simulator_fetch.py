"""FETCH at the simulated server, and what goes wrong with a body (simulator_mail.BodyFault) or with the whole answer (an Oddity)."""
from __future__ import annotations

import re
from typing import Any

from tests.support.simulator_commands import Bad, Command
from tests.support.simulator_mail import BodyFault, Form, Message
from tests.support.simulator_selected import SelectedVerbs

BOMB = 1_500_000_000  # octets that a literal announces
RFC822_SECTIONS = {b"RFC822": b"", b"RFC822.HEADER": b"HEADER", b"RFC822.TEXT": b"TEXT"}


def _form(items: list[bytes], by_uid: bool, messages: int) -> Form:
    if any(b"]<" in item for item in items):
        return Form.PIECES
    if any(b"[TEXT]" in item for item in items):
        return Form.APART
    if not by_uid:
        return Form.NUMBER
    return Form.ALONE if messages == 1 else Form.BATCH


class FetchVerbs(SelectedVerbs):
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
            self.end()
        if fault is BodyFault.ENDLESS:
            await self.send(b"* %d FETCH (UID %d X-LONG \"" % (number, m.uid) + b"x" * 3_000_000)
            self.end()
        answer = b"* %d %s (" % (number, self.word(b"FETCH"))
        for position, item in enumerate(items):
            value = self._value(m, item, fault)
            answer += (b" " if position else b"") + self.word(re.sub(rb"\.\d+>\Z", b">", item.replace(b".PEEK", b""))) + b" " + value
            if fault is BodyFault.BOMB and value.startswith(b"{%d}" % BOMB):
                await self.send(answer)
                await self.hang()
        if fault is BodyFault.CUT:
            await self.send(answer[:-max(1, len(m.content) // 2)])
            self.end()
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
        if not section and item not in RFC822_SECTIONS:
            raise Bad(b"BAD Invalid FETCH item")
        name = section[1] if section else RFC822_SECTIONS[item]
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
