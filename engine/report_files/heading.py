"""Whose report this is, made when, in which language; and which formats there are."""
from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum


class Format(StrEnum):
    JSON = "json"
    CSV = "csv"
    HTML = "html"

    @property
    def content_type(self) -> str:
        return {Format.JSON: "application/json", Format.CSV: "text/csv", Format.HTML: "text/html"}[self]


@dataclass(frozen=True)
class Heading:
    """`source` and `destination` name the two mailboxes for people. `made_at`: Unix time. `zone`: in which times are written (None: this
    machine's). `provider`: the source's catalogue key, for its own words. `reference`: how a helpdesk finds the move."""

    source: str
    destination: str
    made_at: float
    language: str = "zh"
    zone: dt.tzinfo | None = None
    provider: str | None = None
    reference: str = ""

    def moment(self, at: float) -> str:
        """2026-11-25 14:20 +08:00"""
        local = dt.datetime.fromtimestamp(at, dt.UTC).astimezone(self.zone)
        return f"{local:%Y-%m-%d %H:%M} {local:%z}"[:-2] + ":" + f"{local:%z}"[-2:]
