from __future__ import annotations

import pytest

from attnbench.stats.noise_floor import NoiseFloor, student_quantile


@pytest.mark.parametrize(
    ("degrees", "at_5_percent", "at_1_permille"),
    [(1, 12.706, 636.62), (2, 4.303, 31.599), (3, 3.182, 12.924), (10, 2.228, 4.587), (120, 1.980, 3.373)],
)
def test_students_t_agrees_with_printed_tables(degrees, at_5_percent, at_1_permille):
    """Two-sided quantiles of Student's t agree with printed tables for odd and even degrees of freedom."""
    assert student_quantile(0.05, degrees) == pytest.approx(at_5_percent, rel=1e-3)
    assert student_quantile(0.001, degrees) == pytest.approx(at_1_permille, rel=1e-3)
    assert student_quantile(1e-5, degrees) > student_quantile(1e-4, degrees)


def test_students_t_with_many_degrees_is_normal():
    """With 10,000 degrees of freedom, a quantile of Student's t is nearly the normal distribution's quantile."""
    assert student_quantile(0.05, 10_000) == pytest.approx(1.96, rel=0.01)


def test_the_floor_is_the_root_mean_square_of_the_controls():
    """The noise floor is the root mean square of the controls' differences, and is None without controls."""
    floor = NoiseFloor.of([0.03, -0.04])
    assert floor.scale == pytest.approx((0.0025 / 2) ** 0.5)
    assert floor.degrees == 2
    assert NoiseFloor.of([0.02] * 10) == NoiseFloor(pytest.approx(0.02), 10)
    assert NoiseFloor.of([0.0, 0.0]).scale == 0
    assert NoiseFloor.of([]) is None


def test_quiet_controls_do_not_hide_a_noisy_one():
    """If one of ten controls differs far more than the others, its difference dominates the noise floor."""
    floor = NoiseFloor.of([0.001] * 9 + [0.05])
    assert floor.scale > 0.03
    assert floor.degrees <= 2


def test_between_two_runs_each_side_is_one_process():
    """Between two runs, the squares of their noise floors are averaged. If only one run has a floor, it is used."""
    new, old = NoiseFloor(0.03, 4), NoiseFloor(0.04, 6)
    assert NoiseFloor.between(new, old) == NoiseFloor(pytest.approx((0.0025 / 2) ** 0.5), 10)
    assert NoiseFloor.between(new, None) == new
    assert NoiseFloor.between(None, None) is None


def test_the_floor_of_the_other_controls_leaves_one_out():
    """Each control's noise floor is computed from all other controls, even if one control's difference is very large.

    The noise floor of a single control is None.
    """
    means = [0.001, -0.002, 0.0, 0.3, 0.004]
    others = NoiseFloor.of_others(means)
    for index, floor in enumerate(others):
        expected = NoiseFloor.of(means[:index] + means[index + 1 :])
        assert floor == NoiseFloor(pytest.approx(expected.scale, rel=1e-12), expected.degrees)
    assert NoiseFloor.of_others([0.1]) == [None]
    assert NoiseFloor.of_others([]) == []
