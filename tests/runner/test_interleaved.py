"""The order in which interleaved cells take turns, and the workers that are resident meanwhile."""

from itertools import pairwise

import pytest

from attnbench import store
from attnbench.runner.cell_limits import CellLimits
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


def rounds_of(run):
    """Return the rounds of each timed cell, keyed by (variant, whether it is the A/A control)."""
    return {(record.variant, record.control): set(record.block_rounds) for record in store.read_run(run).records}


def residents(run):
    """Return the number of workers that were resident while each cell was timed, keyed like `rounds_of`."""
    records = store.read_run(run).records
    return {(record.variant, record.control): record.telemetry["resident_workers"] for record in records}


def test_a_group_larger_than_the_device_is_measured_in_parts(stubbed):
    """If a device has fewer places than variants, the variants share rounds with the baseline, a few at a time."""
    run, summary = stubbed.run("alpha", "beta", "gamma", baseline="beta", limits=CellLimits(max_workers=2))
    assert summary.statuses == {"ok": 3}
    rounds = rounds_of(run)
    baseline = rounds.pop(("beta", False))
    assert set(rounds) == {("alpha", False), ("gamma", False), ("beta", True)}
    assert set.union(*rounds.values()) == baseline
    assert sum(map(len, rounds.values())) == len(baseline)  # no two of them share a round
    assert set(residents(run).values()) == {2}
    assert not any(record.flags for record in store.read_run(run).records)


def test_a_device_with_one_place_measures_one_variant_after_the_other(stubbed):
    """On a device with one place, the variants are timed one after the other, without an A/A control."""
    run, _ = stubbed.run("alpha", "beta", limits=CellLimits(max_workers=1))
    assert residents(run) == {("alpha", False): 1, ("beta", False): 1}
    assert all(record.flags == ("not_interleaved",) for record in store.read_run(run).records)


def test_a_large_enough_device_keeps_all_workers(stubbed):
    """If there are enough places, each worker is kept for all workloads, and all variants share their rounds."""
    run, _ = stubbed.run("alpha", "beta", seq=(16, 24))
    assert set(residents(run).values()) == {3}
    assert len({process for _, _, process in stubbed.opened()}) == 3
    assert len(set(map(frozenset, rounds_of(run).values()))) == 1


def test_a_cell_that_is_run_again_is_alone_on_the_device(stubbed, tmp_path):
    """Before a cell is run again, all other workers are stopped; they are started again for the next workload."""
    failure = {"type": "FailedReply", "status": "error", "phase": "measure", "reason": "CUDA error: launch failure"}
    stubbed.behave(beta={"block": {"once": str(tmp_path / "met"), "do": failure}})
    run, _ = stubbed.run("alpha", "beta", "gamma", seq=(16, 24))
    resident = {
        (record.variant, record.workload.seq_k): record.telemetry["resident_workers"]
        for record in store.read_run(run).records
        if not record.control
    }
    assert resident == {
        **dict.fromkeys((("alpha", 16), ("alpha", 24), ("beta", 24), ("gamma", 24)), 4),
        ("gamma", 16): 3,  # beta failed in the first round, before gamma's first block
        ("beta", 16): 1,
    }
    workers = {(name, length): process for name, length, process in stubbed.opened()}
    assert workers["gamma", 16] != workers["gamma", 24]
    assert workers["beta", 16] == workers["beta", 24]
