"""Distribution-free confidence intervals for a median, valid under autocorrelation and drift."""

from __future__ import annotations

import functools
import itertools
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles

import numpy as np

AUTOCORRELATION_LIMIT = 0.2  # samples count as correlated if the lag-1 autocorrelation of their ranks exceeds this
# Samples also count as correlated if the variance of the block medians is more than this many times the variance
# explained by the scatter within blocks.
EXCESS_LIMIT = 2.0
MIN_BLOCKS = 8  # an interval is computed from block medians only if there are at least this many blocks
# Blocks are joined until each is worth this many independent samples, which makes the medians of neighbouring blocks
# nearly independent.
INDEPENDENT_SAMPLES_PER_BLOCK = 8
MAX_CORRELATION = 0.99  # larger correlations are reduced to this value, to limit the length of blocks


@dataclass(frozen=True)
class Interval:
    """A median and its confidence interval, in the unit of the samples.

    - `coverage`: the confidence of the interval; with few samples it is lower than the requested confidence
    - `from_blocks`: whether the interval was computed from block medians, because neighbouring samples were correlated
    """

    median: float
    low: float
    high: float
    coverage: float = 1.0
    from_blocks: bool = False

    @property
    def relative_half_width(self) -> float:
        """Half the width of the interval, divided by the median. It is infinite if there was only one sample."""
        if self.coverage == 0:
            return math.inf
        return (self.high - self.low) / 2 / self.median


def median_interval(
    samples: Sequence[float], confidence: float = 0.95, block_sizes: Sequence[int] | None = None
) -> Interval:
    """Return the median of `samples` and its confidence interval. The samples must be in the order of measurement.

    The ends of the interval are two of the samples. Their ranks come from the binomial distribution (David and
    Nagaraja, Order Statistics, 2003, section 7.1), so the samples may have any distribution.

    If the samples are correlated, the interval is computed from block medians instead, and blocks are joined until
    their medians are no longer correlated. Samples count as correlated if the lag-1 autocorrelation of their ranks is
    above 0.2, or if block medians scatter more than the scatter within blocks explains.

    `block_sizes` are the sizes of the measured blocks. Without this argument, the samples are cut into blocks of equal
    size. Raises ValueError if there are no samples, or if the block sizes do not add up to the number of samples.
    """
    if not samples:
        raise ValueError("median_interval needs at least one sample, got none")
    middle = median(samples)
    blocks = _split(samples, block_sizes)
    correlation = lag1_autocorrelation(samples)
    correlated = correlation > AUTOCORRELATION_LIMIT or _excess_variance(blocks) > EXCESS_LIMIT
    if len(blocks) < MIN_BLOCKS or not correlated:
        return Interval(middle, *_enclosing_order_statistics(samples, confidence))
    medians = _uncorrelated_medians(blocks, min(max(correlation, 0.0), MAX_CORRELATION))
    # If the medians are still correlated, too few blocks are left to join, so use the whole range of the medians.
    if lag1_autocorrelation(medians) > AUTOCORRELATION_LIMIT:
        low, high, coverage = min(medians), max(medians), confidence
    else:
        low, high, coverage = _enclosing_order_statistics(medians, confidence)
    return Interval(middle, min(low, middle), max(high, middle), coverage, from_blocks=True)


def lag1_autocorrelation(samples: Sequence[float]) -> float:
    """Return the lag-1 autocorrelation of the samples' ranks, or 0 for fewer than 3 samples.

    Ranks are used because a few outliers would distort the autocorrelation of the samples themselves.
    """
    if len(samples) < 3:
        return 0.0
    # Equal samples get the mean of their ranks. scipy.stats.rankdata returns the same ranks, but takes many times as
    # long for the few dozen samples of a record, and a report ranks the samples of every record.
    values = np.asarray(samples)
    ordered = np.sort(values)
    ranks = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") - len(values)) / 2
    spread = float(ranks @ ranks)
    return float(ranks[:-1] @ ranks[1:]) / spread if spread else 0.0


def _enclosing_order_statistics(samples: Sequence[float], confidence: float) -> tuple[float, float, float]:
    """Return the two order statistics that enclose the median, and the confidence of the interval between them."""
    ordered = sorted(samples)
    left_out, coverage = _left_out_at_each_end(len(ordered), confidence)
    return ordered[left_out], ordered[-1 - left_out], coverage


@functools.lru_cache(maxsize=4096)
def _left_out_at_each_end(count: int, confidence: float) -> tuple[int, float]:
    """Return how many of `count` values lie beyond each end of the interval, and the interval's confidence."""
    from scipy.special import bdtr  # imported here because it is slow to import, and most commands don't need it

    # The interval lies above the true median if at most `left_out` values lie below the true median. The number of
    # values below the true median has a binomial distribution.
    def probability(below: int) -> float:
        return float(bdtr(below, count, 0.5))

    left_out = max(0, bisect_left(range(count), (1 - confidence) / 2, key=probability) - 1)
    return left_out, max(0.0, 1 - 2 * probability(left_out))


def _split(samples: Sequence[float], sizes: Sequence[int] | None) -> list[Sequence[float]]:
    """Cut the samples into blocks of the given sizes, or of equal size if fewer than MIN_BLOCKS sizes are given."""
    if sizes is None or len(sizes) < MIN_BLOCKS:
        count = max(1, min(len(samples), max(MIN_BLOCKS, math.isqrt(len(samples)))))
        edges = [len(samples) * index // count for index in range(count + 1)]
    else:
        edges = [0, *itertools.accumulate(sizes)]
        if edges[-1] != len(samples):
            raise ValueError(f"block_sizes add up to {edges[-1]}, but there are {len(samples)} samples")
    return [samples[start:end] for start, end in itertools.pairwise(edges) if end > start]


def _uncorrelated_medians(blocks: list[Sequence[float]], correlation: float) -> list[float]:
    """Join neighbouring blocks until they are longer than the correlation, and return their medians.

    At least MIN_BLOCKS blocks remain. Under AR(1) noise with lag-1 correlation r, a sample is worth (1 - r) / (1 + r)
    independent samples (Geyer, 1992, doi:10.1214/ss/1177011137).
    """
    needed = INDEPENDENT_SAMPLES_PER_BLOCK * (1 + correlation) / (1 - correlation)
    medians = [median(block) for block in blocks]
    while len(blocks) // 2 >= MIN_BLOCKS and (
        len(blocks[0]) < needed or lag1_autocorrelation(medians) > AUTOCORRELATION_LIMIT
    ):
        joined = [[*first, *second] for first, second in zip(blocks[::2], blocks[1::2], strict=False)]
        if len(blocks) % 2:
            joined[-1] = [*joined[-1], *blocks[-1]]
        blocks = list(joined)
        medians = [median(block) for block in blocks]
    return medians


def _excess_variance(blocks: list[Sequence[float]]) -> float:
    """Return the variance of the block medians divided by the variance explained by the scatter within blocks."""
    if len(blocks) < MIN_BLOCKS or min(len(block) for block in blocks) < 4:
        return 0.0
    medians = [median(block) for block in blocks]
    mean = sum(medians) / len(medians)
    between = sum((value - mean) ** 2 for value in medians) / (len(medians) - 1)
    within = sum(math.pi / 2 * _robust_deviation(block) ** 2 / len(block) for block in blocks) / len(blocks)
    return between / within if within > 0 else (math.inf if between > 0 else 0.0)


def _robust_deviation(block: Sequence[float]) -> float:
    """Return the interquartile range divided by 1.349, a robust estimate of the standard deviation."""
    lower, _, upper = quantiles(block, n=4, method="inclusive")
    return (upper - lower) / 1.349
