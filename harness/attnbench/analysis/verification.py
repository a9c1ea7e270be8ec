"""Whether a second measurement of some of a run's cells agrees with the first."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from attnbench.analysis.compare import NEWLY_FAILING, STILL_FAILING, Change, compare

if TYPE_CHECKING:
    from attnbench.analysis.results import Results
    from attnbench.workloads.workload import Workload

TOLERANCE = 0.05  # sessions differ by more than either's own noise: temperature, neighbours, memory layout


@dataclass(frozen=True)
class Sampled:
    """A cell to be run again."""

    variant: str
    workload: Workload
    device: str


@dataclass(frozen=True)
class Agreement:
    """What came of running cells again; a status that changed or a time that is surely off disagrees."""

    agreeing: tuple[Change, ...]
    disagreeing: tuple[Change, ...]
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether all cells agree, and there is one."""
        return bool(self.agreeing) and not self.disagreeing

    def __str__(self) -> str:
        """Say it in a line."""
        total = len(self.agreeing) + len(self.disagreeing)
        return (
            f"{len(self.agreeing)} of {total} cells agree: same status, and no interval beyond"
            f" {self.tolerance:.0%} and three times the noise floors."
        )


def sample(results: Results, count: int, seed: int = 0) -> list[Sampled]:
    """Draw `count` of a run's cells at random (all, if there are no more); unsupported ones are left out."""
    cells = results.current
    cells = cells[~cells["control"] & ~cells["status"].isin(["unsupported", "interrupted"])]
    rows: list[dict[Any, Any]] = cells.sort_values("cell_id").to_dict("records")
    drawn = random.Random(seed).sample(rows, min(count, len(rows)))  # noqa: S311 - a sample, not a secret
    return [Sampled(row["variant"], row["workload"], row["device"]) for row in drawn]


def agreement(old: Results, again: Results, tolerance: float = TOLERANCE) -> Agreement:
    """Compare the cells of `again` with the same cells of `old`.

    A time disagrees if its whole interval lies beyond `tolerance` and three times both noise floors, either way.
    """
    repeated = again.frame[~again.frame["control"]]
    cells = set(zip(repeated["variant"], repeated["workload_id"], strict=True))
    kept = [cell in cells for cell in zip(old.frame["variant"], old.frame["workload_id"], strict=True)]
    of_both = old.within(old.frame["control"] | pd.Series(kept, index=old.frame.index, dtype=bool))
    found = compare(of_both, again, tolerance)
    floors = [noise.noise_floor or 0.0 for noise in (found.old_noise, found.new_noise)]
    bound = 1 + max(tolerance, 3 * max(floors))
    agreeing: list[Change] = []
    disagreeing: list[Change] = []
    for change in found.changes:
        (disagreeing if _disagrees(change, bound) else agreeing).append(change)
    return Agreement(tuple(agreeing), tuple(disagreeing), tolerance)


def _disagrees(change: Change, bound: float) -> bool:
    if change.old_status != change.new_status or change.verdict == NEWLY_FAILING:
        return True
    if change.verdict == STILL_FAILING or change.low is None or change.high is None:
        return False
    return change.low > bound or change.high < 1 / bound
