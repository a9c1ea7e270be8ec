"""The order in which interleaved cells take turns in a round."""

from itertools import pairwise

import pytest

from attnbench.runner.interleaved import round_order

RUNNERS = ["sdpa", "naive", "chunked", "control"]


@pytest.mark.parametrize("runners", [RUNNERS[:1], RUNNERS[:2], RUNNERS], ids=len)
def test_every_second_round_is_the_reverse_of_the_one_before(runners):
    """Every runner has one turn per round, and every second round reverses the order of the previous round."""
    rounds = [round_order(runners, number) for number in range(12)]
    assert all(sorted(order) == sorted(runners) for order in rounds)
    assert all(rounds[number + 1] == rounds[number][::-1] for number in range(0, 12, 2))


def test_every_runner_follows_itself_equally_often():
    """Every runner takes two turns in a row, at the end of one round and the start of the next, equally often."""
    rounds = [round_order(RUNNERS, number) for number in range(2 * len(RUNNERS) + 1)]
    follows_itself = [first[-1] for first, second in pairwise(rounds) if first[-1] == second[0]]
    assert sorted(follows_itself) == sorted(RUNNERS)
