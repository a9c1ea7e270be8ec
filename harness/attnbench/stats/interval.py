"""Distribution-free intervals of a median, honest under autocorrelation and drift."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles

AUTOCORRELATION_LIMIT = 0.2
EXCESS_LIMIT = 2.0  # variance of block medians over what their own samples explain
FEWEST_BLOCKS = 8
BLOCK_WORTH = 8  # independent samples that a block must be worth, so that its neighbours know little of it
MOST_CORRELATED = 0.99


@dataclass(frozen=True)
class Interval:
    """A median with its interval, in the unit of the samples.

    `coverage` is what the order statistics promise; with few samples it lies below the confidence asked for.
    `from_blocks` says that block medians stood for the samples, because neighbours were alike.
    """

    median: float
    low: float
    high: float
    coverage: float = 1.0
    from_blocks: bool = False

    @property
    def relative_half_width(self) -> float:
        """Half the interval's width over the median; infinite where fewer than two values gave it."""
        if self.coverage == 0:
            return math.inf
        return (self.high - self.low) / 2 / self.median


def median_interval(
    samples: Sequence[float], confidence: float = 0.95, block_sizes: Sequence[int] | None = None
) -> Interval:
    """Give the median of `samples`, in the order in which they were taken, with its interval.

    The interval lies between two order statistics whose ranks come from the binomial distribution (David and Nagaraja,
    Order Statistics, 2003, section 7.1), so nothing is assumed of the samples' distribution. Where neighbours are alike
    (lag-1 autocorrelation of the ranks over 0.2, or block medians that scatter more than their samples explain),
    medians of blocks stand for the samples; blocks are joined until their medians are no longer alike.
    `block_sizes` gives the blocks as they were taken; else the samples are cut into blocks of equal size.
    Raises ValueError without samples.
    """
    if not samples:
        raise ValueError("median_interval needs at least one sample, got none")
    middle = median(samples)
    blocks = _blocks(samples, block_sizes)
    correlation = lag1(samples)
    if len(blocks) < FEWEST_BLOCKS or not (correlation > AUTOCORRELATION_LIMIT or _excess(blocks) > EXCESS_LIMIT):
        return Interval(middle, *_enclosing(samples, confidence))
    medians = _unlike(blocks, min(max(correlation, 0.0), MOST_CORRELATED))
    alike = lag1(medians) > AUTOCORRELATION_LIMIT  # still, with no more blocks to join: only their range is safe
    low, high, coverage = (min(medians), max(medians), confidence) if alike else _enclosing(medians, confidence)
    return Interval(middle, min(low, middle), max(high, middle), coverage, from_blocks=True)


def lag1(samples: Sequence[float]) -> float:
    """Return the lag-1 autocorrelation of the samples' ranks, which a few outliers can't hide; 0 below 3 samples."""
    from scipy.stats import rankdata  # takes a second to import, and most commands compute no interval

    if len(samples) < 3:
        return 0.0
    ranks = rankdata(samples) - (len(samples) + 1) / 2
    spread = float(ranks @ ranks)
    return float(ranks[:-1] @ ranks[1:]) / spread if spread else 0.0


def _enclosing(samples: Sequence[float], confidence: float) -> tuple[float, float, float]:
    """Return the two order statistics that enclose the median, and the coverage that they promise."""
    ordered = sorted(samples)
    cut, coverage = _rank(len(ordered), confidence)
    return ordered[cut], ordered[-1 - cut], coverage


@functools.lru_cache(maxsize=4096)
def _rank(count: int, confidence: float) -> tuple[int, float]:
    """Return how many values to leave out at each end, and the coverage of what is left."""
    from scipy.stats import binom  # takes a second to import, and most commands compute no interval

    # How many of the values lie below the median is binomial, so the lowest `cut` + 1 all do with probability cdf(cut).
    cut = max(0, int(binom.ppf((1 - confidence) / 2, count, 0.5)) - 1)
    return cut, max(0.0, 1 - 2 * float(binom.cdf(cut, count, 0.5)))


def _blocks(samples: Sequence[float], sizes: Sequence[int] | None) -> list[Sequence[float]]:
    if sizes is None or len(sizes) < FEWEST_BLOCKS:
        count = max(1, min(len(samples), max(FEWEST_BLOCKS, math.isqrt(len(samples)))))
        edges = [len(samples) * index // count for index in range(count + 1)]
    else:
        edges = [0, *itertools.accumulate(sizes)]
        if edges[-1] != len(samples):
            raise ValueError(f"block_sizes sum to {edges[-1]}, but there are {len(samples)} samples")
    return [samples[start:end] for start, end in itertools.pairwise(edges) if end > start]


def _unlike(blocks: list[Sequence[float]], correlation: float) -> list[float]:
    """Give medians of blocks, joined two by two while they are too short or neighbours alike, and enough are left.

    Under AR(1) noise a sample is worth (1 - r) / (1 + r) independent ones (Geyer, 1992, doi:10.1214/ss/1177011137).
    """
    needed = BLOCK_WORTH * (1 + correlation) / (1 - correlation)
    medians = [median(block) for block in blocks]
    while len(blocks) // 2 >= FEWEST_BLOCKS and (len(blocks[0]) < needed or lag1(medians) > AUTOCORRELATION_LIMIT):
        joined = [[*first, *second] for first, second in zip(blocks[::2], blocks[1::2], strict=False)]
        if len(blocks) % 2:
            joined[-1] = [*joined[-1], *blocks[-1]]
        blocks = list(joined)
        medians = [median(block) for block in blocks]
    return medians


def _excess(blocks: list[Sequence[float]]) -> float:
    """Give the variance of the block medians over the variance that the samples within blocks explain."""
    if len(blocks) < FEWEST_BLOCKS or min(len(block) for block in blocks) < 4:
        return 0.0
    medians = [median(block) for block in blocks]
    mean = sum(medians) / len(medians)
    between = sum((value - mean) ** 2 for value in medians) / (len(medians) - 1)
    within = sum(math.pi / 2 * _spread(block) ** 2 / len(block) for block in blocks) / len(blocks)
    return between / within if within > 0 else (math.inf if between > 0 else 0.0)


def _spread(block: Sequence[float]) -> float:
    """Give a robust standard deviation: the interquartile range of a normal distribution is 1.349 of them."""
    lower, _, upper = quantiles(block, n=4, method="inclusive")
    return (upper - lower) / 1.349
