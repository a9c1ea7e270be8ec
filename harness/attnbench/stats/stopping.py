"""The stopping rule, which decides when a cell has enough samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnbench.stats.interval import Interval, median_interval

if TYPE_CHECKING:
    from attnbench.measure_config import MeasureConfig

PRECISION, BUDGET = "precision", "budget"


class StoppingRule:
    """The stopping rule of one cell: after each block, `add` returns whether another block is needed.

    The interval is computed when the minimums of the measure config are first met, and again each time the number of
    samples has doubled. If it were computed after every block, sampling would often stop at an interval that is narrow
    by chance, and too few intervals would contain the true median.
    """

    def __init__(self, config: MeasureConfig, device: str) -> None:
        self._config = config
        self._precision = config.precision_on(device)
        self._samples: list[float] = []
        self._sizes: list[int] = []
        self._elapsed_ns = 0.0
        self._next_look = config.min_samples
        self.stopped_by: str | None = None
        self.interval: Interval | None = None

    @property
    def done(self) -> bool:
        """Whether sampling is finished. If so, `stopped_by` is the reason, `precision` or `budget`."""
        return self.stopped_by is not None

    @property
    def elapsed_ns(self) -> float:
        """The time spent on the blocks so far, in ns."""
        return self._elapsed_ns

    def add(self, samples_ns: Sequence[float], elapsed_ns: float | None = None) -> bool:
        """Add the samples of one block and return whether another block is needed.

        `elapsed_ns` is the wall time of the whole block. Without this argument, the sum of the samples is used.
        """
        self._samples += samples_ns
        self._sizes.append(len(samples_ns))
        self._elapsed_ns += sum(samples_ns) if elapsed_ns is None else elapsed_ns
        if self._is_time_to_look() and self._look().relative_half_width <= self._precision:
            self.stopped_by = PRECISION
        elif self._elapsed_ns >= self._config.budget_s * 1e9:
            self._look()
            self.stopped_by = BUDGET
        return not self.done

    def _is_time_to_look(self) -> bool:
        return (
            len(self._samples) >= self._next_look
            and len(self._sizes) >= self._config.min_blocks
            and self._elapsed_ns >= self._config.min_time_s * 1e9
        )

    def _look(self) -> Interval:
        self._next_look = 2 * len(self._samples)
        self.interval = median_interval(self._samples, self._config.confidence, self._sizes)
        return self.interval
