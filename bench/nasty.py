"""Edge cases that a mover must carry over exactly: names, line ends, headers, duplicates, dates, flags, sizes. Nothing here is drawn.

Must not hold what a Dovecot with the same separator refuses or alters whatever the client does (empty messages, dates before 1970, a
bare LF): then a copy could not be exact. Always: CRLF line ends, and each message has a reason to be there.
"""
from __future__ import annotations

from collections.abc import Iterator

from bench.maildir import Mail

SAME_DATE = 1_420_070_400
_FOLDERS = (("项目资料", "二〇二四年", "华东区（重要）"), ("AT&T",), ('Say "hi"',), ("100% *?",), (" blank",), ("{3}",), ("x" * 60,),
            ("deep", "1", "2", "3", "4", "5", "6", "7"), ("😀",), ("Case",), ("case",), ("NIL",))
_BODIES = {
    "no-end": b"no final line end",
    "empty": b"",
    "dots": b".\r\n..\r\n.x\r\n",
    "literal": b"x {10}\r\n* OK no\r\nA1 OK done\r\n)\r\n+ go\r\n",
    "controls": bytes(n for n in range(1, 32) if n not in (10, 13)) + b"\x7f\r\n",
    "eight-bit": bytes(range(128, 256)) * 9 + b"\r\n",
    "long-lines": b"\r\n".join(b"y" * n for n in (998, 999, 8191, 8192, 8193, 65536)) + b"\r\n",
    "one-line": b"z" * 3_000_000,
    "gb18030": "您好，附件请查收\r\n".encode("gb18030"),
}
_HEADLESS = (b"\r\nbody only\r\n", b"Subject: header only", b"no header line\r\nSubject: after garbage\r\n\r\nx\r\n",
             "Subject: 原始八位\r\n\r\n正文\r\n".encode())
_DATES = (1, 315_532_800, 951_782_400, 1_711_850_400)
_FLAGS = (("\\Deleted",), ("\\Draft",), ("\\Seen", "\\Answered", "\\Flagged", "\\Draft", "$Forwarded", "NonJunk"), ("$MDNSent",),
          ("$label1", "custom.key-word_1"), ("x" * 50,), ())


def edge_cases() -> Iterator[tuple[tuple[str, ...], Mail]]:
    """(folder, mail); date 0 stands for any date."""
    yield ("INBOX",), _mail("inbox")
    for number, folder in enumerate(_FOLDERS):
        yield folder, _mail(f"folder-{number}")
    for tag, body in _BODIES.items():
        yield ("Bodies",), _mail(tag, body)
    for content in _HEADLESS:
        yield ("Headers",), Mail(content, 0)
    yield ("Headers",), _mail("large-head", head=b"".join(b"X-Big-%d: %s\r\n" % (number, b"h" * 900) for number in range(220)))
    for number in range(3):
        yield ("Duplicates",), _mail("same-id", b"another body %d\r\n" % number)
        yield ("Duplicates",), _mail("identical", date=SAME_DATE)
    yield ("Duplicates",), _mail("identical", date=SAME_DATE + 1)
    yield ("Copies",), _mail("identical", date=SAME_DATE)
    for date in _DATES:
        yield ("Dates",), _mail(f"date-{date}", date=date)
    for number, flags in enumerate(_FLAGS):
        yield ("Flags",), _mail(f"flags-{number}", flags=flags)
    yield ("Big",), _mail("forty-mib", b"".join(b"%076d\r\n" % number for number in range((40 << 20) // 78)))
    yield ("Big",), _mail("after-big")


def _mail(tag: str, body: bytes = b"hello\r\n", *, head: bytes = b"", date: int = 0, flags: tuple[str, ...] = ()) -> Mail:
    return Mail(f"Subject: {tag}\r\nMessage-ID: <{tag}@bench.example>\r\n".encode() + head + b"\r\n" + body, date, flags)
