"""The dispatcher costs less than 10 us a call, and a pinned backend is as fast as the same backend without a pin."""

import json
import statistics
import time

import pytest
import torch

import attnbench
import synthetic
from attnbench import Workload, dispatch
from attnbench.analysis.dispatch_table import regions, to_json
from attnbench.analysis.results import Results
from attnbench.analysis.verdict import noise_text
from attnbench.measure_config import MeasureConfig
from attnbench.runner.request import Request, plan_of
from attnbench.runner.run import execute, start
from attnbench.tensors.inputs import make_inputs

ROUNDS, CALLS = 200, 50
MAX_DISPATCH_US = 10.0
MAX_DIFFERENCE = 0.01


def table_with(variant, folder):
    """Write a dispatch table for this machine's CPU in which a variant is the fastest one, and return its path."""
    here = synthetic.Machine("cpu", dispatch._device_name("cpu"), 1.2e11, 1.4e10, 9_000, 8e9)
    cells = synthetic.workloads(seqs=(16,), heads=2, head_dim=16)
    run = synthetic.make_run(folder, cells=cells, variants=(variant,), machine=here, baseline=None)
    path = folder / "table.json"
    path.write_text(json.dumps(to_json(regions(Results.load(run)))))
    return path


@pytest.fixture
def _one_thread():
    """Let torch use one thread, so that a call does not wait for another core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("grad", [False, True], ids=["forward", "training"])
@pytest.mark.parametrize("name", ["sdpa", "sdpa-flash"])
def test_dispatch_costs_less_than_ten_microseconds(benchmark, tmp_path, name, grad):
    """`attnbench.attention` takes at most 10 us longer than the function that the variant prepares."""
    query, key, value = (torch.randn((1, 2, 16, 16), requires_grad=grad) for _ in range(3))
    workload = Workload(heads=2, seq_q=16, head_dim=16, direction="forward_backward" if grad else "forward")
    direct = dispatch._installed()[name].prepare_function(workload, make_inputs(workload, "cpu"))
    table = table_with(name, tmp_path)
    calls = {
        "dispatched": lambda: attnbench.attention(query, key, value, table=table),
        "direct": lambda: direct(query, key, value),
    }
    times = {kind: [] for kind in calls}

    def take_turns():
        for _ in range(ROUNDS):
            for kind, call in calls.items():
                started = time.perf_counter_ns()
                for _ in range(CALLS):
                    call()
                times[kind].append((time.perf_counter_ns() - started) / CALLS / 1e3)

    benchmark.pedantic(take_turns, rounds=1, warmup_rounds=1)
    pairs = zip(times["dispatched"], times["direct"], strict=True)
    cost = statistics.median(dispatched - direct for dispatched, direct in pairs)
    benchmark.extra_info["cost_us"] = cost
    print(f"\ndispatch costs {cost:.2f} us, the call alone {statistics.median(times['direct']):.2f} us")
    assert cost < MAX_DISPATCH_US


def test_a_pin_costs_nothing(benchmark, tmp_path):
    """On a CPU, where `sdpa` and `sdpa-flash` run the same kernel, neither is measured to be slower."""
    request = Request(
        variants=["sdpa", "sdpa-flash"],
        devices=["cpu:0"],
        axes={"seq": [64, 128], "heads": [8], "head_dim": [64]},
        protocol=MeasureConfig(precision=0.001, budget_s=4.0),
        results=tmp_path / "results",
    )
    catalog, plan = plan_of(request)
    run = start(request, catalog, plan)
    benchmark.pedantic(lambda: execute(run, catalog, plan), rounds=1)
    results = Results.load(run, "sdpa")
    assert set(results.frame["status"]) == {"ok"}, results.frame["reason"]
    for (*_, workload, _, variant), comparison in results.comparisons.items():
        benchmark.extra_info[f"{variant}, {workload}"] = comparison.ratio
        interval = f"{comparison.low:.3f} to {comparison.high:.3f}"
        print(f"\n{variant}, {workload}: {comparison.verdict}, {comparison.ratio:.4f} ({interval})")
    print(noise_text(results.noise))
    undecided = [each for each in results.comparisons.values() if each.verdict != "same"]
    assert {each.verdict for each in undecided} <= {"undecided"}
    assert all(abs(each.ratio - 1) <= MAX_DIFFERENCE for each in undecided)
