from __future__ import annotations

import pytest
from verdict_rates import Run, false_rate, found_rates, wrong_first_rate

RUN = Run()  # 20 variants on 6 workloads, with standard deviations of 1 to 3% between processes


def test_differences_are_found_among_many_variants():
    """A ratio of 2 is always told, 10% in 95% of rows and 5% in 80%, and at most 5% of the verdicts are false."""
    false_share, found, _ = found_rates(RUN, 100)
    assert false_share <= 0.05
    assert found[2.0] == 1.0
    assert found[1.1] >= 0.95
    assert (found[1.05] + found[1 / 1.05]) / 2 >= 0.8


@pytest.mark.parametrize(
    "run", [RUN, Run(variants=6, workloads=3), Run(variants=2, workloads=1), Run(deviations=(0.002, 0.15))], ids=str
)
def test_identical_code_is_rarely_told_apart(run):
    """At most 5% of the rows of identical code get a verdict, with many or few rows and with unequal noise."""
    assert false_rate(run, 2_000 // run.variants) <= 0.06  # 5% plus one and a half standard errors


@pytest.mark.parametrize("variants", [2, 5, 20])
def test_the_fastest_variant_is_rarely_ranked_behind(variants):
    """The variant that is fastest in truth is behind another one in at most 5% of workloads."""
    assert wrong_first_rate(Run(variants=variants, workloads=6), 60) <= 0.06  # 5% plus a standard error
    assert wrong_first_rate(Run(variants=variants, workloads=1), 200) <= 0.07


def test_one_process_is_not_enough():
    """Counter-example: rounds of a single process in place of processes tell most rows of identical code apart."""
    assert false_rate(Run(processes=1, rounds=1, deviations=(0.0,)), 1) == 0.0

    class RoundsAsProcesses(Run):
        def rows(self, log_times, reference=0):
            ratios = log_times - log_times[:, [reference]]
            return {(w, v): ratios[w, v, 0].tolist() for w in range(self.workloads) for v in range(1, self.variants)}

    assert false_rate(RoundsAsProcesses(rounds=10, disturbed=0.0), 20) >= 0.5
