"""Reads the data files: a TOML table whose every wrong key, type or value is named with its file.

Owns the checking of single values. Knows no provider and no rule. Always: a key that nobody asked for is an error, so a typing
mistake in a data file is found when it is read, not when a person meets it.
"""
from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from engine.causes import Words

E = TypeVar("E", bound=StrEnum)


class BadData(ValueError):
    """A data file cannot be used; the text is `file: key: what is wrong`."""


class Table:
    """One TOML table being read. `finish()` complains about keys that were never asked for."""

    def __init__(self, file: str, key: str, values: dict[str, Any]) -> None:
        self.file, self.key, self._values = file, key, values
        self._asked: set[str] = set()

    def bad(self, key: str, why: str) -> BadData:
        return BadData(f"{self.file}: {self._path(key)}: {why}")

    def _path(self, key: str) -> str:
        return ".".join(part for part in (self.key, key) if part)

    def _get(self, key: str, kind: type | tuple[type, ...], named: str, default: Any) -> Any:
        self._asked.add(key)
        if key not in self._values:
            if default is ...:
                raise self.bad(key, f"missing; write {named}")
            return default
        value = self._values[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.bad(key, f"must be {named}, not {value!r}")
        return value

    def has(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def text(self, key: str, default: Any = ...) -> str:
        value = self._get(key, str, "a text", default)
        if value == "" and default is ...:
            raise self.bad(key, "is empty")
        return str(value)

    def optional(self, key: str) -> str | None:
        return self.text(key) if self.has(key) else self._get(key, str, "a text", None)

    def flag(self, key: str, default: bool = False) -> bool:
        return bool(self._get(key, bool, "true or false", default))

    def number(self, key: str, default: Any = ...) -> int:
        return int(self._get(key, int, "a whole number", default))

    def optional_number(self, key: str) -> int | None:
        return self.number(key) if self.has(key) else self._get(key, int, "a whole number", None)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; missing means empty."""
        values = self._get(key, list, "a list of texts", [])
        if not all(isinstance(value, str) and value for value in values):
            raise self.bad(key, "every entry must be a text that is not empty")
        if len(set(values)) != len(values):
            raise self.bad(key, "an entry stands twice")
        return tuple(values)

    def words(self, key: str) -> Words:
        table = self.table(key)
        words = Words(table.text("zh"), table.text("en"))
        table.finish()
        return words

    def optional_words(self, key: str) -> Words | None:
        return self.words(key) if self.has(key) else None

    def enum(self, key: str, kind: type[E], default: Any = ...) -> E:
        return self._member(key, kind, self.text(key, default))

    def enums(self, key: str, kind: type[E]) -> tuple[E, ...]:
        return tuple(self._member(key, kind, text) for text in self.texts(key))

    def _member(self, key: str, kind: type[E], text: str) -> E:
        try:
            return kind(text)
        except ValueError:
            raise self.bad(key, f"{text!r} is none of {', '.join(kind)}") from None

    def regex(self, key: str) -> re.Pattern[str]:
        return self._compiled(key, self.text(key))

    def regexes(self, key: str) -> tuple[re.Pattern[str], ...]:
        return tuple(self._compiled(key, text) for text in self.texts(key))

    def _compiled(self, key: str, text: str) -> re.Pattern[str]:
        try:
            return re.compile(text, re.IGNORECASE)
        except re.error as error:
            raise self.bad(key, f"not a regular expression ({error}): {text!r}") from None

    def table(self, key: str) -> Table:
        return Table(self.file, self._path(key), self._get(key, dict, "a table", ...))

    def optional_table(self, key: str) -> Table:
        return Table(self.file, self._path(key), self._get(key, dict, "a table", {}))

    def tables(self, key: str) -> Iterator[Table]:
        """The rows of an array of tables; a row is named by its `id`, or by its place."""
        for place, row in enumerate(self._get(key, list, "an array of tables", []), 1):
            if not isinstance(row, dict):
                raise self.bad(key, f"entry {place} must be a table")
            yield Table(self.file, f"{self._path(key)}[{row.get('id', place)}]", row)

    def finish(self) -> None:
        unknown = sorted(set(self._values) - self._asked)
        if unknown:
            raise self.bad(unknown[0], f"not a known key; known here: {', '.join(sorted(self._asked))}")


def read_table(path: Path) -> Table:
    """Raises BadData naming the file when it is not TOML in UTF-8."""
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise BadData(f"{path.name}: not TOML in UTF-8: {error}") from None
    return read_text(path.name, text)


def read_text(name: str, text: str) -> Table:
    """A file's text, or the part of it that is wanted. Raises BadData naming the file when it is not TOML."""
    try:
        return Table(name, "", tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadData(f"{name}: not TOML in UTF-8: {error}") from None
