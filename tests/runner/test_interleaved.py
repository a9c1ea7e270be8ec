"""In which order the lanes of a group take turns."""

from itertools import pairwise

import pytest

from attnbench.runner.interleaved import round_order

LANES = ["sdpa", "naive", "chunked", "control"]


@pytest.mark.parametrize("lanes", [LANES[:1], LANES[:2], LANES], ids=len)
def test_rounds_come_in_pairs_of_which_the_second_is_the_first_in_reverse(lanes):
    """Every lane has its turn in every round, A B B A, so that a steady drift costs all of them alike."""
    rounds = [round_order(lanes, number) for number in range(12)]
    assert all(sorted(order) == sorted(lanes) for order in rounds)
    assert all(rounds[number + 1] == rounds[number][::-1] for number in range(0, 12, 2))


def test_everybody_follows_itself_equally_often():
    """Who comes last in a round comes first in the next; over the rounds that falls to each lane alike."""
    rounds = [round_order(LANES, number) for number in range(2 * len(LANES) + 1)]
    twice = [first[-1] for first, second in pairwise(rounds) if first[-1] == second[0]]
    assert sorted(twice) == sorted(LANES)
