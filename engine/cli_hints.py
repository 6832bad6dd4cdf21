"""What to write instead, where a connection failed because an address or an option of the command line was not right; and which command
comes first, where a comparison found nothing that was moved.

One line in both languages on stderr, after the failure: a --json object stays alone on stdout. Must not change the cause or its words:
they are everybody's, and only here are there schemes and options.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from engine.causes import Side, Words

# What OpenSSL says when the peer's first octets are no TLS record (a greeting in clear text, for one).
_NO_RECORDS = ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")
# … and when the chain ends in an authority that it does not know.
_UNKNOWN_AUTHORITY = ("unable to get local issuer certificate", "unable to get issuer certificate", "self-signed certificate",
                      "self signed certificate", "unable to verify the first certificate")


def print_hint(args: argparse.Namespace, side: Side | None, detail: str) -> None:
    """Nothing, where there is none. `side`: whose connection failed; `detail`: what the engine said of it."""
    words = what_to_try(args, side, detail)
    if words is not None:
        _print(words)


def print_hint_to_copy(ledger: Path, *, maybe_undone: bool) -> None:
    """For a comparison that found differences, and no word in the ledger of what was moved. `maybe_undone`: see
    engine.cli_files.may_be_undone."""
    if maybe_undone:
        _print(Words(f"账本 {ledger} 里没有还在新邮箱的邮件：没有搬进去过，或者已经撤销了；要搬就再运行 copy",
                     f"the ledger {ledger} knows of nothing that is at the destination: nothing was moved yet, or it was undone; to move "
                     "it, run copy again"))
        return
    _print(Words(f"用账本 {ledger} 还没有搬过邮件，下一步是 copy；如果 copy 时写了 --ledger，核对时也写同一个",
                 f"nothing was copied with the ledger {ledger} yet, copy is next; if copy was given --ledger, give verify the same"))


def _print(words: Words) -> None:
    print(f"提示：{words.zh} / Hint: {words.en}", file=sys.stderr)


def what_to_try(args: argparse.Namespace, side: Side | None, detail: str) -> Words | None:
    url = getattr(args, side.value, None) if side is not None else None
    if url is None:
        return None
    if any(words in detail for words in _UNKNOWN_AUTHORITY):
        return _authority(args, of_relay=detail.startswith("relay "))
    scheme, _, rest = url.partition("://")
    if scheme == "imaps":
        if detail.startswith("no TLS with this server") and any(words in detail for words in _NO_RECORDS):
            return Words(f"这个端口不是一开始就用 TLS 的；试试 imap://{rest}（STARTTLS）",
                         f"this port does not begin with TLS; try imap://{rest} (STARTTLS)")
        return None
    if detail.endswith("before it greeted"):
        return Words(f"这个端口可能一开始就要用 TLS；试试 imaps://{rest}", f"this may be a port that begins with TLS; try imaps://{rest}")
    if "(STARTTLS)" in detail or "refused STARTTLS" in detail:
        return Words("这个端口没有 STARTTLS；试试 imaps://…，端口多半是 993",
                     "this port has no STARTTLS; try imaps://…, mostly on port 993")
    if "(LOGINDISABLED)" in detail and scheme == "imap+plain":
        return Words(f"不加密它不让登录；试试 imap://{rest}（STARTTLS）", f"it takes no login without TLS; try imap://{rest} (STARTTLS)")
    return None


def _authority(args: argparse.Namespace, *, of_relay: bool) -> Words:
    option = "--via-ca-file" if of_relay else "--ca-file"
    given = getattr(args, "via_ca_file", None) or args.ca_file if of_relay else args.ca_file
    whose = Words("中继", "the relay") if of_relay else Words("服务器", "the server")
    if given is not None:
        return Words(f"{given} 里没有给{whose.zh}签发证书的机构；要用签发它的那个机构的证书：{option} FILE",
                     f"{given} does not hold the authority that signed the certificate of {whose.en}; give that one's: {option} FILE")
    return Words(f"给{whose.zh}签发证书的机构，这台机器的系统不认识；如果是你们自己的机构，加 {option} FILE，文件里是它的证书（PEM）",
                 f"this system does not know the authority that signed the certificate of {whose.en}; if it is your own, add {option} FILE "
                 "with its certificate (PEM)")
