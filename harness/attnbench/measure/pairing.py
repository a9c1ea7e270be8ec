"""Verdicts from paired blocks: which of two variants is faster, and how sure that is.

Times of variants that took turns share the machine's drift, so what counts is their ratio round by round. Pure
functions of numbers; all ratios are candidate's time over baseline's, so above 1 is slower.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Key = TypeVar("Key")
Floats = NDArray[np.float64]

SAME_MARGIN = 0.01
FEWEST_ROUNDS = 5  # fewer resample into too few different tables for any interval
RESAMPLES = (4_999, 99_999)  # at least and at most; in between 20 a tail of the strictest step
CERTAIN_CONTROLS = 20  # fewer controls have no 95% quantile, so their largest counts
FLOOR_FACTOR = 3.0
OUTLYING = 3.0
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
class Comparison:
    """A ratio of times with its interval and verdict.

    `low` and `high` are None where there were too few rounds for an interval that says anything. `confidence` is the
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

    @property
    def false_positive_rate(self) -> float | None:
        """Share of controls that were told faster or slower, each judged alone; None without a control."""
        return self.false_positives / self.cells if self.cells else None


def paired_log_ratios(candidate: Blocks, baseline: Blocks) -> list[float]:
    """Give log(candidate / baseline) of the block medians of each round that both have, in order of rounds."""
    ours, theirs = candidate.medians(), baseline.medians()
    return [math.log(ours[number] / theirs[number]) for number in sorted(ours.keys() & theirs.keys())]


def verdicts(
    table: Mapping[Key, Sequence[float]], *, confidence: float = 0.95, margin: float = SAME_MARGIN, seed: int = 0
) -> dict[Key, Comparison]:
    """Judge each row of a table of paired log-ratios; all rows of one table are corrected together.

    The interval of a row's mean log-ratio is a symmetric bootstrap-t (Hall, 1988, doi:10.1214/aos/1176350933), after
    rounds that a neighbour upset have been pulled in to 3 robust standard deviations from the row's median. Rows are
    tested from the smallest p-value on, each at Holm's level (Holm, 1979), until one does not pass. `same`: the whole
    interval lies within 1 +- `margin`; else `faster` or `slower` where it leaves out 1; else `undecided`.
    """
    studies = _study([np.asarray(row, dtype=np.float64) for row in table.values()], 1 - confidence, seed)
    return dict(zip(table, _holm(studies, 1 - confidence, margin), strict=True))


def verdicts_between_runs(
    table: Mapping[Key, tuple[Blocks, Blocks]],
    *,
    confidence: float = 0.95,
    margin: float = SAME_MARGIN,
    seed: int = 0,
) -> dict[Key, Comparison]:
    """Judge (new, old) cells of two runs, which share no rounds: like `verdicts`, with both sides resampled apart.

    Each round's block median counts once. What differs between two sessions (temperature, neighbours, memory layout) is
    in no single run's scatter: hold a difference against both runs' noise floors, as `is_regression` does.
    """
    studies = []
    for new, old in table.values():
        ours, theirs = (np.log(np.asarray(list(blocks.medians().values()))) for blocks in (new, old))
        studies.append(_two_sided_study(ours, theirs, _resamples(1 - confidence, len(table)), seed))
    return dict(zip(table, _holm(studies, 1 - confidence, margin), strict=True))


def is_regression(comparison: Comparison, bar: float, *noise_floors: float | None) -> bool:
    """Whether the whole interval lies beyond `bar` (0.03: 3% slower) and beyond 3 times each run's noise floor."""
    floors = [FLOOR_FACTOR * floor for floor in noise_floors if floor is not None]
    return comparison.verdict == SLOWER and comparison.low is not None and comparison.low > 1 + max(bar, *floors, 0.0)


def control(rows: Sequence[Sequence[float]], *, confidence: float = 0.95, seed: int = 0) -> Control:
    """Summarise the A/A controls' paired log-ratios, one row a control cell."""
    judged = [verdicts({0: row}, confidence=confidence, seed=seed)[0] for row in rows if row]
    if not judged:
        return Control(0, 0, None)
    differences = sorted(abs(math.log(one.ratio)) for one in judged)
    position = len(differences) - 1 if len(differences) < CERTAIN_CONTROLS else math.ceil(0.95 * len(differences)) - 1
    told_apart = sum(one.verdict in (FASTER, SLOWER) for one in judged)
    return Control(len(judged), told_apart, math.expm1(differences[position]))


@dataclass(frozen=True)
class _Study:
    """A row's mean log-ratio, its standard error, and the sorted |t| of its resamples (empty: too few rounds)."""

    mean: float
    error: float
    sorted_t: Floats
    rounds: int

    @property
    def p_value(self) -> float:
        if not self.sorted_t.size:
            return 1.0
        if self.error == 0:
            return 0.0 if self.mean else 1.0
        beyond = self.sorted_t.size - np.searchsorted(self.sorted_t, abs(self.mean) / self.error)
        return float(1 + beyond) / (self.sorted_t.size + 1)

    def half_width(self, level: float) -> float:
        rank = math.ceil((1 - level) * (self.sorted_t.size + 1)) - 1
        return math.inf if rank >= self.sorted_t.size else float(self.sorted_t[rank]) * self.error


def _resamples(alpha: float, rows: int) -> int:
    return min(RESAMPLES[1], max(RESAMPLES[0], math.ceil(20 * rows / alpha)))


def _study(rows: list[Floats], alpha: float, seed: int) -> list[_Study]:
    """Resample all rows of one length with the same draws, which makes it one matrix product."""
    studies: dict[int, _Study] = {}
    for length in sorted({row.size for row in rows}):
        indices = [index for index, row in enumerate(rows) if row.size == length]
        if length < FEWEST_ROUNDS:
            studies |= {index: _unknown(rows[index]) for index in indices}
            continue
        draws = _draws(length, _resamples(alpha, len(rows)), seed)
        for index in indices:
            row, inflation = _pulled_in(rows[index])
            mean, deviations = float(row.mean()), row - row.mean()
            shifts, variances = _moments(draws, deviations)
            error = inflation * math.sqrt(float(deviations @ deviations) / (length - 1) / length)
            studies[index] = _Study(mean, error, _sorted_t(shifts, np.sqrt(variances / length)), length)
    return [studies[index] for index in range(len(rows))]


def _two_sided_study(new: Floats, old: Floats, resamples: int, seed: int) -> _Study:
    mean = float(new.mean() - old.mean())
    if min(new.size, old.size) < FEWEST_ROUNDS:
        return _Study(mean, 0.0, np.empty(0), int(min(new.size, old.size)))
    shift, variance, error = np.zeros(resamples), np.zeros(resamples), 0.0
    (new, new_inflation), (old, old_inflation) = _pulled_in(new), _pulled_in(old)
    mean = float(new.mean() - old.mean())
    for sign, side, inflation in ((1.0, new, new_inflation), (-1.0, old, old_inflation)):
        deviations = side - side.mean()
        shifts, variances = _moments(_draws(side.size, resamples, seed + int(sign)), deviations)
        shift += sign * shifts
        variance += variances / side.size
        error += inflation**2 * float(deviations @ deviations) / (side.size - 1) / side.size
    return _Study(mean, math.sqrt(error), _sorted_t(shift, np.sqrt(variance)), int(min(new.size, old.size)))


def _pulled_in(row: Floats) -> tuple[Floats, float]:
    """Winsorise at OUTLYING robust standard deviations; give the row and what its standard error must grow by.

    The growth is that of a trimmed mean (Tukey and McLaughlin, 1963): as if what was pulled in were not there.
    """
    middle = np.median(row)
    spread = OUTLYING * 1.4826 * np.median(np.abs(row - middle))
    if spread == 0:
        return row, 1.0
    kept = int(np.sum(np.abs(row - middle) <= spread))
    return np.clip(row, middle - spread, middle + spread), row.size / kept


def _unknown(row: Floats) -> _Study:
    return _Study(float(row.mean()) if row.size else 0.0, 0.0, np.empty(0), row.size)


@functools.lru_cache(maxsize=8)
def _draws(length: int, resamples: int, seed: int) -> Floats:
    """Give how often each round is drawn in each resample, (resamples, length)."""
    generator = np.random.default_rng((abs(seed), seed < 0, length))
    return generator.multinomial(length, np.full(length, 1 / length), size=resamples).astype(np.float64)


def _moments(draws: Floats, deviations: Floats) -> tuple[Floats, Floats]:
    """Give mean and variance of each resample of the deviations."""
    length = deviations.size
    means = draws @ deviations / length
    squares = draws @ (deviations * deviations) / length
    return means, np.maximum(squares - means * means, 0.0) * length / (length - 1)


def _sorted_t(shifts: Floats, errors: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.abs(shifts) / errors
    values[np.isnan(values)] = 0.0
    return np.sort(values)


def _holm(studies: list[_Study], alpha: float, margin: float) -> list[Comparison]:
    order = sorted(range(len(studies)), key=lambda index: studies[index].p_value)
    judged: dict[int, Comparison] = {}
    tested = len(studies)  # rows that Holm's step still shares the error among; it shrinks with each row that passes
    stopped = False
    for index in order:
        level = alpha / tested
        stopped = stopped or studies[index].p_value > level
        judged[index] = _judge(studies[index], level, margin)
        tested -= 0 if stopped else 1
    return [judged[index] for index in range(len(studies))]


def _judge(study: _Study, level: float, margin: float) -> Comparison:
    half = study.half_width(level) if study.sorted_t.size else math.inf
    ratio = math.exp(study.mean)
    if half > WIDEST:
        return Comparison(ratio, None, None, study.p_value, 1 - level, UNDECIDED, study.rounds)
    low, high = math.exp(study.mean - half), math.exp(study.mean + half)
    if low >= 1 - margin and high <= 1 + margin:
        verdict = SAME
    elif low > 1 or high < 1:
        verdict = SLOWER if low > 1 else FASTER
    else:
        verdict = UNDECIDED
    return Comparison(ratio, low, high, study.p_value, 1 - level, verdict, study.rounds)
