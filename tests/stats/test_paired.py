from __future__ import annotations

import math
import random

import numpy as np
import pytest
from simulated import Machine, session

from attnbench.measure_config import MeasureConfig
from attnbench.stats.noise_floor import NoiseFloor
from attnbench.stats.paired import (
    Blocks,
    PairedResult,
    behind_the_fastest,
    is_regression,
    process_ratios,
    verdicts,
    verdicts_between_runs,
)

CONFIG = MeasureConfig(min_time_s=0.02, min_blocks=3, min_samples=8, block_s=0.01, budget_s=0.2)
PROCESSES = 5


def measured(costs, *, interleave=True, processes=PROCESSES, **machine):
    """Measure cells of the given costs in several processes on one simulated machine, and return their Blocks."""
    simulated = Machine(**machine)
    taken = [Blocks([], [], [], []) for _ in costs]
    first_round = 0
    for process in range(processes):
        for cell, (blocks, _) in zip(taken, session(simulated, costs, CONFIG, interleave=interleave), strict=True):
            cell.samples_ns.extend(blocks.samples_ns)
            cell.sizes.extend(blocks.sizes)
            cell.rounds.extend(first_round + number for number in blocks.rounds)
            cell.processes.extend([process] * len(blocks.sizes))
        first_round = 1 + max(cell.rounds[-1] for cell in taken)
    return taken


def share_judged_different(slow_down, sessions, *, interleave=True, margin=0.01, **machine):
    """Return the share of sessions in which the candidate is judged faster or slower.

    The candidate takes `slow_down` times as long as the baseline.
    """
    found = 0
    for seed in range(sessions):
        baseline, candidate = measured([1e6, 1e6 * slow_down], seed=seed, interleave=interleave, **machine)
        row = list(process_ratios(candidate, baseline).values())
        found += verdicts({0: row}, NoiseFloor.of([row]), margin=margin)[0].verdict in ("faster", "slower")
    return found / sessions


@pytest.mark.parametrize("drift", [0.05, 0.1])
def test_identical_code_is_not_judged_different_under_drift(drift):
    """At most about 5% of interleaved sessions of identical code give a false verdict while the machine slows down."""
    assert share_judged_different(1.0, 100, noise=0.01, drift=drift) <= 0.08
    assert share_judged_different(1.0, 100, noise=0.01, drift=drift, margin=0.0) <= 0.08


def test_sequential_measurement_judges_identical_code_different():
    """Counter-example: without interleaving, drift is mistaken for a difference in at least 30% of sessions."""
    assert share_judged_different(1.0, 40, noise=0.01, drift=0.1, margin=0.0, interleave=False) >= 0.3


def test_a_slow_down_of_three_percent_is_found():
    """A slow-down of 3% is detected in at least 95% of sessions with 1% noise, independent or autocorrelated."""
    assert share_judged_different(1.03, 60, noise=0.01) >= 0.95
    assert share_judged_different(1.03, 60, noise=0.01, rho=0.8) >= 0.95


def test_bursts_do_not_hide_a_difference():
    """If one call in twenty takes three times as long, a slow-down of 10% is still detected in 95% of sessions."""
    assert share_judged_different(1.1, 60, noise=0.01, spike=0.05) >= 0.95


def test_verdicts_can_be_read_from_their_intervals():
    """The verdicts faster, slower, same and undecided follow from the position of the interval."""
    generator = np.random.default_rng(4)
    means = {"faster": -0.2, "slower": 0.2, "same": 0.001, "undecided": 0.0}
    spread = {"undecided": 0.2}
    table = {name: list(mean + spread.get(name, 0.002) * generator.standard_normal(20)) for name, mean in means.items()}
    judged = verdicts(table, NoiseFloor.of(table.values()))
    for name, result in judged.items():
        assert result.verdict == name
        assert result.low < result.ratio < result.high
        assert result.processes == 20
    assert judged["faster"].high < 1 < judged["slower"].low
    assert judged["same"].low > 0.99
    assert judged["same"].high < 1.01


def test_the_interval_is_students():
    """The interval of a single row is Student's t interval of its mean, at the requested confidence."""
    row = [0.1, 0.12, 0.14]
    for confidence, quantile in ((0.95, 4.3027), (0.99, 9.9248)):
        result = verdicts({"row": row}, NoiseFloor.of([row]), confidence=confidence)["row"]
        half = quantile * 0.02 / math.sqrt(3)
        assert (result.low, result.high) == pytest.approx((math.exp(0.12 - half), math.exp(0.12 + half)), rel=1e-4)


def test_q_values_are_those_of_benjamini_and_hochberg():
    """The q-values agree with scipy's correction of the same p-values, and decide about the verdict."""
    from scipy.stats import false_discovery_control

    generator = np.random.default_rng(5)
    table = {row: list(0.002 * row + 0.01 * generator.standard_normal(5)) for row in range(20)}
    floor = NoiseFloor.of(table.values())
    alone = [verdicts({0: row}, floor)[0].q_value for row in table.values()]
    together = verdicts(table, floor, margin=0.0)
    assert [result.q_value for result in together.values()] == pytest.approx(false_discovery_control(alone))
    assert {result.verdict for result in together.values() if result.q_value > 0.05} == {"undecided"}
    assert {result.verdict for result in together.values() if result.q_value <= 0.05} == {"slower"}


def test_a_single_process_is_undecided():
    """One pair of processes gives a ratio but no interval if no other row shows how much processes differ."""
    result = verdicts({"row": [0.1]}, NoiseFloor.of([[0.1]]))["row"]
    assert (result.verdict, result.low, result.high, result.processes) == ("undecided", None, None, 1)
    assert result.ratio == pytest.approx(1.105, abs=1e-3)
    assert verdicts({"row": []}, NoiseFloor.of([[0.01, 0.02]]))["row"].verdict == "undecided"


def test_one_process_of_a_slow_variant_is_judged_by_the_other_rows():
    """A row with one pair of processes, because the others were lost, is judged with the scatter of all rows."""
    table = {"lost": [0.7], "others": [0.01, -0.01, 0.02, 0.0], "more": [0.02, 0.0, -0.02, 0.01]}
    assert verdicts(table, NoiseFloor.of(table.values()))["lost"].verdict == "slower"


def test_rows_without_any_scatter_are_decided():
    """Rows without noise have intervals of zero width, so their verdicts are never `undecided`."""
    table = {"slow": [0.1] * 5, "same": [0.0] * 5}
    judged = verdicts(table, NoiseFloor.of(table.values()))
    assert judged["slow"].verdict == "slower"
    assert judged["same"].verdict == "same"


def test_ratios_pair_processes_and_rounds():
    """The ratio of two processes is the median over the rounds that both measured. A round's blocks are pooled."""
    candidate = Blocks([2.0, 2.0, 4.0, 8.0, 9.0, 5.0], [2, 1, 1, 1, 1], [0, 2, 3, 4, 5], [0, 0, 0, 1, 2])
    baseline = Blocks([1.0, 1.0, 2.0, 3.0, 3.0], [1, 1, 1, 1, 1], [0, 2, 2, 4, 9], [0, 0, 0, 1, 3])
    first = (math.log(2) + math.log(4 / 1.5)) / 2
    assert process_ratios(candidate, baseline) == pytest.approx({0: first, 1: math.log(3)})


def test_only_the_clearly_slower_are_behind_the_fastest():
    """A variant is behind the fastest if its processes were slower by more than the noise floor explains."""
    rows = {"twin": [0.01, -0.01, 0.0, 0.005], "slow": [0.2, 0.21, 0.19, 0.2], "noisy": [0.0, 0.1, -0.05, 0.2]}
    assert behind_the_fastest(rows, NoiseFloor.of(rows.values())) == {"slow"}
    assert behind_the_fastest(rows, None) == set()
    assert behind_the_fastest({}, None) == set()


@pytest.mark.parametrize(
    ("low", "floors", "expected"),
    [(1.05, (0.0, None), True), (1.02, (0.0, 0.0), False), (1.05, (0.001, 0.02), False)],
)
def test_a_regression_lies_beyond_the_bar_and_the_noise_floors(low, floors, expected):
    """A regression is a slow-down whose whole interval lies above 3% and above three times each run's noise floor."""
    result = PairedResult(1.08, low, 1.1, 0.0, "slower", 5)
    assert is_regression(result, 0.03, *floors) is expected


def cell(generator, cost, processes=5):
    """Return the Blocks of a cell whose processes differ by 1%."""
    samples = []
    for _ in range(processes):
        speed = cost * (1 + 0.01 * generator.gauss(0, 1))
        samples += [speed * (1 + 0.01 * generator.gauss(0, 1)) for _ in range(40)]
    owners = [process for process in range(processes) for _ in range(4)]
    return Blocks(samples, [10] * (4 * processes), list(range(4 * processes)), owners)


def test_runs_are_compared_without_pairs():
    """Between two runs, a slow-down of 10% is detected, and cells with equal costs are not judged different."""
    generator = random.Random(6)  # noqa: S311 - simulated noise
    table = {index: (cell(generator, 110.0 if index < 5 else 100.0), cell(generator, 100.0)) for index in range(20)}
    judged = verdicts_between_runs(table)
    assert all(judged[index].verdict == "slower" for index in range(5))
    assert sum(judged[index].low < 1.1 < judged[index].high for index in range(5)) >= 4
    assert sum(judged[index].verdict in ("faster", "slower") for index in range(5, 20)) <= 1


def test_runs_with_one_process_are_compared_by_their_controls():
    """Between runs that measured each cell in one process, the controls' differences make the intervals."""
    old, new = Blocks([99.0, 101.0], [1, 1], [0, 1]), Blocks([297.0, 303.0], [1, 1], [0, 1])
    table = {"slow": (new, old), "equal": (old, old)}
    assert {result.verdict for result in verdicts_between_runs(table).values()} == {"undecided"}
    judged = verdicts_between_runs(table, [0.01, -0.02, 0.015])
    assert judged["slow"].verdict == "slower"
    assert judged["equal"].verdict == "undecided"
