"""The bootstrap of a row of log-ratios: its mean, and how far from it the truth may lie at any level."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from attnbench.measure.floor import Floats, Floor

FEWEST_ROUNDS = 5  # fewer resample into too few different tables for any interval
RESAMPLES = (4_999, 99_999)  # at least and at most; in between 10 a tail of the strictest step
OUTLYING = 3.0


@dataclass(frozen=True)
class Study:
    """A row's mean log-ratio and standard error, the sorted |t| of its resamples (empty: too few rounds), its floor."""

    mean: float
    error: float
    sorted_t: Floats
    rounds: int
    floor: Floor | None = None

    @property
    def p_value(self) -> float:
        """The level at which the interval of the mean just reaches 0."""
        if not self.sorted_t.size:
            return 1.0
        if self.floor is not None and self.floor.scale:
            return self._smallest_level()
        if self.error == 0:
            return 0.0 if self.mean else 1.0
        beyond = self.sorted_t.size - np.searchsorted(self.sorted_t, abs(self.mean) / self.error)
        return float(1 + beyond) / (self.sorted_t.size + 1)

    def half_width(self, level: float) -> float:
        """Give half the interval's width that leaves out the truth with probability `level`."""
        rank = math.ceil((1 - level) * (self.sorted_t.size + 1)) - 1
        if rank >= self.sorted_t.size:
            return math.inf
        half = float(self.sorted_t[rank]) * self.error
        if self.floor is None or not self.floor.scale:
            return half
        return math.hypot(half, self.floor.half_width(level))

    def _smallest_level(self) -> float:
        low, high = math.log(1 / (self.sorted_t.size + 1)), 0.0
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (middle, high) if self.half_width(math.exp(middle)) >= abs(self.mean) else (low, middle)
        return math.exp(high)


def resamples(alpha: float, rows: int) -> int:
    """Give how many resamples a table of so many rows needs."""
    return min(RESAMPLES[1], max(RESAMPLES[0], math.ceil(10 * rows / alpha)))


def study(rows: list[Floats], floor: Floor | None, alpha: float, seed: int) -> list[Study]:
    """Resample all rows of one length with the same draws, which makes it one matrix product."""
    studies: dict[int, Study] = {}
    for length in sorted({row.size for row in rows}):
        indices = [index for index, row in enumerate(rows) if row.size == length]
        if length < FEWEST_ROUNDS:
            studies |= {index: _unknown(rows[index]) for index in indices}
            continue
        draws = _draws(length, resamples(alpha, len(rows)), seed)
        for index in indices:
            row, inflation = pulled_in(rows[index])
            mean, deviations = float(row.mean()), row - row.mean()
            shifts, variances = _moments(draws, deviations)
            error = inflation * math.sqrt(float(deviations @ deviations) / (length - 1) / length)
            studies[index] = Study(mean, error, _sorted_t(shifts, np.sqrt(variances / length)), length, floor)
    return [studies[index] for index in range(len(rows))]


def two_sided_study(new: Floats, old: Floats, floor: Floor | None, count: int, seed: int) -> Study:
    """Resample two unpaired rows `count` times, each by itself, for the difference of their means."""
    mean = float(new.mean() - old.mean())
    if min(new.size, old.size) < FEWEST_ROUNDS:
        return Study(mean, 0.0, np.empty(0), int(min(new.size, old.size)))
    shift, variance, error = np.zeros(count), np.zeros(count), 0.0
    (new, new_inflation), (old, old_inflation) = pulled_in(new), pulled_in(old)
    mean = float(new.mean() - old.mean())
    for sign, side, inflation in ((1.0, new, new_inflation), (-1.0, old, old_inflation)):
        deviations = side - side.mean()
        shifts, variances = _moments(_draws(side.size, count, seed + int(sign)), deviations)
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
