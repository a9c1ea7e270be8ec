"""The tables of verdicts: each variant compared with the baseline, round by round."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.analysis.load_runs import PROBLEM
from attnbench.analysis.noise import noise_text
from attnbench.analysis.ranking import CONTEST
from attnbench.report.table import Table, TableCell, row
from attnbench.stats.paired import FASTER, PairedResult

if TYPE_CHECKING:
    from attnbench.analysis.results import Results

NOTE = (
    "Time over the baseline's in paired rounds, with its 95% interval, corrected over the table and widened by"
    " the noise floor. same: the interval lies within 0.99 to 1.01; undecided: a wider interval holds 1."
)


def verdicts(results: Results, limit: int | None = None) -> list[Table]:
    """Return the verdicts of all variants over the baseline, a table for each device, mask, direction and mode."""
    made = []
    for (device, mask, direction, mode), cells in results.frame.groupby(CONTEST, sort=True):
        found: dict[str, dict[str, PairedResult]] = {}
        for *problem, variant, workload in cells[[*PROBLEM, "variant", "workload_id"]].itertuples(index=False):
            if comparison := results.comparisons.get((*problem, variant)):
                found.setdefault(workload, {})[variant] = comparison
        if not found:
            continue
        variants = sorted({variant for by_variant in found.values() for variant in by_variant})
        rows = [row(name, *(_cell(found[name].get(variant)) for variant in variants)) for name in sorted(found)]
        label = "" if mode == "hot" else f" · {mode}"
        title = f"{device} · {mask} · {direction}{label}: verdicts over {results.baseline}"
        notes = (NOTE, noise_text(results.noise_within(cells)))
        made.append(Table(title, ("workload", *variants), tuple(rows), notes))
    return made[:limit]


def _cell(comparison: PairedResult | None) -> TableCell:
    if comparison is None:
        return TableCell("")
    low, high = comparison.low, comparison.high
    interval = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return TableCell(f"{comparison.verdict} {comparison.ratio:.3f}{interval}", best=comparison.verdict == FASTER)
