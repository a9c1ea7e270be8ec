"""Distribution-free confidence intervals of a median, which stay valid under autocorrelation and drift."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles

AUTOCORRELATION_LIMIT = 0.2
EXCESS_LIMIT = 2.0  # variance of the block medians, divided by the variance that their samples explain
FEWEST_BLOCKS = 8
INDEPENDENT_SAMPLES_PER_BLOCK = 8  # so many make the medians of neighbouring blocks nearly independent
MOST_CORRELATED = 0.99


@dataclass(frozen=True)
class Interval:
    """A median and its confidence interval, in the unit of the samples.

    - `coverage`: the confidence that the order statistics reach; few samples can't reach the confidence asked for
    - `from_blocks`: the interval was computed from the medians of blocks, because neighbouring samples were correlated
    """

    median: float
    low: float
    high: float
    coverage: float = 1.0
    from_blocks: bool = False

    @property
    def relative_half_width(self) -> float:
        """Half the width of the interval divided by the median; infinite when there was only one value."""
        if self.coverage == 0:
            return math.inf
        return (self.high - self.low) / 2 / self.median


def median_interval(
    samples: Sequence[float], confidence: float = 0.95, block_sizes: Sequence[int] | None = None
) -> Interval:
    """Return the median of `samples`, in the order in which they were taken, and its confidence interval.

    The ends of the interval are two of the samples, whose ranks come from the binomial distribution (David and
    Nagaraja, Order Statistics, 2003, section 7.1), so no distribution of the samples is assumed. Where neighbouring
    samples are correlated (the lag-1 autocorrelation of their ranks is above 0.2, or block medians scatter more than
    their samples explain), the interval is computed from the medians of blocks. Blocks are joined until their medians
    are no longer correlated.

    `block_sizes` are the sizes of the blocks as they were measured; without them the samples are cut into blocks of
    equal size. Raises ValueError if there are no samples, or if the block sizes do not sum to their number.
    """
    if not samples:
        raise ValueError("median_interval needs at least one sample, got none")
    middle = median(samples)
    blocks = _split(samples, block_sizes)
    correlation = lag1_autocorrelation(samples)
    correlated = correlation > AUTOCORRELATION_LIMIT or _excess_variance(blocks) > EXCESS_LIMIT
    if len(blocks) < FEWEST_BLOCKS or not correlated:
        return Interval(middle, *_enclosing_order_statistics(samples, confidence))
    medians = _uncorrelated_medians(blocks, min(max(correlation, 0.0), MOST_CORRELATED))
    if lag1_autocorrelation(medians) > AUTOCORRELATION_LIMIT:  # too few blocks to join: only their whole range is safe
        low, high, coverage = min(medians), max(medians), confidence
    else:
        low, high, coverage = _enclosing_order_statistics(medians, confidence)
    return Interval(middle, min(low, middle), max(high, middle), coverage, from_blocks=True)


def lag1_autocorrelation(samples: Sequence[float]) -> float:
    """Return the lag-1 autocorrelation of the samples' ranks, or 0 for fewer than 3 samples.

    A few outliers would hide the autocorrelation of the samples themselves; they do not change that of the ranks.
    """
    from scipy.stats import rankdata  # takes a second to import, and most commands compute no interval

    if len(samples) < 3:
        return 0.0
    ranks = rankdata(samples) - (len(samples) + 1) / 2
    spread = float(ranks @ ranks)
    return float(ranks[:-1] @ ranks[1:]) / spread if spread else 0.0


def _enclosing_order_statistics(samples: Sequence[float], confidence: float) -> tuple[float, float, float]:
    """Return the two order statistics that enclose the median, and the confidence that they reach."""
    ordered = sorted(samples)
    left_out, coverage = _left_out_at_each_end(len(ordered), confidence)
    return ordered[left_out], ordered[-1 - left_out], coverage


@functools.lru_cache(maxsize=4096)
def _left_out_at_each_end(count: int, confidence: float) -> tuple[int, float]:
    """Return how many of `count` values lie outside the interval at each end, and the confidence of the interval."""
    from scipy.stats import binom  # takes a second to import, and most commands compute no interval

    # The interval lies above the true median when at most `left_out` values lie below it, a binomial number.
    left_out = max(0, int(binom.ppf((1 - confidence) / 2, count, 0.5)) - 1)
    return left_out, max(0.0, 1 - 2 * float(binom.cdf(left_out, count, 0.5)))


def _split(samples: Sequence[float], sizes: Sequence[int] | None) -> list[Sequence[float]]:
    """Cut the samples into blocks of the given sizes, or of equal size where fewer than FEWEST_BLOCKS are given."""
    if sizes is None or len(sizes) < FEWEST_BLOCKS:
        count = max(1, min(len(samples), max(FEWEST_BLOCKS, math.isqrt(len(samples)))))
        edges = [len(samples) * index // count for index in range(count + 1)]
    else:
        edges = [0, *itertools.accumulate(sizes)]
        if edges[-1] != len(samples):
            raise ValueError(f"block_sizes sum to {edges[-1]}, but there are {len(samples)} samples")
    return [samples[start:end] for start, end in itertools.pairwise(edges) if end > start]


def _uncorrelated_medians(blocks: list[Sequence[float]], correlation: float) -> list[float]:
    """Return the medians of the blocks, which are joined in pairs while they are too short or still correlated.

    At least FEWEST_BLOCKS blocks are kept. Under AR(1) noise of lag-1 correlation r, a sample is worth
    (1 - r) / (1 + r) independent ones (Geyer, 1992, doi:10.1214/ss/1177011137).
    """
    needed = INDEPENDENT_SAMPLES_PER_BLOCK * (1 + correlation) / (1 - correlation)
    medians = [median(block) for block in blocks]
    while len(blocks) // 2 >= FEWEST_BLOCKS and (
        len(blocks[0]) < needed or lag1_autocorrelation(medians) > AUTOCORRELATION_LIMIT
    ):
        joined = [[*first, *second] for first, second in zip(blocks[::2], blocks[1::2], strict=False)]
        if len(blocks) % 2:
            joined[-1] = [*joined[-1], *blocks[-1]]
        blocks = list(joined)
        medians = [median(block) for block in blocks]
    return medians


def _excess_variance(blocks: list[Sequence[float]]) -> float:
    """Return the variance of the block medians divided by the variance that the samples within blocks explain."""
    if len(blocks) < FEWEST_BLOCKS or min(len(block) for block in blocks) < 4:
        return 0.0
    medians = [median(block) for block in blocks]
    mean = sum(medians) / len(medians)
    between = sum((value - mean) ** 2 for value in medians) / (len(medians) - 1)
    within = sum(math.pi / 2 * _robust_deviation(block) ** 2 / len(block) for block in blocks) / len(blocks)
    return between / within if within > 0 else (math.inf if between > 0 else 0.0)


def _robust_deviation(block: Sequence[float]) -> float:
    """Return a robust standard deviation: the interquartile range of a normal distribution is 1.349 of them."""
    lower, _, upper = quantiles(block, n=4, method="inclusive")
    return (upper - lower) / 1.349
