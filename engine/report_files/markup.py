"""HTML whose every value is escaped, without a template engine: the engine depends on none.

    html("<td>{name}</td>", name=folder)

A template is a constant of this package; what is filled in is escaped unless it is Markup already. Control, invisible and
direction-changing characters of foreign text are written out, so that no name makes a report lie; only what joins two emoji into one
stays as it is.
"""
from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from typing import Final

from engine.redact import visible


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


EMPTY: Final = Markup("")

_EMOJI = "\u2600-\u27bf\U0001f000-\U0001faff"
_JOINER = re.compile(f"(?<=[{_EMOJI}\ufe0f])\u200d(?=[{_EMOJI}])")  # Unicode TR 51 section 2.6


def readable(text: str) -> str:
    """`visible`, but a family of emoji stays one picture."""
    return "\u200d".join(visible(part) for part in _JOINER.split(text))


def html(template: str, /, **values: object) -> Markup:
    """The template with its {names} replaced."""
    return Markup(template.format(**{name: value if isinstance(value, Markup) else escape(readable(str(value)))
                                     for name, value in values.items()}))


def joined(parts: Iterable[Markup]) -> Markup:
    return Markup("".join(parts))
