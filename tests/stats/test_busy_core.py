"""Verdicts of simulated runs beside a process that uses a core in bursts."""

import pytest
from busy_core import BusyMachine, count_verdicts

# The first variant uses both cores and is the fastest. Two others use one core, so a busy core hardly hurts them.
TRUE_NS, THREADS = [1e6, 1.3e6, 1.45e6, 1.1e6], [2, 1, 1, 2]
RUNS = 200


@pytest.mark.parametrize("burst_blocks", [1.5, 5, 50])
@pytest.mark.parametrize("busy_share", [0.1, 0.3, 0.5, 0.8, 1.0])
def test_load_never_reverses_a_verdict(busy_share, burst_blocks):
    """However long and frequent the bursts are, the fastest variant is never judged slower than or equal to another."""
    counts = count_verdicts(BusyMachine(busy_share, burst_blocks), RUNS, TRUE_NS, THREADS)
    assert counts["faster"] == counts["same"] == 0
    assert counts.total() == 3 * RUNS


def test_seldom_load_leaves_the_verdicts():
    """If others use a core for a tenth of the time, nearly all differences are found in the undisturbed rounds."""
    assert count_verdicts(BusyMachine(0.1), RUNS, TRUE_NS, THREADS)["slower"] >= 0.95 * 3 * RUNS


@pytest.mark.parametrize("busy_share", [0.1, 0.3, 0.5, 1.0])
def test_load_does_not_tell_equal_variants_apart(busy_share):
    """Equally fast variants with one and two threads are told apart no more often than without load."""
    counts = count_verdicts(BusyMachine(busy_share), 400, [1e6, 1e6, 1e6], [2, 1, 1])
    assert counts["faster"] + counts["slower"] <= 0.06 * counts.total()


def test_a_core_that_is_always_busy_leaves_no_verdict():
    """If others use a core all the time, every comparison with a disturbed variant is undecided."""
    assert count_verdicts(BusyMachine(1.0), RUNS, TRUE_NS, THREADS) == {"undecided": 3 * RUNS}


@pytest.mark.parametrize("busy_share", [0.5, 1.0])
def test_without_the_marks_of_disturbed_blocks_verdicts_are_wrong(busy_share):
    """Counter-example: if all blocks were evidence, variants with one thread would seem to be faster than they are."""
    counts = count_verdicts(BusyMachine(busy_share, 50), RUNS, TRUE_NS, THREADS, use_flags=False)
    assert counts["faster"] >= 0.05 * counts.total()
