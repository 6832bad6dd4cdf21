"""A sheet of people as text: read strictly, written safely.

Owns encodings, separators, header names, the caps, and what a spreadsheet program does to cells. Must not: know the database, touch
the disk, or repeat a secret. Always: a cell that was mangled is refused with row, column, cause and what to do; a cell that is
written can never run as a formula (CWE-1236).
"""
from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from engine.causes import Words
from engine.endpoint import Secret
from engine.report_files.cells import safe_cell
from portal.services.common import ServiceError, plain_name
from portal.services.people import mail_address

MOST_BYTES = 5_000_000
MOST_ROWS = 20_000
MOST_COLUMNS = 50
LONGEST_CELL = 1_000
LEAD = "\ufeff"  # without it Excel reads UTF-8 as the system's old code page


class Column(StrEnum):
    """Columns by their English names; each also answers to its Chinese name."""

    NAME = "name"
    SOURCE_ADDRESS = "source_address"
    SOURCE_LOGIN = "source_login"
    SOURCE_SECRET = "source_secret"
    DESTINATION_ADDRESS = "destination_address"
    DESTINATION_LOGIN = "destination_login"
    DESTINATION_SECRET = "destination_secret"
    LANGUAGE = "language"


CHINESE = {
    Column.NAME: "姓名", Column.SOURCE_ADDRESS: "旧邮箱", Column.SOURCE_LOGIN: "旧邮箱登录名", Column.SOURCE_SECRET: "旧邮箱密码",
    Column.DESTINATION_ADDRESS: "新邮箱", Column.DESTINATION_LOGIN: "新邮箱登录名", Column.DESTINATION_SECRET: "新邮箱密码",
    Column.LANGUAGE: "语言",
}
SECRETS = (Column.SOURCE_SECRET, Column.DESTINATION_SECRET)
_LANGUAGES = {"": "",
              **dict.fromkeys(("zh", "cn", "zh-cn", "中文", "汉语"), "zh"),
              **dict.fromkeys(("en", "english", "英文", "英语"), "en")}

_SCIENTIFIC = re.compile(r"[+-]?\d([.,]\d+)?E[+-]?\d+", re.IGNORECASE)     # 1.23457E+17
_ROUNDED = re.compile(r"\d{15}0+")                                          # a spreadsheet keeps 15 digits of a number
_LEAD_LINE = re.compile(r"(sep=.|[ ,;\t]*)\r?\n", re.IGNORECASE)
_ERROR_CELL = re.compile(r"#(NAME\?|VALUE!|REF!|DIV/0!|N/A|NUM!|NULL!)|#{3,}")


class SheetRefused(ServiceError):
    """The file as a whole cannot be read."""

    def __init__(self, zh: str, en: str) -> None:
        super().__init__("sheet", zh, en)


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one row (numbered as the spreadsheet shows it; the header is row 1)."""

    row: int
    column: str
    cause: Words
    next_step: Words

    @classmethod
    def of(cls, row: int, error: ServiceError) -> Problem:
        return cls(row, column_name(error.field), error.words,
                   Words("改好这一行，把表再传一次；其他行不会重复。",
                         "Mend this row and upload the sheet again; no other row is doubled."))


@dataclass(frozen=True)
class SheetRow:
    """One person as the sheet has them; empty: not said. A new mailbox that was not said (`destination_said`) is the same address."""

    number: int
    source_address: str
    name: str = ""
    source_login: str = ""
    source_secret: Secret | None = None
    destination_address: str = ""
    destination_login: str = ""
    destination_secret: Secret | None = None
    language: str = ""
    destination_said: bool = True


@dataclass(frozen=True)
class Sheet:
    """`ignored` are header names that mean nothing to us; `sha256` is of the file's octets."""

    rows: list[SheetRow]
    problems: list[Problem]
    columns: tuple[Column, ...]
    sha256: str
    ignored: tuple[str, ...] = ()

    @property
    def with_secrets(self) -> bool:
        return any(row.source_secret or row.destination_secret for row in self.rows)


def column_name(name: str | None) -> str:
    """A column as people know it: 旧邮箱 (source_address)."""
    return f"{CHINESE[Column(name)]} ({name})" if name in set(Column) else name or ""


def read_sheet(data: bytes, filename: str) -> Sheet:
    """Reads a CSV file. Rows with a problem are left out of `rows`. Raises SheetRefused when it is no sheet of people at all."""
    records = _records(_text(data, filename))
    above = next((at for at, record in enumerate(records) if record), None)
    if above is None:
        raise SheetRefused("表是空的。", "The sheet is empty.")
    columns, ignored = _header(records[above])
    rows: list[SheetRow] = []
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for number, cells in enumerate(records[above + 1:], start=above + 2):
        if not any(cell.strip() for cell in cells):
            continue
        row = _row(number, columns, cells, problems)
        if row is None:
            continue
        earlier = [seen.get(f"{side} {address}") for side, address in (("old", row.source_address), ("new", row.destination_address))]
        if any(earlier):
            problems.append(_twice(row, *earlier))
            continue
        seen[f"old {row.source_address}"] = seen[f"new {row.destination_address}"] = number
        rows.append(row)
    return Sheet(rows, problems, tuple(c for c in columns if c is not None), hashlib.sha256(data).hexdigest(), ignored)


# --- the file as a whole --------------------------------------------------------------------------------------------------


def _text(data: bytes, filename: str) -> str:
    """UTF-8, else GB18030 (Chinese Excel), strictly; nothing is guessed beyond that (facts: portal 2.3; reliability, P10)."""
    if len(data) > MOST_BYTES:
        raise SheetRefused(f"文件太大，最多 {MOST_BYTES // 1_000_000} MB。请分成几份。",
                           f"The file is too large (at most {MOST_BYTES // 1_000_000} MB). Split it.")
    if data[:4] == b"PK\x03\x04" or data[:4] == b"\xd0\xcf\x11\xe0" or filename.lower().endswith((".xlsx", ".xls", ".et", ".ods")):
        raise SheetRefused("这是 Excel 文件。请在 Excel 里「另存为」→「CSV UTF-8（逗号分隔）」，再上传那个文件。",
                           "This is an Excel file. In Excel choose Save As, CSV UTF-8, and upload that file.")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise SheetRefused("文件是 UTF-16（Excel 的「Unicode 文本」）。请另存为「CSV UTF-8」再上传。",
                           "The file is UTF-16 (Excel's Unicode Text). Save it as CSV UTF-8 and upload that.")
    if b"\x00" in data:
        raise SheetRefused("这不是文本表格，请另存为 CSV 再上传。", "This is not a text file. Save it as CSV and upload that.")
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise SheetRefused("看不懂文件的编码，请另存为「CSV UTF-8」再上传。",
                       "The file's encoding is unknown. Save it as CSV UTF-8 and upload that.")


def _records(text: str) -> list[list[str]]:
    text, above = _without_lead(text)
    first = text.split("\n", 1)[0]
    separator = max(",;\t，；", key=first.count)
    if separator in "，；" and first.count(separator):
        raise SheetRefused("表头用了全角逗号，请换成半角逗号。", "The header uses full-width commas; use plain ones.")
    records: list[list[str]] = [[]] * above  # so that rows keep the numbers that the spreadsheet shows
    try:
        for record in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True):
            if len(records) - above > MOST_ROWS:
                raise SheetRefused(f"行数太多，最多 {MOST_ROWS} 行。请分成几份。", f"Too many rows (at most {MOST_ROWS}). Split the sheet.")
            if len(record) > MOST_COLUMNS:
                raise SheetRefused(f"第 {len(records) + 1} 行的列太多（最多 {MOST_COLUMNS} 列），请检查分隔符和引号。",
                                   f"Row {len(records) + 1} has too many columns (at most {MOST_COLUMNS}); check commas and quotes.")
            records.append(record)
    except csv.Error:
        raise SheetRefused(f"第 {len(records) + 1} 行的引号不成对，请检查这一行。",
                           f"Row {len(records) + 1}: the quotes do not match; check this row.") from None
    return records


def _without_lead(text: str) -> tuple[str, int]:
    """The text from its header on, and how many lines stood above: blank ones, and Excel's `sep=;`."""
    above = 0
    while (line := _LEAD_LINE.match(text)) is not None:
        text, above = text[line.end():], above + 1
    return text, above


def _header(cells: Sequence[str]) -> tuple[list[Column | None], tuple[str, ...]]:
    known = {**{column.value: column for column in Column}, **{name: column for column, name in CHINESE.items()}}
    found: list[Column | None] = []
    ignored: list[str] = []
    for cell in cells:
        parts = [re.sub(r"[\s*＊]", "", part).lower() for part in re.split(r"[/／(（)）]", cell)]
        column = next((known[part] for part in parts if part in known), None)
        if column is not None and column in found:
            raise SheetRefused(f"表头里「{CHINESE[column]}」出现了两次。", f"The header names {column.value} twice.")
        if column is None and cell.strip():
            ignored.append(cell.strip()[:40])
        found.append(column)
    if Column.SOURCE_ADDRESS not in found:
        names_zh, names_en = "、".join(CHINESE.values()), ", ".join(Column)
        raise SheetRefused(f"第一行要写列名，至少要有「旧邮箱」。可以用的列名：{names_zh}。",
                           f"The first row must name the columns, source_address at least. Known names: {names_en}.")
    return found, tuple(ignored)


# --- one row --------------------------------------------------------------------------------------------------------------


def _row(number: int, columns: Sequence[Column | None], cells: Sequence[str], problems: list[Problem]) -> SheetRow | None:
    """The row, or None when something is wrong with it (every problem is added)."""
    before = len(problems)
    if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns):]):
        problems.append(Problem(number, "", Words("这一行的格子比表头多。", "This row has more cells than the header."),
                                Words("含逗号的内容要用双引号括起来。", "Put cells that hold a comma in double quotes.")))
    values = {column: cell for column, cell in zip(columns, cells, strict=False) if column is not None}
    for column, cell in values.items():
        wrong = _mangled(column, cell)
        if wrong is not None:
            problems.append(Problem(number, column_name(column), *wrong))
    language = _LANGUAGES.get(values.get(Column.LANGUAGE, "").strip().lower())
    if language is None:
        problems.append(Problem(number, column_name(Column.LANGUAGE), Words("不认识这个语言。", "This language is not known."),
                                Words("写 zh 或 en，也可以空着。", "Write zh or en, or leave it empty.")))
    source = _address(number, Column.SOURCE_ADDRESS, values.get(Column.SOURCE_ADDRESS, ""), problems)
    new = values.get(Column.DESTINATION_ADDRESS, "")
    destination = _address(number, Column.DESTINATION_ADDRESS, new, problems) if new.strip() else source
    if len(problems) > before:
        return None
    return SheetRow(
        number, source, plain_name(values.get(Column.NAME, "")), values.get(Column.SOURCE_LOGIN, "").strip(),
        _secret(values.get(Column.SOURCE_SECRET)), destination, values.get(Column.DESTINATION_LOGIN, "").strip(),
        _secret(values.get(Column.DESTINATION_SECRET)), language or "", bool(new.strip()))


def _secret(cell: str | None) -> Secret | None:
    return Secret(cell) if cell and cell.strip() else None


def _address(number: int, column: Column, cell: str, problems: list[Problem]) -> str:
    try:
        return mail_address(cell, column.value)
    except ServiceError as error:
        problems.append(Problem.of(number, error))
        return ""


def _mangled(column: Column, cell: str) -> tuple[Words, Words] | None:
    """What a spreadsheet program did to the cell: (cause, next step). The cell itself is not repeated: it may be a secret."""
    text = cell.strip()
    if len(cell) > LONGEST_CELL:
        return Words("内容太长。", "The cell is too long."), Words("检查这一格的引号是否成对。", "Check that its quotes match.")
    if column is not Column.NAME and any(ord(c) < 32 or ord(c) == 127 for c in text):
        return Words("格子里有换行或看不见的符号。", "The cell holds a line break or a hidden character."), Words(
            "删掉多余的符号。", "Remove it.")
    as_text = Words("把这一列设成「文本」格式，重新填这一格，再另存为 CSV。",
                    "Format the column as text, enter the cell again, save as CSV again.")
    if _ERROR_CELL.fullmatch(text):
        return Words("表格程序把这一格变成了出错标记。", "The spreadsheet program turned this cell into an error mark."), as_text
    if column in SECRETS and (_SCIENTIFIC.fullmatch(text) or _ROUNDED.fullmatch(text)):
        return Words("表格程序把密码变成了数字，后面的位数已经丢了。",
                     "The spreadsheet program turned the password into a number; its last digits are lost."), as_text
    return None


def _twice(row: SheetRow, old: int | None, new: int | None) -> Problem:
    column = Column.SOURCE_ADDRESS if old else Column.DESTINATION_ADDRESS
    return Problem(row.number, column_name(column),
                   Words(f"这个地址在第 {old or new} 行已经有了。", f"This address stands in row {old or new} already."),
                   Words("一个旧邮箱搬到一个新邮箱，删掉多余的一行。", "One old mailbox goes to one new mailbox; remove the extra row."))


# --- writing --------------------------------------------------------------------------------------------------------------


def csv_bytes(rows: Iterable[Sequence[object]]) -> bytes:
    """UTF-8 with a byte-order mark, as Excel wants it; every cell harmless."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    for row in rows:
        writer.writerow([safe_cell("" if cell is None else str(cell)) for cell in row])
    return (LEAD + out.getvalue()).encode()


def template() -> bytes:
    """An empty sheet with every column."""
    return csv_bytes([[f"{CHINESE[column]}/{column.value}" for column in Column]])
