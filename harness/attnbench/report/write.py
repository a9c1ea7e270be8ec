"""A report as files in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from attnbench.errors import UsageError
from attnbench.report.document import Document, read
from attnbench.report.export import export
from attnbench.report.figures import write_figures
from attnbench.report.markdown import to_markdown_report
from attnbench.report.page import to_page
from attnbench.report.table import to_latex


def write_report(runs: str | Path | Sequence[str | Path], out: Path, baseline: str | None = None) -> list[Path]:
    """Write a report of one or more runs into `out`; the page comes first.

    Files: index.html, report.md, tables.tex (booktabs), results.csv, results.parquet (with pyarrow), figures/.

    `baseline` is the variant that speed-ups are over; None takes the runs' own. Raises UsageError for no run, an
    unknown baseline, and a folder that can't be written.
    """
    return write_document(read(runs, baseline), out)


def write_document(document: Document, out: Path) -> list[Path]:
    """Write a report that was read already, as `write_report` does."""
    _refuse_links(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        figures = write_figures(document.frame, out / "figures", document.baseline)
        pages = {
            "index.html": to_page(document, figures),
            "report.md": to_markdown_report(document, figures, out),
            "tables.tex": "\n".join(to_latex(table) for table in (*document.headline, *document.latencies)),
        }
        for name, text in pages.items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"report folder {str(out)!r} can't be written: {error.strerror or error}") from None
    data = [export(document.frame, out / "results.csv", "csv")]
    if find_spec("pyarrow"):
        data.append(export(document.frame, out / "results.parquet", "parquet"))
    return [*(out / name for name in pages), *data, *(path for one in figures for path in one.files.values())]


def _refuse_links(out: Path) -> None:
    """Refuse a folder that holds links: a run that came from elsewhere could lead what is written out of it."""
    links = [path for path in (out / "figures", *out.glob("*"), *out.glob("figures/*")) if path.is_symlink()]
    if links:
        raise UsageError(f"report folder {str(out)!r}: {str(links[0])!r} is a link: remove it, or choose another --out")
