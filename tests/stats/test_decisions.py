from __future__ import annotations

import pytest
from decisions import ERROR, rates_of_attnbench, rates_of_do_bench


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_verdict_needs_few_samples(device):
    """To decide a difference of 10%, attnbench needs at most half as many samples as do_bench and a t-test.

    Both are wrong in at most 5% of cases, for which do_bench has to be run in several processes.
    """
    samples, same, slower = rates_of_attnbench(1e6, device, 8)
    assert same <= ERROR + 0.04  # 96 rows, which depend on each other: 5% plus two standard errors
    assert slower >= 1 - ERROR
    reliable = [
        of_do_bench
        for of_do_bench, same, slower in (rates_of_do_bench(1e6, processes, 100) for processes in (1, 2, 3))
        if same <= ERROR + 0.04 and slower >= 1 - ERROR
    ]
    assert samples <= 0.5 * min(reliable)


def test_one_process_is_not_enough():
    """Counter-example: a t-test on the samples of one process tells most pairs of identical code apart."""
    assert rates_of_do_bench(1e6, 1, 50)[1] >= 0.5
