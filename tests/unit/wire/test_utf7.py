"""Folder names, as people write them and as the wire has them."""
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.wire import utf7

PAIRS = [
    ("INBOX", "INBOX"), ("已发送", "&XfJT0ZAB-"), ("其他文件夹/归档", "&UXZO1mWHTvZZOQ-/&X1JoYw-"), ("A&B", "A&-B"), ("&", "&-"),
    ("台北", "&U,BTFw-"), ("", ""), ("a~b", "a~b"), ("☺!", "&Jjo-!"), ("😀", "&2D3eAA-"), ("tab\t", "tab&AAk-"),
]


@pytest.mark.parametrize(("display", "wire"), PAIRS)
def test_known_names(display: str, wire: str) -> None:
    assert utf7.encode(display) == wire
    assert utf7.decode(wire) == display


@settings(deadline=None)
@given(st.text())
def test_every_name_comes_back(display: str) -> None:
    wire = utf7.encode(display)
    assert wire.isascii()
    assert wire.isprintable()
    assert utf7.decode(wire) == display


@pytest.mark.parametrize("wire", ["&", "a&b", "&AA", "&A-", "&====-", "&2D0-", "&XfJT0ZAB", "&é-", "&XfJT 0ZAB-", "&&-", "&Xf/T-"])
def test_what_is_not_modified_utf7_stays_as_it_is(wire: str) -> None:
    assert utf7.decode(wire) == wire


def test_raw_octets_are_shown_as_people_read_them() -> None:
    assert utf7.decode("归档".encode().decode("latin-1")) == "归档"
    assert utf7.decode("归档".encode("gb18030").decode("latin-1")) == "归档"


@settings(deadline=None)
@given(st.binary())
def test_no_octets_of_a_server_raise(raw: bytes) -> None:
    assert isinstance(utf7.decode(raw.decode("latin-1")), str)
