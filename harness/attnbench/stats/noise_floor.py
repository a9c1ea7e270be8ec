"""The noise floor: by how much two processes that run identical code differ, estimated from the A/A controls."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class NoiseFloor:
    """By how much pairs of processes that run identical code differ, as the A/A controls of a run showed.

    Such a difference (memory layout, core, neighbouring processes) lasts as long as the processes do, so it can't be
    seen in the scatter of one pair's own rounds.

    - `scale`: standard deviation of the controls' mean log-ratios around 0
    - `degrees`: the number of controls that it effectively rests on, used as degrees of freedom
    """

    scale: float
    degrees: int

    @classmethod
    def of(cls, means: Sequence[float]) -> NoiseFloor | None:
        """Return the noise floor of the controls with these mean log-ratios, or None without controls.

        Short calls scatter more than long ones. Where a few controls make up most of the sum of squares, only twice
        their number is counted (by the participation ratio), so that many quiet cells do not hide a few noisy ones.
        """
        squares = [mean * mean for mean in means]
        return cls._of_sums(len(squares), math.fsum(squares), math.fsum(square**2 for square in squares))

    @classmethod
    def of_others(cls, means: Sequence[float]) -> list[NoiseFloor | None]:
        """Return for each control the noise floor of all the others, in a time proportional to their number."""
        squares = [mean * mean for mean in means]
        sums = zip(_sums_without_each(squares), _sums_without_each([square**2 for square in squares]), strict=True)
        return [cls._of_sums(len(squares) - 1, total, fourth) for total, fourth in sums]

    @classmethod
    def _of_sums(cls, controls: int, squares: float, fourth_powers: float) -> NoiseFloor | None:
        if not controls:
            return None
        counted = 2 * squares**2 / fourth_powers if fourth_powers else math.inf
        effective = min(float(controls), max(1.0, counted))
        return cls(math.sqrt(squares / effective), int(effective))

    @classmethod
    def between(cls, new: NoiseFloor | None, old: NoiseFloor | None) -> NoiseFloor | None:
        """Return the noise floor of a comparison of two runs, or None if neither run has one.

        A run's own floor is the difference of two of its processes. Between two runs each side is one process, so the
        variances of the two floors are averaged.
        """
        known = [floor for floor in (new, old) if floor is not None]
        if not known:
            return None
        return cls(math.sqrt(fmean(floor.scale**2 for floor in known)), sum(floor.degrees for floor in known))

    def half_width(self, level: float | Floats) -> Floats:
        """Return the absolute log-ratio that identical code exceeds with probability `level`."""
        return self.scale * student_quantile(level, self.degrees)


def student_quantile(level: float | Floats, degrees: int) -> Floats:
    """Return the t that |T| exceeds with probability `level`, for Student's T with `degrees` degrees of freedom."""
    from scipy.stats import t  # takes a second to import, and most commands compute no interval

    quantiles: Floats = t.isf(np.asarray(level) / 2, degrees)
    return quantiles


def _sums_without_each(values: Sequence[float]) -> list[float]:
    """Return for each value the sum of all the others.

    Sums from both ends are added. Subtracting each value from the total would lose the digits of small values beside a
    large one.
    """
    before = list(itertools.accumulate(values, initial=0.0))
    after = list(itertools.accumulate(reversed(values), initial=0.0))[::-1]
    return [left + right for left, right in zip(before[:-1], after[1:], strict=True)]
