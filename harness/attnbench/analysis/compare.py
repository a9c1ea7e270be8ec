"""Comparison of runs, cell by cell: what changed, how certain that is, which cells regressed, what a rerun confirms."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from attnbench.analysis.verdict import blocks_of
from attnbench.stats import paired
from attnbench.stats.noise_floor import NoiseFloor

if TYPE_CHECKING:
    from attnbench.analysis.results import Results
    from attnbench.workloads.workload import Workload


CELL = ["variant", "workload_id", "mode"]
DEFAULT_BAR = 0.03  # relative slow-down beyond which a cell is a regression
NEWLY_FAILING, FIXED, REMOVED, ADDED, STILL_FAILING = "newly failing", "fixed", "removed", "added", "still failing"
ORDER = (
    NEWLY_FAILING, paired.SLOWER, REMOVED, paired.UNDECIDED, paired.FASTER, FIXED, ADDED, paired.SAME,
    STILL_FAILING,
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """One cell in the old and the new runs; `ratio` is the new latency over the old, so that above 1 is slower.

    `verdict` is one of `stats.paired`'s if both sides have a time, else one of this module's (`added`, `fixed`, ...).
    `regression` says whether the cell is slower beyond the bar and the noise floors, or newly failing.
    """

    variant: str
    workload_id: str
    mode: str
    device: str
    verdict: str
    old_status: str | None
    new_status: str | None
    old_ms: float | None
    new_ms: float | None
    ratio: float | None
    low: float | None
    high: float | None
    reason: str | None
    regression: bool


@dataclass(frozen=True)
class RunComparison:
    """All changes, the most serious first, with the bar and the noise floors that decided which are regressions."""

    changes: tuple[Change, ...]
    bar: float
    old_noise: paired.ControlSummary
    new_noise: paired.ControlSummary
    same_device: bool

    @property
    def regressions(self) -> list[Change]:
        """The changes that are regressions."""
        return [change for change in self.changes if change.regression]

    @property
    def counts(self) -> dict[str, int]:
        """How many cells have each verdict, the most serious verdict first."""
        found = [change.verdict for change in self.changes]
        return {verdict: found.count(verdict) for verdict in ORDER if verdict in found}


def compare(old: Results, new: Results, bar: float = DEFAULT_BAR) -> RunComparison:
    """Compare two sets of runs; a cell that is slower by more than `bar` (0.03: 3%) is a regression.

    Cells are matched by variant, workload, mode and device name; if the two sides have no device name in common (one
    GPU against another), by the rest. Verdicts come from both sides' blocks, corrected over all cells together.
    """
    same_device = bool(set(old.current["device_name"]) & set(new.current["device_name"]))
    key = [*CELL, "device_name"] if same_device else CELL
    before, after = _by_cell(old, key), _by_cell(new, key)
    timed = {
        cell: (blocks_of(after[cell]), blocks_of(before[cell]))
        for cell in before
        if cell in after and before[cell]["status"] == after[cell]["status"] == "ok"
    }
    floor = NoiseFloor.between(new.floor, old.floor)
    judged = paired.verdicts_between_runs(timed, floor=floor)
    floors = old.noise.noise_floor, new.noise.noise_floor
    changes = [
        _change(before.get(cell), after.get(cell), judged.get(cell), bar, floors)
        for cell in dict.fromkeys([*before, *after])
    ]
    changes.sort(
        key=lambda change: (
            not change.regression,
            ORDER.index(change.verdict),
            -(change.ratio or 0),
            change.variant,
            change.workload_id,
        )
    )
    return RunComparison(tuple(changes), bar, old.noise, new.noise, same_device)


def _by_cell(results: Results, key: list[str]) -> dict[tuple[Any, ...], dict[str, Any]]:
    cells = results.current[~results.current["control"]].sort_values("started_at", kind="stable")
    return {tuple(row[name] for name in key): row for row in cells.to_dict("records")}  # type: ignore[misc]


def _change(
    old: dict[str, Any] | None,
    new: dict[str, Any] | None,
    judged: paired.PairedResult | None,
    bar: float,
    floors: Sequence[float | None],
) -> Change:
    either = new or old or {}
    verdict = judged.verdict if judged else _outcome(old, new)
    slower = judged is not None and paired.is_regression(judged, bar, *floors)
    return Change(
        variant=either["variant"],
        workload_id=either["workload_id"],
        mode=either["mode"],
        device=either["device_name"],
        verdict=verdict,
        old_status=old["status"] if old else None,
        new_status=new["status"] if new else None,
        old_ms=_time(old),
        new_ms=_time(new),
        ratio=judged.ratio if judged else None,
        low=judged.low if judged else None,
        high=judged.high if judged else None,
        reason=(new or {}).get("reason") if verdict in (NEWLY_FAILING, STILL_FAILING) else None,
        regression=slower or verdict == NEWLY_FAILING,
    )


def _outcome(old: dict[str, Any] | None, new: dict[str, Any] | None) -> str:
    if old is None:
        return ADDED
    if new is None:
        return REMOVED
    if old["status"] == "ok":
        return NEWLY_FAILING
    return FIXED if new["status"] == "ok" else STILL_FAILING


def _time(cell: dict[str, Any] | None) -> float | None:
    return float(cell["latency_ms"]) if cell and cell["status"] == "ok" else None


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
