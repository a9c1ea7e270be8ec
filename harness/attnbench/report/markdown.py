"""report.md: the report as GitHub's Markdown, figures beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.report.table import Table, escape_markdown, to_markdown

if TYPE_CHECKING:
    from attnbench.report.content import Content
    from attnbench.report.figures import FigureProcess, ReportFigure

METHOD = (
    "Every cell was checked against an fp64 reference before, during and after it was timed; a cell that failed has no"
    " time. Latency is the median of the raw samples with its distribution-free 95% interval; TFLOP/s counts visible"
    " query-key pairs only; peak memory is above what was allocated before the call. Variants whose intervals overlap"
    " share a place."
)


def to_markdown_report(document: Content, process: FigureProcess, folder: Path) -> str:
    """Write the report; paths of figures are relative to `folder`."""
    parts = [f"# {escape_markdown(document.title)}\n", escape_markdown(document.summary) + "\n", "## Who is fastest\n"]
    parts += ["\n".join(f"- {escape_markdown(contest.verdict)}" for contest in document.contests) + "\n"]
    parts += [escape_markdown(f"On {device}: {gain}") + "\n" for device, gain in document.gains.items()]
    parts += [to_markdown(table) for table in document.headline]
    parts += ["## Figures\n"] if process.figures else []
    parts += [_figure(figure, folder) for figure in process.figures]
    parts += [process.note + "\n"] if process.note else []
    parts += _section("Latency", document.latencies)
    parts += _section("Scaling, crossovers, memory", document.fitted)
    parts += _section("Inexact variants: timed, not ranked", document.inexact)
    parts += ["## Cells without a time\n", _untitled(document.failures, "Every cell has a time.\n")]
    parts += ["## Method\n", METHOD + "\n", *(to_markdown(table) for table in document.method)]
    parts += ["## Provenance\n", _untitled(document.provenance, "")]
    return "\n".join(parts)


def _section(title: str, tables: Sequence[Table]) -> list[str]:
    return [f"## {title}\n", *(to_markdown(table) for table in tables)] if tables else []


def _untitled(table: Table, empty: str) -> str:
    return to_markdown(Table("", table.columns, table.rows, table.notes, table.labels)) if table.rows else empty


def _figure(figure: ReportFigure, folder: Path) -> str:
    path = figure.files["svg"].relative_to(folder).as_posix()
    return f"### {escape_markdown(figure.title)}\n\n![{escape_markdown(figure.description)}]({path})\n"
