"""A/A controls: how much two measurements of the same variant differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench.analysis.load_runs import PROBLEM
from attnbench.stats.paired import Blocks, ControlSummary, paired_log_ratios

if TYPE_CHECKING:
    import pandas as pd


Ratios = dict[tuple[str, ...], list[float]]  # by problem, a log-ratio for each round


def control_ratios(current: pd.DataFrame) -> Ratios:
    """Return by problem the log-ratio of each round between an A/A control and its twin: the same variant and run."""
    timed = current[current["status"] == "ok"]
    key = ["run_id", "device", *PROBLEM, "variant"]
    columns = [*key, "samples_ns", "cold_samples_ns", "block_sizes", "block_rounds"]
    both = timed.loc[timed["control"], columns].merge(
        timed.loc[~timed["control"], columns], on=key, suffixes=("", "_twin")
    )
    rows = both.to_dict("records")
    return {
        tuple(row[name] for name in PROBLEM): paired_log_ratios(blocks_of(row), blocks_of(row, "_twin")) for row in rows
    }


def noise_text(found: ControlSummary) -> str:
    """Return the note under a table that states the noise floor and the false positives."""
    if found.noise_floor is None:
        return "No A/A control in these cells: the noise floor is unknown."
    pairs = f"{found.cells} pair{'s' if found.cells > 1 else ''}"
    return (
        f"A/A control: noise floor {found.noise_floor:.1%}; {found.false_positives} of {pairs} of identical code"
        " told apart."
    )


def blocks_of(cell: Any, suffix: str = "") -> Blocks:
    """Return a row's samples in their blocks; each sample without a block becomes a block."""
    samples = cell[f"samples_ns{suffix}"] or cell[f"cold_samples_ns{suffix}"]
    sizes = cell[f"block_sizes{suffix}"]
    if not sizes:
        return Blocks(samples, (1,) * len(samples), tuple(range(len(samples))))
    return Blocks(samples, sizes, cell[f"block_rounds{suffix}"])
