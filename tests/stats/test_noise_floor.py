from __future__ import annotations

import pytest

from attnbench.stats.noise_floor import NoiseFloor, student_quantile


@pytest.mark.parametrize(
    ("degrees", "at_5_percent", "at_1_permille"),
    [(1, 12.706, 636.62), (2, 4.303, 31.599), (3, 3.182, 12.924), (10, 2.228, 4.587), (120, 1.980, 3.373)],
)
def test_students_t_is_that_of_the_tables(degrees, at_5_percent, at_1_permille):
    """Two-sided quantiles agree with printed tables, for odd and even degrees."""
    assert student_quantile(0.05, degrees) == pytest.approx(at_5_percent, rel=1e-3)
    assert student_quantile(0.001, degrees) == pytest.approx(at_1_permille, rel=1e-3)
    assert student_quantile(1e-5, degrees) > student_quantile(1e-4, degrees)


def test_many_degrees_make_it_normal():
    """With very many controls it is nearly the normal distribution's quantile."""
    assert student_quantile(0.05, 10_000) == pytest.approx(1.96, rel=0.01)


def test_the_floor_is_the_root_mean_square_of_the_controls():
    """Differences either way count alike, and without a control there is no floor."""
    floor = NoiseFloor.of([0.03, -0.04])
    assert floor.scale == pytest.approx((0.0025 / 2) ** 0.5)
    assert floor.degrees == 2
    assert NoiseFloor.of([0.02] * 10) == NoiseFloor(pytest.approx(0.02), 10)
    assert NoiseFloor.of([0.0, 0.0]).scale == 0
    assert NoiseFloor.of([]) is None


def test_calm_controls_do_not_hide_a_restless_one():
    """One control of ten that is far off counts for two at most, so the floor stays near it."""
    floor = NoiseFloor.of([0.001] * 9 + [0.05])
    assert floor.scale > 0.03
    assert floor.degrees <= 2


def test_between_two_runs_each_side_is_one_process():
    """A pair's floor holds two processes, so two runs' floors are averaged; one known floor stands for both."""
    ours, theirs = NoiseFloor(0.03, 4), NoiseFloor(0.04, 6)
    assert NoiseFloor.between(ours, theirs) == NoiseFloor(pytest.approx((0.0025 / 2) ** 0.5), 10)
    assert NoiseFloor.between(ours, None) == ours
    assert NoiseFloor.between(None, None) is None


def test_the_floor_of_the_others_is_theirs_alone():
    """For each control it is the floor of the list without it, even of one that hides all others; one has none."""
    means = [0.001, -0.002, 0.0, 0.3, 0.004]
    others = NoiseFloor.of_others(means)
    for index, floor in enumerate(others):
        told = NoiseFloor.of(means[:index] + means[index + 1 :])
        assert floor == NoiseFloor(pytest.approx(told.scale, rel=1e-12), told.degrees)
    assert NoiseFloor.of_others([0.1]) == [None]
    assert NoiseFloor.of_others([]) == []
