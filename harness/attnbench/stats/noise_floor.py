"""The noise floor: what identical code differs by from process to process, as few controls tell it."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_DEGREES = 200  # above, it is the same as with these many for any table here


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
    """Give the t that |T| exceeds with each probability `level`, for whole degrees of freedom of at least 1."""
    found: Floats = np.exp(np.interp(np.log(level), *_log_tails(min(degrees, MOST_DEGREES))))
    return found


@functools.lru_cache(maxsize=64)
def _log_tails(degrees: int) -> tuple[Floats, Floats]:
    """Give log P(|T| > t), ascending, and log t: Abramowitz and Stegun, 1964, 26.7.3 and 26.7.4."""
    grid = np.geomspace(1e-3, 1e7, 6_000)
    angle = np.arctan(grid / np.sqrt(degrees))
    sine, cosine = np.sin(angle), np.cos(angle)
    odd = degrees % 2
    term = cosine if odd else np.ones_like(cosine)
    total = term if degrees > 1 else np.zeros_like(term)
    for index in range(3 if odd else 2, degrees - 1, 2):
        term = term * cosine**2 * (index - 1) / index
        total = total + term
    tails = 1 - (2 / np.pi * (angle + sine * total) if odd else sine * total)
    kept = tails > 1e-9  # beyond, the difference from 1 has no digits left
    return np.log(tails[kept][::-1]), np.log(grid[kept][::-1])
