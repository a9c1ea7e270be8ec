"""The bootstrap of a row of log-ratios: its mean, and how far from it the truth may lie at any level."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attnbench.measure.floor import student

if TYPE_CHECKING:
    from attnbench.measure.floor import Floats, Floor

FEWEST_ROUNDS = 5  # fewer resample into too few different tables for any interval
RESAMPLES = 1_999
DEEPEST = 10 / (RESAMPLES + 1)  # the smallest level whose quantile has ten resamples beyond it
LEAST = math.log(1e-9)  # of the levels that a p-value is looked for at
AT_ONCE = 500  # rows resampled by one matrix product
OUTLYING = 3.0


@dataclass(frozen=True)
class Study:
    """A row's mean log-ratio and standard error, the sorted |t| of its resamples (empty: too few rounds), its floor."""

    mean: float
    error: float
    sorted_t: Floats
    rounds: int
    floor: Floor | None = None

    @functools.cached_property
    def p_value(self) -> float:
        """The level at which the interval of the mean just reaches 0."""
        if not self.sorted_t.size:
            return 1.0
        if self.half_width(DEEPEST) == 0:
            return 0.0 if self.mean else 1.0
        low, high = LEAST, 0.0
        for _ in range(20):
            middle = (low + high) / 2
            low, high = (middle, high) if self.half_width(math.exp(middle)) >= abs(self.mean) else (low, middle)
        return math.exp(high)

    def half_width(self, level: float) -> float:
        """Give half the interval's width that leaves out the truth with probability `level`.

        A large table's steps ask for levels that no affordable number of resamples reaches: below DEEPEST the tail is
        Student's, scaled to meet the resamples' there.
        """
        half = self._quantile(max(level, DEEPEST)) * self.error
        if level < DEEPEST:
            half *= student(level, self.rounds - 1) / student(DEEPEST, self.rounds - 1)
        if self.floor is None or not self.floor.scale:
            return half
        return math.hypot(half, self.floor.half_width(level))

    def _quantile(self, level: float) -> float:
        rank = math.ceil((1 - level) * (self.sorted_t.size + 1))
        return float(self.sorted_t[rank - 1]) if rank else 0.0


def study(rows: list[Floats], floor: Floor | None, seed: int) -> list[Study]:
    """Resample all rows of one length with the same draws, which makes it one matrix product."""
    studies: dict[int, Study] = {}
    for length in sorted({row.size for row in rows}):
        indices = [index for index, row in enumerate(rows) if row.size == length]
        if length < FEWEST_ROUNDS:
            studies |= {index: _unknown(rows[index]) for index in indices}
            continue
        for start in range(0, len(indices), AT_ONCE):
            chosen = indices[start : start + AT_ONCE]
            studies |= zip(chosen, _of_one_length([rows[index] for index in chosen], floor, seed), strict=True)
    return [studies[index] for index in range(len(rows))]


def _of_one_length(rows: list[Floats], floor: Floor | None, seed: int) -> list[Study]:
    length = rows[0].size
    pulled = [pulled_in(row) for row in rows]
    together = np.stack([row for row, _ in pulled])
    means = together.mean(axis=1)
    deviations = together - means[:, None]
    errors = np.sqrt((deviations**2).sum(axis=1) / (length - 1) / length)
    shifts, variances = _moments(_draws(length, seed), deviations.T)
    sorted_t = _sorted_t(shifts.T, np.sqrt(variances / length).T)
    return [
        Study(float(mean), float(error) * inflation, resampled, length, floor)
        for mean, error, (_, inflation), resampled in zip(means, errors, pulled, sorted_t, strict=True)
    ]


def two_sided_study(new: Floats, old: Floats, floor: Floor | None, seed: int) -> Study:
    """Resample two unpaired rows, each by itself, for the difference of their means."""
    mean = float(new.mean() - old.mean())
    if min(new.size, old.size) < FEWEST_ROUNDS:
        return Study(mean, 0.0, np.empty(0), int(min(new.size, old.size)))
    shift, variance, error = np.zeros(RESAMPLES), np.zeros(RESAMPLES), 0.0
    (new, new_inflation), (old, old_inflation) = pulled_in(new), pulled_in(old)
    mean = float(new.mean() - old.mean())
    for sign, side, inflation in ((1.0, new, new_inflation), (-1.0, old, old_inflation)):
        deviations = side - side.mean()
        shifts, variances = _moments(_draws(side.size, seed + int(sign)), deviations)
        shift += sign * shifts
        variance += variances / side.size
        error += inflation**2 * float(deviations @ deviations) / (side.size - 1) / side.size
    rounds = int(min(new.size, old.size))
    return Study(mean, math.sqrt(error), _sorted_t(shift, np.sqrt(variance)), rounds, floor)


def pulled_in(row: Floats) -> tuple[Floats, float]:
    """Winsorise at OUTLYING robust standard deviations; give the row and what its standard error must grow by.

    The growth is that of a trimmed mean (Tukey and McLaughlin, 1963): as if what was pulled in were not there.
    """
    middle = np.median(row)
    spread = OUTLYING * 1.4826 * np.median(np.abs(row - middle))
    if spread == 0:
        return row, 1.0
    kept = int(np.sum(np.abs(row - middle) <= spread))
    return np.clip(row, middle - spread, middle + spread), row.size / kept


def _unknown(row: Floats) -> Study:
    return Study(float(row.mean()) if row.size else 0.0, 0.0, np.empty(0), row.size)


@functools.lru_cache(maxsize=8)
def _draws(length: int, seed: int) -> Floats:
    """Give how often each round is drawn in each resample, (RESAMPLES, length)."""
    generator = np.random.default_rng((abs(seed), seed < 0, length))
    return generator.multinomial(length, np.full(length, 1 / length), size=RESAMPLES).astype(np.float64)


def _moments(draws: Floats, deviations: Floats) -> tuple[Floats, Floats]:
    """Give mean and variance of each resample of the deviations, (length,) or (length, rows)."""
    length = deviations.shape[0]
    means = draws @ deviations / length
    squares = draws @ (deviations * deviations) / length
    return means, np.maximum(squares - means * means, 0.0) * length / (length - 1)


def _sorted_t(shifts: Floats, errors: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.abs(shifts) / errors
    values[np.isnan(values)] = 0.0
    return np.sort(values, axis=-1)
