from __future__ import annotations

import json
from pathlib import Path

import earlier_numerics
import pytest

EARLIER = json.loads((Path(__file__).parent / "earlier_numerics.json").read_text())
MAX_EXACT_SAMPLES = 1000  # with more samples, the earlier version approximated the ranks with a normal distribution
STUDENT_TOLERANCE = 1e-5  # relative error of the t quantiles in earlier versions, which interpolated a table
P_VALUE_TOLERANCE = 5e-5  # the earlier bisection for a p-value stopped at this relative interval width


@pytest.fixture(scope="module")
def results():
    """Return the current version's results for the samples and tables that the earlier version processed."""
    return earlier_numerics.results()


def test_intervals_are_the_earlier_ones(results):
    """Intervals from at most 1000 samples or from block medians agree with the earlier version's to within 1e-9."""
    compared = 0
    for name, (*numbers, from_blocks) in EARLIER["intervals"].items():
        *found, found_from_blocks = results["intervals"][name]
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
        found_median, found_low, found_high, *_ = results["intervals"][name]
        samples = sorted(earlier_numerics.series(int(count), float(rho)))
        assert found_median == median
        assert samples.index(found_low) - samples.index(low) in (0, 1)
        assert samples.index(high) - samples.index(found_high) in (0, 1)
        narrower += found_low > low
    assert narrower > 0


def test_students_t_is_the_earlier_one(results):
    """Quantiles of Student's t agree with the earlier version's to within that version's interpolation error."""
    assert results["student"] == pytest.approx(EARLIER["student"], rel=STUDENT_TOLERANCE)


def test_paired_results_are_the_earlier_ones(results):
    """Verdicts equal the earlier version's, and ratios, intervals and p-values differ only by numerical error."""
    assert results["paired"].keys() == EARLIER["paired"].keys()
    for name, (ratio, low, high, p_value, verdict) in EARLIER["paired"].items():
        found_ratio, *ends, found_p_value, found_verdict = results["paired"][name]
        assert found_verdict == verdict, name
        assert found_ratio == pytest.approx(ratio, rel=1e-9), name
        assert ends == [None if end is None else pytest.approx(end, rel=STUDENT_TOLERANCE) for end in (low, high)], name
        assert found_p_value == pytest.approx(p_value, rel=P_VALUE_TOLERANCE), name
