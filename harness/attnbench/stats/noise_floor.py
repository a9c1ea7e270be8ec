"""The noise floor: what identical code differs by from process to process, as few controls tell it."""

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
    """What identical code differs by from one pair of processes to another, as the A/A controls showed it.

    `scale` is the standard deviation of their mean log-ratios around 0, `degrees` how many controls it is worth. Such a
    difference (memory layout, core, neighbours) lasts as long as the processes do: no scatter of a pair's own rounds
    shows it.
    """

    scale: float
    degrees: int

    @classmethod
    def of(cls, means: Sequence[float]) -> NoiseFloor | None:
        """Make it of the controls' mean log-ratios; None without any.

        Short calls scatter more than long ones. Where a few of the controls make up most of the sum of squares, they
        alone count (twice their number, by the participation ratio), or calm cells would hide the restless ones.
        """
        squares = [mean * mean for mean in means]
        return cls._of_sums(len(squares), math.fsum(squares), math.fsum(square**2 for square in squares))

    @classmethod
    def of_others(cls, means: Sequence[float]) -> list[NoiseFloor | None]:
        """Make for each control the floor of all the others: sums from both ends, so that it takes one pass."""
        squares = [mean * mean for mean in means]
        sums = zip(_without_each(squares), _without_each([square**2 for square in squares]), strict=True)
        return [cls._of_sums(len(squares) - 1, total, fourth) for total, fourth in sums]

    @classmethod
    def _of_sums(cls, controls: int, total: float, fourth: float) -> NoiseFloor | None:
        if not controls:
            return None
        counting = 2 * total**2 / fourth if fourth else math.inf
        worth = min(float(controls), max(1.0, counting))
        return cls(math.sqrt(total / worth), int(worth))

    @classmethod
    def between(cls, new: NoiseFloor | None, old: NoiseFloor | None) -> NoiseFloor | None:
        """Give that of two runs, each of whose sides is one process and not a pair."""
        known = [floor for floor in (new, old) if floor is not None]
        if not known:
            return None
        return cls(math.sqrt(fmean(floor.scale**2 for floor in known)), sum(floor.degrees for floor in known))

    def half_width(self, level: float | Floats) -> Floats:
        """Give the log-ratio that identical code exceeds, either way, with each probability `level`."""
        return self.scale * student(level, self.degrees)


def _without_each(values: Sequence[float]) -> list[float]:
    """Sum all values but one, for each of them; no difference is taken, so a large one hides no small ones."""
    before = list(itertools.accumulate(values, initial=0.0))
    after = list(itertools.accumulate(reversed(values), initial=0.0))[::-1]
    return [left + right for left, right in zip(before[:-1], after[1:], strict=True)]


def student(level: float | Floats, degrees: int) -> Floats:
    """Return the t that |T| exceeds with each probability `level`, for Student's T of `degrees` degrees of freedom."""
    from scipy.stats import t  # takes a second to import, and most commands compute no interval

    quantiles: Floats = t.isf(np.asarray(level) / 2, degrees)
    return quantiles
