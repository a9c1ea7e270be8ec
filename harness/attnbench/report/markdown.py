"""report.md: the report as GitHub-flavoured Markdown, with links to the figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.report.content import METHOD
from attnbench.report.table import Table, escape_markdown, to_markdown

if TYPE_CHECKING:
    from attnbench.report.content import Content
    from attnbench.report.figures import FigureProcess, ReportFigure


def to_markdown_report(content: Content, process: FigureProcess, folder: Path) -> str:
    """Return the report as Markdown, in which the paths of figures are relative to `folder`."""
    parts = [f"# {escape_markdown(content.title)}\n", escape_markdown(content.summary) + "\n"]
    parts += [f"**{escape_markdown(_sentence(warning))}**\n" for warning in content.warnings]
    parts += ["## Who is fastest\n"]
    parts += ["\n".join(f"- {escape_markdown(contest.verdict)}" for contest in content.contests) + "\n"]
    parts += [escape_markdown(f"On {device}: {gain}") + "\n" for device, gain in content.gains.items()]
    parts += [to_markdown(table) for table in content.headline]
    parts += ["## Figures\n"] if process.figures else []
    parts += [_figure(figure, folder) for figure in process.figures]
    parts += [process.note + "\n"] if process.note else []
    parts += _section("Latency", content.latencies)
    parts += _section("Scaling, crossovers, memory", content.fitted)
    parts += _section("Inexact variants: timed, not ranked", content.inexact)
    parts += [
        "## Cells without a time, and suspect times\n",
        _untitled(content.failures, "Every cell has a time, and none is suspect.\n"),
    ]
    parts += ["## Method\n", METHOD + "\n", *(to_markdown(table) for table in content.method)]
    parts += ["## Provenance\n", _untitled(content.provenance, "")]
    return "\n".join(parts)


def _sentence(warning: str) -> str:
    return f"{warning[:1].upper()}{warning[1:]}."


def _section(title: str, tables: Sequence[Table]) -> list[str]:
    return [f"## {title}\n", *(to_markdown(table) for table in tables)] if tables else []


def _untitled(table: Table, empty: str) -> str:
    return to_markdown(Table("", table.columns, table.rows, table.notes, table.labels)) if table.rows else empty


def _figure(figure: ReportFigure, folder: Path) -> str:
    path = figure.files["svg"].relative_to(folder).as_posix()
    return f"### {escape_markdown(figure.title)}\n\n![{escape_markdown(figure.description)}]({path})\n"
