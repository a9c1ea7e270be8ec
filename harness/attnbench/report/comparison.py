"""A page that compares two or more runs or machines, the gravest changes first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from attnbench.analysis.comparison import DEFAULT_BAR, compare
from attnbench.analysis.frame import load
from attnbench.errors import UsageError
from attnbench.report.compare import comparison_table, summary_line
from attnbench.report.page import templates
from attnbench.report.table import Table

SHOWN = 2_000  # changes a pair on the page; all are in `attnbench compare --json`


def write_comparison(runs: Sequence[Path], out: Path, bar: float = DEFAULT_BAR) -> Path:
    """Write comparison.html: each run against the one before it, cell by cell, newly failing cells first.

    Raises UsageError for fewer than two runs, and where the folder can't be written.
    """
    if len(runs) < 2:
        raise UsageError(f"a comparison needs at least two runs, got {len(runs)}")
    frames = {run: load(run) for run in runs}
    sections = []
    for old, new in pairwise(runs):
        found = compare(frames[old], frames[new], bar)
        table = comparison_table(found, SHOWN)
        titled = Table(f"{old.name} to {new.name}", table.columns, table.rows, table.notes[1:], table.labels)
        sections.append((titled, summary_line(found), len(found.regressions)))
    page = templates().get_template("comparison.html").render(sections=sections, names=[run.name for run in runs])
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "comparison.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"folder {str(out)!r} can't be written: {error.strerror or error}") from None
    return out / "comparison.html"
