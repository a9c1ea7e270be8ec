"""The bootstrap of a row of log-ratios: its mean, and how far from it the truth may lie at any level."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attnbench.stats.noise_floor import student

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attnbench.stats.noise_floor import Floats, NoiseFloor

FEWEST_ROUNDS = 8  # fewer resample into too few different tables for any interval
RESAMPLES = 1_999
DEEPEST = 10 / (RESAMPLES + 1)  # the smallest level whose quantile has ten resamples beyond it
LEAST = math.log(1e-9)  # of the levels that a p-value is looked for at
AT_ONCE = 500  # rows resampled by one matrix product
OUTLYING = 3.0


@dataclass(frozen=True)
class ResampledRow:
    """A row's mean log-ratio and standard error, the sorted |t| of its resamples, its floor.

    A row of too few rounds has no resamples: its error comes from the table, and |t| is Student's of `degrees`.
    """

    mean: float
    error: float
    sorted_t: Floats
    rounds: int
    degrees: int
    floor: NoiseFloor | None = None

    def half_width(self, level: float) -> float:
        """Give half the interval's width that leaves out the truth with probability `level`.

        A large table's steps ask for levels that no affordable number of resamples reaches: below DEEPEST the tail is
        Student's, scaled to meet the resamples' there.
        """
        return float(_Alike([self]).half_widths(np.array([level]))[0])


def p_values(studies: Sequence[ResampledRow]) -> list[float]:
    """Give for each study the level at which the interval of its mean just reaches 0."""
    alike: dict[tuple[bool, int, NoiseFloor | None], list[int]] = {}
    for index, one in enumerate(studies):
        alike.setdefault((bool(one.sorted_t.size), one.degrees, one.floor), []).append(index)
    found = [1.0] * len(studies)
    for indices in alike.values():
        for start in range(0, len(indices), AT_ONCE):
            chosen = indices[start : start + AT_ONCE]
            for index, value in zip(chosen, _p_values_alike([studies[index] for index in chosen]), strict=True):
                found[index] = float(value)
    return found


def _p_values_alike(studies: Sequence[ResampledRow]) -> Floats:
    """Halve the range of levels for all studies at once, which have one number of degrees and one floor."""
    means, together = np.array([abs(one.mean) for one in studies]), _Alike(studies)
    low, high = np.full(len(studies), LEAST), np.zeros(len(studies))
    for _ in range(20):
        middle = (low + high) / 2
        reached = together.half_widths(np.exp(middle)) >= means
        low, high = np.where(reached, middle, low), np.where(reached, high, middle)
    still = together.half_widths(np.full(len(studies), DEEPEST)) == 0  # nothing scatters, so any difference is sure
    return np.where(still, np.where(means > 0, 0.0, 1.0), np.exp(high))


class _Alike:
    """Studies of one number of degrees and one floor, all resampled or none, as arrays."""

    def __init__(self, studies: Sequence[ResampledRow]) -> None:
        self._errors = np.array([one.error for one in studies])
        self._sorted_t = np.stack([one.sorted_t for one in studies])
        self._degrees, self._floor = studies[0].degrees, studies[0].floor

    def half_widths(self, levels: Floats) -> Floats:
        """Give half the width of each study's interval at a level of its own, as `ResampledRow.half_width` does."""
        half: Floats = self._quantiles(levels) * self._errors
        if self._floor is None or not self._floor.scale:
            return half
        widened: Floats = np.hypot(half, self._floor.half_width(levels))
        return widened

    def _quantiles(self, levels: Floats) -> Floats:
        count, resamples = self._sorted_t.shape
        if not resamples:
            return student(levels, self._degrees)
        deep = np.maximum(levels, DEEPEST)
        ranks = np.ceil((1 - deep) * (resamples + 1)).astype(int)
        beyond = np.where(levels < DEEPEST, student(levels, self._degrees) / student(DEEPEST, self._degrees), 1.0)
        return np.where(ranks, self._sorted_t[np.arange(count), ranks - 1], 0.0) * beyond


def study(rows: Sequence[Floats], floor: NoiseFloor | None, seed: int) -> list[ResampledRow]:
    """Resample all rows of one length with the same draws, which makes it one matrix product.

    Rows of fewer than FEWEST_ROUNDS rounds share a scatter: the largest that one of them shows, worth as many degrees
    of freedom as all of them have. A row of one or two rounds can't show how restless it is.
    """
    studies: dict[int, ResampledRow] = {}
    scatter = _Scatter.of(rows)
    for chosen, together in by_length(rows):
        short = together.shape[1] < FEWEST_ROUNDS
        found = [scatter.study(row, floor) for row in together] if short else _of_one_length(together, floor, seed)
        studies |= zip(chosen, found, strict=True)
    return [studies[index] for index in range(len(rows))]


def by_length(rows: Sequence[Floats]) -> Iterator[tuple[list[int], Floats]]:
    """Give rows of one length together, at most AT_ONCE of them, with their places."""
    for length in sorted({row.size for row in rows}):
        indices = [index for index, row in enumerate(rows) if row.size == length]
        for start in range(0, len(indices), AT_ONCE):
            chosen = indices[start : start + AT_ONCE]
            yield chosen, np.stack([rows[index] for index in chosen])


def _of_one_length(rows: Floats, floor: NoiseFloor | None, seed: int) -> list[ResampledRow]:
    length = rows.shape[1]
    together, inflations = pulled_in(rows)
    means = together.mean(axis=1)
    deviations = together - means[:, None]
    errors = np.sqrt((deviations**2).sum(axis=1) / (length - 1) / length)
    shifts, variances = _moments(_draws(length, seed), deviations.T)
    sorted_t = _sorted_t(shifts.T, np.sqrt(variances / length).T)
    return [
        ResampledRow(float(mean), float(error * inflation), resampled, length, length - 1, floor)
        for mean, error, inflation, resampled in zip(means, errors, inflations, sorted_t, strict=True)
    ]


def two_sided_study(rows: Sequence[tuple[Floats, Floats]], floor: NoiseFloor | None, seed: int) -> list[ResampledRow]:
    """Resample pairs of unpaired rows, each side by itself, for the difference of their means, new less old."""
    scatter = _Scatter.of([side for sides in rows for side in sides])
    short = [min(new.size, old.size) < FEWEST_ROUNDS for new, old in rows]
    return [
        scatter.two_sided(new, old, floor) if few else _two_sided(new, old, floor, seed)
        for few, (new, old) in zip(short, rows, strict=True)
    ]


def _two_sided(new: Floats, old: Floats, floor: NoiseFloor | None, seed: int) -> ResampledRow:
    shift, variance, error = np.zeros(RESAMPLES), np.zeros(RESAMPLES), 0.0
    (new, new_inflation), (old, old_inflation) = pulled_in(new), pulled_in(old)
    mean = float(new.mean() - old.mean())
    for sign, side, inflation in ((1.0, new, new_inflation), (-1.0, old, old_inflation)):
        deviations = side - side.mean()
        shifts, variances = _moments(_draws(side.size, seed + int(sign)), deviations)
        shift += sign * shifts
        variance += variances / side.size
        error += float(inflation) ** 2 * float(deviations @ deviations) / (side.size - 1) / side.size
    rounds = int(min(new.size, old.size))
    return ResampledRow(mean, math.sqrt(error), _sorted_t(shift, np.sqrt(variance)), rounds, rounds - 1, floor)


def pulled_in(rows: Floats) -> tuple[Floats, Floats]:
    """Winsorise rows, (..., length), at OUTLYING robust standard deviations of their own.

    Gives them and what each one's standard error must grow by: that of a trimmed mean (Tukey and McLaughlin, 1963), as
    if what was pulled in were not there.
    """
    middle = np.median(rows, axis=-1, keepdims=True)
    far = np.abs(rows - middle)
    spread = OUTLYING * 1.4826 * np.median(far, axis=-1, keepdims=True)
    spread = np.where(spread == 0, np.inf, spread)  # most of it lies in one place: what does not is no outlier
    kept = np.sum(far <= spread, axis=-1)
    return np.clip(rows, middle - spread, middle + spread), rows.shape[-1] / kept


@dataclass(frozen=True)
class _Scatter:
    """What rounds of a table's short rows scatter by: the largest standard deviation, and the degrees of all."""

    largest: float
    degrees: int

    @classmethod
    def of(cls, rows: Sequence[Floats]) -> _Scatter:
        """Take it from the rows of two rounds to FEWEST_ROUNDS, else from the longer ones; infinite without any."""
        known = [row for row in rows if row.size > 1]
        known = [row for row in known if row.size < FEWEST_ROUNDS] or known
        largest = max((float(row.std(ddof=1)) for row in known), default=math.inf)
        return cls(largest, sum(row.size - 1 for row in known) or 1)

    def study(self, row: Floats, floor: NoiseFloor | None) -> ResampledRow:
        """Study a short row; one without a round has an error without end."""
        mean, error = (float(row.mean()), self.largest / math.sqrt(row.size)) if row.size else (0.0, math.inf)
        return ResampledRow(mean, error, np.empty(0), row.size, self.degrees, floor)

    def two_sided(self, new: Floats, old: Floats, floor: NoiseFloor | None) -> ResampledRow:
        """Study two unpaired rows, at least one of them short."""
        error = self.largest * math.sqrt(1 / new.size + 1 / old.size)
        return ResampledRow(
            float(new.mean() - old.mean()), error, np.empty(0), min(new.size, old.size), self.degrees, floor
        )


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
