"""Blocks in which others had the cores, and the sentences that warn of them."""

import pytest

from attnbench.stats.disturbance import CellLoad, causes, exceeds_limit, load_warnings


def block(*throttle, cores_used=1.0, waited=0.0):
    """Return a block's telemetry."""
    return {"throttle": list(throttle), "cores_used": cores_used, "waited": waited}


def test_others_had_the_cores_if_a_cause_says_so():
    """Load, steal time and a spent quota are causes, a limit of power is not, and odd telemetry has no cause."""
    assert causes(block("foreign_load", "power_cap")) == ["foreign_load"]
    assert causes(block("quota", "steal")) == ["steal", "quota"]
    for odd in ({}, {"throttle": None}, {"throttle": 3}, {"throttle": [{}, 1]}, {"throttle": "steal"}):
        assert causes(odd) == []


def test_more_than_half_of_the_blocks_must_be_disturbed():
    """A cell with half of its blocks disturbed keeps its verdict, and one without blocks, too."""
    assert not exceeds_limit([])
    assert not exceeds_limit([True, False])
    assert exceeds_limit([True, True, False])


def test_a_warning_says_what_happened_how_often_and_what_to_do():
    """The warning names the most frequent cause, the share of blocks and the remedy."""
    cells = [CellLoad.of("naive", [block("foreign_load")] * 3), CellLoad.of("sdpa", [block("foreign_load", "steal")])]
    assert load_warnings(cells) == [
        "no verdict: other processes used the cores in 100% of the blocks; stop them and run again"
    ]
    stolen = [CellLoad.of("naive", [block("steal"), block("steal"), block()]), CellLoad.of("sdpa", [block()])]
    (warning,) = load_warnings(stolen)
    assert warning.startswith("no verdict for 1 of 2 cells: the hypervisor took the cores away in 67% of the blocks;")


def test_there_is_no_warning_as_long_as_most_blocks_are_undisturbed():
    """Cells with at most half of their blocks disturbed cause no warning, and neither do cells without blocks."""
    assert load_warnings([CellLoad.of("naive", [block("quota"), block()]), CellLoad.of("sdpa", [])]) == []


def test_a_warning_names_the_variants_that_suffer_most():
    """If variants with different numbers of threads compete under load, a second sentence names the extremes.

    A thread that waits for a core counts as a core, because under load a variant gets fewer cores than it would use.
    """
    cells = [
        CellLoad.of("naive", [block("foreign_load", cores_used=0.7, waited=0.3)]),
        CellLoad.of("sdpa", [block("foreign_load", cores_used=1.2, waited=0.7)]),
    ]
    assert load_warnings(cells)[1] == (
        "variants that use more cores suffer more from this: sdpa uses 1.9 cores, naive 1.0"
    )
    assert len(load_warnings([*cells[:1], CellLoad.of("other", [block("foreign_load")])])) == 1


@pytest.mark.parametrize("odd", [None, "2", [1]])
def test_unknown_numbers_of_cores_are_left_out(odd):
    """Blocks of earlier versions, or with odd values, have no number of cores."""
    assert CellLoad.of("naive", [block(cores_used=odd)]).cores is None
    assert CellLoad.of("naive", [block(waited=odd)]).cores == 1.0
