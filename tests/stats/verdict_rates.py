"""Simulate runs, and count how often their verdicts are right. `python tests/stats/verdict_rates.py` prints the table.

The times of a cell have three sources of noise: a process is faster or slower than other processes of the same code for
as long as it runs; each round of a process differs a little; and now and then another process of the machine disturbs a
round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from attnbench.measure_config import MIN_PROCESSES
from attnbench.stats.noise_floor import NoiseFloor
from attnbench.stats.paired import FASTER, SLOWER, behind_the_fastest, verdicts
from attnbench.stats.sequential import unclear_variants


@dataclass(frozen=True)
class Run:
    """The shape and the noise of a simulated run.

    - `processes`, `rounds`: the largest number of processes of a cell, and the number of rounds of each process
    - `deviations`: the standard deviations between processes; the workloads take turns in having one of them
    - `round_noise`: the standard deviation between the rounds of a process
    - `disturbed`: the share of rounds in which a call takes longer, by about 30%
    """

    variants: int = 20
    workloads: int = 6
    processes: int = 6
    rounds: int = 3
    deviations: tuple[float, ...] = (0.01, 0.02, 0.03)
    round_noise: float = 0.01
    disturbed: float = 0.05

    def log_times(self, generator, slow_downs):
        """Return simulated log-times of each round, as an array (workloads, variants, processes, rounds).

        `slow_downs` are the logarithms of the variants' true times, as an array (workloads, variants).
        """
        shape = (self.workloads, self.variants, self.processes, self.rounds)
        deviations = np.resize(self.deviations, self.workloads)[:, None, None]
        processes = deviations * generator.standard_normal(shape[:3])
        rounds = self.round_noise * generator.standard_normal(shape)
        disturbances = 0.3 * np.abs(generator.standard_normal(shape)) * (generator.random(shape) < self.disturbed)
        return slow_downs[:, :, None, None] + processes[..., None] + rounds + disturbances

    def rows(self, log_times, reference=0):
        """Return the log-ratios to the variant `reference`, keyed by workload and variant.

        Processes that a cell was not measured in have the time NaN.
        """
        ratios = np.median(log_times - log_times[:, [reference]], axis=3)
        others = [variant for variant in range(self.variants) if variant != reference]
        return {(w, v): _known(ratios[w, v]) for w in range(self.workloads) for v in others}

    def measured(self, log_times):
        """Return the log-times that a run measures if no cell is measured in more processes than it needs.

        The log-times of the other processes are NaN.
        """
        measured, earlier = log_times.copy(), []
        names = list(map(str, range(self.variants)))
        for times in measured:
            ratios = np.median(times - times[0], axis=2)
            for process in range(MIN_PROCESSES, self.processes):
                rows = {name: dict(enumerate(_known(ratios[int(name), :process]))) for name in names[1:]}
                floor = NoiseFloor.of([*earlier, *(list(row.values()) for row in rows.values())])
                unclear = unclear_variants(rows, "0", floor, MIN_PROCESSES)
                clear = [variant for variant in range(self.variants) if str(variant) not in unclear]
                times[clear, process:] = ratios[clear, process:] = math.nan
            earlier += map(_known, ratios[1:])
        return measured


def _known(row):
    return row[~np.isnan(row)].tolist()


def judged_differently(rows):
    """Return, for each row of a table, whether its verdict is `faster` or `slower`."""
    results = verdicts(rows, NoiseFloor.of(rows.values()), margin=0.0)
    return {key: result.verdict in (FASTER, SLOWER) for key, result in results.items()}


def false_rate(run, simulations, seed=1):
    """Return the share of rows that are told apart although all variants run the same code."""
    generator = np.random.default_rng(seed)
    told = []
    for _ in range(simulations):
        rows = run.rows(run.measured(run.log_times(generator, np.zeros((run.workloads, run.variants)))))
        told += judged_differently(rows).values()
    return np.mean(told)


def found_rates(run, simulations, differences=(1.0, 1.0, 1.0, 1.05, 1 / 1.05, 1.1, 2.0), seed=2):
    """Return three values: the share of false verdicts, the share of rows told apart, and the mean number of processes.

    Each row has one of `differences`, which are ratios of times, drawn at random. The second value is a dict with one
    share for each difference.
    """
    generator = np.random.default_rng(seed)
    false_shares, needed, found = [], [], {difference: [] for difference in differences}
    for _ in range(simulations):
        ratios = generator.choice(differences, size=(run.workloads, run.variants))
        ratios[:, 0] = 1.0
        log_times = run.measured(run.log_times(generator, np.log(ratios)))
        needed.append(np.mean(~np.isnan(log_times[..., 0])))
        told = judged_differently(run.rows(log_times))
        false = sum(different and ratios[key] == 1.0 for key, different in told.items())
        false_shares.append(false / max(1, sum(told.values())))
        for key, different in told.items():
            found[ratios[key]].append(different)
    rates = {difference: np.mean(rows) for difference, rows in found.items()}
    return np.mean(false_shares), rates, run.processes * np.mean(needed)


def wrong_first_rate(run, simulations, lead=1.0, seed=3):
    """Return the share of workloads in which a variant that is fastest in truth is not in first place.

    The other variants take `lead` times as long as variant 0, which ties with them at 1.
    """
    generator = np.random.default_rng(seed)
    slow_downs = np.zeros((run.workloads, run.variants))
    slow_downs[:, 1:] = math.log(lead)
    wrong = []
    for _ in range(simulations):
        log_times = run.measured(run.log_times(generator, slow_downs))
        floor = NoiseFloor.of(run.rows(log_times).values())
        times = np.nanmedian(log_times, axis=(2, 3))
        for workload in range(run.workloads):
            fastest = int(times[workload].argmin())
            rows = {key: row for key, row in run.rows(log_times, fastest).items() if key[0] == workload}
            wrong.append((workload, 0) in behind_the_fastest(rows, floor))
    return np.mean(wrong)


def main():
    """Print the rates for several numbers of processes, variants and workloads."""
    print(
        "| variants | workloads | processes, at most | on average | rounds | told apart, same code | false | 5% told "
        "| 10% told | 2x told |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for variants, workloads in ((20, 6), (6, 3), (2, 1)):
        for processes, rounds in ((2, 3), (4, 3), (6, 3)):
            run = Run(variants=variants, workloads=workloads, processes=processes, rounds=rounds)
            simulations = max(100, 2_000 // (variants * workloads))
            false_share, found, needed = found_rates(run, simulations)
            five = (found[1.05] + found[1 / 1.05]) / 2
            print(
                f"| {variants} | {workloads} | {processes} | {needed:.1f} | {rounds} "
                f"| {false_rate(run, simulations):.1%} | {false_share:.1%} "
                f"| {five:.0%} | {found[1.1]:.0%} | {found[2.0]:.0%} |"
            )


if __name__ == "__main__":
    main()
