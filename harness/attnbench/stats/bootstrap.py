"""Bootstrap rows of log-ratios to estimate each row's mean, with a confidence interval and a p-value."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attnbench.stats.noise_floor import student_quantile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attnbench.stats.noise_floor import Floats, NoiseFloor

MIN_RESAMPLED_ROUNDS = 8  # a row with fewer rounds has too few distinct resamples for an interval
RESAMPLES = 1_999
MIN_RESAMPLED_LEVEL = 10 / (RESAMPLES + 1)  # at this level, only ten resamples lie beyond the quantile
MIN_LOG_LEVEL = math.log(1e-9)  # the search for a p-value does not go below 1e-9
ROWS_PER_BATCH = 500  # this many rows are resampled with one matrix product
# Rounds further than this many robust standard deviations from the median are moved to that distance.
OUTLIER_DEVIATIONS = 3.0


@dataclass(frozen=True)
class ResampledRow:
    """The mean log-ratio of a row, with the statistics that determine its confidence intervals.

    - `mean`, `error`: mean log-ratio and its standard error
    - `sorted_t`: |t| of each resample, in ascending order. It is empty for rows with fewer than MIN_RESAMPLED_ROUNDS
      rounds, whose intervals use Student's t.
    - `degrees`: degrees of freedom of Student's t
    - `floor`: the noise floor that widens the intervals; None without A/A controls
    """

    mean: float
    error: float
    sorted_t: Floats
    rounds: int
    degrees: int
    floor: NoiseFloor | None = None

    def half_width(self, level: float) -> float:
        """Return half the width of the confidence interval with confidence 1 - `level`.

        In a large table, Holm's correction uses levels so small that they would require too many resamples. Below
        MIN_RESAMPLED_LEVEL, quantiles of Student's t are therefore used, scaled to agree with the resamples at
        MIN_RESAMPLED_LEVEL.
        """
        return float(_SimilarRows([self]).half_widths(np.array([level]))[0])


def p_values(rows: Sequence[ResampledRow]) -> list[float]:
    """Return the p-value of each row: the level at which the confidence interval of the row's mean just reaches 0."""
    similar: dict[tuple[bool, int, NoiseFloor | None], list[int]] = {}
    for index, row in enumerate(rows):
        similar.setdefault((bool(row.sorted_t.size), row.degrees, row.floor), []).append(index)
    values = [1.0] * len(rows)
    for indices in similar.values():
        for start in range(0, len(indices), ROWS_PER_BATCH):
            chosen = indices[start : start + ROWS_PER_BATCH]
            for index, value in zip(chosen, _p_values_of_similar([rows[index] for index in chosen]), strict=True):
                values[index] = float(value)
    return values


def _p_values_of_similar(rows: Sequence[ResampledRow]) -> Floats:
    """Find by bisection the p-values of rows with the same degrees of freedom and the same noise floor."""
    means, similar = np.array([abs(row.mean) for row in rows]), _SimilarRows(rows)
    low, high = np.full(len(rows), MIN_LOG_LEVEL), np.zeros(len(rows))
    for _ in range(20):
        middle = (low + high) / 2
        reached = similar.half_widths(np.exp(middle)) >= means
        low, high = np.where(reached, middle, low), np.where(reached, high, middle)
    # The p-value of a row without scatter is 1 if the row's mean is 0, and 0 otherwise.
    no_scatter = similar.half_widths(np.full(len(rows), MIN_RESAMPLED_LEVEL)) == 0
    return np.where(no_scatter, np.where(means > 0, 0.0, 1.0), np.exp(high))


class _SimilarRows:
    """Rows with the same degrees of freedom and the same noise floor, stored as arrays.

    The rows are either all resampled or all too short to resample.
    """

    def __init__(self, rows: Sequence[ResampledRow]) -> None:
        self._errors = np.array([row.error for row in rows])
        self._sorted_t = np.stack([row.sorted_t for row in rows])
        self._degrees, self._floor = rows[0].degrees, rows[0].floor

    def half_widths(self, levels: Floats) -> Floats:
        """Return each row's `half_width` at that row's level."""
        half: Floats = self._quantiles(levels) * self._errors
        if self._floor is None or not self._floor.scale:
            return half
        widened: Floats = np.hypot(half, self._floor.half_width(levels))
        return widened

    def _quantiles(self, levels: Floats) -> Floats:
        count, resamples = self._sorted_t.shape
        student = student_quantile(levels, self._degrees)
        if not resamples:
            return student
        ranks = np.ceil((1 - np.maximum(levels, MIN_RESAMPLED_LEVEL)) * (resamples + 1)).astype(int)
        resampled = np.where(ranks, self._sorted_t[np.arange(count), ranks - 1], 0.0)
        scale = student / student_quantile(MIN_RESAMPLED_LEVEL, self._degrees)
        return resampled * np.where(levels < MIN_RESAMPLED_LEVEL, scale, 1.0)


def resample(rows: Sequence[Floats], floor: NoiseFloor | None, seed: int) -> list[ResampledRow]:
    """Resample rows of log-ratios, and return the statistics of each row.

    Rows of equal length share the same draws, so one matrix product resamples all of them. Short rows, which have
    fewer than MIN_RESAMPLED_ROUNDS rounds, are not resampled. One or two rounds do not show how much a row scatters, so
    all short rows use the largest standard deviation of any short row and the sum of the short rows' degrees of
    freedom.
    """
    resampled: dict[int, ResampledRow] = {}
    scatter = _Scatter.of(rows)
    for indices, stacked in by_length(rows):
        short = stacked.shape[1] < MIN_RESAMPLED_ROUNDS
        found = [scatter.row(row, floor) for row in stacked] if short else _resample_stacked(stacked, floor, seed)
        resampled |= zip(indices, found, strict=True)
    return [resampled[index] for index in range(len(rows))]


def by_length(rows: Sequence[Floats]) -> Iterator[tuple[list[int], Floats]]:
    """Yield batches of rows of equal length, each as the indices of the rows and an array (rows, length)."""
    for length in sorted({row.size for row in rows}):
        indices = [index for index, row in enumerate(rows) if row.size == length]
        for start in range(0, len(indices), ROWS_PER_BATCH):
            chosen = indices[start : start + ROWS_PER_BATCH]
            yield chosen, np.stack([rows[index] for index in chosen])


def _resample_stacked(rows: Floats, floor: NoiseFloor | None, seed: int) -> list[ResampledRow]:
    """Resample rows of equal length, given as an array (rows, length)."""
    length = rows.shape[1]
    winsorised, inflations = winsorise(rows)
    means = winsorised.mean(axis=1)
    deviations = winsorised - means[:, None]
    errors = np.sqrt((deviations**2).sum(axis=1) / (length - 1) / length)
    shifts, variances = _moments(_draws(length, seed), deviations.T)
    sorted_t = _sorted_t(shifts.T, np.sqrt(variances / length).T)
    return [
        ResampledRow(float(mean), float(error * inflation), row_t, length, length - 1, floor)
        for mean, error, inflation, row_t in zip(means, errors, inflations, sorted_t, strict=True)
    ]


def resample_unpaired(rows: Sequence[tuple[Floats, Floats]], floor: NoiseFloor | None, seed: int) -> list[ResampledRow]:
    """For each pair (new, old) of rows, resample the mean of `new` minus the mean of `old`.

    The two rows of a pair are resampled separately.
    """
    scatter = _Scatter.of([side for sides in rows for side in sides])
    return [
        scatter.difference(new, old, floor)
        if min(new.size, old.size) < MIN_RESAMPLED_ROUNDS
        else _resample_difference(new, old, floor, seed)
        for new, old in rows
    ]


def _resample_difference(new: Floats, old: Floats, floor: NoiseFloor | None, seed: int) -> ResampledRow:
    shift, variance, squared_error = np.zeros(RESAMPLES), np.zeros(RESAMPLES), 0.0
    (new, new_inflation), (old, old_inflation) = winsorise(new), winsorise(old)
    mean = float(new.mean() - old.mean())
    for sign, side, inflation in ((1.0, new, new_inflation), (-1.0, old, old_inflation)):
        deviations = side - side.mean()
        shifts, variances = _moments(_draws(side.size, seed + int(sign)), deviations)
        shift += sign * shifts
        variance += variances / side.size
        squared_error += float(inflation) ** 2 * float(deviations @ deviations) / (side.size - 1) / side.size
    rounds = int(min(new.size, old.size))
    sorted_t = _sorted_t(shift, np.sqrt(variance))
    return ResampledRow(mean, math.sqrt(squared_error), sorted_t, rounds, rounds - 1, floor)


def winsorise(rows: Floats) -> tuple[Floats, Floats]:
    """Return `rows` (..., length) with outliers moved towards the median, and a factor for each row's standard error.

    Values more than OUTLIER_DEVIATIONS robust standard deviations from their row's median are moved to that distance.
    The factor corrects the standard error of the row's mean, as for a trimmed mean (Tukey and McLaughlin, 1963).
    """
    middle = np.median(rows, axis=-1, keepdims=True)
    distance = np.abs(rows - middle)
    limit = OUTLIER_DEVIATIONS * 1.4826 * np.median(distance, axis=-1, keepdims=True)
    limit = np.where(limit == 0, np.inf, limit)  # if most values of a row are equal, no value is treated as an outlier
    kept = np.sum(distance <= limit, axis=-1)
    return np.clip(rows, middle - limit, middle + limit), rows.shape[-1] / kept


@dataclass(frozen=True)
class _Scatter:
    """The largest standard deviation among the short rows of a table, and the sum of their degrees of freedom."""

    deviation: float
    degrees: int

    @classmethod
    def of(cls, rows: Sequence[Floats]) -> _Scatter:
        """Return the scatter of the short rows: those with at least 2 and fewer than MIN_RESAMPLED_ROUNDS rounds.

        If a table has no such rows, return the scatter of its longer rows. The deviation is infinite if every row has
        fewer than 2 rounds.
        """
        known = [row for row in rows if row.size > 1]
        known = [row for row in known if row.size < MIN_RESAMPLED_ROUNDS] or known
        deviation = max((float(row.std(ddof=1)) for row in known), default=math.inf)
        return cls(deviation, sum(row.size - 1 for row in known) or 1)

    def row(self, row: Floats, floor: NoiseFloor | None) -> ResampledRow:
        """Return the statistics of a short row, computed with this scatter. The error of an empty row is infinite."""
        mean, error = (float(row.mean()), self.deviation / math.sqrt(row.size)) if row.size else (0.0, math.inf)
        return ResampledRow(mean, error, np.empty(0), row.size, self.degrees, floor)

    def difference(self, new: Floats, old: Floats, floor: NoiseFloor | None) -> ResampledRow:
        """Return the statistics of the difference new - old of two unpaired rows, computed with this scatter."""
        mean = float(new.mean() - old.mean())
        error = self.deviation * math.sqrt(1 / new.size + 1 / old.size)
        return ResampledRow(mean, error, np.empty(0), min(new.size, old.size), self.degrees, floor)


@functools.lru_cache(maxsize=8)
def _draws(length: int, seed: int) -> Floats:
    """Return how many times each resample draws each round, as an array (RESAMPLES, length)."""
    generator = np.random.default_rng((abs(seed), seed < 0, length))
    return generator.multinomial(length, np.full(length, 1 / length), size=RESAMPLES).astype(np.float64)


def _moments(draws: Floats, deviations: Floats) -> tuple[Floats, Floats]:
    """Return the mean and the variance of each resample of `deviations`, an array (length,) or (length, rows)."""
    length = deviations.shape[0]
    means = draws @ deviations / length
    squares = draws @ (deviations * deviations) / length
    return means, np.maximum(squares - means * means, 0.0) * length / (length - 1)


def _sorted_t(shifts: Floats, errors: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.abs(shifts) / errors
    values[np.isnan(values)] = 0.0
    return np.sort(values, axis=-1)
