"""Comparisons of runs as a table, as Markdown for a pull request, as JSON, and as an HTML page."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from attnbench.analysis.compare import DEFAULT_BAR, STILL_FAILING, Change, RunComparison, compare
from attnbench.analysis.results import Results
from attnbench.analysis.verdict import noise_text
from attnbench.errors import UsageError
from attnbench.report.html_page import templates
from attnbench.report.table import Table, TableCell, row, to_markdown
from attnbench.stats.paired import FASTER, SAME, SLOWER, UNDECIDED

MAX_CHANGES_IN_COMMENT = 60  # maximum number of table rows in a pull-request comment
MAX_CHANGES_ON_PAGE = 1_000  # maximum for each pair of runs; `attnbench compare --json` prints all changes
UNCHANGED = (SAME, STILL_FAILING)
WIDTH, SPAN = 132, 1.0  # the width of the ratio axis in pixels, and the number of doublings on each side of 1x


@dataclass(frozen=True)
class Strip:
    """The pixel positions of a ratio and its interval on an axis.

    `clipped` is true if the interval extends past the axis.
    """

    at: float
    left: float
    right: float
    clipped: bool


@dataclass(frozen=True)
class Section:
    """The part of the page that compares two runs. `old` and `new` are the runs' names."""

    old: str
    new: str
    finding: str
    summary: str
    variants: Table
    rows: tuple[tuple[Change, Strip | None], ...]
    notes: tuple[str, ...]


def compared(runs: Sequence[Path], bar: float | None = None) -> list[tuple[str, str, RunComparison]]:
    """Compare each run with the previous one, and return (old run's name, new run's name, comparison) for each pair."""
    loaded = [(run.name, Results.load(run)) for run in runs]
    bar = DEFAULT_BAR if bar is None else bar
    return [(old, new, compare(before, after, bar)) for (old, before), (new, after) in pairwise(loaded)]


def comparison_table(comparison: RunComparison, limit: int | None = None) -> Table:
    """Return the changes as a table of at most `limit` rows, starting with the most serious change."""
    changes = shown_changes(comparison)
    notes = [summary_line(comparison)]
    if limit is not None and len(changes) > limit:
        notes.append(f"{len(changes) - limit} further changes are not shown.")
    notes += explanations(comparison)
    columns = ("verdict", "variant", "workload", "device", "old ms", "new ms", "ratio", "interval", "reason")
    return Table("", columns, tuple(_row(change) for change in changes[:limit]), tuple(notes), labels=4)


def shown_changes(comparison: RunComparison) -> list[Change]:
    """Return the changes to show, most serious first. Cells that stayed the same or still fail are left out."""
    return [change for change in comparison.changes if change.verdict not in UNCHANGED]


def explanations(comparison: RunComparison) -> list[str]:
    """Return notes that explain the ratio, how cells are matched, and the noise floors of both runs."""
    notes = [*comparison.warnings, "Ratio: new latency over old, with a 95% interval; above 1 is slower."]
    if not comparison.same_device:
        notes.append("The runs are from different devices, so cells are matched by variant and workload.")
    floors = ("old", comparison.old_noise_floor), ("new", comparison.new_noise_floor)
    return notes + [f"{side}: {noise_text(found)}" for side, found in floors]


def comparison_markdown(comparison: RunComparison) -> str:
    """Return the comparison as Markdown for a pull-request comment, which starts with the number of regressions.

    If there are no regressions, the table of changes is collapsed.
    """
    failed = len(comparison.regressions)
    head = f"### Attention benchmark: {failed or 'no'} regression{'s' if failed > 1 else ''}\n"
    table = comparison_table(comparison, MAX_CHANGES_IN_COMMENT)
    if not table.rows:
        return "\n".join([head, *(f"{note}\n" for note in table.notes)])
    text = to_markdown(table)
    if failed:
        return f"{head}\n{text}"
    return f"{head}\n{summary_line(comparison)}\n\n<details><summary>All changes</summary>\n\n{text}\n</details>\n"


def comparison_json(comparison: RunComparison) -> dict[str, Any]:
    """Return the comparison as a JSON-serialisable dict."""
    return {
        "schema": 1,
        "fail_if_slower": comparison.bar,
        "old_noise_floor": comparison.old_noise_floor,
        "new_noise_floor": comparison.new_noise_floor,
        "counts": comparison.counts,
        "regressions": len(comparison.regressions),
        "warnings": list(comparison.warnings),
        "changes": [dataclasses.asdict(change) for change in comparison.changes],
    }


def summary_line(comparison: RunComparison) -> str:
    """Return one line that states the number of cells with each verdict, and the gate's thresholds."""
    counts = ", ".join(f"{count} {verdict}" for verdict, count in comparison.counts.items()) or "no cell in either run"
    return f"{len(comparison.changes)} cells: {counts}; gate at {comparison.bar:.1%} and 3x the noise floors."


def _row(change: Change) -> tuple[TableCell, ...]:
    interval = "" if change.low is None else f"{change.low:.3f} to {change.high:.3f}"
    return row(
        TableCell(change.verdict, best=change.regression),
        change.variant,
        change.workload_id,
        change.device,
        change.old_status if change.old_ms is None else f"{change.old_ms:.4g}",
        change.new_status if change.new_ms is None else f"{change.new_ms:.4g}",
        "" if change.ratio is None else f"{change.ratio:.3f}",
        interval,
        change.reason,
    )


def write_page(comparisons: Sequence[tuple[str, str, RunComparison]], out: Path) -> Path:
    """Write the comparisons to one HTML page, and return the page's path.

    Raises UsageError if the page can't be written.
    """
    names = [comparisons[0][0], *(new for _, new, _ in comparisons)]
    sections = [_section(*comparison) for comparison in comparisons]
    page = templates().get_template("comparison.html").render(sections=sections, names=names, width=WIDTH)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"page {str(out)!r} can't be written: {error.strerror or error}") from None
    return out


def _section(old: str, new: str, found: RunComparison) -> Section:
    changes, notes = shown_changes(found), explanations(found)
    left = len(changes) - MAX_CHANGES_ON_PAGE
    if left > 0:
        notes.append(f"{left} further changes are not shown; `attnbench compare {old} {new} --json` prints all.")
    rows = tuple((change, _strip(change)) for change in changes[:MAX_CHANGES_ON_PAGE])
    return Section(old, new, _finding(found), summary_line(found), _variants(found), rows, tuple(notes))


def _finding(found: RunComparison) -> str:
    """Return the main result of a comparison as one sentence."""
    counts = found.counts
    if not found.same_device:
        compared = [change for change in found.changes if change.ratio is not None]
        mean = _mean([change.ratio for change in compared if change.ratio])
        speed = "no cell was timed on both." if mean is None else _speed(mean, len(compared))
        return f"Two kinds of device: {speed}"
    failing = counts.get("newly failing", 0)
    slower = len(found.regressions) - failing
    return f"{_cells(failing)} newly failing, {slower} slower beyond the gate, {counts.get(FASTER, 0)} faster."


def _cells(count: int) -> str:
    return f"{count} cell{'' if count == 1 else 's'}"


def _speed(mean: float, cells: int) -> str:
    word = "faster" if mean < 1 else "slower"
    return f"the new one is {max(mean, 1 / mean):.2f}x {word} (geometric mean over {_cells(cells)})."


def _mean(values: Sequence[float]) -> float | None:
    return math.exp(math.fsum(map(math.log, values)) / len(values)) if values else None


def _variants(found: RunComparison) -> Table:
    """Return a table that summarises the changes by variant, starting with the variant that slowed down most."""
    verdicts = (SLOWER, FASTER, SAME, UNDECIDED)
    rows = []
    for name in {change.variant for change in found.changes}:
        changes = [change for change in found.changes if change.variant == name]
        ratios = [change.ratio for change in changes if change.ratio]
        counts = [sum(change.verdict == verdict for change in changes) for verdict in verdicts]
        rows.append((_mean(ratios), name, len(ratios), counts))
    rows.sort(key=lambda fields: (-(fields[0] or 0), fields[1]))
    return Table(
        "By variant",
        ("variant", "cells with both times", "new over old, geometric mean", *verdicts),
        tuple(row(name, cells, "" if mean is None else f"{mean:.3f}", *counts) for mean, name, cells, counts in rows),
    )


def _strip(change: Change) -> Strip | None:
    """Return where to draw a change's ratio and interval on an axis from 0.5x to 2x, or None if there is no ratio."""
    if change.ratio is None:
        return None
    low, high = change.low or change.ratio, change.high or change.ratio
    pixels = [WIDTH / 2 * (1 + math.log2(value) / SPAN) for value in (change.ratio, low, high)]
    at, left, right = (round(min(WIDTH - 3.0, max(3.0, pixel)), 1) for pixel in pixels)
    return Strip(at, left, right, clipped=min(pixels) < 0 or max(pixels) > WIDTH)
