"""One target per parser of octets or text that others wrote: what may come out of it, and what must come back where there is an inverse.

A target takes octets and returns; what it raises beyond the parser's own errors is a bug, and so is a wrong inverse (AssertionError).
Must not: open a socket or a file, wait, hold more than it was given a few times over.
Drivers: test_targets.py (seeded, seconds), `make fuzz` (__main__.py: minutes, guided by atheris where that is installed).
"""
from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engine.causes import Side
from engine.endpoint import BadAddress, Secret, host_name, parse_account_url
from engine.errors import EngineError, ProtocolError
from engine.imap import folders
from engine.imap.append import Appender, Outgoing
from engine.imap.channel import Channel, Timeouts, Untagged
from engine.imap.fetch import fetch_bodies, fetch_headers, fetch_metadata, fetch_uids
from engine.imap.flags import FlagChange, fetch_flags, store_flags
from engine.imap.look import Ask, look
from engine.imap.session import Session
from engine.net import preface as relay_answer
from engine.net.stream import Stream
from engine.providers.classify import classify
from engine.providers.words import decode_reply
from engine.redact import redact
from engine.transfer import flags as flag_chunks
from engine.transfer.matching import instant
from engine.wire import decoder, encoder, utf7
from portal.services.sheets import SheetRefused, csv_bytes, read_sheet
from relay import client_hello, preface

TAG = b"<tag>"  # in the octets: the tag of the first command; the later ones count on


@dataclass(frozen=True)
class Target:
    """`seeds` are good inputs to change; `words` are what to change them with."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()


# -- a server's answers -------------------------------------------------------------------------------------------------------------


class _Said:
    """A transport whose peer has said everything already, and hangs up."""

    def __init__(self, octets: bytes) -> None:
        self._octets, self._at = octets, 0

    def recv(self, size: int, /) -> bytes:
        piece = self._octets[self._at:self._at + size]
        self._at += len(piece)
        return piece

    def send(self, data: bytes | memoryview, /) -> int:
        return len(data)

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self._octets = b""


OFFERED = frozenset({"IMAP4REV1", "NAMESPACE", "QUOTA", "LITERAL+", "MULTIAPPEND", "UIDPLUS", "XLIST", "CONDSTORE", "UNSELECT"})
_MESSAGES = [Outgoing(1, (), "", 3, b"abc"), Outgoing(2, ("x]",), "", 1, b"z")]


def session_over(octets: bytes) -> Session:
    """A logged-in session whose server says this."""
    said = _Said(octets)
    channel = Channel(Stream(said, idle=1), side=Side.DESTINATION, timeouts=Timeouts(command=1, idle=1))
    for number in range(1, 9):
        said._octets = said._octets.replace(TAG, channel._prefix + b"%d" % number, 1)
    return Session(channel, greeting="", capabilities=OFFERED)


VERBS: dict[str, Callable[[Session], object]] = {
    "folders": lambda s: (s.list_folders(), s.namespace_prefix(), s.quota()),
    "survey": Session.survey,
    "status": lambda s: s.status("a"),
    "statuses": lambda s: s.statuses(["a", "b", "c"]),
    "examine": lambda s: s.examine("a"),
    "create": lambda s: s.create("a"),
    "metadata": lambda s: [*fetch_metadata(s, 1, None)],
    "uids": lambda s: [*fetch_uids(s, 1, 9)],
    "bodies": lambda s: [body.read() for body in fetch_bodies(s, [[1, 2], [3]], largest=1000)],
    "chunks": lambda s: [[*body.chunks(3)] for body in fetch_bodies(s, [[1]], largest=1000)],
    "headers": lambda s: [*fetch_headers(s, [1, 2])],
    "flags": lambda s: [*fetch_flags(s, 1, 9)],
    "store": lambda s: store_flags(s, "a", [FlagChange((1, 2), ("\\Seen",), ())]),
    "look": lambda s: [*look(s, [Ask("a", 1, 9), Ask("b")], lambda name, uid, flags: None)],
    "append": lambda s: Appender(s).wait(Appender(s).send("a", _MESSAGES)),
}
_ANSWERS = {
    "folders": (b'* LIST (\\HasNoChildren \\Sent) "/" "Sent"\r\n* LIST () NIL {3}\r\na b\r\n'
                b'* LIST () "." INBOX ("X" (1))\r\n<tag> OK done\r\n'
                b'* XLIST (\\Inbox) "/" x\r\n<tag> OK\r\n* NAMESPACE (("INBOX." ".")("" "/")) NIL (("#shared/" "/"))\r\n<tag> OK done\r\n'
                b'* QUOTAROOT INBOX "" "x"\r\n* QUOTA "" (STORAGE 10 512 MESSAGE 1 2)\r\n<tag> OK done\r\n'),
    "status": b'* STATUS "a" (MESSAGES 3 UIDNEXT 4 UIDVALIDITY 5 SIZE 9)\r\n<tag> OK done\r\n',
    "examine": (b"* FLAGS (\\Seen)\r\n* 3 EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 9] x\r\n"
                b"* OK [HIGHESTMODSEQ 12] x\r\n"
                b"* OK [PERMANENTFLAGS (\\Seen \\*)] x\r\n<tag> OK [READ-ONLY] done\r\n"),
    "metadata": (b'* 1 FETCH (UID 1 RFC822.SIZE 7 FLAGS (\\Seen $x) INTERNALDATE "17-Jul-2026 02:44:25 -0700")\r\n'
                 b'* 2 FETCH (FLAGS () INTERNALDATE NIL UID {1}\r\n2 RFC822.SIZE 8)\r\n<tag> OK done\r\n'),
    "bodies": (b"* 1 FETCH (UID 1 BODY[] {9}\r\na: b\r\n\r\nc)\r\n* 2 FETCH (BODY[] {3}\r\nabc FLAGS (\\Seen) UID 2)\r\n<tag> OK done\r\n"
               b'* 1 FETCH ((FLAGS () UID 3 BODY[] ~{3}\r\nabc X {2}\r\nyz))\r\n<tag> NO [LIMIT] done\r\n'),
    "headers": b"* 1 FETCH (UID 1 BODY[HEADER] {4}\r\na:b\n)\r\n* 2 FETCH (UID 2 BODY[HEADER] NIL)\r\n<tag> OK\r\n",
    "flags": b"* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (12))\r\n"
             b"* 2 FETCH (MODSEQ (9) FLAGS () UID 2)\r\n* VANISHED (EARLIER) 3:5\r\n<tag> OK\r\n",
    "append": b"* 3 EXISTS\r\n<tag> OK [APPENDUID 7 3:4] done\r\n<tag> NO [OVERQUOTA] full\r\n",
}
_ANSWERS |= {"statuses": _ANSWERS["status"] * 3, "survey": _ANSWERS["folders"] + _ANSWERS["status"], "create": b"<tag> NO exists\r\n" +
             _ANSWERS["folders"], "uids": _ANSWERS["metadata"], "chunks": _ANSWERS["bodies"], "store": b"<tag> OK\r\n" + _ANSWERS["flags"],
             "look": _ANSWERS["examine"] + _ANSWERS["flags"] + _ANSWERS["examine"]}
IMAP_WORDS = (
    b"* ", b"OK", b"NO", b"BAD", b"* BYE x\r\n", b"+ ", TAG, b" ", b"\r\n", b"(", b")", b'"', b"{3}\r\nabc", b"{1500000000}\r\n",
        b"{0}\r\n",
    b"NIL", b"1 FETCH (", b"UID 1", b"UID 4294967296", b"BODY[] ", b"BODY[HEADER] ", b"RFC822.SIZE 7", b"FLAGS (\\Seen)",
        b'INTERNALDATE "x"',
    b"LIST ", b"STATUS ", b"XLIST ", b"MESSAGES 3 ", b"[UIDVALIDITY x]", b"[APPENDUID 1 1:9]", b"[THROTTLED]", b"QUOTA ", b"STORAGE 1 2",
    b"NAMESPACE ", b"1 EXISTS", b"1 EXPUNGE", b"99999999999999999999", b"\\", b"\0", b"\xff", b"[", b"]", b"~", b"VANISHED 1:9",
        b"MODSEQ (0)",
    b"MODSEQ (-1)", b"Suggested Backoff Time: 999999999 milliseconds")


def _answers_to(verb: str) -> Callable[[bytes], None]:
    def run(octets: bytes) -> None:
        session = session_over(octets)
        try:
            VERBS[verb](session)
        except EngineError:
            pass
        finally:
            session.close()
    return run


# -- the wire's grammar ---------------------------------------------------------------------------------------------------------------


def values(octets: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        decoder.decode(octets.split(b"\x01"))


def status_text(octets: bytes) -> None:
    status = decoder.StatusText.of(octets)
    assert status.text == octets and status.code == status.code.upper()


def untagged(octets: bytes) -> None:
    found = decoder.split_untagged(octets)
    assert found is None or octets.startswith(b"* ")


def literal(octets: bytes) -> None:
    length = decoder.literal_length(octets)
    assert length is None or (length >= 0 and octets.endswith(b"}"))


def uid_list(octets: bytes) -> None:
    try:
        uids = decoder.uid_list(octets, limit=1000)
    except ProtocolError:
        return
    assert len(uids) <= 1000 and min(uids) > 0
    if max(uids) <= encoder.MAX_UID:
        again = [uid for text in encoder.uid_sets(uids, 200) for uid in decoder.uid_list(text)]
        assert again == sorted(set(uids))


def what_a_server_says_of_folders(octets: bytes) -> None:
    response = Untagged(None, b"LIST", octets.split(b"\x01"))
    for read in (folders.folder, folders.status, folders.personal_namespace, lambda r: folders.merged([r]),
                 lambda r: folders.storage_quota([r])):
        with contextlib.suppress(ProtocolError):
            read(response)


def folder_name(octets: bytes) -> None:
    wire = encoder.wire_name(octets)
    utf7.decode(wire)
    with contextlib.suppress(encoder.EncodeError):
        assert encoder.mailbox(wire)[1:-1].replace(b'\\"', b'"').replace(b"\\\\", b"\\").count(b"\n") == 0
    text = octets.decode("utf-8", "ignore")
    assert utf7.decode(utf7.encode(text)) == text and utf7.encode(text).isascii()


def arguments(octets: bytes) -> None:
    """Whatever is given, no line end and no NUL is on a line."""
    text = octets.decode("utf-8", "replace")
    for build in (encoder.quoted, lambda t: encoder.astring(t)[0], encoder.mailbox, encoder.flag, lambda t: encoder.internal_date(t)[0],
                  lambda t: encoder.flag_list(t.split(" ")), lambda t: encoder.id_list({t[:9]: t})):
        with contextlib.suppress(encoder.EncodeError):
            built = build(text)
            assert not set(b"\r\n\0") & set(built)


def date(octets: bytes) -> None:
    instant(octets.decode("latin-1"))


# -- our own, and others' -----------------------------------------------------------------------------------------------------------------


def flags_of_a_folder(octets: bytes) -> None:
    with contextlib.suppress(flag_chunks.BadChunk):
        for _ in flag_chunks.unpack(octets):
            pass
    words = [w.decode("latin-1") for w in octets.split(b" ")[:20]]
    messages = [(1 + 3 * n + octets[n], tuple(words[: octets[n] % 4])) for n in range(len(octets))]
    messages = [m for n, m in enumerate(messages) if n == 0 or m[0] > max(uid for uid, _ in messages[:n])]
    if messages:
        assert [*flag_chunks.unpack(flag_chunks.pack(messages).data)] == messages


def relay_request(octets: bytes) -> None:
    with contextlib.suppress(preface.BadPreface):
        asked = preface.parse_request(octets)
        assert 0 < asked.port < 65536 and asked.host == asked.host.lower()
    head = octets.partition(preface.END)[0] + preface.END
    with contextlib.suppress(preface.BadPreface):
        preface.parse_request(head)


def what_a_relay_answers(octets: bytes) -> None:
    stream = Stream(_Said(octets), idle=1)
    with contextlib.suppress(EngineError):
        relay_answer.connect_through(stream, "imap.example.com", 993, Secret("rt1.a." + "x" * 43))


def hello(octets: bytes) -> None:
    with contextlib.suppress(client_hello.NotTls):
        found = client_hello.read_client_hello(octets)
        assert found is None or found.server_name is None or found.server_name == found.server_name.lower()


def sheet(octets: bytes) -> None:
    with contextlib.suppress(SheetRefused):
        found = read_sheet(octets, "people.csv")
        addresses = [row.source_address for row in found.rows]
        assert len(addresses) == len(set(addresses))
    csv_bytes([[octets.decode("utf-8", "replace")]])


def reply(octets: bytes) -> None:
    words = decode_reply(octets)
    for phase in ("auth", "append"):
        classify(words, phase=phase, provider="qq")
    shown = redact(words)
    assert len(shown) <= 400 and "\n" not in shown and redact(shown) == redact(redact(shown))


def account(octets: bytes) -> None:
    text = octets.decode("utf-8", "replace")
    with contextlib.suppress(BadAddress):
        endpoint, login = parse_account_url(text)
        assert 0 < endpoint.port < 65536 and "\n" not in login
        assert host_name(endpoint.host) == endpoint.host
    with contextlib.suppress(BadAddress):
        host_name(text)


_HELLO = bytes.fromhex(
    "16030100510100004d0303" + "11" * 32 + "00" + "0002c02f" + "0100" + "0022"
    "0000001e001c0000196d61696c2e6c6f6e672d6e616d652e6578616d706c652e636f6d")
_SHEET = ("旧邮箱,新邮箱,姓名,旧密码\r\nzhang@old.example,zhang@new.example,张三,secret\r\n"
          "\"li@old.example\",li@new.example,\"李, 四\",\r\n")
_LINES = (b'(\\HasNoChildren) "/" "&Xn9USpCuTvY-"', b'"a" (MESSAGES 3 UIDNEXT 4 UIDVALIDITY 5)', b'(("INBOX." ".")("" "/")) NIL NIL',
          b'"" (STORAGE 10 512 MESSAGE 1 2)', b'() NIL {3}\x01a b\x01 ("X" (1))')
TARGETS: dict[str, Target] = {
    **{f"answers-{verb}": Target(_answers_to(verb), (_ANSWERS[verb],), IMAP_WORDS) for verb in VERBS},
    "values": Target(values, (*_LINES, b'(a (b "c" NIL) {3}\x01abc\x01 BODY[HEADER.FIELDS (x)]<0> "q\\"x")'), (b"(", b")", b'"',
        b"{1}\x01", b"\\")),
    "status-text": Target(status_text, (b"[APPENDUID 1 2:3] done", b"[BADCHARSET (a b)] x", b" [ALERT] y"), (b"[", b"]", b"(", b")", b" ")),
    "untagged": Target(untagged, (b"* 12 FETCH (UID 1)", b"* OK [X] y", b"* BYE"), (b"* ", b"1", b" ", b"\n")),
    "literal": Target(literal, (b"x {12}", b"~{3+}"), (b"{", b"}", b"+", b"99999999999999999999")),
    "uid-list": Target(uid_list, (b"1,3:5,9", b"7:3", b"4294967295"), (b",", b":", b"*", b"0", b"4294967295", b"99999999999999999999")),
    "folders": Target(what_a_server_says_of_folders, _LINES, (b"(", b")", b'"', b"NIL", b"{2}\x01ab\x01", b" ")),
    "folder-name": Target(folder_name, (b"&Xn9USpCuTvY-", b"a&-b", b"\xce\xc4\xbc\xfe", "项目/甲".encode(), "\U0001f600".encode()),
                          (b"&", b"-", b",", b"&AA-", b"&2D0-", b"\\", b'"')),
    "arguments": Target(arguments, (b"secret", b"\\Seen", b"17-Jul-2026 02:44:25 -0700", "密码".encode()), (b"\r\n", b"\0", b'"',
        b"\\", b"{3+}")),
    "date": Target(date, (b"17-Jul-2026 02:44:25 -0700", b" 1-Jan-0001 00:00:00 +0000"), (b"99", b"-", b":", b"0000", b"Feb")),
    "flag-chunk": Target(flags_of_a_folder, (flag_chunks.pack([(1, ("\\Seen",)), (5, ()), (900, ("$x", "y"))]).data, b"a b c"), ()),
    "relay-request": Target(relay_request, (
        b"CONNECT imap.example.com:993 HTTP/1.1\r\nHost: imap.example.com:993\r\nProxy-Authorization: Bearer rt1.a.x\r\n"
        b"Relay-Mode: tunnel\r\nRelay-TTL: 3\r\n\r\n", b"CONNECT [::1]:143 HTTP/1.1\r\nHost: [::1]:143\r\nRelay-Session: a\r\n\r\n"),
        (b"\r\n", b"\n", b": ", b"Host: x", b"Content-Length: 1", b"0x7f.1:1", b"127.1:80", b"\0")),
    "relay-answer": Target(what_a_relay_answers, (
        b"HTTP/1.1 200 OK\r\nRelay-Mode: tunnel\r\n\r\n",
            b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 10\r\nRelay-Error: sessions\r\n\r\n"),
        (b"\r\n", b":", b"403", b"502", b"Retry-After: 99999999999", b"Relay-Error: bye")),
    "client-hello": Target(hello, (_HELLO,), (b"\0", b"\xff\xff", b"\x16\x03\x01", b"\x00\x00")),
    "sheet": Target(sheet, (_SHEET.encode(), _SHEET.encode("gb18030"),
        b"\xef\xbb\xbfsep=;\r\nold address;new address\r\na@b.example;c@d.example\r\n"),
                    (b",", b'"', b"\r\n", b"\t", b";", "，".encode(), b"\0", b"=cmd()", b"@", "\u202e".encode())),
    "reply": Target(reply, (b"NO [AUTHENTICATIONFAILED] Invalid credentials",
        b"NO LOGIN Login error or password error https://x.example/?a=b&id=3",
                            "NO 登录失败，请使用授权码".encode("gb18030"),
                                b"NO Request is throttled. Suggested Backoff Time: 92415 milliseconds"),
                    (b"password", b"token=", b"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG", b"\x1b[31m", b"http://",
                        b"a@b.example", b"\r\n")),
    "account": Target(account, (b"imaps://li%40corp.example@imap.example.com:993", b"imap+plain://a@[::1]:143",
        "imap://李@邮箱.example".encode()),
                      (b"@", b":", b"%", b"%0d%0a", b"[", b"]", b"/", b"?", b"#", b"xn--", b"\xe2\x80\xae")),
}


def variants(target: Target, seed: int | str, count: int) -> Iterator[bytes]:
    """`count` inputs, the same ones for the same seed: the seeds, then the seeds changed, cut, doubled and mixed."""
    from random import Random

    chance = Random(seed)
    yield from target.seeds[:count]
    for _ in range(count - len(target.seeds)):
        octets = bytearray(chance.choice(target.seeds)) if chance.random() < 0.95 else bytearray(chance.randbytes(chance.randint(0, 60)))
        for _ in range(chance.choice((1, 1, 2, 3, 8))):
            at = chance.randint(0, len(octets))
            way = chance.randrange(8)
            if way == 0 and target.words:
                octets[at:at] = chance.choice(target.words)
            elif way == 1 and target.words:
                octets[at:at + chance.randint(0, 8)] = chance.choice(target.words)
            elif way == 2 and octets:
                octets[min(at, len(octets) - 1)] = chance.randrange(256)
            elif way == 3:
                del octets[at:at + chance.randint(1, 12)]
            elif way == 4:
                octets[at:at] = octets[chance.randint(0, at):at]
            elif way == 5:
                octets[at:] = chance.choice(target.seeds)[chance.randint(0, 40):]
            elif way == 6 and (numbers := [*re.finditer(rb"\d+", octets)]):  # another number of as many digits
                number = chance.choice(numbers)
                octets[number.start():number.end()] = bytes([chance.choice(b"0019")]) * len(number[0])
            else:
                octets[at:at] = bytes([chance.choice((0, 10, 13, 32, 34, 40, 41, 91, 92, 93, 123, 125, 127, 128, 255))])
        yield bytes(octets)
