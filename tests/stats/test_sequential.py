"""Which variants need further processes."""

from __future__ import annotations

import pytest

from attnbench.stats.noise_floor import NoiseFloor
from attnbench.stats.sequential import unclear_variants

FLOOR = NoiseFloor(variance=1e-4, prior_degrees=40.0, pooled_degrees=200.0)  # processes differ by 1%


def row(*log_ratios):
    """Return the log-ratios of the processes 0, 1, ... as a row."""
    return dict(enumerate(log_ratios))


@pytest.mark.parametrize(
    ("rows", "unclear"),
    [
        ({"twice": row(0.69, 0.70), "half": row(-0.69, -0.70)}, set()),
        ({"twice": row(0.69, 0.70), "close": row(0.01, -0.01)}, {"base", "close"}),
        ({"fastest": row(-0.69, -0.70), "next": row(-0.68, -0.69)}, {"base", "fastest", "next"}),
        ({"twice": row(0.69), "half": row(-0.69, -0.70)}, {"base", "half", "twice"}),
        ({"same": row(*[0.0] * 60)}, set()),
        ({"failed": row()}, {"base", "failed"}),
    ],
    ids=["clear", "close to the baseline", "close to the fastest", "one process", "same", "no shared round"],
)
def test_a_variant_is_measured_on_until_its_comparisons_are_clear(rows, unclear):
    """A variant needs no further process if it clearly differs from, or equals, the baseline and the fastest variant.

    The baseline and the fastest variant are measured as long as any other variant is.
    """
    assert unclear_variants(rows, "base", FLOOR, 2) == unclear


def test_nothing_is_clear_without_a_noise_floor():
    """As long as it is unknown how much processes differ, all variants are measured on."""
    assert unclear_variants({"twice": row(0.69, 0.70)}, "base", None, 2) == {"base", "twice"}
