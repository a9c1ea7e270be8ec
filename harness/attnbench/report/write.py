"""Write a report's files into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnbench.errors import UsageError
from attnbench.report.content import Content, read
from attnbench.report.exporting import export
from attnbench.report.figures import FigureProcess
from attnbench.report.html_page import interactive_parts, to_page
from attnbench.report.markdown import to_markdown_report
from attnbench.report.table import to_latex


def write_report(runs: str | Path | Sequence[str | Path], out: Path, baseline: str | None = None) -> list[Path]:
    """Write a report of one or more runs into `out`, and return the paths of its files, starting with the page.

    The files are index.html, report.md, tables.tex (booktabs), results.csv, results.parquet and figures/. `baseline` is
    the variant that speed-ups are relative to; None means the runs' own baseline. Raises UsageError if there is no
    run, if the baseline is unknown, or if the folder can't be written.
    """
    return write_content(read(runs, baseline), out)


def write_content(content: Content, out: Path) -> list[Path]:
    """Write the same files as `write_report`, from content that has already been read, and return their paths.

    Raises UsageError if the folder can't be written.
    """
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
    """Raise UsageError if the folder contains symbolic links, which could point to files outside it."""
    links = [path for path in (out / "figures", *out.glob("*"), *out.glob("figures/*")) if path.is_symlink()]
    if links:
        raise UsageError(
            f"report folder {str(out)!r}: {str(links[0])!r} is a symbolic link: remove it, or choose another --out"
        )
