from __future__ import annotations

import json
from pathlib import Path

import earlier_numerics
import pytest

EARLIER = json.loads((Path(__file__).parent / "earlier_numerics.json").read_text())
MAX_EXACT_SAMPLES = 1000  # with more samples, the earlier version approximated the ranks with a normal distribution


@pytest.fixture(scope="module")
def results():
    """Return the current version's results for the samples that the earlier version processed."""
    return earlier_numerics.results()


def test_intervals_are_the_earlier_ones(results):
    """Intervals from at most 1000 samples or from block medians agree with the earlier version's to within 1e-9."""
    compared = 0
    for name, (*numbers, from_blocks) in EARLIER["intervals"].items():
        *found, found_from_blocks = results[name]
        assert found_from_blocks == from_blocks, name
        if int(name.split()[0]) <= MAX_EXACT_SAMPLES or from_blocks:
            assert found == pytest.approx(numbers, rel=1e-9), name
            compared += 1
    assert compared > 90


def test_exact_ranks_of_many_samples_differ_by_one_at_most(results):
    """Above 1000 samples, an interval equals the earlier version's or is narrower by at most one rank at each end."""
    narrower = 0
    for name, (median, low, high, _, from_blocks) in EARLIER["intervals"].items():
        count, rho, _ = name.split()
        if int(count) <= MAX_EXACT_SAMPLES or from_blocks:
            continue
        found_median, found_low, found_high, *_ = results[name]
        samples = sorted(earlier_numerics.series(int(count), float(rho)))
        assert found_median == median
        assert samples.index(found_low) - samples.index(low) in (0, 1)
        assert samples.index(high) - samples.index(found_high) in (0, 1)
        narrower += found_low > low
    assert narrower > 0
