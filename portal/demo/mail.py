"""The sample mail: small mailboxes of a Chinese company, with what real ones hold.

Always: the same octets on every machine (no clock, no randomness), so that a comparison means the same everywhere. It holds
nested folders with Chinese names, an `&`, an empty folder; flags and keywords; dates over five years in two zones; attachments, a
photo-sized one among them; true twins; messages without Message-ID; GB18030 and 8-bit bodies; a message without a final line end.
"""
from __future__ import annotations

import datetime as dt
import hashlib
from base64 import encodebytes
from dataclasses import dataclass
from email.header import Header

from portal.demo.imap import Sample

CHINA = dt.timezone(dt.timedelta(hours=8))
BEGIN = dt.datetime(2021, 3, 1, 9, 0, 0, tzinfo=CHINA)
SENT, DRAFTS, TRASH = "已发送", "草稿箱", "已删除"
FOLDERS = ("INBOX", SENT, "客户/北京", "客户/上海 & 苏州", "项目/2023 年报", "项目/2024 年报")
EMPTY_FOLDER = "待归档"
COLLEAGUES = (("王小明", "xiaoming"), ("李雪", "lixue"), ("张伟", "zhangwei"), ("刘洋", "liuyang"), ("陈静", "chenjing"))
SUBJECTS = ("关于下周例会的通知", "合同第三版，请确认", "Re: 报价单", "发票已寄出", "年报初稿", "出差申请", "会议纪要",
            "客户回访记录", "Fwd: 样品照片", "放假安排", "系统维护通知", "周报")
LINES = ("各位好：", "附件是最新的一版，请在周五之前看一下。", "数字已经和财务核对过，差异在第三页说明。", "如有问题随时打我电话。",
         "客户希望月底前收到样品，物流单号稍后补上。", "上次会议提到的三件事都已完成。", "谢谢！")


@dataclass(frozen=True)
class SamplePerson:
    """`messages` counts ordinary ones; the special ones come on top."""

    name: str
    local: str
    messages: int


def mailbox(person: SamplePerson, domain: str) -> list[Sample]:
    """Everything in one person's old mailbox, oldest first in each folder."""
    samples = [_ordinary(person, domain, n) for n in range(person.messages)]
    return samples + _special(person, domain)


def _ordinary(person: SamplePerson, domain: str, n: int) -> Sample:
    folder = FOLDERS[0] if n % 2 == 0 else FOLDERS[n // 2 % len(FOLDERS)]
    when = (BEGIN + dt.timedelta(hours=37 * n, minutes=n * 7 % 60, seconds=n % 60))
    other, local = COLLEAGUES[n % len(COLLEAGUES)]
    outgoing = folder == SENT
    author, reader = (person.name, other) if outgoing else (other, person.name)
    from_address, to_address = (person.local, local) if outgoing else (local, person.local)
    body = "\r\n".join([f"{reader}，", *LINES[n % 3:n % 3 + 4], "", author]) + "\r\n"
    attachment = _octets(f"{person.local}-{n}", 900_000 if n % 60 == 31 else 40_000) if n % 6 == 1 else b""
    headers = [
        f"From: {_word(author)} <{from_address}@{domain}>",
        f"To: {_word(reader)} <{to_address}@{domain}>",
        f"Subject: {_word(f'{SUBJECTS[n % len(SUBJECTS)]} {n + 1}')}",
        f"Date: {when:%d %b %Y %H:%M:%S %z}",
        f"Message-ID: <{person.local}-{n}@{domain}>",
    ]
    flags = tuple(flag for flag, wanted in (("\\Seen", n % 5 != 4), ("\\Flagged", n % 11 == 0), ("\\Answered", n % 7 == 2),
                                            ("$Forwarded", n % 13 == 3), ("NonJunk", n % 4 == 0)) if wanted)
    return Sample(_mime(headers, body, f"附件{n + 1}.jpg", attachment), folder, flags,
                  when if n % 9 else when.astimezone(dt.timezone(dt.timedelta(hours=-5))))


def _special(person: SamplePerson, domain: str) -> list[Sample]:
    when = BEGIN + dt.timedelta(days=1600)
    twin = (f"From: <notice@{domain}>\r\nSubject: {_word('打卡提醒')}\r\n\r\n".encode() + "请记得打卡。\r\n".encode())
    legacy = (f"From: <fax@{domain}>\r\nSubject: =?gb18030?B?tKvV5tK71rA=?=\r\nContent-Type: text/plain; charset=gb18030\r\n"
              "Content-Transfer-Encoding: 8bit\r\n\r\n").encode() + "传真一份，共二页。㐂\r\n".encode("gb18030")
    unfinished = f"From: <{person.local}@{domain}>\r\nSubject: {_word('没写完的信')}\r\n\r\n".encode() + "写到这里".encode()
    long_line = b"Subject: one long line\r\n\r\n" + b"0123456789" * 1_200 + b"\r\n"
    return [
        *[Sample(twin, "INBOX", ("\\Seen",), when)] * 3,
        Sample(legacy, "项目/2023 年报", (), when), Sample(unfinished, DRAFTS, ("\\Draft", "\\Seen"), when),
        Sample(long_line, "INBOX", (), when + dt.timedelta(seconds=1)),
        Sample(b"Subject: to be thrown away\r\n\r\n.\r\n..\r\n", TRASH, ("\\Seen",), when),
    ]


def _word(text: str) -> str:
    return Header(text, "utf-8", maxlinelen=10_000).encode()


def _octets(seed: str, length: int) -> bytes:
    """Octets that look like a compressed picture: not compressible, always the same."""
    return b"".join(hashlib.sha512(f"{seed}{i}".encode()).digest() for i in range(length // 64 + 1))[:length]


def _mime(headers: list[str], body: str, name: str, attachment: bytes) -> bytes:
    plain = ["Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", "", body]
    if not attachment:
        return "\r\n".join([*headers, "MIME-Version: 1.0", *plain]).encode()
    coded = encodebytes(attachment).replace(b"\n", b"\r\n")
    top = "\r\n".join([*headers, "MIME-Version: 1.0", 'Content-Type: multipart/mixed; boundary="=-banjia"', "", "--=-banjia",
                       *plain, "--=-banjia", "Content-Type: image/jpeg", "Content-Transfer-Encoding: base64",
                       f'Content-Disposition: attachment; filename="{_word(name)}"', "", ""])
    return top.encode() + coded + b"--=-banjia--\r\n"
