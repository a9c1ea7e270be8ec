"""Simulate runs beside other processes that use cores, as the sampler, the runner and the analysis would see them.

Bursts of load come and go. Each of them slows down every variant, and one that uses several cores most of all, because
it waits for its slowest thread. A block is disturbed if the load shows in the time for which its threads waited.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from attnbench.stats.disturbance import exceeds_limit
from attnbench.stats.noise_floor import NoiseFloor
from attnbench.stats.paired import Blocks, PairedResult, process_ratios, verdicts

WAITED_LIMIT = 0.02  # as in attnbench.machine.telemetry
SAMPLES = 5  # in each block


@dataclass(frozen=True)
class BusyMachine:
    """A machine with two cores, on one of which another process runs in bursts.

    - `busy_share`: the share of the time during which the other process runs
    - `burst_blocks`: the mean length of a burst, in blocks
    - `slow_down`: the factors by which a burst slows down variants with one thread and with two threads
    - `process_deviation`, `noise`: the standard deviations between processes, and between samples
    - `processes`, `rounds`: the number of processes, and the number of rounds that each of them needs
    """

    busy_share: float
    burst_blocks: float = 5.0
    slow_down: tuple[float, float] = (1.15, 1.9)
    process_deviation: float = 0.01
    noise: float = 0.01
    processes: int = 5
    rounds: int = 3

    def measure(self, generator: np.random.Generator, true_ns: list[float], threads: list[int]) -> list[Blocks]:
        """Return the blocks of variants that take turns, given each variant's time of a call and number of threads."""
        busy = self._bursts(generator)
        taken = [Blocks([], [], [], [], []) for _ in true_ns]
        number = 0
        for process in range(self.processes):
            factors = np.exp(self.process_deviation * generator.standard_normal(len(true_ns)))
            counted, repeats = 0, self.rounds
            while counted < self.rounds:
                loads = []
                for blocks, ns, count, factor in zip(taken, true_ns, threads, factors, strict=True):
                    loads.append(next(busy))
                    slower = 1 + loads[-1] * (self.slow_down[count - 1] - 1)
                    times = ns * factor * slower * np.exp(self.noise * generator.standard_normal(SAMPLES))
                    waited = loads[-1] * (1 - 1 / self.slow_down[count - 1])
                    for values, value in (
                        (blocks.sizes, SAMPLES), (blocks.rounds, number), (blocks.processes, process),
                        (blocks.disturbed, int(waited > WAITED_LIMIT)),
                    ):  # fmt: skip
                        values.append(value)
                    blocks.samples_ns.extend(times)
                repeat = repeats > 0 and any(blocks.disturbed[-1] for blocks in taken)
                repeats -= repeat
                counted += not repeat
                number += 1
        return taken

    def _bursts(self, generator: np.random.Generator):
        """Yield, for each block, the share of its time during which the other process ran."""
        ends = 1 / self.burst_blocks
        begins = 1.0 if self.busy_share == 1 else ends * self.busy_share / (1 - self.busy_share)
        is_busy = generator.random() < self.busy_share
        while True:
            changes = self.busy_share < 1 and generator.random() < (ends if is_busy else begins)
            yield generator.random() if changes else float(is_busy)
            is_busy ^= bool(changes)


def judge(taken: list[Blocks], *, use_flags: bool = True) -> dict[int, PairedResult]:
    """Return the comparison of each variant with the first one. Without `use_flags`, all blocks are evidence."""
    if not use_flags:
        taken = [Blocks(b.samples_ns, b.sizes, b.rounds, b.processes) for b in taken]
    disturbed = [bool(blocks.disturbed) and exceeds_limit(blocks.disturbed) for blocks in taken]
    rows, judged = {}, {}
    for index in range(1, len(taken)):
        if disturbed[0] or disturbed[index]:
            judged[index] = PairedResult.without_verdict(1.0)
        else:
            rows[index] = list(process_ratios(taken[index], taken[0]).values())
    return judged | verdicts(rows, NoiseFloor.of(rows.values()))


def count_verdicts(
    machine: BusyMachine, runs: int, true_ns: list[float], threads: list[int], *, use_flags: bool = True, seed: int = 5
) -> Counter[str]:
    """Return how often each verdict was given, over all comparisons with the first variant in all runs."""
    generator = np.random.default_rng(seed)
    counts: Counter[str] = Counter()
    for _ in range(runs):
        results = judge(machine.measure(generator, true_ns, threads), use_flags=use_flags)
        counts.update(result.verdict for result in results.values())
    return counts
