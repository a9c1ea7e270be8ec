"""What the A/A control says: how far two measurements of the same variant lie apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench.analysis.load_runs import PROBLEM, current
from attnbench.stats.paired import Blocks, Control, control, paired_log_ratios

if TYPE_CHECKING:
    import pandas as pd


Ratios = dict[tuple[str, ...], list[float]]


def noise(frame: pd.DataFrame) -> Control:
    """Compare each A/A control with its twin, round by round: the same variant on the same problem of one run."""
    return control(list(control_ratios(frame).values()))


def noise_within(ratios: Ratios, frame: pd.DataFrame) -> Control:
    """Do the same for the problems of `frame` alone, of ratios that were gathered for more."""
    problems = set(zip(*(frame[name] for name in PROBLEM), strict=True))
    return control([ratios[problem] for problem in sorted(problems & ratios.keys())])


def control_ratios(frame: pd.DataFrame) -> Ratios:
    """Give by problem the log-ratios of each round between an A/A control and its twin."""
    timed = current(frame)
    timed = timed[timed["status"] == "ok"]
    key = ["run_id", "device", *PROBLEM, "variant"]
    columns = [*key, "samples_ns", "cold_samples_ns", "block_sizes", "block_rounds"]
    both = timed.loc[timed["control"], columns].merge(
        timed.loc[~timed["control"], columns], on=key, suffixes=("", "_twin")
    )
    rows = both.to_dict("records")
    return {
        tuple(row[name] for name in PROBLEM): paired_log_ratios(blocks_of(row), blocks_of(row, "_twin")) for row in rows
    }


def noise_text(found: Control) -> str:
    """Say it as the note under a table."""
    if found.noise_floor is None:
        return "No A/A control in these cells: the noise floor is unknown."
    pairs = f"{found.cells} pair{'s' if found.cells > 1 else ''}"
    return (
        f"A/A control: noise floor {found.noise_floor:.1%}; {found.false_positives} of {pairs} of identical code"
        " told apart."
    )


def blocks_of(cell: Any, suffix: str = "") -> Blocks:
    """Give a row's samples in their blocks; samples without blocks are one block each."""
    samples = cell[f"samples_ns{suffix}"] or cell[f"cold_samples_ns{suffix}"]
    sizes = cell[f"block_sizes{suffix}"]
    if not sizes:
        return Blocks(samples, (1,) * len(samples), tuple(range(len(samples))))
    return Blocks(samples, sizes, cell[f"block_rounds{suffix}"])
