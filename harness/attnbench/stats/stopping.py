"""When a cell has been sampled enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnbench.stats.interval import Interval, median_interval

if TYPE_CHECKING:
    from attnbench.measure_config import MeasureConfig

PRECISION, BUDGET = "precision", "budget"


class Stopping:
    """Fed one cell's blocks, says whether to go on.

    It looks at the interval only when the minimums of the protocol are first met and then each time that the number of
    samples has doubled: looking after every block would stop on lucky streaks and spoil the interval's coverage.
    """

    def __init__(self, protocol: MeasureConfig, device: str) -> None:
        self._protocol = protocol
        self._precision = protocol.precision_on(device)
        self._samples: list[float] = []
        self._sizes: list[int] = []
        self._elapsed_ns = 0.0
        self._next_look = protocol.min_samples
        self.stopped_by: str | None = None
        self.interval: Interval | None = None

    @property
    def done(self) -> bool:
        """Whether sampling is to end; `stopped_by` then says why: `precision` or `budget`."""
        return self.stopped_by is not None

    @property
    def elapsed_ns(self) -> float:
        """Nanoseconds spent on the blocks so far."""
        return self._elapsed_ns

    def add(self, samples_ns: Sequence[float], elapsed_ns: float | None = None) -> bool:
        """Take in one block and say whether to go on.

        `elapsed_ns` is what the block cost in wall time, samples included; left out, the samples' sum.
        """
        self._samples += samples_ns
        self._sizes.append(len(samples_ns))
        self._elapsed_ns += sum(samples_ns) if elapsed_ns is None else elapsed_ns
        if self._is_time_to_look() and self._look().relative_half_width <= self._precision:
            self.stopped_by = PRECISION
        elif self._elapsed_ns >= self._protocol.budget_s * 1e9:
            self._look()
            self.stopped_by = BUDGET
        return not self.done

    def _is_time_to_look(self) -> bool:
        return (
            len(self._samples) >= self._next_look
            and len(self._sizes) >= self._protocol.min_blocks
            and self._elapsed_ns >= self._protocol.min_time_s * 1e9
        )

    def _look(self) -> Interval:
        self._next_look = 2 * len(self._samples)
        self.interval = median_interval(self._samples, self._protocol.confidence, self._sizes)
        return self.interval
