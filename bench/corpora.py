"""The mailboxes that are moved: small, mixed, large, many, nasty. The same seed and scale give the same octets, everywhere.

A corpus is a stream of (folder, mail); where it is written is maildir.py's. `scale` multiplies the number of messages, never their sizes.
"""
from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from bench.maildir import Mail
from bench.nasty import edge_cases

SEED = "banjia"
KIB, MIB = 1 << 10, 1 << 20
BEGUN, _ENDED = 1_420_070_400, 1_740_000_000  # dates of the first and the last message; none lies in the future of a server's clock
_FOLDERS = {("INBOX",): 30, ("Sent",): 20, ("Archive",): 12, ("Archive", "2024"): 12, ("Drafts",): 2, ("Junk",): 4, ("项目",): 10,
            ("项目", "华东区 客户"): 10}
_FLAGS = (("\\Seen", 0.75), ("\\Answered", 0.12), ("\\Flagged", 0.06), ("\\Draft", 0.01), ("$Forwarded", 0.03), ("NonJunk", 0.05))
_WORDS = ("合同", "客户", "附件", "请查收", "会议", "纪要", "报价", "发票", "项目", "回复", "谢谢", "meeting", "invoice", "please")

Placed = tuple[tuple[str, ...], Mail]


@dataclass(frozen=True)
class Corpus:
    """`messages` at scale 1; `octets` draws one message's size."""

    name: str
    about: str
    messages: int
    octets: Callable[[random.Random], float]

    def mails(self, scale: float = 1.0) -> Iterator[Placed]:
        draw = random.Random(f"{SEED} {self.name}")
        count = max(1, round(self.messages * scale))
        folders, weights = list(_FOLDERS), list(_FOLDERS.values())
        for number in range(count):
            date = BEGUN + (_ENDED - BEGUN) * number // count
            flags = tuple(flag for flag, share in _FLAGS if draw.random() < share)
            yield draw.choices(folders, weights)[0], Mail(message(draw, number, int(self.octets(draw))), date, flags)


class Nasty(Corpus):
    """Not drawn: each message has a reason. All of it can be carried over exactly to a Dovecot with the same separator."""

    def mails(self, scale: float = 1.0) -> Iterator[Placed]:
        for number, (folder, mail) in enumerate(edge_cases()):
            yield folder, Mail(mail.content, mail.date or BEGUN + 60 * number, mail.flags)


CORPORA = {corpus.name: corpus for corpus in (
    Corpus("small", "ordinary text mail, 1 to 20 KiB", 5000, lambda draw: KIB * 20 ** draw.random()),
    Corpus("many", "very many short messages, 1 to 3 KiB", 50_000, lambda draw: draw.uniform(1 * KIB, 3 * KIB)),
    Corpus("mixed", "text and attachments, 2 KiB to 15 MiB", 3000,
           lambda draw: min(15 * MIB, max(2 * KIB, draw.lognormvariate(10.9, 2.1)))),
    Corpus("large", "attachments only, 10 to 30 MiB", 60, lambda draw: draw.uniform(10 * MIB, 30 * MIB)),
    Nasty("nasty", "edge cases: names, line ends, duplicates, dates, flags, sizes", 0, lambda draw: 0),
)}


@cache
def base64_pool() -> bytes:
    draw = random.Random("pool")
    alphabet = (string.ascii_letters + string.digits + "+/").encode()
    return b"".join(bytes(draw.choices(alphabet, k=76)) + b"\r\n" for _ in range(4 * KIB))


def message(draw: random.Random, number: int, octets: int) -> bytes:
    """About `octets`: headers, a paragraph, and beyond 24 KiB an attachment."""
    head = [f"From: =?utf-8?q?user{draw.randrange(400)}?= <user{draw.randrange(400)}@example.com>", "To: someone@example.net",
            f"Subject: {number} " + " ".join(f"=?utf-8?q?{draw.randrange(16**6):x}?=" for _ in range(3)),
            f"Message-ID: <{number}.{draw.randrange(16**12):x}@bench.example>", "MIME-Version: 1.0"]
    attached = octets > 24 * KIB
    head.append('Content-Type: multipart/mixed; boundary="=-b"' if attached else "Content-Type: text/plain; charset=utf-8")
    text = bytearray()
    while len(text) < min(octets - 500, 4 * KIB if attached else octets):
        text += " ".join(draw.choices(_WORDS, k=12)).encode() + b"\r\n"
    top = "\r\n".join(head).encode() + b"\r\n\r\n"
    if not attached:
        return top + bytes(text)
    pool, left = base64_pool(), octets - len(text) - len(top)
    start = draw.randrange(4 * KIB) * 78
    body = pool[start:] + pool * (left // len(pool)) + pool[:start]
    return b"".join([top, b"--=-b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n", text,
                     b"\r\n--=-b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n",
                     body[: left // 78 * 78], b"--=-b--\r\n"])
