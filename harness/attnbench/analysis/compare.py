"""Comparison of two sets of runs, cell by cell: changes in latency and status, and regressions.

`agreement` uses the comparison to verify a run against a second measurement of some of its cells.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from attnbench.analysis.verdict import blocks_of
from attnbench.stats import paired
from attnbench.stats.disturbance import DISTURBED

if TYPE_CHECKING:
    from attnbench.analysis.results import Results
    from attnbench.workloads.workload import Workload


CELL = ["variant", "workload_id", "mode"]
DEFAULT_BAR = 0.03  # a cell counts as a regression only if it is slower by more than this fraction
NEWLY_FAILING, FIXED, REMOVED, ADDED, STILL_FAILING = "newly failing", "fixed", "removed", "added", "still failing"
ORDER = (  # the verdicts, most serious first
    NEWLY_FAILING, paired.SLOWER, REMOVED, paired.UNDECIDED, paired.FASTER, FIXED, ADDED, paired.SAME,
    STILL_FAILING,
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """The change in one cell between the old and the new runs.

    `ratio` is the new latency divided by the old latency, so a ratio above 1 means that the cell is slower. `low` and
    `high` are the ends of the ratio's confidence interval. If the cell was timed in both sets of runs, `verdict` is one
    of the verdicts of `stats.paired`. Otherwise it is one of the verdicts of this module, such as `added` or `fixed`.
    `regression` is true if the cell is newly failing, or if it is slower by more than both the comparison's `bar` and
    three times the noise floor of each set of runs. `reason` says why the cell fails, or that it has no verdict because
    others `disturbed` it.
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
    """All changes between two sets of runs, most serious first.

    A slow-down is a regression only if it is larger than `bar` (0.03 means 3%) and larger than three times the noise
    floor of each set (see `Results.noise_floor`). `same_device` is true if the sets have a device name in common.
    `warnings` say in which set cells have no verdict, and why.
    """

    changes: tuple[Change, ...]
    bar: float
    old_noise_floor: float | None
    new_noise_floor: float | None
    same_device: bool
    warnings: tuple[str, ...] = ()

    @property
    def regressions(self) -> list[Change]:
        """The changes that are regressions."""
        return [change for change in self.changes if change.regression]

    @property
    def counts(self) -> dict[str, int]:
        """The number of cells with each verdict, most serious verdict first."""
        found = [change.verdict for change in self.changes]
        return {verdict: found.count(verdict) for verdict in ORDER if verdict in found}


def compare(old: Results, new: Results, bar: float = DEFAULT_BAR) -> RunComparison:
    """Compare two sets of runs and return the change in each cell.

    A cell is a regression if it is newly failing, or if it is slower by more than both `bar` (0.03 means 3%) and three
    times the noise floor of each set. Cells are matched by variant, workload, mode and device name. If the two sets
    have no device name in common, for example because they ran on different GPUs, the device name is ignored. Verdicts
    are computed from both sets' blocks of samples and corrected for multiple comparisons.
    """
    same_device = bool(set(old.current["device_name"]) & set(new.current["device_name"]))
    key = [*CELL, "device_name"] if same_device else CELL
    before, after = _by_cell(old, key), _by_cell(new, key)
    timed = {
        cell: (after[cell], before[cell])
        for cell in before
        if cell in after and before[cell]["status"] == after[cell]["status"] == "ok"
    }
    controls = [value for side in (old, new) for row in side.control_ratios.values() for value in row]
    judged = _judge(timed, controls)
    warnings = [f"{name}: {text}" for name, side in (("old", old), ("new", new)) for text in side.warnings]
    noise_floors = old.noise_floor, new.noise_floor
    changes = [
        _change(before.get(cell), after.get(cell), judged.get(cell), bar, noise_floors)
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
    return RunComparison(tuple(changes), bar, *noise_floors, same_device, tuple(warnings))


def _judge(
    timed: dict[tuple[Any, ...], tuple[dict[str, Any], dict[str, Any]]], controls: Sequence[float]
) -> dict[tuple[Any, ...], paired.PairedResult]:
    """Judge pairs (new, old) of cells. There is no verdict if others disturbed one of the two too much."""
    disturbed = {
        cell: paired.PairedResult.without_verdict(new["latency_ms"] / old["latency_ms"])
        for cell, (new, old) in timed.items()
        if any(DISTURBED in side["flags"] for side in (new, old))
    }
    evidence = {cell: (blocks_of(new), blocks_of(old)) for cell, (new, old) in timed.items() if cell not in disturbed}
    return disturbed | paired.verdicts_between_runs(evidence, controls)


def _by_cell(results: Results, key: list[str]) -> dict[tuple[Any, ...], dict[str, Any]]:
    cells = results.current[~results.current["control"]].sort_values("started_at", kind="stable")
    return {tuple(row[name] for name in key): row for row in cells.to_dict("records")}  # type: ignore[misc]


def _change(
    old: dict[str, Any] | None,
    new: dict[str, Any] | None,
    judged: paired.PairedResult | None,
    bar: float,
    noise_floors: Sequence[float | None],
) -> Change:
    either = new or old or {}
    verdict = judged.verdict if judged else _outcome(old, new)
    slower = judged is not None and paired.is_regression(judged, bar, *noise_floors)
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
        reason=judged.reason if judged else (new or {}).get("reason") if new and new["status"] != "ok" else None,
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


# Two measurements of a cell agree if their latencies differ by at most this fraction. Temperature, background load and
# memory layout change between runs, so two runs differ by more than the noise within either run.
TOLERANCE = 0.05


@dataclass(frozen=True)
class Sampled:
    """A cell chosen at random for a second measurement."""

    variant: str
    workload: Workload
    device: str


@dataclass(frozen=True)
class Agreement:
    """The outcome of a verification: the cells that agree, and the cells whose status or time clearly changed."""

    agreeing: tuple[Change, ...]
    disagreeing: tuple[Change, ...]
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether all cells agree. False if no cell was measured again."""
        return bool(self.agreeing) and not self.disagreeing

    def __str__(self) -> str:
        """Return the outcome as one sentence."""
        total = len(self.agreeing) + len(self.disagreeing)
        return (
            f"{len(self.agreeing)} of {total} cells agree: their status is the same, and their time does not clearly"
            f" differ by more than {self.tolerance:.0%} or three times the noise floor, whichever is larger."
        )


def sample(results: Results, count: int, seed: int = 0) -> list[Sampled]:
    """Choose up to `count` cells of a run at random.

    A/A controls and cells that are unsupported or interrupted are never chosen.
    """
    cells = results.current
    cells = cells[~cells["control"] & ~cells["status"].isin(["unsupported", "interrupted"])]
    rows: list[dict[Any, Any]] = cells.sort_values("cell_id").to_dict("records")
    drawn = random.Random(seed).sample(rows, min(count, len(rows)))  # noqa: S311 - a statistical sample needs no cryptographic randomness
    return [Sampled(row["variant"], row["workload"], row["device"]) for row in drawn]


def agreement(old: Results, again: Results, tolerance: float = TOLERANCE) -> Agreement:
    """Compare a second measurement of some cells with the old measurement of the same cells.

    A cell disagrees if its status or its time clearly changed. The time clearly changed if the confidence interval of
    the latency ratio lies entirely above 1 + d or entirely below 1 / (1 + d), where d is the larger of `tolerance` and
    three times the larger of the two noise floors.
    """
    repeated = again.frame[~again.frame["control"]]
    cells = set(zip(repeated["variant"], repeated["workload_id"], strict=True))
    kept = [cell in cells for cell in zip(old.frame["variant"], old.frame["workload_id"], strict=True)]
    of_both = old.within(old.frame["control"] | pd.Series(kept, index=old.frame.index, dtype=bool))
    found = compare(of_both, again, tolerance)
    bound = 1 + max(tolerance, paired.FLOOR_FACTOR * max(found.old_noise_floor or 0.0, found.new_noise_floor or 0.0))
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
