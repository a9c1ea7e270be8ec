"""Tests of `covering`, which finds a small set of combinations that contains every pair of choices."""

import itertools

from attnbench.conformance.check_workloads import covering
from attnbench.conformance.checks.combinations import CHOICES, COMBINED


def pairs(combinations):
    """Return all pairs of choices that occur together in a combination."""
    return {
        ((one, str(combination[one])), (other, str(combination[other])))
        for combination in combinations
        for one, other in itertools.combinations(combination, 2)
    }


def test_every_two_choices_occur_together():
    """Every pair of choices occurs in a combination.

    The number of combinations exceeds the product of the two longest lists' lengths by at most 5%.
    """
    wanted = sum(len(one) * len(other) for one, other in itertools.combinations(CHOICES.values(), 2))
    made = covering(CHOICES)
    assert len(pairs(made)) == wanted
    longest, second, *_ = sorted(map(len, CHOICES.values()), reverse=True)
    assert len(made) <= 1.05 * longest * second


def test_the_first_combinations_contain_most_pairs():
    """The first 12 combinations contain over a fifth of all pairs, and every choice of each feature except the mask."""
    made = covering(CHOICES)
    assert len(pairs(made[:12])) > len(pairs(made)) / 5
    for name in ("lengths", "heads", "widths", "scores", "dtype", "batch", "direction"):
        assert {str(each[name]) for each in made[:12]} == {str(choice) for choice in CHOICES[name]}


def test_each_combination_is_a_workload():
    """Each combination is a valid workload; those with a document mask have as many keys as queries."""
    assert {workload.mask.kind for workload in COMBINED} >= {"document", "padding", "window", "prefix"}
    assert all(w.seq_q == w.seq_k for w in COMBINED if w.mask.kind == "document")
