"""How much the speed of a variant differs between processes that run the same code."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MIN_SHARE = 1e-5  # a smaller variance than this share of the median variance counts as this share
ENOUGH_DIGITS = 1e-8  # the search for the prior's degrees of freedom stops at this relative change


@dataclass(frozen=True)
class NoiseFloor:
    """The typical variance of the log-ratio of two processes, learnt from all rows of a run.

    Memory layout, the choice of cores and neighbouring processes make processes that run the same code differ in speed.
    Such a difference lasts as long as the process, so only further processes show it. A row has few processes, and
    hence a poor estimate of its own variance. The variances of all rows together show what is typical and how much rows
    differ in this. Each row's variance is therefore a weighted mean of its own estimate and the typical variance
    (empirical Bayes; Smyth, 2004, doi:10.2202/1544-6115.1027).

    - `variance`: the typical variance
    - `prior_degrees`: the weight of the typical variance in this mean, in degrees of freedom; infinite if the rows'
      estimates differ no more than estimates of a single variance would
    - `pooled_degrees`: the degrees of freedom of all estimates together
    """

    variance: float
    prior_degrees: float
    pooled_degrees: float

    @classmethod
    def of(cls, rows: Iterable[Sequence[float]], controls: Iterable[float] = ()) -> NoiseFloor | None:
        """Learn the noise floor from rows of log-ratios, which have one value for each pair of processes.

        `controls` are log-ratios of two processes that run the same code. Each gives an estimate of the variance with
        one degree of freedom. Returns None without controls if no row has two values.
        """
        known = [np.asarray(row, dtype=np.float64) for row in rows if len(row) > 1]
        estimates = [(float(row.var(ddof=1)), float(row.size - 1)) for row in known]
        estimates += [(control * control, 1.0) for control in controls]
        return cls._of_estimates(*np.array(estimates).T) if estimates else None

    @classmethod
    def _of_estimates(cls, variances: Floats, degrees: Floats) -> NoiseFloor:
        pooled_degrees = float(degrees.sum())
        pooled = float(variances @ degrees) / pooled_degrees
        if len(variances) < 3 or not pooled:
            return cls(pooled, math.inf, pooled_degrees)
        from scipy.special import digamma, polygamma  # imported here because most commands don't need this slow import

        positive = np.maximum(variances, MIN_SHARE * (np.median(variances) or pooled))
        logs = np.log(positive) - digamma(degrees / 2) + np.log(degrees / 2)
        excess = float(logs.var(ddof=1) - polygamma(1, degrees / 2).mean())
        if excess <= 0:
            return cls(pooled, math.inf, pooled_degrees)
        half = _inverse_trigamma(excess)
        return cls(float(np.exp(logs.mean() + digamma(half)) / half), 2 * half, pooled_degrees)

    @property
    def relative(self) -> float:
        """The typical relative difference of two processes that run the same code, such as 0.01 for 1%."""
        return math.expm1(math.sqrt(self.variance))

    def of_mean(self, row: Sequence[float]) -> tuple[float, float]:
        """Return the standard error of the mean of a row, and its degrees of freedom."""
        own_degrees = len(row) - 1
        own = float(np.var(row, ddof=1)) if own_degrees else 0.0
        degrees = self.prior_degrees + own_degrees
        if math.isinf(degrees):
            variance = self.variance
        else:
            variance = (self.prior_degrees * self.variance + own_degrees * own) / degrees
        return math.sqrt(variance / len(row)), min(degrees, self.pooled_degrees)


def _inverse_trigamma(value: float) -> float:
    """Return the positive number whose trigamma function is `value`, by Newton's method (Smyth, 2004, appendix)."""
    from scipy.special import polygamma

    found = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, found))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, found))
        found += step
        if -step / found < ENOUGH_DIGITS:
            break
    return found
