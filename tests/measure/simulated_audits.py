"""Simulate the times of audited calls, and count how often the audit finds a cache: `python simulated_audits.py`.

The simulated machine has noise, drift, bursts in which other processes use the cores, and costs of inputs that were
just written. They are far worse than those of a quiet machine.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from attnbench.measure.anticheat.audit_times import AuditTimes, doubts, second_look

BLOCKS = 10  # in a cell, before a second look


@dataclass(frozen=True)
class Machine:
    """A machine on which calls are timed.

    - `noise`: standard deviation of the logarithm of a time
    - `cold`: a call on rewritten inputs takes this many times as long as other calls
    - `first`: the first one of the two audited calls in a block takes this many times as long as the second one
    - `new`: a call on new values takes this many times as long as one on known values, e.g. by mispredicted branches
    - `burst`: share of the calls that are interrupted, for up to `burst_ns`
    - `load`: share of the blocks beside a process that slows calls down by a factor of up to 3
    """

    name: str
    noise: float = 0.02
    cold: float = 1.2
    first: float = 1.0
    new: float = 1.0
    burst: float = 0.0
    burst_ns: float = 4e6
    load: float = 0.0


MACHINES = (
    Machine("quiet"),
    Machine("noisy", noise=0.3),
    Machine("cold caches", cold=3.0, first=1.5, new=1.05),
    Machine("bursts", noise=0.1, burst=0.3),
    Machine("load", noise=0.2, burst=0.1, load=0.5, first=1.3, new=1.05),
)


class SimulatedCell:
    """A cell whose calls take about `call_ns` on a machine.

    A repeat on unchanged inputs takes `kept` times as long as the work, because the variant keeps its answers; 1 for an
    honest variant. If `audited_only`, all audited calls do the work, and only plain calls are cheap.
    """

    def __init__(self, machine: Machine, call_ns: float, generator: random.Random, kept: float = 1.0) -> None:
        self._machine, self._call_ns, self._random, self._kept = machine, call_ns, generator, kept
        self._speed = 1.0

    def times(self) -> AuditTimes:
        """Return the times of one block."""
        machine, draw = self._machine, self._random
        self._speed *= draw.lognormvariate(0.0, 0.01)
        slow = self._speed * (draw.uniform(1.0, 3.0) if draw.random() < machine.load else 1.0)
        first, second = (self._time(slow * machine.cold * factor) for factor in (machine.first, 1.0))
        fresh, repeat = (first, second) if draw.random() < 0.5 else (second, first)
        return AuditTimes(fresh * machine.new, repeat * self._kept, self._time(slow * self._kept))

    def _time(self, factor: float) -> float:
        machine, draw = self._machine, self._random
        interrupted = draw.uniform(0.0, machine.burst_ns) if draw.random() < machine.burst else 0.0
        return self._call_ns * factor * draw.lognormvariate(0.0, machine.noise) + interrupted

    def verdict(self) -> str:
        """Return `ok`, `suspect` or `error`, as a run would after this cell."""
        claims = doubts([self.times() for _ in range(BLOCKS)])
        finding = second_look(claims, self.times) if claims else None
        return "ok" if finding is None else "error" if finding.certain else "suspect"


def verdicts(machine: Machine, count: int, kept: float = 1.0, shortest_ns: float = 5e3) -> dict[str, int]:
    """Return how many of `count` cells with calls of `shortest_ns` to 100 us get each verdict."""
    generator = random.Random(f"{machine.name}:{kept}")  # noqa: S311 - simulated noise
    found = {"ok": 0, "suspect": 0, "error": 0}
    for _ in range(count):
        found[SimulatedCell(machine, generator.uniform(shortest_ns, 1e5), generator, kept).verdict()] += 1
    return found


if __name__ == "__main__":
    for machine in MACHINES:
        print(f"{machine.name}, honest: {verdicts(machine, 200_000)}", flush=True)
        for kept in (0.9, 0.8, 0.7, 0.5, 0.33, 0.1):
            print(f"{machine.name}, repeats take {kept} of the work: {verdicts(machine, 500, kept)}", flush=True)
