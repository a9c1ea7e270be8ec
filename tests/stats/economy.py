"""Compare how many samples benchmark tools need to estimate a median to within 0.5%, on a simulated machine.

Run this script with `python tests/stats/economy.py` to print the table. attnbench's stopping rule stops when the
confidence interval is narrow enough. The other tools run for a fixed time, so they are run repeatedly, and their
samples are pooled, until the interval is equally narrow.
"""

from __future__ import annotations

import statistics

from simulated import Machine

from attnbench.measure_config import MeasureConfig
from attnbench.stats.interval import median_interval
from attnbench.stats.stopping import StoppingRule

NOISE = (0.002, 0.005, 0.01, 0.02, 0.05)
PRECISION = 0.005
DO_BENCH_S = 0.1  # triton.testing.do_bench makes as many calls as fit into 100 ms, the default of `rep`
PYTEST_BENCHMARK_S, PYTEST_BENCHMARK_ROUNDS = 1.0, 5  # defaults of --benchmark-max-time and --benchmark-min-rounds
MAX_RUNS = 50  # a tool with a fixed run time is run at most this many times

# With RULE, sampling stops once PRECISION is reached, but not before 20 samples and 10 blocks. DEFAULT also requires at
# least 0.2 s of sampling.
RULE = MeasureConfig(precision=PRECISION, budget_s=30.0, min_time_s=0, block_s=0.002)
DEFAULT = MeasureConfig(precision=PRECISION, budget_s=30.0)


def samples_of_stopping_rule(machine, cost_ns, config):
    """Return how many samples attnbench's stopping rule takes."""
    stopping, count = StoppingRule(config, "cuda"), 0
    while not stopping.done:
        block = machine.block(cost_ns, config.block_s * 1e9)
        stopping.add(block)
        count += len(block)
    return count


def samples_of_fixed_length(machine, cost_ns, seconds, fewest=1):
    """Return how many samples a tool takes in runs of `seconds`, repeated until its interval is narrow enough.

    Each run takes at least `fewest` samples.
    """
    calls = max(fewest, int(seconds * 1e9 / cost_ns))
    samples = []
    for _ in range(MAX_RUNS):
        samples += [machine.call(cost_ns) for _ in range(calls)]
        if median_interval(samples).relative_half_width <= PRECISION:
            break
    return len(samples)


def mean_counts(noise, cost_ns, seeds):
    """Return the mean number of samples that each method takes at one noise level.

    The methods are RULE, DEFAULT, do_bench and pytest-benchmark, in this order.
    """
    counts = []
    for seed in range(seeds):
        machine = Machine(seed=seed, noise=noise)
        counts.append(
            (
                samples_of_stopping_rule(machine, cost_ns, RULE),
                samples_of_stopping_rule(machine, cost_ns, DEFAULT),
                samples_of_fixed_length(machine, cost_ns, DO_BENCH_S),
                samples_of_fixed_length(machine, cost_ns, PYTEST_BENCHMARK_S, PYTEST_BENCHMARK_ROUNDS),
            )
        )
    return [statistics.fmean(column) for column in zip(*counts, strict=True)]


def table(cost_ns, seeds):
    """Return a row of `mean_counts` for each noise level, and ratios of the mean counts.

    The ratios are geometric means over the noise levels, in this order: RULE / do_bench, RULE / pytest-benchmark,
    DEFAULT / do_bench and DEFAULT / pytest-benchmark.
    """
    rows = {noise: mean_counts(noise, cost_ns, seeds) for noise in NOISE}
    pairs = ((0, 2), (0, 3), (1, 2), (1, 3))
    ratios = [statistics.geometric_mean(row[ours] / row[theirs] for row in rows.values()) for ours, theirs in pairs]
    return rows, ratios


def main():
    """Print the table for calls of 100 us and of 1 ms."""
    for cost_ns in (1e5, 1e6):
        rows, ratios = table(cost_ns, seeds=20)
        print(f"\nCalls of {cost_ns / 1e3:.0f} us\n")
        print("| noise | rule | default | do_bench | pytest-benchmark |\n| --- | --- | --- | --- | --- |")
        for noise, row in rows.items():
            print(f"| {noise:.1%} | " + " | ".join(f"{count:.0f}" for count in row) + " |")
        print("\nrule / do_bench {:.2f}, rule / pytest-benchmark {:.2f}, ".format(*ratios[:2]), end="")
        print("default / do_bench {:.2f}, default / pytest-benchmark {:.2f}".format(*ratios[2:]))


if __name__ == "__main__":
    main()
