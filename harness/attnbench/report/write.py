"""A report as files in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnbench.errors import UsageError
from attnbench.report import document as documents
from attnbench.report.export import export
from attnbench.report.figures import write_figures
from attnbench.report.markdown import to_markdown_report
from attnbench.report.page import to_page


def write_report(runs: str | Path | Sequence[str | Path], out: Path, baseline: str | None = None) -> list[Path]:
    """Write index.html, report.md, results.csv and figures/ of one or more runs into `out`; the page comes first.

    `baseline` is the variant that speed-ups are over; None takes the runs' own. Raises UsageError for no run, an
    unknown baseline, and a folder that can't be written.
    """
    document = documents.read(runs, baseline)
    try:
        out.mkdir(parents=True, exist_ok=True)
        figures = write_figures(document.frame, out / "figures", document.baseline)
        pages = {"index.html": to_page(document, figures), "report.md": to_markdown_report(document, figures, out)}
        for name, text in pages.items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"report folder {str(out)!r} can't be written: {error.strerror or error}") from None
    table = export(document.frame, out / "results.csv", "csv")
    return [*(out / name for name in pages), table, *(path for one in figures for path in one.files.values())]
