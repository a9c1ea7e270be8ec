from __future__ import annotations

import itertools

import pytest
from simulated import Machine

from attnbench.measure_config import MeasureConfig
from attnbench.stats.stopping import Stopping

PROTOCOL = MeasureConfig(precision=0.005, budget_s=2.0, block_s=0.02)


def run(machine, protocol=PROTOCOL, cost=1e6):
    """Feed a Stopping from a simulated machine until it is done."""
    stopping, blocks = Stopping(protocol, "cuda"), []
    while not stopping.done:
        blocks.append(machine.block(cost, protocol.block_s * 1e9))
        assert stopping.add(blocks[-1]) is not stopping.done
    return stopping, blocks


def test_a_quiet_machine_stops_for_precision_at_the_minimums():
    """Without noise, sampling ends as soon as samples, blocks and time suffice."""
    stopping, blocks = run(Machine())
    assert stopping.stopped_by == "precision"
    assert len(blocks) == PROTOCOL.min_blocks
    assert stopping.elapsed_ns >= PROTOCOL.min_time_s * 1e9


def test_a_precision_that_cannot_be_met_ends_with_the_budget():
    """A noisy machine ends at the budget, with the interval that it has."""
    stopping, _ = run(Machine(noise=0.5))
    assert stopping.stopped_by == "budget"
    assert stopping.interval.relative_half_width > 0.005
    assert stopping.elapsed_ns == pytest.approx(2e9, rel=0.05)


def test_calls_longer_than_the_budget_still_give_a_sample():
    """One call that takes longer than the whole budget is one sample, labelled budget."""
    stopping, blocks = run(Machine(), cost=5e9)
    assert stopping.stopped_by == "budget"
    assert [len(block) for block in blocks] == [1]


def test_it_looks_only_when_the_samples_have_doubled(monkeypatch):
    """Between looks the number of samples at least doubles, so lucky streaks do not end the sampling."""
    looks = []
    original = Stopping._look
    monkeypatch.setattr(Stopping, "_look", lambda self: looks.append(len(self._samples)) or original(self))
    stopping, _ = run(Machine(noise=0.2))
    assert stopping.stopped_by == "budget"
    assert len(looks) > 2
    assert all(second >= 2 * first for first, second in itertools.pairwise(looks[:-1]))  # the last is the budget's


@pytest.mark.parametrize(
    ("precision", "machine"),
    [(0.005, {}), (0.002, {}), (0.004, {"rho": 0.8})],
    ids=["at the minimums", "after some looks", "autocorrelated"],
)
def test_stopping_keeps_the_coverage(precision, machine):
    """At the moment of stopping at least 93% of intervals still hold the true median."""
    protocol = MeasureConfig(precision=precision, budget_s=1.0, block_s=0.02)
    covered = 0
    for seed in range(150):
        stopping, _ = run(Machine(seed=seed, noise=0.02, **machine), protocol)
        covered += stopping.interval.low <= 1e6 <= stopping.interval.high
    assert covered / 150 >= 0.93


def test_throttling_shows_in_the_interval():
    """A machine that throttles half-way gets an interval that spans both speeds."""
    protocol = MeasureConfig(precision=0.005, min_time_s=1.0, budget_s=1.5)
    stopping, _ = run(Machine(noise=0.005, throttle_at_s=0.5), protocol)
    assert stopping.stopped_by == "budget"
    assert stopping.interval.from_blocks
    assert stopping.interval.high / stopping.interval.low > 1.2
