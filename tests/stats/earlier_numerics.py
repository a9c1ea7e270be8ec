"""Statistics of seeded samples and tables, to be compared with the results of an earlier attnbench version.

That version used hand-written numerics instead of SciPy. Its results are stored in `earlier_numerics.json`;
`results()` computes the same statistics with the current version.
"""

from __future__ import annotations

import math
import random

import numpy as np

from attnbench.stats.interval import median_interval
from attnbench.stats.noise_floor import student_quantile
from attnbench.stats.paired import Blocks, floor_of, verdicts, verdicts_between_runs

COUNTS = (1, 2, 3, 5, 6, 20, 61, 240, 1000, 1001, 1500, 4000)
CONFIDENCES = (0.9, 0.95, 0.99)
RHOS = (0.0, 0.5, 0.9)
LEVELS = (0.9, 0.5, 0.2, 0.05, 0.01, 1e-3, 1e-5, 1e-7)
DEGREES = (1, 2, 3, 4, 7, 10, 31, 120, 200)


def series(count, rho, seed=0):
    """Return `count` samples with 2% AR(1) noise around 100. Every seventh sample is rounded, to produce ties."""
    noise = random.Random(f"{count} {rho} {seed}")  # noqa: S311 - simulated noise
    state, samples = noise.gauss(0, 1), []
    for index in range(count):
        state = rho * state + math.sqrt(1 - rho**2) * noise.gauss(0, 1)
        sample = 100 * math.exp(0.02 * state)
        samples.append(round(sample) if index % 7 == 0 else sample)
    return samples


def table(seed, lengths):
    """Return a table of paired log-ratios with one row for each length in `lengths`. The rows have different means."""
    noise = np.random.default_rng(seed)
    return {
        str(row): (0.03 * noise.standard_normal() + 0.01 * noise.standard_normal(length)).tolist()
        for row, length in enumerate(lengths)
    }


def intervals():
    """Return the interval of each series at each confidence, keyed by 'count rho confidence'."""
    return {
        f"{count} {rho} {confidence}": median_interval(series(count, rho), confidence)
        for count in COUNTS
        for rho in RHOS
        for confidence in CONFIDENCES
    }


def results():
    """Return all results as JSON values: intervals, quantiles of Student's t, and paired results."""
    floor = floor_of(list(table(1, [12] * 6).values()))
    rows = {
        "long rows": verdicts(table(2, [12] * 20)),
        "long rows with a floor": verdicts(table(2, [12] * 20), floor=floor),
        "short rows": verdicts(table(3, [1, 2, 3, 5, 6])),
        "short rows with a floor": verdicts(table(3, [1, 2, 3, 5, 6]), floor=floor),
        "rows of all lengths": verdicts(table(4, [1, 3, 7, 8, 9, 30]), floor=floor),
        "two runs": verdicts_between_runs(
            {
                str(length): tuple(
                    Blocks(series(10 * length, 0.0, side), [10] * length, range(length)) for side in range(2)
                )
                for length in (2, 5, 8, 20)
            },
            floor=floor,
        ),
    }
    return {
        "intervals": {
            name: [one.median, one.low, one.high, one.coverage, one.from_blocks] for name, one in intervals().items()
        },
        "student": {
            f"{level} {degrees}": float(student_quantile(level, degrees)) for level in LEVELS for degrees in DEGREES
        },
        "paired": {
            f"{name} {row}": [one.ratio, one.low, one.high, one.p_value, one.verdict]
            for name, judged in rows.items()
            for row, one in judged.items()
        },
    }
