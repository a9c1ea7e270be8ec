"""Quantities derived from the blocks of an open cell."""

import pytest

from attnbench.runner.cell_progress import throttled_share


def test_the_throttled_share_counts_samples():
    """The throttled share is the fraction of samples in throttled blocks, and is 0 if there are no samples."""
    blocks = [{"throttle": ["thermal"]}, {"throttle": []}, {}]
    assert throttled_share(blocks, [10, 20, 70]) == pytest.approx(0.1)
    assert throttled_share([], []) == 0


def test_load_from_others_is_not_throttling():
    """A block in which only others had the cores is not throttled, whatever a worker sends as its telemetry."""
    blocks = [{"throttle": ["foreign_load", "steal", "quota"]}, {"throttle": ["steal", "power_cap"]}]
    assert throttled_share(blocks, [10, 30]) == pytest.approx(0.75)
    assert throttled_share([{"throttle": 7}, {"throttle": None}], [1, 1]) == 0
    assert throttled_share([{"throttle": [{}, 3]}], [1]) == 1
