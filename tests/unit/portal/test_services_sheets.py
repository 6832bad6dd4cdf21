"""Sheets: what Chinese Excel, WPS and people's own scripts write, read strictly; what we write, harmless."""
from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.report_files.cells import safe_cell
from portal.services.sheets import MOST_BYTES, MOST_ROWS, Sheet, SheetRefused, csv_bytes, read_sheet, template

HEADER = "姓名,旧邮箱,旧邮箱登录名,旧邮箱密码,新邮箱,新邮箱登录名,新邮箱密码,语言\n"
ROW = "王伟,Wang@Old.example,,code 1,wang@new.example,w.wang,new-1,en\n"


def read(text: str, encoding: str = "utf-8") -> Sheet:
    return read_sheet(text.encode(encoding), "people.csv")


def problems(text: str) -> list[tuple[int, str, str]]:
    return [(p.row, p.column, p.cause.en) for p in read(text).problems]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "gbk"])
def test_encodings_of_chinese_spreadsheets(encoding: str) -> None:
    (row,) = read(HEADER + ROW, encoding).rows
    assert (row.number, row.name, row.source_address, row.destination_address, row.destination_login, row.language) == (
        2, "王伟", "wang@old.example", "wang@new.example", "w.wang", "en")
    assert row.source_secret is not None and row.source_secret.reveal() == "code 1"
    assert row.destination_secret is not None and row.destination_secret.reveal() == "new-1"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_separators_and_line_ends(separator: str, end: str) -> None:
    text = (
        end.join(
            separator.join(cells) for cells in (["旧邮箱", "姓名"], ["a@x.example", f'"李{separator}四"'], ["b@x.example", ""])
        )
        + end
    )
    assert [(row.number, row.name) for row in read(text).rows] == [(2, "李 四" if separator == "\t" else f"李{separator}四"), (3, "")]


@pytest.mark.parametrize(
    "header",
    [
        "旧邮箱",
        "source_address",
        "Source Address".replace(" ", "_"),
        "旧邮箱/source_address",
        "旧邮箱（source_address）",
        "旧邮箱(必填)",
        " 旧邮箱* ",
        "﻿旧邮箱",
    ],
)
def test_header_names_in_both_languages(header: str) -> None:
    assert [row.source_address for row in read(f"{header}\na@x.example\n").rows] == ["a@x.example"]


def test_the_template_is_read_back_with_every_column() -> None:
    sheet = read_sheet(template() + b"a,b@x.example,,,,,,\n", "t.csv")
    assert len(sheet.columns) == 8 and sheet.rows[0].name == "a" and sheet.problems == [] and not sheet.with_secrets


def test_an_empty_new_mailbox_is_the_same_address_and_unknown_columns_are_named() -> None:
    sheet = read("旧邮箱,部门,新邮箱\na@x.example,财务,\n\n , ,\n")
    assert [row.destination_address for row in sheet.rows] == ["a@x.example"] and sheet.ignored == ("部门",)


@pytest.mark.parametrize(
    ("data", "filename", "words"),
    [
        (b"", "a.csv", "empty"),
        (b"PK\x03\x04rest", "a.csv", "CSV UTF-8"),
        (b"a,b", "people.xlsx", "CSV UTF-8"),
        ("旧邮箱\na@x.example".encode("utf-16"), "a.csv", "UTF-16"),
        (b"a\x00b", "a.csv", "not a text file"),
        (b"\xff\xff\xff\xff", "a.csv", "encoding is unknown"),
        ("姓名,部门\n王,财务\n".encode(), "a.csv", "source_address at least"),
        ("旧邮箱,旧邮箱\na@x.example,b@x.example\n".encode(), "a.csv", "twice"),
        ("旧邮箱，姓名\n".encode(), "a.csv", "full-width commas"),
        ('旧邮箱,姓名\na@x.example,"王\n'.encode(), "a.csv", "quotes do not match"),
        (("旧邮箱" + ",x" * 60).encode(), "a.csv", "too many columns"),
        (b"x" * (MOST_BYTES + 1), "a.csv", "too large"),
        (("旧邮箱\n" + "a\n" * (MOST_ROWS + 1)).encode(), "a.csv", "Too many rows"),
    ],
)
def test_what_is_no_sheet_of_people_is_refused_with_what_to_do(data: bytes, filename: str, words: str) -> None:
    with pytest.raises(SheetRefused) as caught:
        read_sheet(data, filename)
    assert words in caught.value.en and caught.value.zh and caught.value.field == "sheet"


@pytest.mark.parametrize("secret", ["1.23457E+17", "1,23457e+17", "1E+15", "123456789012345000", "#NAME?", "#VALUE!", "########", "a\nb"])
@pytest.mark.parametrize("column", ["旧邮箱密码", "新邮箱密码"])
def test_a_secret_that_a_spreadsheet_mangled_is_refused_without_repeating_it(secret: str, column: str) -> None:
    sheet = read(f'旧邮箱,{column}\na@x.example,"{secret}"\nb@x.example,good\n')
    assert [row.source_address for row in sheet.rows] == ["b@x.example"]
    (problem,) = sheet.problems
    assert problem.row == 2 and column in problem.column and problem.next_step.zh and problem.next_step.en
    assert secret not in repr(problem)


@pytest.mark.parametrize(
    "secret", ["123456789012345678", "0012345678", "1.5", "2023.11", "E+17", "1e1x", "#1password", "=1+1", "a,b", '"quoted"']
)
def test_secrets_that_only_look_odd_are_taken_whole(secret: str) -> None:
    out = io.StringIO()
    csv.writer(out).writerows([["旧邮箱", "旧邮箱密码"], ["a@x.example", secret]])
    sheet = read(out.getvalue())
    assert sheet.problems == [] and sheet.rows[0].source_secret is not None and sheet.rows[0].source_secret.reveal() == secret


def test_every_problem_names_row_and_column_and_the_other_rows_stand() -> None:
    text = ("旧邮箱,新邮箱,语言\n"
            "a@x.example,a@y.example,zh\n"
            "not an address,,\n"
            ",b@y.example,\n"
            "c@x.example,nonsense,fr\n"
            "A@X.example,other@y.example,\n"
            "d@x.example,a@y.example,\n"
            "e@x.example,e@y.example,,surplus\n"
            "f@x.example,f@y.example,英文\n")
    sheet = read(text)
    assert [row.source_address for row in sheet.rows] == ["a@x.example", "f@x.example"]
    old, new, language = "旧邮箱 (source_address)", "新邮箱 (destination_address)", "语言 (language)"
    assert [(row, column) for row, column, _ in problems(text)] == [
        (3, old), (4, old), (5, language), (5, new), (6, old), (7, new), (8, "")]
    assert all(p.cause.zh and p.cause.en and p.next_step.zh and p.next_step.en for p in sheet.problems)
    assert "row 2 already" in sheet.problems[4].cause.en


def test_rows_are_numbered_as_the_spreadsheet_shows_them() -> None:
    assert problems('姓名,旧邮箱\n"王\n伟",bad\n\nx,worse\n') and [row for row, _, _ in problems("旧邮箱\na@x.example\n\nbad\n")] == [4]


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+86 10", "'+86 10"),
        ("-x", "'-x"),
        ("@sum", "'@sum"),
        ("\tx", "'\tx"),
        ("＝1", "'＝1"),
        (" =1", "' =1"),
        ("\u3000=1", "'\u3000=1"),
        ("王伟", "王伟"),
        ("a=b", "a=b"),
        ("", ""),
        ("3", "3"),
    ],
)
def test_no_cell_that_we_write_runs_as_a_formula(cell: str, written: str) -> None:
    assert safe_cell(cell) == written


def test_what_is_written_opens_in_excel() -> None:
    data = csv_bytes([["姓名", "=HYPERLINK(1)"], [None, 3]])
    assert data.startswith(b"\xef\xbb\xbf")
    assert list(csv.reader(io.StringIO(data.decode("utf-8-sig")))) == [["姓名", "'=HYPERLINK(1)"], ["", "3"]]


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda t: ("旧邮箱,旧邮箱密码\n" + t).encode("utf-8", "surrogatepass")))
def test_no_file_breaks_the_reader(data: bytes) -> None:
    try:
        sheet = read_sheet(data, "any.csv")
    except SheetRefused as refused:
        assert refused.zh and refused.en
    else:
        assert all(row.source_address.count("@") == 1 for row in sheet.rows)


@pytest.mark.parametrize("lead", ["sep=;\r\n", "\n", "SEP=;\n\n", ";;;\n"])
def test_what_stands_above_the_header_is_no_row(lead: str) -> None:
    sheet = read_sheet((lead + "旧邮箱;姓名\na@old.example;A\nno address;B\n").encode(), "p.csv")
    above = lead.count("\n")
    assert [(row.number, row.name) for row in sheet.rows] == [(above + 2, "A")]
    assert [problem.row for problem in sheet.problems] == [above + 3]
