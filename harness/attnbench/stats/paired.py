"""Paired comparison of two variants, which shows which one is faster and how certain this is.

Variants take turns in rounds, so drift of the machine affects all of them alike. Their times are therefore compared
round by round. Every ratio is the candidate's time divided by the baseline's time, so a ratio above 1 means that the
candidate is slower.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

import numpy as np

from attnbench.stats.bootstrap import ResampledRow, by_length, p_values, resample, resample_unpaired, winsorise
from attnbench.stats.noise_floor import Floats, NoiseFloor

Key = TypeVar("Key")

SAME_MARGIN = 0.01  # the verdict is `same` if the ratio's whole interval lies within 1 +- this margin
MIN_CONTROLS_FOR_QUANTILE = 20  # with fewer controls, the noise floor is the largest difference, not the 95% quantile
FLOOR_FACTOR = 3.0  # a change between runs counts only if it exceeds this many times the noise floor
MAX_HALF_WIDTH = math.log(100.0)  # an interval of a log-ratio with a larger half-width is not reported

FASTER, SLOWER, SAME, UNDECIDED = "faster", "slower", "same", "undecided"


@dataclass(frozen=True)
class Blocks:
    """The samples of one cell, in the order of its blocks.

    - `samples_ns`: the samples of all blocks, in ns
    - `sizes`: the number of samples in each block
    - `rounds`: the round in which each block was measured
    """

    samples_ns: Sequence[float]
    sizes: Sequence[int]
    rounds: Sequence[int]

    def medians(self) -> dict[int, float]:
        """Return the median of each round's samples in ns, keyed by round. All blocks of a round are pooled."""
        edges = [0, *itertools.accumulate(self.sizes)]
        gathered: dict[int, list[float]] = {}
        for (start, end), round_number in zip(itertools.pairwise(edges), self.rounds, strict=True):
            gathered.setdefault(round_number, []).extend(self.samples_ns[start:end])
        return {number: median(samples) for number, samples in gathered.items() if samples}


@dataclass(frozen=True)
class PairedResult:
    """The ratio of two variants' times, with its confidence interval and verdict.

    - `low`, `high`: the ends of the interval; both are None if they are more than a factor of 100 away from `ratio`
    - `p_value`: the p-value, not corrected for the number of rows in the table
    - `confidence`: the confidence of the interval after Holm's correction, so that interval and verdict agree
    - `verdict`: `faster`, `slower`, `same` or `undecided`
    - `rounds`: the number of rounds that were compared
    """

    ratio: float
    low: float | None
    high: float | None
    p_value: float
    confidence: float
    verdict: str
    rounds: int


@dataclass(frozen=True)
class ControlSummary:
    """A summary of the A/A controls of a run.

    - `cells`: the number of controls
    - `false_positives`: the number of controls that were judged faster or slower, although they run the same code as
      their twins
    - `noise_floor`: the 95% quantile of the controls' relative differences, or the largest difference if there are
      fewer than 20 controls; None without controls
    """

    cells: int
    false_positives: int
    noise_floor: float | None


def paired_log_ratios(candidate: Blocks, baseline: Blocks) -> list[float]:
    """Return log(candidate / baseline) of the median times for each round that contains both, in round order."""
    candidate_medians, baseline_medians = candidate.medians(), baseline.medians()
    shared_rounds = sorted(candidate_medians.keys() & baseline_medians.keys())
    return [math.log(candidate_medians[number] / baseline_medians[number]) for number in shared_rounds]


def verdicts(
    table: Mapping[Key, Sequence[float]],
    *,
    floor: NoiseFloor | None = None,
    confidence: float = 0.95,
    margin: float = SAME_MARGIN,
    seed: int = 0,
) -> dict[Key, PairedResult]:
    """Judge each row of a table of paired log-ratios, and return the results under the same keys as the rows.

    The interval of a row's mean log-ratio is a symmetric bootstrap-t interval (Hall, 1988, doi:10.1214/aos/1176350933).
    Outlying rounds are first moved to 3 robust standard deviations from the row's median. This interval holds only
    for the measured pair of processes. If `floor` is given, its half-width, from Student's t, is added in quadrature,
    so that the interval also covers other pairs of processes that run the same code.

    Rows of fewer than MIN_RESAMPLED_ROUNDS rounds are too short to resample. Their intervals use Student's t, with the
    largest standard deviation among the short rows.

    Holm's correction (Holm, 1979) limits the chance of any false verdict in the table to 1 - `confidence`. The verdict
    is `same` if the whole interval lies within 1 +- `margin`. Otherwise it is `faster` or `slower` if the interval
    excludes 1, and `undecided` if the interval includes 1.
    """
    rows = resample([np.asarray(row, dtype=np.float64) for row in table.values()], floor, seed)
    return dict(zip(table, _judge_with_holm(rows, 1 - confidence, margin), strict=True))


def verdicts_between_runs(
    table: Mapping[Key, tuple[Blocks, Blocks]],
    *,
    floor: NoiseFloor | None = None,
    confidence: float = 0.95,
    margin: float = SAME_MARGIN,
    seed: int = 0,
) -> dict[Key, PairedResult]:
    """Judge pairs (new, old) of cells from two runs, and return the results under the same keys as the pairs.

    This works like `verdicts`, but the runs share no rounds, so the round medians of both sides are resampled
    separately. Temperature and other processes may differ between the two runs. Neither the scatter within a run nor
    its controls show such differences, so compare each result with both runs' noise floors, as `is_regression` does.
    """
    rows = resample_unpaired([(_log_medians(new), _log_medians(old)) for new, old in table.values()], floor, seed)
    return dict(zip(table, _judge_with_holm(rows, 1 - confidence, margin), strict=True))


def is_regression(result: PairedResult, bar: float, *noise_floors: float | None) -> bool:
    """Return whether the whole interval shows a slow-down above `bar` and above 3 times each noise floor.

    A `bar` of 0.03 means 3%.
    """
    floors = [FLOOR_FACTOR * floor for floor in noise_floors if floor is not None]
    return result.verdict == SLOWER and result.low is not None and result.low > 1 + max(bar, *floors, 0.0)


def floor_of(rows: Sequence[Sequence[float]]) -> NoiseFloor | None:
    """Return the noise floor of A/A controls, each given as a row of paired log-ratios, or None without controls."""
    return NoiseFloor.of(_means(rows))


def summarise_controls(rows: Sequence[Sequence[float]], *, confidence: float = 0.95, seed: int = 0) -> ControlSummary:
    """Summarise A/A controls, given one row of paired log-ratios for each control.

    Each control is judged like a variant in a table of one row, with the noise floor of all other controls. A single
    control has no such floor, so it is never a false positive.
    """
    rows = [row for row in rows if row]
    if not rows:
        return ControlSummary(0, 0, None)
    resampled = resample([np.asarray(row, dtype=np.float64) for row in rows], None, seed)
    false_positives = 0
    for row, floor_of_others in zip(resampled, NoiseFloor.of_others(_means(rows)), strict=True):
        interval = _interval(dataclasses.replace(row, floor=floor_of_others), 1 - confidence)
        false_positives += floor_of_others is not None and _verdict(interval, SAME_MARGIN) in (FASTER, SLOWER)
    differences = sorted(abs(row.mean) for row in resampled)
    enough = len(differences) >= MIN_CONTROLS_FOR_QUANTILE
    position = math.ceil(0.95 * len(differences)) - 1 if enough else len(differences) - 1
    return ControlSummary(len(rows), false_positives, math.expm1(differences[position]))


def _log_medians(blocks: Blocks) -> Floats:
    return np.log(np.asarray(list(blocks.medians().values()), dtype=np.float64))


def _means(rows: Sequence[Sequence[float]]) -> list[float]:
    """Return the winsorised mean of each non-empty row."""
    arrays = [np.asarray(row, dtype=np.float64) for row in rows if row]
    means = np.empty(len(arrays))
    for indices, stacked in by_length(arrays):
        means[indices] = winsorise(stacked)[0].mean(axis=1)
    return [float(mean) for mean in means]


def _judge_with_holm(rows: list[ResampledRow], alpha: float, margin: float) -> list[PairedResult]:
    chances = p_values(rows)
    judged: dict[int, PairedResult] = {}
    remaining = len(rows)  # number of rows that share the allowed error; each significant row reduces it by one
    stopped = False
    for index in sorted(range(len(rows)), key=chances.__getitem__):
        level = alpha / remaining
        stopped = stopped or chances[index] > level
        judged[index] = _judge(rows[index], chances[index], level, margin)
        remaining -= 0 if stopped else 1
    return [judged[index] for index in range(len(rows))]


def _judge(row: ResampledRow, p_value: float, level: float, margin: float) -> PairedResult:
    interval = _interval(row, level)
    low, high = interval or (None, None)
    return PairedResult(math.exp(row.mean), low, high, p_value, 1 - level, _verdict(interval, margin), row.rounds)


def _interval(row: ResampledRow, level: float) -> tuple[float, float] | None:
    """Return the confidence interval of the ratio of times, or None if its ends are too far apart."""
    half = row.half_width(level)
    return None if half > MAX_HALF_WIDTH else (math.exp(row.mean - half), math.exp(row.mean + half))


def _verdict(interval: tuple[float, float] | None, margin: float) -> str:
    if interval is None:
        return UNDECIDED
    low, high = interval
    if low >= 1 - margin and high <= 1 + margin:
        return SAME
    return SLOWER if low > 1 else FASTER if high < 1 else UNDECIDED
