"""The order in which interleaved cells take turns, and the workers that are resident meanwhile."""

import dataclasses
from itertools import pairwise

import pytest

from attnbench import store
from attnbench.runner import comparisons
from attnbench.runner.cell_limits import CellLimits
from attnbench.runner.interleaved import round_order
from stubbed_runs import PROCESSES, SHORTEST

RUNNERS = ["sdpa", "naive", "chunked", "flex"]


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
    """Return the rounds of each timed cell, keyed by variant."""
    return {record.variant: set(record.block_rounds) for record in store.read_run(run).records}


def residents(run):
    """Return the number of workers that were resident while each cell was timed, keyed by variant."""
    return {record.variant: record.telemetry["resident_workers"] for record in store.read_run(run).records}


@pytest.fixture
def unclear(monkeypatch):
    """Let the comparisons of all variants, or of those that a test puts into the returned list, remain unclear."""
    names = ["alpha", "beta", "gamma"]
    monkeypatch.setattr(comparisons, "unclear_variants", lambda *_: set(names))
    return names


@pytest.mark.usefixtures("unclear")
def test_each_cell_is_measured_in_several_processes(stubbed):
    """Each variant is measured in one process after the other, and takes turns with the same process of the others."""
    run, _ = stubbed.run("alpha", "beta", protocol=dataclasses.replace(SHORTEST, processes=3))
    alpha, beta = store.read_run(run).records
    assert set(alpha.block_processes) == {0, 1, 2}
    assert len(alpha.block_processes) == len(alpha.block_sizes)
    by_round = [dict(zip(record.block_rounds, record.block_processes, strict=True)) for record in (alpha, beta)]
    assert by_round[0] == by_round[1]
    opened = [(name, process) for name, _, process in stubbed.opened()]
    assert len(set(opened)) == 6
    assert [name for name, _ in opened] == ["alpha", "beta"] * 3


def test_a_cell_with_clear_comparisons_is_not_measured_in_all_processes(stubbed, unclear):
    """Cells whose comparisons are clear end, with all checks, while the others and the baseline are measured on."""
    unclear[:] = ["beta"]
    run, summary = stubbed.run("alpha", "beta", "gamma", protocol=dataclasses.replace(SHORTEST, processes=4))
    assert summary.statuses == {"ok": 3}
    processes = {record.variant: {*record.block_processes} for record in store.read_run(run).records}
    assert processes == {"alpha": {0, 1, 2, 3}, "beta": {0, 1, 2, 3}, "gamma": {0}}
    assert all(record.peak_bytes is not None and record.kernels for record in store.read_run(run).records)


def test_a_single_variant_is_measured_in_all_processes(stubbed):
    """Without another variant in the run, the baseline has all its processes, for comparisons with other runs."""
    run, _ = stubbed.run("alpha", protocol=dataclasses.replace(SHORTEST, processes=4))
    (record,) = store.read_run(run).records
    assert {*record.block_processes} == {0, 1, 2, 3}


def test_the_processes_of_a_cell_share_its_budget(stubbed):
    """Each process gets an equal share of the budget, and is told whether the cell was checked before."""
    protocol = dataclasses.replace(SHORTEST, processes=4, budget_s=1.0, min_blocks=20)
    share = protocol.share(4, "cpu")
    assert (share.budget_s, share.min_blocks) == (0.25, 5)
    run, _ = stubbed.run("alpha", protocol=protocol)
    (record,) = store.read_run(run).records
    assert set(record.block_processes) == {0, 1, 2, 3}
    assert record.stopped_by == "precision"


def by_variant(run):
    """Return the run's records, keyed by variant."""
    return {record.variant: record for record in store.read_run(run).records}


def disturbed_block(*causes):
    """Return a stub worker's reply: a block during which `causes` applied."""
    telemetry = {"throttle": list(causes)}
    return {"type": "Block", "samples_ns": [2e4], "calls_per_sample": 1, "wall_ns": 1e5, "telemetry": telemetry}


def test_a_round_in_which_others_had_the_cores_is_measured_again(stubbed, tmp_path):
    """A variant whose block was disturbed is measured again together with the baseline, and its record says so."""
    behaviour = {"once": str(tmp_path / "met"), "do": disturbed_block("foreign_load")}
    stubbed.behave(beta={"block": behaviour})
    run, _ = stubbed.run("alpha", "beta")
    records = by_variant(run)
    alpha, beta = records["alpha"], records["beta"]
    assert alpha.block_rounds == beta.block_rounds
    counts = [(record.telemetry["disturbed_blocks"], record.telemetry["repeated_blocks"]) for record in (alpha, beta)]
    assert counts == [(0, 0), (1, 1)]
    assert alpha.flags == beta.flags == ()
    undisturbed, _ = stubbed.run("alpha", "beta", name="undisturbed")
    assert len(alpha.block_rounds) == len(by_variant(undisturbed)["alpha"].block_rounds) + 1


def test_rounds_are_measured_again_a_limited_number_of_times(stubbed):
    """If others have the cores all the time, a cell repeats as many rounds as each process needs, and then ends."""
    stubbed.behave(beta={"block": disturbed_block("steal")})
    run, summary = stubbed.run("alpha", "beta")
    records = by_variant(run)
    alpha, beta = records["alpha"], records["beta"]
    assert summary.statuses == {"ok": 2}
    repeats = PROCESSES * SHORTEST.share(PROCESSES, "cpu").min_blocks
    assert (alpha.telemetry["repeated_blocks"], beta.telemetry["repeated_blocks"]) == (0, repeats)
    assert beta.telemetry["disturbed_blocks"] == len(beta.block_rounds) > repeats
    assert (alpha.flags, beta.flags) == ((), ("disturbed",))


def test_a_throttled_round_is_not_measured_again(stubbed):
    """A limit of power or temperature slows down all variants of a round alike, so it causes no further rounds."""
    stubbed.behave(beta={"block": disturbed_block("power_cap")})
    run, _ = stubbed.run("alpha", "beta")
    beta = by_variant(run)["beta"]
    assert beta.telemetry["repeated_blocks"] == 0
    assert beta.flags == ("throttled",)


def test_a_cell_that_fails_in_a_later_process_has_failed(stubbed, tmp_path):
    """If a cell fails in its second process, its record is that failure, and the other cells are measured on."""
    stubbed.behave(beta={"close": {"type": "FailedReply", "status": "incorrect", "phase": "conform", "reason": "no"}})
    _, summary = stubbed.run("alpha", "beta")
    assert summary.statuses == {"ok": 1, "incorrect": 1}
    assert len([name for name, _, _ in stubbed.opened() if name == "beta"]) == 1


def test_a_group_larger_than_the_device_is_measured_in_parts(stubbed):
    """If a device has fewer places than variants, the variants share rounds with the baseline, a few at a time."""
    run, summary = stubbed.run("alpha", "beta", "gamma", baseline="beta", limits=CellLimits(max_workers=2))
    assert summary.statuses == {"ok": 3}
    rounds = rounds_of(run)
    baseline = rounds.pop("beta")
    assert set(rounds) == {"alpha", "gamma"}
    assert set.union(*rounds.values()) == baseline
    assert sum(map(len, rounds.values())) == len(baseline)  # no two of them share a round
    assert set(residents(run).values()) == {2}
    assert not any(record.flags for record in store.read_run(run).records)


def test_a_device_with_one_place_measures_one_variant_after_the_other(stubbed):
    """On a device with one place, the variants are timed one after the other, each in a single process."""
    run, _ = stubbed.run("alpha", "beta", limits=CellLimits(max_workers=1))
    assert residents(run) == {"alpha": 1, "beta": 1}
    for record in store.read_run(run).records:
        assert record.flags == ("not_interleaved",)
        assert set(record.block_processes) == {0}


def test_a_large_enough_device_keeps_all_workers(stubbed):
    """If there are enough places, each worker is kept for all workloads, and all variants share their rounds."""
    run, _ = stubbed.run("alpha", "beta", seq=(16, 24))
    assert set(residents(run).values()) == {2 * PROCESSES}
    assert len({process for _, _, process in stubbed.opened()}) == 2 * PROCESSES
    assert len(set(map(frozenset, rounds_of(run).values()))) == 1


def test_a_cell_that_is_run_again_is_alone_on_the_device(stubbed, tmp_path):
    """Before a cell is run again, all other workers are stopped; they are started again for the next workload."""
    failure = {"type": "FailedReply", "status": "error", "phase": "measure", "reason": "CUDA error: launch failure"}
    stubbed.behave(beta={"block": {"once": str(tmp_path / "met"), "do": failure}})
    run, _ = stubbed.run("alpha", "beta", "gamma", seq=(16, 24))
    resident = {
        (record.variant, record.workload.seq_k): record.telemetry["resident_workers"]
        for record in store.read_run(run).records
    }
    assert resident == {
        **dict.fromkeys((("alpha", 24), ("beta", 24), ("gamma", 24)), 3 * PROCESSES),
        **dict.fromkeys((("alpha", 16), ("gamma", 16)), 2 * PROCESSES),  # beta failed in its first process
        ("beta", 16): 1,
    }
    workers = {}
    for name, length, process in stubbed.opened():
        workers.setdefault((name, length), []).append(process)
    assert not {*workers["gamma", 16]} & {*workers["gamma", 24]}
    assert workers["beta", 16][-1] == workers["beta", 24][0]  # the worker that ran beta again
