"""Quantities that are derived from the blocks of an open cell."""

import pytest

from attnbench.runner.cell_progress import throttled_share


def test_the_throttled_share_counts_samples():
    """Each throttled block is weighted by its number of samples. Without samples the share is 0."""
    blocks = [{"throttle": ["thermal"]}, {"throttle": []}, {}]
    assert throttled_share(blocks, [10, 20, 70]) == pytest.approx(0.1)
    assert throttled_share([], []) == 0
