"""The table of verdicts: each variant against the baseline, round by round."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.analysis.load_runs import PROBLEM
from attnbench.analysis.noise import control_ratios, noise_text, noise_within
from attnbench.analysis.ranking import GROUP
from attnbench.analysis.verdict import judge
from attnbench.report.table import Table, TableCell, row
from attnbench.stats.paired import FASTER, PairedResult

if TYPE_CHECKING:
    import pandas as pd

NOTE = (
    "Time over the baseline's in paired rounds, with its 95% interval, corrected over the table and widened by"
    " the noise floor. same: the interval lies within 0.99 to 1.01; undecided: it holds 1."
)


def verdicts(frame: pd.DataFrame, baseline: str | None, limit: int | None = None) -> list[Table]:
    """Judge every variant on every workload against the baseline, a table a device, mask, direction and mode."""
    judged = judge(frame, baseline)
    ratios = control_ratios(frame)
    made = []
    for (device, mask, direction, mode), cells in frame.groupby(GROUP, sort=True):
        found: dict[str, dict[str, PairedResult]] = {}
        for *problem, variant, workload in cells[[*PROBLEM, "variant", "workload_id"]].itertuples(index=False):
            if one := judged.get((*problem, variant)):
                found.setdefault(workload, {})[variant] = one
        if not found:
            continue
        variants = sorted({variant for told in found.values() for variant in told})
        rows = [row(name, *(_cell(found[name].get(variant)) for variant in variants)) for name in sorted(found)]
        label = "" if mode == "hot" else f" · {mode}"
        title = f"{device} · {mask} · {direction}{label}: verdicts over {baseline}"
        notes = (NOTE, noise_text(noise_within(ratios, cells)))
        made.append(Table(title, ("workload", *variants), tuple(rows), notes))
    return made[:limit]


def _cell(one: PairedResult | None) -> TableCell:
    if one is None:
        return TableCell("")
    interval = "" if one.low is None or one.high is None else f" ({one.low:.3f} to {one.high:.3f})"
    return TableCell(f"{one.verdict} {one.ratio:.3f}{interval}", best=one.verdict == FASTER)
