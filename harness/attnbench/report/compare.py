"""A comparison of runs as a table, as Markdown for a pull request, and as JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

from attnbench.analysis.compare import STILL_FAILING, Change, Comparison
from attnbench.analysis.noise import noise_text
from attnbench.report.table import Table, TableCell, row, to_markdown
from attnbench.stats.paired import SAME

SHOWN = 60  # changes in a pull request's comment
QUIET = (SAME, STILL_FAILING)


def comparison_table(comparison: Comparison, limit: int | None = None, *, quiet: bool = False) -> Table:
    """Give the changes as a table, the gravest first; cells that stayed the same are left out unless `quiet`."""
    changes = told(comparison, quiet=quiet)
    notes = [summary_line(comparison)]
    if limit is not None and len(changes) > limit:
        notes.append(f"{len(changes) - limit} further changes are not shown.")
    notes.append("Ratio: new latency over old, with its corrected 95% interval; above 1 is slower.")
    if not comparison.same_device:
        notes.append("The two sides ran on different devices: cells are matched by variant and workload.")
    notes += [f"{side}: {noise_text(found)}" for side, found in _noises(comparison)]
    columns = ("verdict", "variant", "workload", "device", "old ms", "new ms", "ratio", "interval", "reason")
    return Table("", columns, tuple(_row(change) for change in changes[:limit]), tuple(notes), labels=4)


def told(comparison: Comparison, *, quiet: bool = False) -> list[Change]:
    """List the changes, the gravest first; cells that stayed the same are left out unless `quiet`."""
    return [change for change in comparison.changes if quiet or change.verdict not in QUIET]


def comparison_markdown(comparison: Comparison) -> str:
    """Write the comparison as a comment for a pull request: the verdict first, details folded."""
    failed = comparison.regressions
    head = (
        f"### Attention benchmark: {len(failed)} regression{'s' if len(failed) != 1 else ''}\n"
        if failed
        else ("### Attention benchmark: no regression\n")
    )
    table = comparison_table(comparison, SHOWN)
    if not table.rows:
        return "\n".join([head, *(f"{note}\n" for note in table.notes)])
    text = to_markdown(table)
    if failed:
        return f"{head}\n{text}"
    return f"{head}\n{summary_line(comparison)}\n\n<details><summary>All changes</summary>\n\n{text}\n</details>\n"


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Give the comparison as JSON values."""
    noises = {f"{side}_noise_floor": found.noise_floor for side, found in _noises(comparison)}
    return {
        "schema": 1,
        "fail_if_slower": comparison.bar,
        **noises,
        "counts": comparison.counts,
        "regressions": len(comparison.regressions),
        "changes": [dataclasses.asdict(change) for change in comparison.changes],
    }


def summary_line(comparison: Comparison) -> str:
    """Say the comparison in a line."""
    counts = ", ".join(f"{count} {verdict}" for verdict, count in comparison.counts.items()) or "no cell in either"
    return f"{len(comparison.changes)} cells: {counts}; gate at {comparison.bar:.1%} and 3x the noise floors."


def _noises(comparison: Comparison) -> list[tuple[str, Any]]:
    return [("old", comparison.old_noise), ("new", comparison.new_noise)]


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
