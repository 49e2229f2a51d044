"""Tables on the terminal, or below one another where a line has no room for them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_PIPED_WIDTH = 120
"""Columns where there is no terminal and COLUMNS does not say."""
_FOLDED = 40
"""Columns that a long text has at least before the table is given up."""


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    heading: str = ""
    """May have several lines."""
    is_number: bool = False
    folds: bool = False
    """Long texts go on in the next line, at a terminal: a file never has a broken path."""


def console() -> Console:
    """Return a console as wide as the terminal, else COLUMNS, else 120.

    With `NO_COLOR` it sends no styles at all, neither colours nor bold.
    """
    made = Console(highlight=False, color_system=None if os.environ.get("NO_COLOR") else "auto")
    if not made.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        made.width = _PIPED_WIDTH
    return made


def show(
    to: Console, columns: Sequence[Column], rows: Sequence[Sequence[Text]], title: str = ""
) -> None:
    """Print a table where it fits, else each row below its first cell, which is never broken."""
    if fits(to, columns, rows):
        to.print(_table(columns, rows, title))
        return
    if title:
        to.print(Text(title, style="italic"), soft_wrap=True)
    for first, *cells in rows:
        to.print(Text(first.plain, style="bold"), soft_wrap=True)
        details = Text(" · ").join(
            Text(f"{' '.join(column.heading.split())} ").append_text(cell)
            if column.heading
            else cell
            for column, cell in zip(columns[1:], cells, strict=True)
            if cell.plain
        )
        show_below(to, details)


def fits(to: Console, columns: Sequence[Column], rows: Sequence[Sequence[Text]]) -> bool:
    """Tell whether a table has room."""
    return _width(to, columns, rows) <= to.width


def show_below(to: Console, details: Text) -> None:
    """Print what stands below a name; only a terminal breaks its lines."""
    if to.is_terminal:
        to.print(Padding(details, (0, 0, 0, 2)))
    else:
        to.print(Text("  ").append_text(details), soft_wrap=True)


def _width(to: Console, columns: Sequence[Column], rows: Sequence[Sequence[Text]]) -> int:
    """Return what the table takes at least; a frame and two spaces are around each cell."""
    total = 1 + 3 * len(columns)
    for index, column in enumerate(columns):
        texts = [column.heading, *(row[index].plain for row in rows)]
        widest = max(cell_len(line) for text in texts for line in text.splitlines() or [""])
        total += min(widest, _FOLDED) if column.folds and to.is_terminal else widest
    return total


def _table(columns: Sequence[Column], rows: Sequence[Sequence[Text]], title: str) -> Table:
    table = Table(title=title or None, title_justify="left")
    for column in columns:
        table.add_column(
            column.heading,
            justify="right" if column.is_number else "left",
            overflow="fold",
            no_wrap=not column.folds,
        )
    for row in rows:
        table.add_row(*row)
    return table
