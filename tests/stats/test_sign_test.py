from __future__ import annotations

import random
from math import comb

import pytest

from attnbench.stats.sign_test import SignTest


def test_evidence_grows_with_true_comparisons():
    """Each true comparison increases the evidence, and each false one decreases it."""
    test, evidence = SignTest(), [1.0]
    for true in (True, True, False, True):
        test.add(true)
        evidence.append(test.evidence)
    assert evidence == pytest.approx(
        [1.0, 1.6, 2.6, (1.4**2 * 0.6 + 1.8**2 * 0.2) / 2, (1.4**3 * 0.6 + 1.8**3 * 0.2) / 2]
    )
    assert test.evidence == SignTest((False, True, True, True)).evidence


@pytest.mark.parametrize("count", [1, 5, 12])
def test_a_fair_coin_gains_no_evidence(count):
    """The expected evidence of comparisons that are true half of the time is 1, whatever their number."""
    expected = sum(
        comb(count, true) / 2**count * SignTest((True,) * true + (False,) * (count - true)).evidence
        for true in range(count + 1)
    )
    assert expected == pytest.approx(1.0)


@pytest.mark.parametrize("needed", [10.0, 100.0])
def test_a_fair_coin_rarely_reaches_evidence_at_any_time(needed):
    """The share of sequences of fair coins that ever reach an evidence of `needed` is at most 1 / `needed`."""
    generator, runs, reached = random.Random(4), 4000, 0  # noqa: S311 - simulated coins
    for _ in range(runs):
        test = SignTest()
        for _ in range(60):
            test.add(generator.random() < 0.5)
            if test.evidence >= needed:
                reached += 1
                break
    assert 0 < reached / runs <= 1.1 / needed
