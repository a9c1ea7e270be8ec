from __future__ import annotations

import itertools

import pytest
from simulated import Machine

from attnbench.measure_config import MeasureConfig
from attnbench.stats.stopping import StoppingRule

CONFIG = MeasureConfig(precision=0.005, budget_s=2.0, block_s=0.02)


def run(machine, config=CONFIG, cost=1e6):
    """Take samples on a simulated machine until the stopping rule is done, and return the rule and the blocks."""
    stopping, blocks = StoppingRule(config, "cuda"), []
    while not stopping.done:
        blocks.append(machine.block(cost, config.block_s * 1e9))
        assert stopping.add(blocks[-1]) is not stopping.done
    return stopping, blocks


def test_a_quiet_machine_stops_for_precision_at_the_minimums():
    """Without noise, sampling ends once the minimums of samples, blocks and measuring time are reached."""
    stopping, blocks = run(Machine())
    assert stopping.stopped_by == "precision"
    assert len(blocks) == CONFIG.min_blocks
    assert stopping.elapsed_ns >= CONFIG.min_time_s * 1e9


def test_a_precision_that_cannot_be_met_ends_with_the_budget():
    """On a noisy machine, sampling ends when the budget is spent, with an interval wider than the precision."""
    stopping, _ = run(Machine(noise=0.5))
    assert stopping.stopped_by == "budget"
    assert stopping.interval.relative_half_width > 0.005
    assert stopping.elapsed_ns == pytest.approx(2e9, rel=0.05)


def test_calls_longer_than_the_budget_still_give_a_sample():
    """If one call takes longer than the whole budget, sampling stops after one sample, with `budget` as the reason."""
    stopping, blocks = run(Machine(), cost=5e9)
    assert stopping.stopped_by == "budget"
    assert [len(block) for block in blocks] == [1]


def test_the_interval_is_computed_only_when_the_samples_have_doubled(monkeypatch):
    """The interval is computed again only after the number of samples has doubled, and when the budget is spent."""
    looks = []
    original = StoppingRule._look
    monkeypatch.setattr(StoppingRule, "_look", lambda self: looks.append(len(self._samples)) or original(self))
    stopping, _ = run(Machine(noise=0.2))
    assert stopping.stopped_by == "budget"
    assert len(looks) > 2
    before_the_end = looks[:-1]  # leaves out the last look, which happens because the budget is spent
    assert all(second >= 2 * first for first, second in itertools.pairwise(before_the_end))


@pytest.mark.parametrize(
    ("precision", "machine"),
    [(0.005, {}), (0.002, {}), (0.004, {"rho": 0.8})],
    ids=["at the minimums", "after some looks", "autocorrelated"],
)
def test_stopping_keeps_the_coverage(precision, machine):
    """At least 93% of the intervals at which sampling stops contain the true median."""
    config = MeasureConfig(precision=precision, budget_s=1.0, block_s=0.02)
    covered = 0
    for seed in range(150):
        stopping, _ = run(Machine(seed=seed, noise=0.02, **machine), config)
        covered += stopping.interval.low <= 1e6 <= stopping.interval.high
    assert covered / 150 >= 0.93


def test_throttling_shows_in_the_interval():
    """If a machine starts to throttle during a measurement, the interval covers both the normal and throttled times."""
    config = MeasureConfig(precision=0.005, min_time_s=1.0, budget_s=1.5)
    stopping, _ = run(Machine(noise=0.005, throttle_at_s=0.5), config)
    assert stopping.stopped_by == "budget"
    assert stopping.interval.from_blocks
    assert stopping.interval.high / stopping.interval.low > 1.2
