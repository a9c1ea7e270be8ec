from __future__ import annotations

import math

import numpy as np
import pytest

from attnbench.stats.noise_floor import NoiseFloor


def simulated_rows(generator, deviations, processes):
    """Return rows of log-ratios around 0, one row for each standard deviation in `deviations`."""
    return [list(deviation * generator.standard_normal(processes)) for deviation in deviations]


def test_a_single_row_is_judged_by_its_own_scatter():
    """With one row, the standard error is that of the row's mean, with one degree less than it has processes."""
    error, degrees = NoiseFloor.of([[0.01, 0.03, -0.01, 0.05]]).of_mean([0.01, 0.03, -0.01, 0.05])
    assert error == pytest.approx(np.std([0.01, 0.03, -0.01, 0.05], ddof=1) / 2)
    assert degrees == 3


def test_rows_of_equal_scatter_share_one_variance():
    """If the rows' variances differ no more than chance explains, each row gets nearly the variance of all rows."""
    floor = NoiseFloor.of(simulated_rows(np.random.default_rng(1), [0.02] * 200, 3))
    quiet_row = [0.0, 0.0001, -0.0001]
    error, degrees = floor.of_mean(quiet_row)
    assert error == pytest.approx(0.02 / math.sqrt(3), rel=0.1)
    assert degrees > 100


def test_rows_of_different_scatter_keep_their_own():
    """If some rows scatter 30 times as much as others, the typical variance hardly changes a row's own variance."""
    rows = simulated_rows(np.random.default_rng(2), [0.001, 0.03] * 100, 6)
    floor = NoiseFloor.of(rows)
    assert floor.prior_degrees < 2
    assert floor.of_mean(rows[1])[0] > 5 * floor.of_mean(rows[0])[0]


def test_the_prior_is_that_of_smyth():
    """The prior variance and its degrees of freedom agree with simulated variances of known prior."""
    generator = np.random.default_rng(3)
    variances = 4e-4 * 8 / generator.chisquare(8, size=4_000)  # prior of 8 degrees around 4e-4
    rows = [list(math.sqrt(variance) * generator.standard_normal(5)) for variance in variances]
    floor = NoiseFloor.of(rows)
    assert floor.prior_degrees == pytest.approx(8, rel=0.25)
    assert floor.variance == pytest.approx(4e-4, rel=0.05)
    assert floor.relative == pytest.approx(math.expm1(0.02), rel=0.03)


def test_controls_show_the_scatter_of_rows_with_one_process():
    """A row with one pair of processes is judged by the differences of the controls, which run the same code."""
    assert NoiseFloor.of([[0.1], [0.2]]) is None
    error, degrees = NoiseFloor.of([[0.1]], controls=[0.03, -0.04]).of_mean([0.1])
    assert error == pytest.approx(math.sqrt((0.03**2 + 0.04**2) / 2))
    assert degrees == 2


def test_rows_without_scatter_give_a_noise_floor_of_zero():
    """Rows whose processes agree exactly have a standard error of 0, alone or among others."""
    rows = [[0.1] * 5, [0.2] * 5, [0.0] * 5, [0.0] * 5]
    assert NoiseFloor.of(rows).of_mean(rows[0])[0] == 0
    scattered = NoiseFloor.of([*rows, [0.1, 0.2, 0.3]])
    assert 0 < scattered.of_mean(rows[0])[0] < scattered.of_mean([0.1, 0.2, 0.3])[0]
