"""Intervals of seeded samples, to be compared with the results of an earlier attnbench version.

That version used hand-written numerics instead of SciPy. Its results are stored in `earlier_numerics.json`;
`results()` computes the same intervals with the current version.
"""

from __future__ import annotations

import math
import random

from attnbench.stats.interval import median_interval

COUNTS = (1, 2, 3, 5, 6, 20, 61, 240, 1000, 1001, 1500, 4000)
CONFIDENCES = (0.9, 0.95, 0.99)
RHOS = (0.0, 0.5, 0.9)


def series(count, rho, seed=0):
    """Return `count` samples with 2% AR(1) noise around 100. Every seventh sample is rounded, to produce ties."""
    noise = random.Random(f"{count} {rho} {seed}")  # noqa: S311 - simulated noise
    state, samples = noise.gauss(0, 1), []
    for index in range(count):
        state = rho * state + math.sqrt(1 - rho**2) * noise.gauss(0, 1)
        sample = 100 * math.exp(0.02 * state)
        samples.append(round(sample) if index % 7 == 0 else sample)
    return samples


def intervals():
    """Return the interval of each series at each confidence, keyed by 'count rho confidence'."""
    return {
        f"{count} {rho} {confidence}": median_interval(series(count, rho), confidence)
        for count in COUNTS
        for rho in RHOS
        for confidence in CONFIDENCES
    }


def results():
    """Return the intervals of all series as JSON values."""
    return {name: [one.median, one.low, one.high, one.coverage, one.from_blocks] for name, one in intervals().items()}
