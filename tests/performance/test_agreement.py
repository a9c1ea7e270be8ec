"""On a real machine, medians agree with those of torch's timer, and verdicts are correct."""

import textwrap

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.benchmark import Timer

from attnbench import Workload
from attnbench.analysis.results import Results
from attnbench.analysis.verdict import noise_text
from attnbench.measure.sampler import Sampler
from attnbench.measure_config import MeasureConfig
from attnbench.runner.request import Request, plan_of
from attnbench.runner.run import execute, start
from attnbench.stats.interval import median_interval
from attnbench.tensors.inputs import make_inputs

ROUNDS = 12
BLOCK_S = 0.1

PLUGIN = """
    import torch
    from attnbench import hookimpl, variant

    LEFT, RIGHT = torch.randn(128, 128), torch.randn(128, 128)

    def attention(query, key, value, extra):
        for _ in range(extra):
            LEFT @ RIGHT
        return torch.nn.functional.scaled_dot_product_attention(query, key, value)

    @variant("plain")
    def plain(query, key, value, workload):
        return attention(query, key, value, 40)

    @variant("copy")
    def copy(query, key, value, workload):
        return attention(query, key, value, 40)

    @variant("slower")
    def slower(query, key, value, workload):
        return attention(query, key, value, 45)

    @hookimpl
    def attnbench_variants():
        return [plain, copy, slower]
"""


def test_medians_agree_with_torchs_own_timer(benchmark):
    """The medians of the sampler and of torch's `blocked_autorange` agree within 3%, or their intervals overlap."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # The workload is large enough that Timer and the sampler time each call separately.
    workload = Workload(heads=4, seq_q=512, head_dim=64)
    inputs = make_inputs(workload, "cpu")
    call = lambda: scaled_dot_product_attention(*inputs.leaves)  # noqa: E731 - Timer needs the same callable
    sampler = Sampler(call, inputs, workload, "cpu", MeasureConfig())
    timer = Timer("call()", globals={"call": call}, num_threads=1)

    def measure_in_turn():
        ours, sizes, theirs, their_sizes = [], [], [], []
        sampler.first_call()
        sampler.warm_up()
        for _ in range(ROUNDS):
            block = sampler.block(BLOCK_S * 1e9)
            ours += block.samples_ns
            sizes.append(len(block.samples_ns))
            times = timer.blocked_autorange(min_run_time=BLOCK_S).times
            theirs += [seconds * 1e9 for seconds in times]
            their_sizes.append(len(times))
        return median_interval(ours, block_sizes=sizes), median_interval(theirs, block_sizes=their_sizes)

    try:
        ours, theirs = benchmark.pedantic(measure_in_turn, rounds=1)
    finally:
        torch.set_num_threads(threads)
    ratio = ours.median / theirs.median
    benchmark.extra_info["ratio"] = ratio
    print(f"\nattnbench {ours.median / 1e3:.1f} us, blocked_autorange {theirs.median / 1e3:.1f} us, ratio {ratio:.3f}")
    overlap = ours.low <= theirs.high and theirs.low <= ours.high
    assert abs(ratio - 1) <= 0.03 or overlap


def test_a_tenth_of_extra_work_is_slower_and_a_copy_is_not(benchmark, tmp_path):
    """In a real run, a variant with 12.5% more arithmetic is judged slower, and an identical copy is not."""
    plugin = tmp_path / "three.py"
    plugin.write_text(textwrap.dedent(PLUGIN))
    request = Request(
        variants=["plain", "copy", "slower"],
        devices=["cpu:0"],
        plugins=[str(plugin)],
        # Each of the four workloads has an A/A control, and four controls suffice for a low noise floor.
        axes={"seq": [16, 32, 48, 64], "heads": [2], "head_dim": [16]},
        protocol=MeasureConfig(precision=0.001, budget_s=2.5, warm_up_max_s=0.5),
        results=tmp_path / "results",
    )
    catalog, plan = plan_of(request)
    run = start(request, catalog, plan)
    benchmark.pedantic(lambda: execute(run, catalog, plan), rounds=1)
    results = Results.load(run, "plain")
    assert set(results.frame["status"]) == {"ok"}, results.frame["reason"]
    comparisons = {"copy": [], "slower": []}
    for (*_, workload, _, variant), comparison in results.comparisons.items():
        comparisons[variant].append(comparison)
        benchmark.extra_info[f"{variant}, {workload}"] = comparison.ratio
        interval = f"{comparison.low:.3f} to {comparison.high:.3f}"
        print(f"\n{variant}, {workload}: {comparison.verdict}, {comparison.ratio:.3f} ({interval})")
    print(noise_text(results.noise_floor))
    assert {comparison.verdict for comparison in comparisons["copy"]} <= {"same", "undecided"}
    assert [comparison.verdict for comparison in comparisons["slower"]].count("slower") >= 3
    # The variant `slower` does 45 matrix multiplications, and `plain` does 40. The ratio is 1.125.
    assert all(each.low < 1.125 < each.high + 0.05 for each in comparisons["slower"])
