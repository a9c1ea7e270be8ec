"""Verification of a run: whether a second measurement of some of its cells agrees with the first."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from attnbench.analysis.compare import NEWLY_FAILING, STILL_FAILING, Change, compare

if TYPE_CHECKING:
    from attnbench.analysis.results import Results
    from attnbench.workloads.workload import Workload

TOLERANCE = 0.05  # two sessions differ by more than the noise within each: temperature, other load, memory layout


@dataclass(frozen=True)
class Sampled:
    """A cell that was drawn to be measured again."""

    variant: str
    workload: Workload
    device: str


@dataclass(frozen=True)
class Agreement:
    """The outcome of a verification: the cells that agree, and those whose status or time differs beyond doubt."""

    agreeing: tuple[Change, ...]
    disagreeing: tuple[Change, ...]
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether all cells agree; False if no cell was measured again."""
        return bool(self.agreeing) and not self.disagreeing

    def __str__(self) -> str:
        """Return the outcome as one sentence."""
        total = len(self.agreeing) + len(self.disagreeing)
        return (
            f"{len(self.agreeing)} of {total} cells agree: same status, and no interval beyond"
            f" {self.tolerance:.0%} and three times the noise floors."
        )


def sample(results: Results, count: int, seed: int = 0) -> list[Sampled]:
    """Draw `count` of a run's cells at random, or all if it has fewer; unsupported cells are left out."""
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
