"""A page that compares two or more runs or machines, the gravest changes first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from attnbench.analysis.compare import DEFAULT_BAR, Change, Comparison, compare
from attnbench.analysis.load_runs import load
from attnbench.errors import UsageError
from attnbench.report.compare import comparison_table, summary_line, told
from attnbench.report.page import templates
from attnbench.report.table import Table, row
from attnbench.stats.paired import FASTER, SAME, SLOWER, UNDECIDED

SHOWN = 1_000  # changes a pair on the page; all are in `attnbench compare --json`
WIDTH, SPAN = 132, 1.0  # of a ratio's drawing: pixels, and octaves from its middle to either end


@dataclass(frozen=True)
class Strip:
    """Where a ratio and its interval lie in their drawing, in pixels; `clipped` says that an end lies outside it."""

    at: float
    left: float
    right: float
    clipped: bool


@dataclass(frozen=True)
class Section:
    """Two runs: the older one's name, the newer one's, and what changed from one to the other."""

    old: str
    new: str
    finding: str
    summary: str
    variants: Table
    rows: tuple[tuple[Change, Strip | None], ...]
    notes: tuple[str, ...]


def compared(runs: Sequence[Path], bar: float | None = None) -> list[tuple[str, str, Comparison]]:
    """Compare each run with the one before it: the older one's name, the newer one's, and what changed."""
    frames = [(run.name, load(run)) for run in runs]
    bar = DEFAULT_BAR if bar is None else bar
    return [(old, new, compare(before, after, bar)) for (old, before), (new, after) in pairwise(frames)]


def write_page(comparisons: Sequence[tuple[str, str, Comparison]], out: Path) -> Path:
    """Write comparisons as one page; raises UsageError where it can't be written."""
    names = [comparisons[0][0], *(new for _, new, _ in comparisons)]
    sections = [_section(*one) for one in comparisons]
    page = templates().get_template("comparison.html").render(sections=sections, names=names, width=WIDTH)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"page {str(out)!r} can't be written: {error.strerror or error}") from None
    return out


def _section(old: str, new: str, found: Comparison) -> Section:
    changes = told(found)
    left = len(changes) - SHOWN
    notes = [*comparison_table(found, 0).notes[1:]]
    notes = [note for note in notes if "not shown" not in note]
    if left > 0:
        notes.append(f"{left} further changes are not shown; `attnbench compare {old} {new} --json` has them all.")
    rows = tuple((change, _strip(change)) for change in changes[:SHOWN])
    return Section(old, new, _finding(found), summary_line(found), _variants(found), rows, tuple(notes))


def _finding(found: Comparison) -> str:
    """Say in a line what a reader wants to know first."""
    counts = found.counts
    if not found.same_device:
        compared = [change for change in found.changes if change.ratio is not None]
        mean = _mean([change.ratio for change in compared if change.ratio])
        said = "no cell has a time on both." if mean is None else _speed(mean, len(compared))
        return f"Two kinds of device: {said}"
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


def _variants(found: Comparison) -> Table:
    """Sum the changes up by variant, the most slowed down first."""
    verdicts = (SLOWER, FASTER, SAME, UNDECIDED)
    rows = []
    for name in {change.variant for change in found.changes}:
        own = [change for change in found.changes if change.variant == name]
        ratios = [change.ratio for change in own if change.ratio]
        rows.append((_mean(ratios), name, len(ratios), [sum(one.verdict == word for one in own) for word in verdicts]))
    rows.sort(key=lambda one: (-(one[0] or 0), one[1]))
    return Table(
        "By variant",
        ("variant", "cells with both times", "new over old, geometric mean", *verdicts),
        tuple(row(name, cells, "" if mean is None else f"{mean:.3f}", *counts) for mean, name, cells, counts in rows),
    )


def _strip(change: Change) -> Strip | None:
    """Place a ratio between half and twice, its interval with it; 1 is in the middle."""
    if change.ratio is None:
        return None
    low, high = change.low or change.ratio, change.high or change.ratio
    places = [WIDTH / 2 * (1 + math.log2(value) / SPAN) for value in (change.ratio, low, high)]
    at, left, right = (round(min(WIDTH - 3.0, max(3.0, place)), 1) for place in places)
    return Strip(at, left, right, clipped=min(places) < 0 or max(places) > WIDTH)
