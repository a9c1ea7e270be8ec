"""A simulated machine with a simulated clock, for tests that neither sleep nor need a GPU."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field


@dataclass
class Machine:
    """A simulated machine whose clock advances by the duration of each call.

    - `noise`: relative standard deviation of a call's duration
    - `rho`: lag-1 autocorrelation of the noise (AR(1))
    - `drift`: relative slow-down per simulated second
    - `spike`: share of calls that take three times as long
    - `throttle_at_s`: simulated time in seconds after which calls take `throttle_factor` times as long
    - `launch_ns`: time that the host needs to start a call on an asynchronous device
    """

    seed: int = 0
    noise: float = 0.0
    rho: float = 0.0
    drift: float = 0.0
    spike: float = 0.0
    throttle_at_s: float = math.inf
    throttle_factor: float = 1.3
    launch_ns: float = 0.0
    now_ns: float = 0.0
    _state: float = field(default=0.0, init=False)

    def __post_init__(self):
        self.random = random.Random(self.seed)  # noqa: S311 - simulated noise
        self._state = self.random.gauss(0, 1)

    def call(self, cost_ns):
        """Simulate a call that takes `cost_ns` on an undisturbed machine, and return its simulated duration in ns."""
        self._state = self.rho * self._state + math.sqrt(1 - self.rho**2) * self.random.gauss(0, 1)
        seconds = self.now_ns / 1e9
        took = cost_ns * (1 + self.drift * seconds) * math.exp(self.noise * self._state)
        took *= self.throttle_factor if seconds >= self.throttle_at_s else 1.0
        took *= 3 if self.random.random() < self.spike else 1
        self.now_ns += took
        return took

    def block(self, cost_ns, duration_ns):
        """Simulate calls until `duration_ns` has passed, making at least one, and return their durations in ns."""
        end = self.now_ns + duration_ns
        samples = [self.call(cost_ns)]
        while self.now_ns < end:
            samples.append(self.call(cost_ns))
        return samples


def session(machine, costs, config, device="cpu", *, interleave=True):
    """Measure cells with calls of the given costs, and return (Blocks, StoppingRule) for each cell.

    With `interleave`, blocks of the cells alternate in the order A B B A, as in a run. Otherwise the cells are measured
    one after the other.
    """
    from attnbench.stats.paired import Blocks
    from attnbench.stats.stopping import StoppingRule

    stoppings = [StoppingRule(config, device) for _ in costs]
    samples, sizes, rounds = ([[] for _ in costs] for _ in range(3))

    def measure_block(index, number):
        block = machine.block(costs[index], config.block_s * 1e9)
        samples[index] += block
        sizes[index].append(len(block))
        rounds[index].append(number)
        stoppings[index].add(block)

    order = list(range(len(costs)))
    if interleave:
        number = 0
        while not all(stopping.done for stopping in stoppings):
            for index in order if number % 2 == 0 else reversed(order):
                measure_block(index, number)
            number += 1
    else:
        for index in order:
            number = 0
            while not stoppings[index].done:
                measure_block(index, number)
                number += 1
    blocks = [Blocks(*taken) for taken in zip(samples, sizes, rounds, strict=True)]
    return list(zip(blocks, stoppings, strict=True))
