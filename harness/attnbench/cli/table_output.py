"""Tables that commands print."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from attnbench.untrusted import printable

if TYPE_CHECKING:
    from attnbench.report.table import Table as ReportTable

PIPED_WIDTH = 400  # characters per line of a table of rows, if the output is not a terminal
PIPED_REPORT_WIDTH = 200  # the same for a table of a report


def new_table(*columns: str) -> Table:
    """Return an empty table with these column heads, in the style of all tables of the command line."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print rows as a table with their keys as heads, or `none` if there are no rows."""
    if not rows:
        print("none")
        return
    table = new_table(*rows[0])
    for row in rows:
        table.add_row(*(Text(_text(value)) for value in row.values()))
    _console(PIPED_WIDTH).print(table)


def print_table(table: ReportTable) -> None:
    """Print a report's table: the best cell of a row bold, ties with it italic, the notes below."""
    shown = Table(
        title=Text(printable(table.title)) if table.title else None,
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for index, column in enumerate(table.columns):
        shown.add_column(Text(printable(column)), justify="left" if index < table.labels else "right", overflow="fold")
    for row in table.rows:
        styles = ["bold" if cell.best else "italic" if cell.tied else "" for cell in row]
        shown.add_row(*(Text(printable(cell.text), style=style) for cell, style in zip(row, styles, strict=True)))
    console = _console(PIPED_REPORT_WIDTH)
    console.print(shown)
    for note in table.notes:
        console.print(Text(printable(note), style="dim"))


def _console(piped_width: int) -> Console:
    """Return a console as wide as the terminal, or of a fixed width if the output is not a terminal."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else piped_width)


def _text(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    return printable(text)
