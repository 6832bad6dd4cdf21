"""HTML whose every value is escaped, without a template engine: the engine depends on none.

    html("<td>{name}</td>", name=folder)

A template is a constant of this package; what is filled in is escaped unless it is Markup already. Control, invisible and
direction-changing characters of foreign text are written out, so that no name makes a report lie.
"""
from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final

from engine.redact import visible


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


EMPTY: Final = Markup("")


def html(template: str, /, **values: object) -> Markup:
    """The template with its {names} replaced."""
    return Markup(template.format(**{name: value if isinstance(value, Markup) else escape(visible(str(value)))
                                     for name, value in values.items()}))


def joined(parts: Iterable[Markup]) -> Markup:
    return Markup("".join(parts))
