"""The files that a command line names: secrets, tokens, certificates, the ledger. What is wrong with one is told in one sentence with
the option, the reason and what to do, before a server is called.

Must not: write a secret anywhere; create a ledger where one is only to be read.
"""
from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from engine.causes import Side, Words
from engine.endpoint import Secret, parse_account_url
from engine.errors import EngineError
from engine.ledger_file import SqliteLedger
from engine.ledger_look import LedgerFailed, LedgerUnusable, cannot_be_used, is_begun, not_begun, of_another_pair

if TYPE_CHECKING:
    from engine.ledger import FolderRow
    from engine.pacing.store import PaceStore


class Usage(Exception):
    """What the caller wrote cannot be done; says in both languages what to write instead. `failure`: what it is to a program."""

    def __init__(self, zh: str, en: str, failure: EngineError | None = None) -> None:
        super().__init__(en)
        self.zh, self.en, self.failure = zh, en, failure


# -- text ----------------------------------------------------------------------------------------------------------------------

def text_file(path: Path | None, option: str) -> str | None:
    """Without the mark of UTF-8 (BOM) that editors on Windows write before it: unseen, it would be sent as part of a secret."""
    if path is None:
        return None
    try:
        return _octets(path, option).decode("utf-8-sig")
    except UnicodeDecodeError:  # its words hold an octet of what may be a secret
        raise Usage(f"{option} {path} 不是 UTF-8 文本；请存成 UTF-8 再用",
                    f"{option} {path} is not UTF-8 text; save it as UTF-8") from None


def ca_file(path: Path | None, option: str) -> str | None:
    """The text of a PEM file that holds at least one certificate; what is not ASCII in its comments is left out."""
    if path is None:
        return None
    import ssl

    pem = _octets(path, option).decode("ascii", "ignore")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError):
        convert = f"openssl x509 -inform der -in {path} -out ca.pem"
        raise Usage(f"{option} {path} 里没有能用的 PEM 证书（以 -----BEGIN CERTIFICATE----- 开头的文本）；请指证书机构的证书，"
                    f"DER 格式的先转换：{convert}",
                    f"{option} {path} holds no usable PEM certificate (text that begins with -----BEGIN CERTIFICATE-----); name the "
                    f"authority's certificate, and convert one in DER form first: {convert}") from None
    return pem


def _octets(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Usage(f"{option} {path} 读不了（{error.strerror}）；请检查路径有没有写对、你能不能读这个文件",
                    f"{option} {path} cannot be read ({error.strerror}); see that the path is right and the file yours to read") from None


def secret(args: argparse.Namespace, side: Side, whose: str) -> Secret:
    """From a file, the environment or a prompt."""
    option, name = f"--{side.value}-password-file", f"BANJIA_{side.value.upper()}_PASSWORD"
    path = getattr(args, f"{side.value}_password_file")
    if path is not None:
        text = (text_file(path, option) or "").removesuffix("\n").removesuffix("\r")
    elif name in os.environ:
        text = os.environ[name]
    elif sys.stdin.isatty():
        of = Words("旧邮箱", "old") if side is Side.SOURCE else Words("新邮箱", "new")
        from getpass import getpass  # where somebody is asked

        text = getpass(f"{of.zh}的密码 / Password of the {of.en} mailbox, {whose}: ", stream=sys.stderr)
    else:
        raise Usage(f"没有 {whose} 的密码；请用 {option} 文件，或设环境变量 {name}",
                    f"no secret for {whose}; give {option} FILE or set {name}")
    if not text or any(c in text for c in "\r\n\0"):
        raise Usage(f"{whose} 的密码是空的，或者不止一行；密码文件里只写一行",
                    f"the secret for {whose} is empty or holds a line end; a password file holds one line")
    return Secret(text)


# -- the ledger ----------------------------------------------------------------------------------------------------------------

def ends_of(args: argparse.Namespace) -> tuple[str, str]:
    """SOURCE and DESTINATION as a ledger's pair names them, with " -> " in between. Raises BadAddress."""
    (old, here), (new, there) = parse_account_url(args.source), parse_account_url(args.destination)
    return f"{here} @ {old}", f"{there} @ {new}"


def ledger_path(args: argparse.Namespace, pair: str) -> Path:
    """The one that --ledger names, else the pair's own in the user's state directory."""
    if args.ledger is not None:
        return Path(args.ledger)
    top = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "banjia"
    try:
        top.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Usage(f"没有放账本的地方：{top}（{error.strerror}）；请用 --ledger 指一个文件",
                    f"no place for the ledger: {top} ({error.strerror}); name one with --ledger FILE") from None
    return top / f"{hashlib.sha256(pair.encode()).hexdigest()[:24]}.ledger"


def is_ledger(args: argparse.Namespace, path: Path, *, must_be: bool = False) -> bool:
    """Whether a ledger is there already. False: none, or an empty file; with `must_be` that is refused, without it only where none can be
    made."""
    try:
        begun = is_begun(path)
        if not begun and must_be:
            raise not_begun(path)
        if not begun and not path.absolute().parent.is_dir():
            raise cannot_be_used(path, FileNotFoundError())
    except LedgerUnusable as error:
        raise unusable(args, error) from None
    return begun


def open_ledger(args: argparse.Namespace, path: Path, pair: str) -> SqliteLedger:
    """Made, if it is not there. A ledger that somebody else has open is an EngineError: it can be had later."""
    try:
        return SqliteLedger(path, pair)
    except LedgerUnusable as error:
        raise unusable(args, error) from None


def named_ledger(args: argparse.Namespace) -> SqliteLedger:
    """For commands that begin with one: that of the copy from SOURCE to DESTINATION, or --ledger, or both, which then must agree."""
    if (args.source is None and args.ledger is None) or (args.source is not None and args.destination is None):
        raise Usage("没有账本：请写 --ledger 文件，或者 copy 时的两个地址（旧邮箱、新邮箱）",
                    "no ledger: give --ledger FILE, or the SOURCE and DESTINATION that were copied")
    pair = " -> ".join(ends_of(args)) if args.source is not None else None
    path = ledger_path(args, pair or "")
    try:
        ledger = SqliteLedger(path, None)
        if pair not in (None, ledger.pair):
            ledger.close()
            raise of_another_pair(path, ledger.pair)
    except LedgerUnusable as error:
        raise unusable(args, error) from None
    return ledger


def may_be_undone(rows: Iterable[FolderRow]) -> bool:
    """Whether something may have been moved and taken back. A ledger forgets what was undone, but an undo leaves its folder open; so does
    a copy that broke off, and then it is not known."""
    return any(not row.complete and row.rule is None for row in rows)


def unusable(args: argparse.Namespace, error: LedgerFailed) -> Usage:
    """As the caller wrote it: with the option, if there was one."""
    zh, en = ("账本", "the ledger") if args.ledger is None else ("--ledger", "--ledger")
    return Usage(f"{zh} {error.path} {error.why.zh}", f"{en} {error.path} {error.why.en}", error)


def pace_kept_by(ledger: Path) -> PaceStore:
    """What the servers asked of the last commands with this ledger, in a file beside it."""
    from engine.pacing.store import FilePaceStore

    return FilePaceStore(ledger.with_name(f"{ledger.name}.pace"))
