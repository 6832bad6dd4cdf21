"""Two IMAP servers without mail: a source whose messages follow from a rule, and a destination that counts octets and lets them go.

Enough of RFC 3501 with UIDPLUS, LITERAL+, MULTIAPPEND, LIST-STATUS and CONDSTORE for a mover, one folder (INBOX), one account, any
password; loopback only. Must not keep a message: the destination holds sizes, checksums, flags and dates. Always: nothing is
ever removed, so the UID is the sequence number; a command that it does not know is answered BAD, never guessed.
"""
from __future__ import annotations

import contextlib
import multiprocessing
import re
import socket
import socketserver
import threading
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Protocol

from bench.rule import Rule, mark

CAPABILITIES = b"IMAP4rev1 LITERAL+ UIDPLUS MULTIAPPEND NAMESPACE UNSELECT ENABLE ID LIST-STATUS CONDSTORE"
UIDVALIDITY = 1_700_000_001
FLUSH_OVER = 1 << 17  # octets gathered before they are sent
_LITERAL = re.compile(rb"\{(\d+)(\+?)\}\r\n\Z")
_APPEND_HEAD = re.compile(rb'(?:\S+ APPEND (?:"[^"]*"|\S+))? (?:\(([^)]*)\) )?(?:"([^"]*)" )?\{\d+\+?\}\r\n\Z', re.IGNORECASE)
_FETCH = re.compile(rb"(\S+) \((.*?)\)(?: \(CHANGEDSINCE (\d+)\))?\Z", re.IGNORECASE)
_STORE = re.compile(rb"(\S+) ([+-]?)FLAGS(?:\.SILENT)? \(([^)]*)\)\Z", re.IGNORECASE)


class Mailbox(Protocol):
    """What a session shows. UIDs are 1 to `messages`."""

    @property
    def messages(self) -> int: ...
    @property
    def modseq(self) -> int: ...
    def size(self, uid: int) -> int: ...
    def flags(self, uid: int) -> bytes: ...
    def date(self, uid: int) -> bytes: ...
    def modseq_of(self, uid: int) -> int: ...
    def chunks(self, uid: int) -> Iterator[bytes]: ...


class Imagined:
    """The source: a rule, and a modification sequence that goes from 1 to 2 when the rule changes."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.size, self.flags, self.date, self.chunks = rule.size, rule.flags, rule.date, rule.chunks

    @property
    def messages(self) -> int:
        return self.rule.messages

    @property
    def modseq(self) -> int:
        return 2 if self.rule.changed else 1

    def modseq_of(self, uid: int) -> int:
        return 2 if self.rule.is_changed(uid) else 1


class Counted:
    """The destination: about 40 octets for a message, whatever its size."""

    def __init__(self) -> None:
        self._sizes = array("L")
        self._crcs = array("I")
        self._flags = array("H")
        self._kinds: dict[bytes, int] = {}
        self._texts: list[bytes] = []
        self._dates = bytearray()
        self._lock = threading.Lock()

    @property
    def messages(self) -> int:
        return len(self._sizes)

    modseq = 1

    def modseq_of(self, uid: int) -> int:
        return 1

    def add(self, arrived: list[Arrived]) -> tuple[int, int]:
        """The first and last UID given."""
        with self._lock:
            first = len(self._sizes) + 1
            for one in arrived:
                self._sizes.append(one.size)
                self._flags.append(self._kind(one.flags))
                self._dates += one.date[:26].ljust(26)
                self._crcs.append(one.crc)
            return first, len(self._sizes)

    @property
    def octets(self) -> int:
        return sum(self._sizes)

    def checksum(self) -> int:
        """As Rule.checksum."""
        return sum(mark(crc, self.flags(uid), self.date(uid)) for uid, crc in enumerate(self._crcs, 1))

    def store(self, uid: int, sign: bytes, words: bytes) -> None:
        with self._lock:
            now, given = set(self.flags(uid).split()), set(words.split())
            left = given if not sign else now | given if sign == b"+" else now - given
            self._flags[uid - 1] = self._kind(b" ".join(sorted(left)))

    def _kind(self, flags: bytes) -> int:
        if flags not in self._kinds:
            self._kinds[flags] = len(self._texts)
            self._texts.append(flags)
        return self._kinds[flags]

    def size(self, uid: int) -> int:
        return self._sizes[uid - 1]

    def flags(self, uid: int) -> bytes:
        return self._texts[self._flags[uid - 1]]

    def date(self, uid: int) -> bytes:
        return bytes(self._dates[26 * uid - 26 : 26 * uid])

    def chunks(self, uid: int) -> Iterator[bytes]:
        raise Refusal(b"[CANNOT] octets are not kept here")


class Refusal(Exception):
    """Answered NO with these words."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message that was read off the wire and let go. `date` as on the wire, 26 octets."""

    size: int
    crc: int
    flags: bytes
    date: bytes


class Session:
    """One connection, from its greeting to its end."""

    def __init__(self, connection: socket.socket, mailbox: Mailbox) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connection
        self._in = connection.makefile("rb", buffering=1 << 18)
        self._out: list[bytes] = []
        self._gathered = 0
        self._mailbox = mailbox

    def run(self) -> None:
        self._say(b"* OK [CAPABILITY " + CAPABILITIES + b"] imaginary")
        self._flush()
        while line := self._in.readline():
            tag, _, command = line.rstrip(b"\r\n").partition(b" ")
            verb, _, rest = command.partition(b" ")
            if verb.upper() == b"UID":
                verb, _, rest = rest.partition(b" ")
            try:
                answer = self._append(line) if verb.upper() == b"APPEND" else self._command(verb.upper(), rest)
            except Refusal as refusal:
                answer = b"NO " + refusal.args[0]
            self._say(tag + b" " + answer)
            self._flush()
            if verb.upper() == b"LOGOUT":
                return

    def _command(self, verb: bytes, rest: bytes) -> bytes:
        box = self._mailbox
        if verb in (b"EXAMINE", b"SELECT"):
            self._say(b"* %d EXISTS" % box.messages)
            self._say(b"* OK [UIDVALIDITY %d]" % UIDVALIDITY)
            self._say(b"* OK [UIDNEXT %d]" % (box.messages + 1))
            self._say(b"* OK [HIGHESTMODSEQ %d]" % box.modseq)
            self._say(rb"* OK [PERMANENTFLAGS (\Answered \Flagged \Draft \Deleted \Seen \*)]")
            return b"OK [READ-ONLY] done" if verb == b"EXAMINE" else b"OK [READ-WRITE] done"
        if verb == b"STATUS":
            self._status()
        elif verb == b"LIST":
            self._say(b'* LIST () "/" INBOX')
            if b"STATUS" in rest.upper():
                self._status()
        elif verb == b"NAMESPACE":
            self._say(b'* NAMESPACE (("" "/")) NIL NIL')
        elif verb == b"CAPABILITY":
            self._say(b"* CAPABILITY " + CAPABILITIES)
        elif verb == b"ID":
            self._say(b"* ID NIL")
        elif verb == b"FETCH":
            self._fetch(rest)
        elif verb == b"STORE" and isinstance(box, Counted):
            self._store(box, rest)
        elif verb == b"LOGOUT":
            self._say(b"* BYE")
        elif verb == b"LOGIN":
            return b"OK [CAPABILITY " + CAPABILITIES + b"] welcome"
        elif verb not in (b"NOOP", b"CHECK", b"CLOSE", b"UNSELECT", b"ENABLE", b"SUBSCRIBE"):
            return b"BAD unknown"
        return b"OK done"

    def _status(self) -> None:
        box = self._mailbox
        self._say(b"* STATUS INBOX (MESSAGES %d UIDNEXT %d UIDVALIDITY %d HIGHESTMODSEQ %d)"
                  % (box.messages, box.messages + 1, UIDVALIDITY, box.modseq))

    def _fetch(self, rest: bytes) -> None:
        asked = _FETCH.match(rest)
        if asked is None:
            raise Refusal(b"[CANNOT] FETCH in this form")
        box, items, since = self._mailbox, asked[2].upper().split(), int(asked[3] or 0)
        whole = b"BODY.PEEK[]" in items
        if unknown := set(items) - {b"UID", b"RFC822.SIZE", b"FLAGS", b"INTERNALDATE", b"MODSEQ", b"BODY.PEEK[]"}:
            raise Refusal(b"[CANNOT] " + b" ".join(unknown))
        for uid in numbers(asked[1], box.messages):
            if since and box.modseq_of(uid) <= since:
                continue
            told = [b"UID %d" % uid]
            if b"RFC822.SIZE" in items:
                told.append(b"RFC822.SIZE %d" % box.size(uid))
            if b"FLAGS" in items:
                told.append(b"FLAGS (%s)" % box.flags(uid))
            if b"INTERNALDATE" in items:
                told.append(b'INTERNALDATE "%s"' % box.date(uid))
            if since or b"MODSEQ" in items:
                told.append(b"MODSEQ (%d)" % box.modseq_of(uid))
            if not whole:
                self._say(b"* %d FETCH (%s)" % (uid, b" ".join(told)))
                continue
            chunks = box.chunks(uid)
            self._put(b"* %d FETCH (%s BODY[] {%d}\r\n" % (uid, b" ".join(told), box.size(uid)))
            for chunk in chunks:
                self._put(chunk)
            self._put(b")\r\n")

    def _store(self, box: Counted, rest: bytes) -> None:
        asked = _STORE.match(rest)
        if asked is None:
            raise Refusal(b"[CANNOT] STORE in this form")
        for uid in numbers(asked[1], box.messages):
            box.store(uid, asked[2], asked[3])

    def _append(self, line: bytes) -> bytes:
        """One message or, as MULTIAPPEND (RFC 3502), as many as follow. Every literal is read to its end before anything is said."""
        box, arrived = self._mailbox, []
        while literal := _LITERAL.search(line):
            head = _APPEND_HEAD.match(line)
            if not literal[2]:
                self._say(b"+ go on")
                self._flush()
            size = left = int(literal[1])
            crc = 0
            while left:
                chunk = self._in.read(min(left, 1 << 18))
                if not chunk:
                    return b"BAD"
                crc, left = zlib.crc32(chunk, crc), left - len(chunk)
            flags, date = (head[1] or b"", head[2] or b"") if head else (b"", b"")
            arrived.append(Arrived(size, crc, flags, date))
            line = self._in.readline()
        if not isinstance(box, Counted) or line != b"\r\n":
            return b"BAD not here"
        first, last = box.add(arrived)
        return b"OK [APPENDUID %d %d:%d] stored" % (UIDVALIDITY, first, last) if last > first else (
            b"OK [APPENDUID %d %d] stored" % (UIDVALIDITY, first))

    def _say(self, line: bytes) -> None:
        self._put(line + b"\r\n")

    def _put(self, data: bytes) -> None:
        self._out.append(data)
        self._gathered += len(data)
        if self._gathered > FLUSH_OVER:
            self._flush()

    def _flush(self) -> None:
        gathered, self._out, self._gathered = self._out, [], 0
        self._socket.sendall(b"".join(gathered))


def numbers(sequence_set: bytes, last: int) -> Iterator[int]:
    """The existing members of `1:5,9,12:*` (RFC 3501 §9, sequence-set), in the order of the set."""
    for piece in sequence_set.split(b","):
        ends = sorted(last if end == b"*" else int(end) for end in piece.split(b":"))
        yield from range(max(1, ends[0]), min(ends[-1], last) + 1)


@dataclass(frozen=True)
class Sum:
    """What a mailbox holds: the judge's word on a copy."""

    messages: int
    octets: int
    checksum: int


class Imaginary:
    """A server in a process of its own, so that its memory and its CPU are not the mover's. A context manager."""

    def __init__(self, rule: Rule | None) -> None:
        """With a rule it is a source, without one a destination."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(rule, theirs), daemon=True)
        self._process.start()
        theirs.close()  # so that a server that could not start is an EOFError here
        self.port: int = self._pipe.recv()
        self.pid = self._process.pid or 0

    def __enter__(self) -> Imaginary:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._pipe.send(("end", 0))
        self._process.join(10)
        self._process.kill()

    def sum(self) -> Sum:
        self._pipe.send(("sum", 0))
        told = self._pipe.recv()
        assert isinstance(told, Sum)
        return told

    def change(self, added: int) -> None:
        """See Rule.change."""
        self._pipe.send(("change", added))
        self._pipe.recv()


def _serve(rule: Rule | None, pipe: Connection) -> None:
    mailbox: Imagined | Counted = Imagined(rule) if rule is not None else Counted()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                Session(self.request, mailbox).run()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        pipe.send(server.server_address[1])
        with contextlib.suppress(EOFError):
            while (asked := pipe.recv())[0] != "end":
                if asked[0] == "change" and rule is not None:
                    rule.change(asked[1])
                    pipe.send(None)
                elif isinstance(mailbox, Counted):
                    pipe.send(Sum(mailbox.messages, mailbox.octets, mailbox.checksum()))
                elif rule is not None:
                    pipe.send(Sum(rule.messages, rule.messages * rule.octets, rule.checksum()))
        server.shutdown()
