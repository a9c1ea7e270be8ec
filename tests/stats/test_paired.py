from __future__ import annotations

import random

import numpy as np
import pytest
from simulated import Machine, session

from attnbench.measure_config import MeasureConfig
from attnbench.stats import paired
from attnbench.stats.bootstrap import winsorise
from attnbench.stats.paired import (
    Blocks,
    PairedResult,
    floor_of,
    is_regression,
    paired_log_ratios,
    summarise_controls,
    verdicts,
    verdicts_between_runs,
)

CONFIG = MeasureConfig(min_time_s=0.1, block_s=0.02, budget_s=1.0)


def share_judged_different(slow_down, sessions, *, interleave=True, margin=0.01, **machine):
    """Return the share of sessions in which the candidate is judged faster or slower.

    The candidate takes `slow_down` times as long as the baseline.
    """
    found = 0
    for seed in range(sessions):
        cells = session(Machine(seed=seed, **machine), [1e6, 1e6 * slow_down], CONFIG, interleave=interleave)
        (baseline, _), (candidate, _) = cells
        row = paired_log_ratios(candidate, baseline)
        found += verdicts({0: row}, margin=margin)[0].verdict in ("faster", "slower")
    return found / sessions


@pytest.mark.parametrize("drift", [0.05, 0.1])
def test_identical_code_is_not_judged_different_under_drift(drift):
    """At most 5% of interleaved sessions of identical code give a false verdict while the machine slows down."""
    assert share_judged_different(1.0, 100, noise=0.01, drift=drift) <= 0.05
    assert share_judged_different(1.0, 100, noise=0.01, drift=drift, margin=0.0) <= 0.05


def test_sequential_measurement_judges_identical_code_different():
    """Counter-example: without interleaving, drift is mistaken for a difference in at least 45% of sessions."""
    assert share_judged_different(1.0, 40, noise=0.01, drift=0.1, margin=0.0, interleave=False) >= 0.45


def test_a_slow_down_of_three_percent_is_found():
    """A slow-down of 3% is detected in at least 95% of sessions with 1% noise, independent or autocorrelated."""
    assert share_judged_different(1.03, 60, noise=0.01) >= 0.95
    assert share_judged_different(1.03, 60, noise=0.01, rho=0.8) >= 0.95


def test_a_table_of_identical_rows_is_rarely_wrong_anywhere():
    """Holm's correction keeps the chance of any false verdict in a table of 30 rows near 5%."""
    generator = np.random.default_rng(3)
    wrong = 0
    for seed in range(40):
        table = {row: list(0.01 * generator.standard_normal(10)) for row in range(30)}
        wrong += any(
            result.verdict in ("faster", "slower") for result in verdicts(table, margin=0.0, seed=seed).values()
        )
    assert wrong <= 5  # 40 x 5% = 2 wrong tables are expected; the probability of more than 5 is 1%


def simulated_table(generator, workloads, candidates, placement):
    """Return a table of rows for identical code, and the rows of the controls.

    Each process is faster or slower by a constant amount, drawn with a standard deviation from `placement`.
    """
    table, controls = {}, []
    for workload in range(workloads):
        spread = placement[workload % len(placement)]
        baseline = spread * generator.standard_normal()
        rows = [
            list(spread * generator.standard_normal() - baseline + 0.005 * generator.standard_normal(12))
            for _ in range(candidates + 1)
        ]
        controls.append(rows.pop())
        table.update({(workload, candidate): row for candidate, row in enumerate(rows)})
    return table, controls


def share_of_wrong_tables(sessions, *shape, floored):
    """Return the share of simulated runs of identical code in which any row is judged faster or slower."""
    generator = np.random.default_rng(11)
    wrong = 0
    for _ in range(sessions):
        table, controls = simulated_table(generator, *shape)
        judged = verdicts(table, floor=floor_of(controls) if floored else None, margin=0.0)
        wrong += any(result.verdict in ("faster", "slower") for result in judged.values())
    return wrong / sessions


@pytest.mark.parametrize(
    ("workloads", "placement"), [(1, [0.05]), (3, [0.05]), (8, [0.15]), (8, [0.002, 0.01, 0.02, 0.05])], ids=str
)
def test_processes_of_the_same_code_are_not_judged_different(workloads, placement):
    """If processes of the same code differ in speed, at most about 5% of tables contain a false verdict."""
    share = share_of_wrong_tables(100, workloads, 3, placement, floored=True)
    assert share <= 0.08  # 5% plus one and a half standard errors


def test_without_a_floor_the_placement_of_processes_is_mistaken_for_a_difference():
    """Counter-example: if processes differ in speed, nearly all tables without a noise floor have a false verdict."""
    assert share_of_wrong_tables(20, 3, 3, [0.05], floored=False) >= 0.9


def test_a_difference_beyond_the_floor_is_found():
    """If processes of the same code differ in speed by 0.2%, a slow-down of 3% is detected in at least 95% of rows."""
    generator = np.random.default_rng(12)
    found = 0
    for _ in range(20):
        table, controls = simulated_table(generator, 8, 3, [0.002])
        slower = {key: [ratio + 0.03 for ratio in row] for key, row in table.items()}
        found += sum(result.verdict == "slower" for result in verdicts(slower, floor=floor_of(controls)).values())
    assert found / (20 * 24) >= 0.95


def test_a_control_is_judged_with_the_floor_of_the_others():
    """Only a control that differs far more than the others is a false positive, and a single control is not judged."""
    generator = np.random.default_rng(13)
    rows = [list(shift + 0.002 * generator.standard_normal(12)) for shift in (0.05, -0.06, 0.04, -0.05)]
    assert summarise_controls(rows).false_positives == 0
    outlier = [0.3 + 0.001 * index for index in range(12)]
    assert summarise_controls([*[[0.001 * sign] * 12 for sign in (1, -1) * 6], outlier]).false_positives == 1
    assert summarise_controls(rows[:1]).false_positives == 0


def test_each_control_is_winsorised_once(monkeypatch):
    """Judging a thousand controls, each with the noise floor of all others, winsorises only a thousand rows."""
    winsorised = []
    monkeypatch.setattr(paired, "winsorise", lambda rows: (winsorised.extend(rows), winsorise(rows))[1])
    generator = np.random.default_rng(14)
    rows = [list(0.002 * generator.standard_normal(8)) for _ in range(1_000)]
    assert summarise_controls(rows).cells == 1_000
    assert len(winsorised) == 1_000


def test_verdicts_can_be_read_from_their_intervals():
    """The verdicts faster, slower, same and undecided follow from the position of the interval."""
    generator = np.random.default_rng(4)
    means = {"faster": -0.2, "slower": 0.2, "same": 0.001, "undecided": 0.0}
    spread = {"undecided": 0.2}
    table = {name: list(mean + spread.get(name, 0.002) * generator.standard_normal(20)) for name, mean in means.items()}
    for name, result in verdicts(table).items():
        assert result.verdict == name
        assert result.low < result.ratio < result.high
    judged = verdicts(table)
    assert judged["faster"].high < 1 < judged["slower"].low
    assert judged["same"].low > 0.99
    assert judged["same"].high < 1.01


def test_a_row_of_one_round_alone_is_undecided():
    """A single row with one round gives a ratio but no interval, because the row's scatter is unknown."""
    result = verdicts({"row": [0.1]})["row"]
    assert (result.verdict, result.low, result.high, result.rounds) == ("undecided", None, None, 1)
    assert result.ratio == pytest.approx(1.105, abs=1e-3)
    assert verdicts({"row": []}, floor=floor_of([[0.01] * 10]))["row"].verdict == "undecided"


def test_short_rows_share_the_largest_scatter_of_their_table():
    """A row with one round is judged with the largest scatter and the total degrees of freedom of all short rows."""
    result = verdicts({"one": [0.7], "noisy": [0.68, 0.72, 0.7], "quiet": [0.7, 0.7001]})["one"]
    # The half-width is the t quantile for (3 - 1) + (2 - 1) degrees of freedom at Holm's last level, times the largest
    # standard deviation.
    half = 3.182 * 0.02
    assert result.verdict == "slower"
    assert (result.low, result.high) == pytest.approx((np.exp(0.7 - half), np.exp(0.7 + half)), rel=1e-3)


def slow_calls(seed, costs, noises):
    """Simulate eight workloads with very long calls, and return the table and the rows of the controls.

    The budget allows only one to six rounds with two samples each. The processes differ in speed by 1%, and the machine
    slows down. The last two cells of each workload are the baseline and its A/A control.
    """
    table, controls = {}, []
    generator = random.Random(seed)  # noqa: S311 - simulated noise
    for workload in range(8):
        length = generator.uniform(0.15e9, 0.6e9)
        machine = Machine(seed=generator.randrange(1 << 30), drift=0.01)
        samples = [[] for _ in costs]
        speeds = [1 + 0.01 * generator.gauss(0, 1) for _ in costs]
        rounds = range(max(1, int(1e9 / length)))
        for number in rounds:
            for index in range(len(costs)) if number % 2 == 0 else reversed(range(len(costs))):
                machine.noise = noises[index]
                samples[index] += [machine.call(length * costs[index] * speeds[index]) for _ in range(2)]
        *candidates, baseline, twin = (Blocks(taken, [2] * len(rounds), list(rounds)) for taken in samples)
        for place, candidate in enumerate(candidates):
            table[workload, place] = paired_log_ratios(candidate, baseline)
        controls.append(paired_log_ratios(twin, baseline))
    return table, controls


@pytest.mark.parametrize("noises", [[0.01] * 5, [0.2, 0.1, 0.05, 0.01, 0.01]], ids=["equal noise", "noisy candidates"])
def test_short_rows_of_identical_code_are_not_judged_different(noises):
    """At most about 5% of tables of identical code have a false verdict, even with few rounds and noisy candidates."""
    wrong = 0
    for seed in range(100):
        table, controls = slow_calls(seed, [1.0] * 5, noises)
        assert max(map(len, table.values())) < 8
        judged = verdicts(table, floor=floor_of(controls), margin=0.0)
        wrong += any(result.verdict in ("faster", "slower") for result in judged.values())
    assert wrong / 100 <= 0.08  # 5% plus one and a half standard errors


def test_short_rows_find_a_factor_of_two():
    """At 1% noise, a candidate that takes twice as long is detected in at least 95% of rows with one to six rounds."""
    judged = []
    for seed in range(10):
        table, controls = slow_calls(seed, [2.0] * 3 + [1.0] * 2, [0.01] * 5)
        judged += verdicts(table, floor=floor_of(controls)).values()
    assert sum(result.verdict == "slower" for result in judged) / len(judged) >= 0.95


def test_rows_without_any_scatter_are_decided():
    """Rows without noise have intervals of zero width, so their verdicts are never `undecided`."""
    judged = verdicts({"slow": [0.1] * 10, "same": [0.0] * 10})
    assert judged["slow"].verdict == "slower"
    assert judged["same"].verdict == "same"


def test_ratios_pair_the_common_rounds():
    """Only rounds in which both cells were measured are paired, and all blocks of a round are pooled."""
    candidate = Blocks([2.0, 2.0, 4.0, 8.0], [2, 1, 1], [0, 2, 3])
    baseline = Blocks([1.0, 1.0, 2.0, 9.0], [1, 1, 1, 1], [0, 2, 2, 4])
    assert paired_log_ratios(candidate, baseline) == pytest.approx([np.log(2), np.log(4 / 1.5)])


def test_the_noise_floor_of_few_controls_is_their_largest_difference():
    """The noise floor of a few controls is their largest difference, and noise alone causes no false positive."""
    generator = np.random.default_rng(5)
    rows = [list(shift + 0.001 * generator.standard_normal(12)) for shift in (0.0, 0.004, -0.006)]
    found = summarise_controls(rows)
    assert found.cells == 3
    assert found.noise_floor == pytest.approx(0.006, abs=0.001)
    assert found.false_positives == 0
    assert summarise_controls([]).noise_floor is None


@pytest.mark.parametrize(
    ("low", "floors", "expected"),
    [(1.05, (0.0, None), True), (1.02, (0.0, 0.0), False), (1.05, (0.001, 0.02), False)],
)
def test_a_regression_lies_beyond_the_bar_and_the_noise_floors(low, floors, expected):
    """A regression is a slow-down whose whole interval lies above 3% and above three times each run's noise floor."""
    result = PairedResult(1.08, low, 1.1, 0.0, 0.95, "slower", 10)
    assert is_regression(result, 0.03, *floors) is expected


def test_runs_are_compared_without_pairs():
    """Between two runs, a slow-down of 10% is detected, and cells with equal costs are judged the same."""
    generator = random.Random(6)  # noqa: S311 - simulated noise

    def cell(cost):
        samples = [cost * (1 + 0.01 * generator.gauss(0, 1)) for _ in range(120)]
        return Blocks(samples, [10] * 12, list(range(12)))

    judged = verdicts_between_runs({"slow": (cell(110.0), cell(100.0)), "equal": (cell(100.0), cell(100.0))})
    assert judged["slow"].verdict == "slower"
    assert judged["slow"].low < 1.1 < judged["slow"].high
    assert judged["equal"].verdict == "same"


def test_few_rounds_of_two_runs_are_compared():
    """Between two runs with two rounds each, a cell that takes three times as long is judged slower.

    Cells with equal times are undecided.
    """
    old, new = Blocks([99.0, 101.0], [1, 1], [0, 1]), Blocks([297.0, 303.0], [1, 1], [0, 1])
    judged = verdicts_between_runs({"slow": (new, old), "equal": (old, old), "other": (new, new)})
    assert {name: result.verdict for name, result in judged.items()} == {
        "slow": "slower", "equal": "undecided", "other": "undecided"
    }  # fmt: skip
