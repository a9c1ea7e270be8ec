"""A report as files in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnbench.errors import UsageError
from attnbench.report.content import Content, read
from attnbench.report.exporting import export
from attnbench.report.figures import FigureProcess
from attnbench.report.markdown import to_markdown_report
from attnbench.report.page import content_of, to_page
from attnbench.report.table import to_latex


def write_report(runs: str | Path | Sequence[str | Path], out: Path, baseline: str | None = None) -> list[Path]:
    """Write a report of one or more runs into `out`; the page comes first.

    Files: index.html, report.md, tables.tex (booktabs), results.csv, results.parquet, figures/.

    `baseline` is the variant that speed-ups are over; None takes the runs' own. Raises UsageError for no run, an
    unknown baseline, and a folder that can't be written.
    """
    return write_document(read(runs, baseline), out)


def write_document(document: Content, out: Path) -> list[Path]:
    """Write a report that was read already, as `write_report` does."""
    _refuse_links(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FigureProcess(document.results, out / "figures") as process:
            texts = {
                "report.md": to_markdown_report(document, process, out),
                "tables.tex": "\n".join(to_latex(table) for table in (*document.headline, *document.latencies)),
            }
            content = content_of(document)
            results = document.results
            frame = results.frame.assign(leads=results.leads)
            data = [export(frame, out / f"results.{kind}", kind) for kind in ("csv", "parquet")]
            process.wait()
        texts = {"index.html": to_page(document, process, content), **texts}
        for name, text in texts.items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"report folder {str(out)!r} can't be written: {error.strerror or error}") from None
    figures = [path for one in process.figures for path in one.files.values()]
    return [*(out / name for name in texts), *data, *figures]


def _refuse_links(out: Path) -> None:
    """Refuse a folder that holds links: a run that came from elsewhere could lead what is written out of it."""
    links = [path for path in (out / "figures", *out.glob("*"), *out.glob("figures/*")) if path.is_symlink()]
    if links:
        raise UsageError(f"report folder {str(out)!r}: {str(links[0])!r} is a link: remove it, or choose another --out")
