"""What stands where a ledger is to be, looked at before anything is opened for writing; and why a file cannot be one.

Owns the mark by which a ledger is known, and the words of each refusal. Must not: write into the file, or leave one beside it (a WAL
database that is opened, be it to read, gets its -wal and -shm); be called while this process has the ledger open, because closing a
file drops the process's own locks on it (POSIX, fcntl).
"""
from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

from engine.causes import Cause, Side, Words
from engine.errors import EngineError

MARK = 0x42616E6A  # "Banj" as application_id (SQLite file format §1.3.16); ledgers of before the mark have 0
_MAGIC = b"SQLite format 3\0"
_NOT_OPENED = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)


class LedgerFailed(EngineError):
    """The ledger cannot be kept or read now. `why` goes on after its path: what is the matter, and what to do."""

    def __init__(self, path: Path, why: Words) -> None:
        super().__init__(Cause.LEDGER_UNWRITABLE, side=Side.DESTINATION, detail=f"ledger {path} {why.en}")
        self.path, self.why = path, why


class LedgerUnusable(LedgerFailed):
    """This file cannot be the ledger, whenever it is tried. It was left as it is."""


def is_begun(path: Path) -> bool:
    """Whether a ledger is there. False: there is no file, or an empty one. Raises LedgerUnusable for anything else."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise LedgerUnusable(path, _not_a_file(path, mode))
        with path.open("rb") as file:
            header = file.read(72)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise cannot_be_used(path, error) from None
    if not header:
        return False
    if not header.startswith(_MAGIC):
        raise _no_ledger(path, Words("它不是数据库", "it is not a database"))
    mark = int.from_bytes(header[68:72], "big")
    return mark == MARK or _unmarked_is_begun(path, mark)


def _unmarked_is_begun(path: Path, mark: int) -> bool:
    """A ledger of before the mark, one that a killed first start left empty, or another program's database."""
    log = Path(f"{path}-wal")
    killed = log.exists() and log.stat().st_size > 0  # what its log holds counts: it must be opened like any other
    try:
        address = f"{path.absolute().as_uri()}?mode=ro{'' if killed else '&immutable=1'}"
        with closing(sqlite3.connect(address, uri=True, timeout=5)) as there:
            names = {name for (name,) in there.execute("SELECT name FROM sqlite_master")}
            if not names and not mark:
                return False
            if {"meta", "runs"} <= names and {"format", "pair"} <= {row[0] for row in there.execute("SELECT * FROM meta")}:
                return True
    except sqlite3.Error as error:
        raise refusal(path, error) from None
    raise _no_ledger(path, Words("它是别的程序的数据库", "it is another program's database"))


# -- the words -----------------------------------------------------------------------------------------------------------------

def not_begun(path: Path) -> LedgerUnusable:
    """For what needs a ledger that says something."""
    if path.exists():
        return LedgerUnusable(path, Words("是空的，还没有 copy 往里面记过；请指 copy 用的那一个（copy 的最后一行写着）",
                                          "is empty, no copy has written into it; name the one of your copy (its last line told)"))
    return LedgerUnusable(path, Words("不存在；请指 copy 用的那一个（copy 的最后一行写着）",
                                      "does not exist; name the one of your copy (its last line told)"))


def of_another_pair(path: Path, pair: str) -> LedgerUnusable:
    return LedgerUnusable(path, Words(f"是 {pair} 的账本；请用 --ledger 指另一个文件",
                                      f"belongs to {pair}; give another file with --ledger"))


def of_another_format(path: Path, theirs: str, ours: str) -> LedgerUnusable:
    return LedgerUnusable(path, Words(f"的格式是 {theirs}，这个程序写的是 {ours}；请用写它的那个新版本，或用 --ledger 指另一个文件",
                                      f"has format {theirs}, this program writes {ours}; use the newer program that wrote it, or give "
                                      "another file with --ledger"))


def cannot_be_used(path: Path, error: OSError) -> LedgerUnusable:
    """The system's own words for why the file cannot be made or opened."""
    parent, said = path.absolute().parent, error.strerror or str(error)
    if isinstance(error, FileNotFoundError):
        return LedgerUnusable(path, Words(f"建不了，目录 {parent} 不存在；先建好它（mkdir -p {parent}），或用 --ledger 指另一个文件",
                                          f"cannot be made, there is no directory {parent}; make it first (mkdir -p {parent}), or name "
                                          "another file with --ledger"))
    return LedgerUnusable(path, Words(f"用不了（{said}）；让你能写这个文件和目录 {parent}，或用 --ledger 指另一个文件",
                                      f"cannot be used ({said}); see that you may write this file and the directory {parent}, or name "
                                      "another file with --ledger"))


def refusal(path: Path, error: sqlite3.Error) -> LedgerFailed:
    """What SQLite says, with what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without it: an error of the driver's own
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged(path, str(error))
    if code in _NOT_OPENED:
        return cannot_be_used(path, OSError(0, str(error)))
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LedgerFailed(path, Words(f"正被另一条命令使用（{error}）；等它结束再运行",
                                        f"is in use by another command ({error}); run this again when that has ended"))
    if code == sqlite3.SQLITE_FULL:
        return LedgerFailed(path, Words(f"所在的磁盘满了（{error}）；腾出空间再运行，会接着上次",
                                        f"lies on a full disk ({error}); free some space and run this again, it goes on from here"))
    return LedgerFailed(path, Words(f"读写出错（{error}）；检查它所在的磁盘再运行，会接着上次",
                                    f"could not be read or written ({error}); see to its disk and run this again, it goes on from here"))


def damaged(path: Path, how: str) -> LedgerUnusable:
    return LedgerUnusable(path, Words(
        f"坏了（{how}），没有动它；留着它，换上它以前的备份，或用 --ledger 指另一个文件：copy 认得出新邮箱里已有的邮件，不会重复",
        f"is damaged ({how}) and was left as it is; keep it, and take a copy of it from before, or name another file with --ledger: copy "
        "knows again what is there already and doubles nothing"))


def _no_ledger(path: Path, what: Words) -> LedgerUnusable:
    return LedgerUnusable(path, Words(f"不是搬家的账本：{what.zh}，没有动它；请用 --ledger 指一个新的文件名，或 copy 用的那个账本",
                                      f"is no ledger of Banjia: {what.en}, and was left as it is; name a new file with --ledger, or the "
                                      "ledger of your copy"))


def _not_a_file(path: Path, mode: int) -> Words:
    if stat.S_ISDIR(mode):
        return Words(f"是一个目录；请写目录里的一个文件，例如 {path / 'move.ledger'}",
                     f"is a directory; name a file in it, for example {path / 'move.ledger'}")
    return Words("不是普通的文件；请用 --ledger 指另一个文件", "is no ordinary file; name another file with --ledger")
