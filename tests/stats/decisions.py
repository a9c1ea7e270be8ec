"""Compare how many samples it takes to decide which of two variants is faster, on a simulated machine.

Run this script with `python tests/stats/decisions.py` to print the table. Processes of the same code differ in speed by
1%, and so do the calls of a process. One variant takes 10% longer than the other. A method decides if its verdict is
right in at least 95% of the simulated comparisons, and if at most 5% of comparisons of identical code get a verdict.
"""

from __future__ import annotations

import math
import random
import statistics

from scipy.stats import ttest_ind
from simulated import Machine

from attnbench.measure_config import MIN_PROCESSES, MeasureConfig
from attnbench.stats.noise_floor import NoiseFloor
from attnbench.stats.paired import FASTER, SLOWER, Blocks, process_ratios, verdicts
from attnbench.stats.sequential import unclear_variants
from attnbench.stats.stopping import PRECISION, StoppingRule

NOISE, PROCESS_NOISE, SLOWER_BY = 0.01, 0.01, 1.1
DO_BENCH_S = 0.1  # triton.testing.do_bench makes as many calls as fit into 100 ms, the default of `rep`
FACTORS = {"baseline": 1.0, "a": 1.0, "b": 1.0, "c": 1.0, "d": SLOWER_BY, "e": SLOWER_BY}
WORKLOADS = 3
ERROR = 0.05


class Cell:
    """A simulated cell that is measured in one process after another, with attnbench's default settings."""

    def __init__(self, machine, cost_ns, device):
        self.machine, self.cost_ns, self.device, self.config = machine, cost_ns, device, MeasureConfig()
        self.samples, self.sizes, self.rounds, self.processes = [], [], [], []

    def begin_process(self):
        """Start the next process, which is faster or slower than others by chance."""
        share = self.config.share(self.config.processes_on(self.device), self.device)
        self.stopping = StoppingRule(share, self.device)
        self.of_process = self.cost_ns * math.exp(PROCESS_NOISE * self.machine.random.gauss(0, 1))

    def take_block(self, process, number):
        """Take the samples of one block."""
        block = self.machine.block(self.of_process, self.config.block_s * 1e9)
        self.samples += block
        self.sizes.append(len(block))
        self.rounds.append(number)
        self.processes.append(process)
        self.stopping.add(block)

    @property
    def blocks(self):
        """The samples so far."""
        return Blocks(self.samples, self.sizes, self.rounds, self.processes)


def measure_workload(machine, cost_ns, device, earlier):
    """Measure one workload as a run does, and return its cells and their rows of log-ratios to the baseline.

    `earlier` holds the rows of the earlier workloads.
    """
    cells = {name: Cell(machine, cost_ns * factor, device) for name, factor in FACTORS.items()}
    going_on, rows, number = set(cells), {}, 0
    for process in range(MeasureConfig().processes_on(device)):
        taking_part = [cells[name] for name in cells if name in going_on]
        for cell in taking_part:
            cell.begin_process()
        while not all(cell.stopping.done for cell in taking_part):
            for cell in taking_part:
                if cell is cells["baseline"] or not cell.stopping.done:
                    cell.take_block(process, number)
            number += 1
        reference = cells["baseline"].blocks
        rows = {name: process_ratios(cell.blocks, reference) for name, cell in cells.items() if name != "baseline"}
        floor = NoiseFloor.of([*earlier, *(list(row.values()) for row in rows.values())])
        imprecise = {name for name in going_on if cells[name].stopping.stopped_by != PRECISION}
        going_on &= unclear_variants(rows, "baseline", floor, MIN_PROCESSES) | imprecise
        if not going_on:
            break
        going_on.add("baseline")
    return cells, {name: list(row.values()) for name, row in rows.items()}


def of_run(seed, cost_ns, device):
    """Simulate a run. Return two dicts, keyed by the true ratio: the samples of each cell, and whether it differs."""
    machine = Machine(seed=seed, noise=NOISE)
    table, counts = {}, {1.0: [], SLOWER_BY: []}
    for workload in range(WORKLOADS):
        cells, rows = measure_workload(machine, cost_ns, device, table.values())
        table |= {(workload, name): row for name, row in rows.items()}
        for name in rows:
            counts[FACTORS[name]].append(len(cells[name].samples))
    told = {1.0: [], SLOWER_BY: []}
    for (_, name), result in verdicts(table, NoiseFloor.of(table.values())).items():
        told[FACTORS[name]].append(result.verdict in (FASTER, SLOWER))
    return counts, told


def of_do_bench(seed, cost_ns, processes, factor):
    """Compare two variants by `do_bench` in this many processes each. Return the samples, and whether they differ.

    With one process, Welch's t-test compares the samples, as is common. With several, it compares the processes' means,
    because the samples of one process are not independent of each other.
    """
    generator = random.Random(seed)  # noqa: S311 - simulated noise
    machine = Machine(seed=seed, noise=NOISE)
    sides = []
    for ratio in (1.0, factor):
        runs = []
        for _ in range(processes):
            of_process = cost_ns * ratio * math.exp(PROCESS_NOISE * generator.gauss(0, 1))
            runs.append([machine.call(of_process) for _ in range(int(DO_BENCH_S * 1e9 / of_process))])
        sides.append(runs)
    samples = sum(map(len, sides[1]))
    first, second = (runs[0] if processes == 1 else [statistics.fmean(run) for run in runs] for runs in sides)
    return samples, ttest_ind(first, second, equal_var=False).pvalue <= ERROR


def rates_of_do_bench(cost_ns, processes, comparisons):
    """Return the samples per slower variant, the share of identical code told apart, and that of slower variants."""
    same = [of_do_bench(seed, cost_ns, processes, 1.0) for seed in range(comparisons)]
    slower = [of_do_bench(seed, cost_ns, processes, SLOWER_BY) for seed in range(comparisons)]
    mean_samples = statistics.fmean(samples for samples, _ in slower)
    return mean_samples, statistics.fmean(told for _, told in same), statistics.fmean(told for _, told in slower)


def rates_of_attnbench(cost_ns, device, runs):
    """Return the samples per slower variant, the share of identical code told apart, and that of slower variants."""
    samples, same, slower = [], [], []
    for seed in range(runs):
        counts, told = of_run(seed, cost_ns, device)
        samples += counts[SLOWER_BY]
        same += told[1.0]
        slower += told[SLOWER_BY]
    return statistics.fmean(samples), statistics.fmean(same), statistics.fmean(slower)


def main():
    """Print the table for calls of 100 us and of 1 ms."""
    print("| call | method | samples | identical code told apart | 10% told |\n| --- | --- | --- | --- | --- |")
    for cost_ns in (1e5, 1e6):
        rows = [
            (f"do_bench in {processes} process{'es' * (processes > 1)}", rates_of_do_bench(cost_ns, processes, 200))
            for processes in (1, 2, 3)
        ]
        rows += [(f"attnbench ({device})", rates_of_attnbench(cost_ns, device, 30)) for device in ("cuda", "cpu")]
        for method, (samples, same, slower) in rows:
            print(f"| {cost_ns / 1e3:.0f} µs | {method} | {samples:.0f} | {same:.1%} | {slower:.1%} |")


if __name__ == "__main__":
    main()
