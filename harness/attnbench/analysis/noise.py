"""What the A/A control says: how far two measurements of the same variant lie apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attnbench.analysis.frame import PROBLEM, current

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Noise:
    """The A/A control of some cells: `floor` is the 95th percentile of |ratio - 1| over `pairs` pairs."""

    pairs: int
    floor: float | None
    apart: int  # pairs whose intervals do not overlap, though both are the same code

    def __str__(self) -> str:
        """Say it as the note under a table."""
        if self.floor is None:
            return "No A/A control in these cells: the noise floor is unknown."
        pairs = f"{self.pairs} pair{'s' if self.pairs > 1 else ''}"
        return f"A/A control: noise floor {self.floor:.1%} over {pairs}, {self.apart} with intervals apart."


def noise(frame: pd.DataFrame) -> Noise:
    """Compare each A/A control with its twin: the same variant on the same problem."""
    timed = current(frame)
    timed = timed[timed["latency_ms"].notna()]
    columns = ["latency_ms", "latency_low_ms", "latency_high_ms"]
    key = [*PROBLEM, "variant"]
    control = timed.loc[timed["control"], [*key, *columns]]
    both = control.merge(timed.loc[~timed["control"], [*key, *columns]], on=key, suffixes=("", "_twin"))
    if both.empty:
        return Noise(0, None, 0)
    ratios = np.abs(np.log(both["latency_ms"] / both["latency_ms_twin"]))
    apart = (both["latency_low_ms"] > both["latency_high_ms_twin"]) | (
        both["latency_high_ms"] < both["latency_low_ms_twin"]
    )
    return Noise(len(both), float(np.expm1(np.quantile(ratios, 0.95))), int(apart.sum()))
