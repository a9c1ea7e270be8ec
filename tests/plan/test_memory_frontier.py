"""Cells that are predicted not to fit in memory, and the search for the largest length that fits."""

import dataclasses

import pytest

from attnbench import Workload
from attnbench.plan.memory_frontier import MAX_CALL_S, LengthOutcome, at_length, next_length, no_smaller, series_key
from attnbench.runner.cell_limits import CellLimits
from attnbench.runner.resume import resumed
from attnbench.runner.run import execute

SMALL = Workload(heads=2, seq_q=128, head_dim=8, mask="causal")
SUITE = """
name = "far"
frontier = true
[[grid]]
heads = 2
head_dim = 8
seq = [1024, 2048]
"""


def searched(limit, start=(1024, 2048), call_s=0.0):
    """Simulate a search on a device on which lengths up to `limit` fit, and return the lengths tried and the result."""
    known = {length: LengthOutcome("ok" if length <= limit else "out_of_memory", call_s) for length in start}
    tried = []
    while (length := next_length(known)) is not None:
        assert length not in known
        tried.append(length)
        known[length] = LengthOutcome("ok" if length <= limit else "out_of_memory", call_s)
    return tried, max((length for length, outcome in known.items() if outcome.status == "ok"), default=0)


@pytest.mark.parametrize("limit", [256, 700, 1024, 1500, 2048, 5000, 99_999, 1_000_000])
def test_the_largest_length_is_found_to_an_eighth(limit):
    """The search finds the largest length that fits, to within an eighth of the power of two below it."""
    tried, found = searched(limit)
    step = max(256, (1 << (found.bit_length() - 1)) // 8)
    assert found <= limit < found + step
    assert len(tried) <= 16
    assert all(length % 256 == 0 for length in tried)


def test_a_search_ends_when_memory_is_not_the_limit():
    """The search ends if a cell times out, if the next call would take too long, or if no length fits."""
    assert next_length({1024: LengthOutcome("ok"), 2048: LengthOutcome("timeout")}) is None
    assert next_length({1024: LengthOutcome("ok", MAX_CALL_S / 3)}) is None
    assert next_length({1024: LengthOutcome("ok", MAX_CALL_S / 5)}) == 2048
    assert next_length({1024: LengthOutcome("unsupported")}) is None
    assert next_length({}) is None
    assert searched(0)[0] == [512, 256]


def test_only_workloads_that_need_no_less_memory_are_predicted():
    """Larger sizes, a larger dtype or a backward pass need more memory. A different mask allows no prediction."""
    larger = [{"seq_q": 256, "seq_k": 256}, {"batch": 2}, {"direction": "backward"}, {"heads": 4, "kv_heads": 4}]
    for change in larger:
        assert no_smaller(dataclasses.replace(SMALL, **change), SMALL)
        assert not no_smaller(SMALL, dataclasses.replace(SMALL, **change))
    assert not no_smaller(dataclasses.replace(SMALL, seq_q=256, seq_k=256, batch=0), SMALL)
    assert not no_smaller(Workload(heads=2, seq_q=256, head_dim=8), SMALL)
    assert not no_smaller(dataclasses.replace(SMALL, seq_q=256, seq_k=256, dtype="bfloat16"), SMALL)


def test_workloads_of_a_series_differ_only_in_length():
    """Along a series, self-attention changes both lengths, while decoding changes only the number of keys."""
    decode = Workload(heads=2, seq_q=4, seq_k=128, head_dim=8)
    assert series_key(SMALL) == series_key(at_length(SMALL, 512)) != series_key(decode)
    assert at_length(decode, 512) == Workload(heads=2, seq_q=4, seq_k=512, head_dim=8)
    assert series_key(decode) == series_key(at_length(decode, 512))


def test_larger_workloads_are_predicted_not_to_fit_unless_exhaustive(stubbed, outcomes):
    """If a cell runs out of memory, larger cells are predicted to do so too, and are run only with --exhaustive."""
    stubbed.behave(alpha={"limit": 24})
    run, summary = stubbed.run(seq=(16, 32, 64))
    records = outcomes(run)
    assert [records["alpha", length].status for length in (16, 32, 64)] == ["ok", "out_of_memory", "out_of_memory"]
    assert records["alpha", 64].reason.startswith("predicted, not tried: b1-h2-s32-d8")
    assert "predicted" in records["alpha", 64].flags
    assert "predicted" not in records["alpha", 32].flags
    assert ("alpha", 64) not in {cell[:2] for cell in stubbed.opened()}
    assert summary.failed == 2

    catalog, plan = resumed(run, exhaustive=True)
    assert [(cell.variant.name, cell.workload.seq_k) for cell in plan.cells] == [("alpha", 64)]
    execute(run, catalog, plan, limits=CellLimits(exhaustive=True))
    assert ("alpha", 64) in {cell[:2] for cell in stubbed.opened()}
    assert outcomes(run)["alpha", 64].reason == "OutOfMemoryError"


def test_a_failure_of_the_harness_does_not_limit_the_variant(stubbed, outcomes, tmp_path):
    """If the harness runs out of memory, the record has a flag, larger cells are tried, and a search ends."""
    failure = {
        "type": "FailedReply",
        "status": "out_of_memory",
        "phase": "conform",
        "reason": "HarnessMemoryError",
        "flags": ["harness_out_of_memory"],
    }
    stubbed.behave(alpha={"open": {"once": str(tmp_path / "met"), "do": failure}})
    run, _ = stubbed.run(seq=(16, 32))
    records = outcomes(run)
    assert records["alpha", 16].status == "out_of_memory"
    assert "harness_out_of_memory" in records["alpha", 16].flags
    assert LengthOutcome.from_record(records["alpha", 16]).status == "error"
    assert records["alpha", 32].status == "ok"
    assert next_length({8: LengthOutcome("ok"), 16: LengthOutcome.from_record(records["alpha", 16])}) is None


@pytest.mark.parametrize("operation", ["open", "block", "close"])
def test_a_cell_that_does_not_fit_beside_others_is_tried_alone(stubbed, outcomes, tmp_path, operation):
    """A cell that runs out of memory while other cells are open is tried once more with no other cell open."""
    failure = {"type": "FailedReply", "status": "out_of_memory", "phase": "measure", "reason": "OutOfMemoryError"}
    stubbed.behave(beta={operation: {"once": str(tmp_path / "met"), "do": failure}})
    run, _ = stubbed.run()
    assert outcomes(run)["beta", 16].status == "ok"
    assert "not_interleaved" in outcomes(run)["beta", 16].flags


def test_a_suite_can_request_the_search_for_the_largest_length(stubbed, outcomes, tmp_path):
    """A run searches for each variant's largest length, and resuming the run does not repeat the search."""
    suite = tmp_path / "far.toml"
    suite.write_text(SUITE)
    stubbed.behave(alpha={"limit": 5000}, beta={"limit": 700})
    run, summary = stubbed.run(suites=[str(suite)])
    records = outcomes(run)
    fits = {
        name: max(n for (v, n), r in records.items() if v == name and r.status == "ok") for name in ("alpha", "beta")
    }
    assert 5000 - 512 < fits["alpha"] <= 5000
    assert 700 - 256 < fits["beta"] <= 700
    assert summary.failed == 0
    assert all("frontier" in records[cell].flags for cell in records if cell[1] not in (1024, 2048))
    assert all("not_interleaved" not in record.flags for record in records.values())
    opened = len(stubbed.opened())
    catalog, plan = resumed(run)
    assert plan.cells == ()
    assert execute(run, catalog, plan).statuses == {}
    assert len(stubbed.opened()) == opened
