"""Quantities derived from the blocks of an open cell."""

import pytest

from attnbench.runner.cell_progress import throttled_share


def test_the_throttled_share_counts_samples():
    """The throttled share is the fraction of samples in throttled blocks, and is 0 if there are no samples."""
    blocks = [{"throttle": ["thermal"]}, {"throttle": []}, {}]
    assert throttled_share(blocks, [10, 20, 70]) == pytest.approx(0.1)
    assert throttled_share([], []) == 0
