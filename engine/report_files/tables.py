"""Tables and small pieces of the printable report: on a narrow screen each row is a card, and each cell bears its column's name."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.manifest import Sum
from engine.report_files import words
from engine.report_files.markup import EMPTY, Markup, html, joined

Cell = str | int | Markup


@dataclass(frozen=True)
class Column:
    """`kind`: "" text, "number", "words" (a server's). The first column of a table is the row's own heading."""

    title: str
    kind: str = ""


def table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]], foot: Sequence[Cell] = ()) -> Markup:
    heads = joined(html('<th scope="col"{kind}>{title}</th>', kind=_class("number" if c.kind == "number" else ""), title=c.title)
                   for c in columns)
    body = joined(_row(columns, row) for row in rows)
    return html("<table><thead><tr>{heads}</tr></thead><tbody>\n{body}</tbody>{foot}</table>", heads=heads, body=body,
                foot=html("<tfoot>{row}</tfoot>", row=_row(columns, foot)) if foot else EMPTY)


def _row(columns: Sequence[Column], cells: Sequence[Cell]) -> Markup:
    first, *rest = cells
    shown = joined(_cell(column, cell) for column, cell in zip(columns[1:], rest, strict=True))
    return html('<tr><th scope="row"><bdi>{first}</bdi></th>{shown}</tr>\n', first=_text(first), shown=shown)


def _cell(column: Column, cell: Cell) -> Markup:
    if cell == "":
        return Markup('<td class="zero"></td>')
    kind = f"{column.kind} zero" if cell == 0 else column.kind
    return html('<td{kind} data-label="{label}"><span>{text}</span></td>', kind=_class(kind), label=column.title, text=_text(cell))


def _text(cell: Cell) -> Cell:
    return words.number(cell) if isinstance(cell, int) else cell


def _class(names: str) -> Markup:
    return html(' class="{names}"', names=names) if names else EMPTY


def name(text: str, under: str = "") -> Markup:
    """A folder's name, isolated from the direction of its surroundings; a remark below it."""
    return html("<bdi>{text}</bdi>{under}", text=text, under=html('<span class="under">{under}</span>', under=under) if under else EMPTY)


def counted(lines: Iterable[tuple[int, str]]) -> Markup:
    """How many of each kind."""
    items = joined(html("<li><b>{n}</b><span>{text}</span></li>", n=words.number(n), text=text) for n, text in lines)
    return html('<ul class="kinds">{items}</ul>', items=items)


def bar(counts: Sum) -> Markup:
    """The parts of the sum as widths of 1000; one message among a million is still seen."""
    parts = {"moved": counts.moved, "there": counts.already_there, "excluded": counts.excluded, "aside": counts.set_aside,
             "vanished": counts.vanished, "rest": max(0, counts.remaining)}
    whole = sum(parts.values())
    if not whole:
        return EMPTY
    wide = {kind: max(6.0, 1000 * n / whole) for kind, n in parts.items() if n}
    scale, at, pieces = 1000 / sum(wide.values()), 0.0, []
    for kind, width in wide.items():
        pieces.append(html('<rect class="{kind}" x="{x}" y="0" width="{width}" height="10"/>', kind=kind, x=f"{at:.1f}",
                           width=f"{max(1.0, width * scale - 2):.1f}"))
        at += width * scale
    return html('<svg class="bar" viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true">{pieces}</svg>',
                pieces=joined(pieces))
