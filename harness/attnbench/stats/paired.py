"""Verdicts from paired blocks: which of two variants is faster, and how sure that is.

Times of variants that took turns share the machine's drift, so what counts is their ratio round by round. Pure
functions of numbers; all ratios are candidate's time over baseline's, so above 1 is slower.
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

from attnbench.stats.bootstrap import ResampledRow, by_length, p_values, pulled_in, study, two_sided_study
from attnbench.stats.noise_floor import Floats, NoiseFloor

Key = TypeVar("Key")

SAME_MARGIN = 0.01
CERTAIN_CONTROLS = 20  # fewer controls have no 95% quantile, so their largest counts
FLOOR_FACTOR = 3.0
WIDEST = math.log(100.0)  # an interval of more than a hundredfold either way says nothing

FASTER, SLOWER, SAME, UNDECIDED = "faster", "slower", "same", "undecided"


@dataclass(frozen=True)
class Blocks:
    """One cell's samples as a record holds them: `sizes` and `rounds` give length and round of each block."""

    samples_ns: Sequence[float]
    sizes: Sequence[int]
    rounds: Sequence[int]

    def medians(self) -> dict[int, float]:
        """Give the median sample of each round, in ns; a round's blocks count as one."""
        edges = [0, *itertools.accumulate(self.sizes)]
        gathered: dict[int, list[float]] = {}
        for (start, end), round_number in zip(itertools.pairwise(edges), self.rounds, strict=True):
            gathered.setdefault(round_number, []).extend(self.samples_ns[start:end])
        return {number: median(samples) for number, samples in gathered.items() if samples}


@dataclass(frozen=True)
class PairedResult:
    """A ratio of times with its interval and verdict.

    `low` and `high` are None where there is no interval that says anything. `confidence` is the
    interval's: Holm's step for this row of the table, so that the verdict can be read from the interval. `p_value` is
    not corrected.
    """

    ratio: float
    low: float | None
    high: float | None
    p_value: float
    confidence: float
    verdict: str
    rounds: int


@dataclass(frozen=True)
class Control:
    """What the A/A controls of a run show: `false_positives` of `cells` told apart, and the noise floor.

    `noise_floor` is relative, e.g. 0.004: identical code differed by so much (95% quantile over the controls, or their
    largest difference where there are fewer than 20). None without a control.
    """

    cells: int
    false_positives: int
    noise_floor: float | None


def paired_log_ratios(candidate: Blocks, baseline: Blocks) -> list[float]:
    """Give log(candidate / baseline) of the block medians of each round that both have, in order of rounds."""
    ours, theirs = candidate.medians(), baseline.medians()
    return [math.log(ours[number] / theirs[number]) for number in sorted(ours.keys() & theirs.keys())]


def verdicts(
    table: Mapping[Key, Sequence[float]],
    *,
    floor: NoiseFloor | None = None,
    confidence: float = 0.95,
    margin: float = SAME_MARGIN,
    seed: int = 0,
) -> dict[Key, PairedResult]:
    """Judge each row of a table of paired log-ratios; all rows of one table are corrected together.

    The interval of a row's mean log-ratio is a symmetric bootstrap-t (Hall, 1988, doi:10.1214/aos/1176350933), after
    rounds that a neighbour upset have been pulled in to 3 robust standard deviations from the row's median. It holds
    for these processes; `floor` widens it to what other processes of the same code could have shown: Student's t of
    as many degrees as there were controls, added in quadrature. Rows of fewer than FEWEST_ROUNDS are not resampled:
    they are taken to scatter like the most restless of them, with Student's t.

    Rows are tested from the smallest p-value on, each at Holm's level (Holm, 1979), until one does not pass. `same`:
    the whole interval lies within 1 +- `margin`; else `faster` or `slower` where it leaves out 1; else `undecided`.
    """
    studies = study([np.asarray(row, dtype=np.float64) for row in table.values()], floor, seed)
    return dict(zip(table, _holm(studies, 1 - confidence, margin), strict=True))


def verdicts_between_runs(
    table: Mapping[Key, tuple[Blocks, Blocks]],
    *,
    floor: NoiseFloor | None = None,
    confidence: float = 0.95,
    margin: float = SAME_MARGIN,
    seed: int = 0,
) -> dict[Key, PairedResult]:
    """Judge (new, old) cells of two runs, which share no rounds: like `verdicts`, with both sides resampled apart.

    Each round's block median counts once. What differs between two sessions (temperature, neighbours) is in no single
    run's scatter, nor in its controls: hold a difference against both runs' noise floors, as `is_regression` does.
    """
    rows = [(_log_medians(new), _log_medians(old)) for new, old in table.values()]
    studies = two_sided_study(rows, floor, seed)
    return dict(zip(table, _holm(studies, 1 - confidence, margin), strict=True))


def is_regression(comparison: PairedResult, bar: float, *noise_floors: float | None) -> bool:
    """Whether the whole interval lies beyond `bar` (0.03: 3% slower) and beyond 3 times each run's noise floor."""
    floors = [FLOOR_FACTOR * floor for floor in noise_floors if floor is not None]
    return comparison.verdict == SLOWER and comparison.low is not None and comparison.low > 1 + max(bar, *floors, 0.0)


def floor_of(rows: Sequence[Sequence[float]]) -> NoiseFloor | None:
    """Give the noise floor that the A/A controls' paired log-ratios show, one row a control; None without any."""
    return NoiseFloor.of(_means(rows))


def control(rows: Sequence[Sequence[float]], *, confidence: float = 0.95, seed: int = 0) -> Control:
    """Summarise the A/A controls' paired log-ratios, one row a control cell.

    Each is judged alone as a variant would be, with the floor that the others make; a single one can't be told apart.
    """
    rows = [row for row in rows if row]
    if not rows:
        return Control(0, 0, None)
    studies = study([np.asarray(row, dtype=np.float64) for row in rows], None, seed)
    told_apart = 0
    for one, others in zip(studies, NoiseFloor.of_others(_means(rows)), strict=True):
        interval = _interval(dataclasses.replace(one, floor=others), 1 - confidence)
        told_apart += others is not None and _verdict(interval, SAME_MARGIN) in (FASTER, SLOWER)
    differences = sorted(abs(one.mean) for one in studies)
    position = len(differences) - 1 if len(differences) < CERTAIN_CONTROLS else math.ceil(0.95 * len(differences)) - 1
    return Control(len(rows), told_apart, math.expm1(differences[position]))


def _log_medians(blocks: Blocks) -> Floats:
    return np.log(np.asarray(list(blocks.medians().values()), dtype=np.float64))


def _means(rows: Sequence[Sequence[float]]) -> list[float]:
    """Give the mean of each row that is not empty, its outliers pulled in."""
    arrays = [np.asarray(row, dtype=np.float64) for row in rows if row]
    means = np.empty(len(arrays))
    for places, together in by_length(arrays):
        means[places] = pulled_in(together)[0].mean(axis=1)
    return [float(mean) for mean in means]


def _holm(studies: list[ResampledRow], alpha: float, margin: float) -> list[PairedResult]:
    chances = p_values(studies)
    judged: dict[int, PairedResult] = {}
    tested = len(studies)  # rows that Holm's step still shares the error among; it shrinks with each row that passes
    stopped = False
    for index in sorted(range(len(studies)), key=chances.__getitem__):
        level = alpha / tested
        stopped = stopped or chances[index] > level
        judged[index] = _judge(studies[index], chances[index], level, margin)
        tested -= 0 if stopped else 1
    return [judged[index] for index in range(len(studies))]


def _judge(study: ResampledRow, p_value: float, level: float, margin: float) -> PairedResult:
    interval = _interval(study, level)
    low, high = interval or (None, None)
    return PairedResult(math.exp(study.mean), low, high, p_value, 1 - level, _verdict(interval, margin), study.rounds)


def _interval(study: ResampledRow, level: float) -> tuple[float, float] | None:
    """Give the interval of the ratio of times; None where it would say nothing."""
    half = study.half_width(level)
    return None if half > WIDEST else (math.exp(study.mean - half), math.exp(study.mean + half))


def _verdict(interval: tuple[float, float] | None, margin: float) -> str:
    if interval is None:
        return UNDECIDED
    low, high = interval
    if low >= 1 - margin and high <= 1 + margin:
        return SAME
    return SLOWER if low > 1 else FASTER if high < 1 else UNDECIDED
