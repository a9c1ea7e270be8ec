"""Tables as data, and functions that convert them to Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "·": r"$\cdot$",
}  # fmt: skip


@dataclass(frozen=True)
class TableCell:
    """A cell of a table: its text, and whether its value is the best in the row or tied for the best."""

    text: str
    best: bool = False
    tied: bool = False


@dataclass(frozen=True)
class Table:
    """A table: its title, column names, rows, and notes to show below it. The first `labels` columns contain text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    notes: tuple[str, ...] = ()
    labels: int = 1


def row(*texts: object) -> tuple[TableCell, ...]:
    """Return a row of cells; None becomes an empty cell, and any value except a TableCell is converted to text."""
    return tuple(
        text if isinstance(text, TableCell) else TableCell("" if text is None else str(text)) for text in texts
    )


def to_markdown(table: Table, level: int = 3) -> str:
    """Return a table as GitHub-flavoured Markdown, with the best cells in bold and tied cells in italics."""
    align = ["---" if index < table.labels else "---:" for index in range(len(table.columns))]
    lines = [f"{'#' * level} {escape_markdown(table.title)}", ""] if table.title else []
    lines += [_markdown_row([escape_markdown(name) for name in table.columns]), _markdown_row(align)]
    lines += [_markdown_row([_markdown_cell(cell) for cell in cells]) for cells in table.rows]
    for note in table.notes:
        lines += ["", escape_markdown(note)]
    return "\n".join(lines) + "\n"


def to_latex(table: Table) -> str:
    """Return a table as LaTeX with booktabs rules, the best cells in bold, and tied cells in italics."""
    align = "".join("l" if index < table.labels else "r" for index in range(len(table.columns)))
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{escape_latex(table.title)}}}"]
    lines += [rf"\begin{{tabular}}{{{align}}}", r"\toprule"]
    lines += [" & ".join(escape_latex(name) for name in table.columns) + r" \\", r"\midrule"]
    lines += [" & ".join(_latex_cell(cell) for cell in cells) + r" \\" for cells in table.rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\smallskip\footnotesize {escape_latex(note)}" for note in table.notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def to_csv(table: Table) -> str:
    """Return a table as CSV, starting with the column names."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([cell.text for cell in cells] for cells in table.rows)
    return text.getvalue()


def escape_markdown(text: str) -> str:
    """Return untrusted text as one line of Markdown in which markup and HTML are escaped."""
    text = " ".join(text.split())
    text = re.sub(r"([\\`*_\[\]|~#])", r"\\\1", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def escape_latex(text: str) -> str:
    """Return untrusted text as one line in which the special characters of LaTeX are escaped."""
    return "".join(LATEX.get(letter, letter) for letter in " ".join(text.split()))


def _markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_cell(cell: TableCell) -> str:
    text = escape_markdown(cell.text)
    return f"**{text}**" if cell.best else f"*{text}*" if cell.tied else text


def _latex_cell(cell: TableCell) -> str:
    text = escape_latex(cell.text)
    return rf"\textbf{{{text}}}" if cell.best else rf"\textit{{{text}}}" if cell.tied else text
