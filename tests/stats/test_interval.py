from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench.stats.interval import lag1_autocorrelation, median_interval


def generator(seed):
    """Return a seeded random generator."""
    return random.Random(seed)  # noqa: S311 - simulated noise


def independent(count, seed):
    """Return independent samples with 2% log-normal noise around 100."""
    noise = generator(seed)
    return [100 * math.exp(0.02 * noise.gauss(0, 1)) for _ in range(count)]


def drifting(count, seed):
    """Return samples with 1% noise from a machine that slows down by 2%. The true median is 101."""
    noise = generator(seed)
    return [100 * (1 + 0.02 * index / count) * math.exp(0.01 * noise.gauss(0, 1)) for index in range(count)]


def autocorrelated(count, seed, rho=0.8):
    """Return samples with 2% AR(1) noise around 100."""
    noise = generator(seed)
    state, samples = noise.gauss(0, 1), []
    for _ in range(count):
        state = rho * state + math.sqrt(1 - rho**2) * noise.gauss(0, 1)
        samples.append(100 * math.exp(0.02 * state))
    return samples


@pytest.mark.parametrize(
    ("samples", "median"),
    [(independent, 100), (drifting, 101), (autocorrelated, 100)],
    ids=["independent", "drifting", "autocorrelated"],
)
@pytest.mark.parametrize("count", [60, 240])
def test_the_interval_covers_the_median(samples, median, count):
    """At least 93% of intervals contain the true median, with independent, drifting or autocorrelated noise."""
    intervals = [median_interval(samples(count, seed)) for seed in range(400)]
    assert sum(interval.low <= median <= interval.high for interval in intervals) / len(intervals) >= 0.93


def test_intervals_that_ignore_autocorrelation_do_not_cover():
    """Counter-example: under AR(1) noise, fewer than 60% of intervals from order statistics contain the median."""
    covered = 0
    for seed in range(200):
        ordered = sorted(autocorrelated(240, seed))
        # The indices come from the binomial 95% confidence interval for the median of 240 independent samples.
        covered += ordered[104] <= 100 <= ordered[135]
    assert covered / 200 < 0.6


def test_a_shift_between_blocks_is_detected_without_autocorrelation():
    """The interval is computed from block medians if they vary more than the scatter within blocks explains."""
    noise = generator(1)
    samples = [100 + shift + noise.gauss(0, 2) for shift in (noise.gauss(0, 1) for _ in range(20)) for _ in range(50)]
    plain = median_interval(independent(1000, 2), block_sizes=[50] * 20)
    shifted = median_interval(samples, block_sizes=[50] * 20)
    assert not plain.from_blocks
    assert shifted.from_blocks


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_samples_reach_a_lower_coverage(count):
    """Fewer than six samples can't reach a coverage of 95%, so their interval has a lower coverage."""
    interval = median_interval(list(range(1, count + 1)))
    assert interval.coverage == pytest.approx(max(0.0, 1 - 2 * 0.5**count))
    assert (interval.low, interval.high) == (1, count)


def test_a_single_sample_has_no_precision():
    """The interval of a single sample has an infinite relative half-width."""
    assert median_interval([5.0]).relative_half_width == math.inf


def test_no_sample_is_an_error():
    """An empty list of samples raises ValueError."""
    with pytest.raises(ValueError, match="at least one sample"):
        median_interval([])


def test_block_sizes_must_fit():
    """Block sizes that do not add up to the number of samples raise ValueError."""
    with pytest.raises(ValueError, match="add up to 16"):
        median_interval([1.0, 2.0, 3.0], block_sizes=[2] * 8)


@given(st.lists(st.floats(1, 1e9), min_size=1, max_size=80), st.floats(1e-3, 1e3))
def test_the_interval_contains_its_median_and_scales(samples, factor):
    """The interval contains the median and lies within the range of the samples; the median scales with the samples."""
    interval, scaled = median_interval(samples), median_interval([sample * factor for sample in samples])
    assert min(samples) <= interval.low <= interval.median <= interval.high <= max(samples)
    assert scaled.median == pytest.approx(interval.median * factor)


def test_outliers_do_not_hide_autocorrelation():
    """A few very large outliers hardly change the autocorrelation of the ranks."""
    samples = autocorrelated(400, 3)
    spiked = [sample * (50 if index % 40 == 0 else 1) for index, sample in enumerate(samples)]
    assert lag1_autocorrelation(spiked) > 0.5
    assert abs(lag1_autocorrelation(independent(400, 4))) < 0.2
