"""Write the report of a run into a folder: report.md, index.html, figures and data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.errors import UsageError
from attnbench.report.content import METHOD, Content, read
from attnbench.report.exporting import export
from attnbench.report.figures import FigureProcess
from attnbench.report.page import interactive_parts, to_page
from attnbench.report.table import Table, escape_markdown, to_latex, to_markdown

if TYPE_CHECKING:
    from attnbench.report.figures import ReportFigure


def to_markdown_report(content: Content, process: FigureProcess, folder: Path) -> str:
    """Return the report as Markdown; the figures' paths are relative to `folder`."""
    parts = [f"# {escape_markdown(content.title)}\n", escape_markdown(content.summary) + "\n", "## Who is fastest\n"]
    parts += ["\n".join(f"- {escape_markdown(contest.verdict)}" for contest in content.contests) + "\n"]
    parts += [escape_markdown(f"On {device}: {gain}") + "\n" for device, gain in content.gains.items()]
    parts += [to_markdown(table) for table in content.headline]
    parts += ["## Figures\n"] if process.figures else []
    parts += [_figure(figure, folder) for figure in process.figures]
    parts += [process.note + "\n"] if process.note else []
    parts += _section("Latency", content.latencies)
    parts += _section("Scaling, crossovers, memory", content.fitted)
    parts += _section("Inexact variants: timed, not ranked", content.inexact)
    parts += ["## Cells without a time\n", _untitled(content.failures, "Every cell has a time.\n")]
    parts += ["## Method\n", METHOD + "\n", *(to_markdown(table) for table in content.method)]
    parts += ["## Provenance\n", _untitled(content.provenance, "")]
    return "\n".join(parts)


def _section(title: str, tables: Sequence[Table]) -> list[str]:
    return [f"## {title}\n", *(to_markdown(table) for table in tables)] if tables else []


def _untitled(table: Table, empty: str) -> str:
    return to_markdown(Table("", table.columns, table.rows, table.notes, table.labels)) if table.rows else empty


def _figure(figure: ReportFigure, folder: Path) -> str:
    path = figure.files["svg"].relative_to(folder).as_posix()
    return f"### {escape_markdown(figure.title)}\n\n![{escape_markdown(figure.description)}]({path})\n"


def write_report(runs: str | Path | Sequence[str | Path], out: Path, baseline: str | None = None) -> list[Path]:
    """Write a report of one or more runs into `out`; the page comes first.

    The files are index.html, report.md, tables.tex (booktabs), results.csv, results.parquet and figures/. `baseline` is
    the variant that speed-ups are relative to; None takes the runs' own. Raises UsageError if there is no run, the
    baseline is unknown, or the folder can't be written.
    """
    return write_content(read(runs, baseline), out)


def write_content(content: Content, out: Path) -> list[Path]:
    """Write the files of a report whose content was read before, as `write_report` does."""
    _refuse_links(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FigureProcess(content.results, out / "figures") as process:
            texts = {
                "report.md": to_markdown_report(content, process, out),
                "tables.tex": "\n".join(to_latex(table) for table in (*content.headline, *content.latencies)),
            }
            interactive = interactive_parts(content)
            results = content.results
            frame = results.frame.assign(leads=results.leads)
            data = [export(frame, out / f"results.{kind}", kind) for kind in ("csv", "parquet")]
            process.wait()
        texts = {"index.html": to_page(content, process, interactive), **texts}
        for name, text in texts.items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"report folder {str(out)!r} can't be written: {error.strerror or error}") from None
    figures = [path for figure in process.figures for path in figure.files.values()]
    return [*(out / name for name in texts), *data, *figures]


def _refuse_links(out: Path) -> None:
    """Raise UsageError if the folder holds symbolic links, through which files could be written outside of it."""
    links = [path for path in (out / "figures", *out.glob("*"), *out.glob("figures/*")) if path.is_symlink()]
    if links:
        raise UsageError(f"report folder {str(out)!r}: {str(links[0])!r} is a link: remove it, or choose another --out")
