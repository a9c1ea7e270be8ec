"""Trends: the latency of each cell over many runs, and the runs in which it changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnbench.analysis.verdict import blocks_of
from attnbench.stats import paired
from attnbench.stats.disturbance import DISTURBED

if TYPE_CHECKING:
    import pandas as pd

    from attnbench.analysis.results import Results

KEY = ["device_name", "variant", "workload_id", "mode"]
MIN_RUNS = 2  # a cell has a trend only if at least this many runs measured it


@dataclass(frozen=True)
class Point:
    """The median latency of a cell in one run.

    `change` is `faster` or `slower` if the latency clearly changed since the cell's previous run. Otherwise it is None.
    """

    run: str
    started_at: str
    latency_ms: float
    low_ms: float
    high_ms: float
    change: str | None


@dataclass(frozen=True)
class Trend:
    """The latencies of a cell in several runs, oldest run first."""

    device_name: str
    variant: str
    workload_id: str
    mode: str
    points: tuple[Point, ...]

    @property
    def changes(self) -> int:
        """The number of runs in which the latency changed."""
        return sum(point.change is not None for point in self.points)


def trends(results: Results) -> list[Trend]:
    """Return the trend of each cell that was measured in at least two runs, sorted by decreasing number of changes.

    Each run is compared with the previous run. The latency has changed if the confidence interval of the latency ratio
    lies entirely above 1 + d or entirely below 1 / (1 + d), where d is three times the larger noise floor of the two
    runs. The verdicts are corrected for multiple comparisons. A change is not known if others disturbed the cell too
    much in either run.
    """
    rankable = results.frame[results.rankable]
    histories = [history for history in _histories(rankable) if len(history) >= MIN_RUNS]
    steps = {
        (place, index): (blocks_of(history[index]), blocks_of(history[index - 1]))
        for place, history in enumerate(histories)
        for index in range(1, len(history))
        if not any(DISTURBED in cell["flags"] for cell in history[index - 1 : index + 1])
    }
    controls = [value for row in results.control_ratios.values() for value in row]
    judged = paired.verdicts_between_runs(steps, controls)
    runs = results.frame["run"]
    floors = {str(run): results.within(runs == run).noise_floor or 0.0 for run in runs.unique()}
    found = [
        _trend(history, [judged.get((place, index)) for index in range(len(history))], floors)
        for place, history in enumerate(histories)
    ]
    return sorted(found, key=lambda trend: (-trend.changes, trend.device_name, trend.variant, trend.workload_id))


def _histories(frame: pd.DataFrame) -> Iterable[list[dict[str, Any]]]:
    ordered = frame.sort_values("started_at", kind="stable").drop_duplicates([*KEY, "run"], keep="last")
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for cell in ordered.to_dict("records"):
        found.setdefault(tuple(cell[name] for name in KEY), []).append({str(name): cell[name] for name in cell})
    return found.values()


def _trend(history: list[dict[str, Any]], judged: list[paired.PairedResult | None], floors: dict[str, float]) -> Trend:
    points = []
    for index, (cell, verdict) in enumerate(zip(history, judged, strict=True)):
        floor = max(floors[cell["run"]], floors[history[index - 1]["run"]]) if index else 0.0
        points.append(
            Point(
                cell["run"],
                cell["started_at"],
                cell["latency_ms"],
                cell["latency_low_ms"],
                cell["latency_high_ms"],
                _change(verdict, paired.FLOOR_FACTOR * floor),
            )
        )
    first = history[0]
    return Trend(first["device_name"], first["variant"], first["workload_id"], first["mode"], tuple(points))


def _change(verdict: paired.PairedResult | None, floor: float) -> str | None:
    if verdict is None or verdict.low is None or verdict.high is None:
        return None
    if verdict.verdict == paired.SLOWER and verdict.low > 1 + floor:
        return paired.SLOWER
    return paired.FASTER if verdict.verdict == paired.FASTER and verdict.high < 1 / (1 + floor) else None
