"""The noise floor: the typical difference in latency between two processes that run identical code."""

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
    """The typical difference in latency between processes that run identical code, estimated from A/A controls.

    Memory layout, the choice of core and neighbouring processes cause such differences. A difference lasts as long as
    its two processes, so the scatter between their rounds does not show it.

    - `scale`: standard deviation of the controls' mean log-ratios around 0
    - `degrees`: the effective number of controls, used as degrees of freedom
    """

    scale: float
    degrees: int

    @classmethod
    def of(cls, means: Sequence[float]) -> NoiseFloor | None:
        """Return the noise floor of controls with the given mean log-ratios, or None if there are no controls.

        Short calls scatter more than long ones, and a few noisy controls must not be averaged out by many quiet ones.
        If a few controls contribute most of the sum of squares, the sum is therefore divided by about twice their
        number (twice the participation ratio) instead of by the number of all controls.
        """
        squares = [mean * mean for mean in means]
        return cls._of_sums(len(squares), math.fsum(squares), math.fsum(square**2 for square in squares))

    @classmethod
    def of_others(cls, means: Sequence[float]) -> list[NoiseFloor | None]:
        """For each control, return the noise floor of all other controls. This takes linear time."""
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
        """Return the noise floor for a comparison of two runs, or None if neither run has one.

        The floor of one run describes the difference between two of its processes. In a comparison of two runs, each
        run contributes one process, so the variance of the result is the mean of the two floors' variances.
        """
        known = [floor for floor in (new, old) if floor is not None]
        if not known:
            return None
        return cls(math.sqrt(fmean(floor.scale**2 for floor in known)), sum(floor.degrees for floor in known))

    def half_width(self, level: float | Floats) -> Floats:
        """Return the limit that |log-ratio| exceeds with probability `level` for two processes with identical code."""
        return self.scale * student_quantile(level, self.degrees)


def student_quantile(level: float | Floats, degrees: int) -> Floats:
    """Return the value that |T| exceeds with probability `level`, for Student's T with `degrees` degrees of freedom."""
    from scipy.special import stdtrit  # imported here because it is slow to import, and most commands don't need it

    quantiles: Floats = -stdtrit(degrees, np.asarray(level) / 2)
    return quantiles


def _sums_without_each(values: Sequence[float]) -> list[float]:
    """For each value, return the sum of all other values.

    Each result is the sum of the values before plus the sum of the values after. Subtracting a large value from the
    total would instead lose digits of the small values.
    """
    before = list(itertools.accumulate(values, initial=0.0))
    after = list(itertools.accumulate(reversed(values), initial=0.0))[::-1]
    return [left + right for left, right in zip(before[:-1], after[1:], strict=True)]
