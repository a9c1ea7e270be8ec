"""The settings of a measurement: everything that the user can choose and that could change the measured time."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attnbench.device_names import device_type
from attnbench.errors import UsageError, unknown

MODES = ("hot", "cold", "graph")
DEFAULT_PRECISION = {"cuda": 0.005, "cpu": 0.02}
DEFAULT_PROCESSES = {"cuda": 4, "cpu": 6}
MIN_PROCESSES = 2  # a single process does not show how much processes that run the same code differ
MIN_BUDGET_PER_PROCESS_S = 0.05  # by default, a process that would sample for a shorter time is not started
MIN_SAMPLES_PER_PROCESS = 8  # with fewer samples, the interval of a median can't have a confidence of 99%
MIN_BLOCKS_PER_PROCESS = 3  # the median of three rounds does not depend on one that something disturbed
REVISION = 1  # increase this number if you change the sampler in a way that changes what is measured


@dataclass(frozen=True)
class MeasureConfig:
    """The settings of a measurement. Raises UsageError if a value is out of range.

    - `precision`: sampling ends when the half-width of the median's confidence interval is below this share of the
      median; None means 0.005 on CUDA and 0.02 on CPU
    - `budget_s`: sampling ends after this many seconds, regardless of the precision reached; the warm-up is not counted
    - `min_samples`, `min_time_s`, `min_blocks`: all three must be reached before `precision` can end sampling
    - `block_s`: intended length of one block in seconds; if calls are slow, blocks are longer, so that each block has
      two samples, or one if the budget does not allow two
    - `processes`: the largest number of processes that measure a cell, one after the other. Each of them gets an equal
      share of the budget, of the three minimums and of the warm-up. A cell needs at least two, and no more once its
      precision is reached and its comparisons are clear. None means 4 on CUDA and 6 on CPU, fewer for
      a budget below 0.05 s each, or 1 without `interleave`, because several processes only serve to compare variants
    - `interleave`: whether the variants of a workload take turns, in the order A B B A
    - `mode`: `hot` (calls back to back), `cold` (the cache is flushed before each call) or `graph` (calls are replayed
      from a CUDA graph, so that the host's time for launching kernels is not measured)
    - `seed`: seed of the inputs and of the sampler's random choices
    - `warm_up_min_s`, `warm_up_max_s`: shortest and longest warm-up in seconds; between these limits, the warm-up ends
      when two successive windows of calls take about the same time
    - `confidence`: confidence level of all intervals
    """

    precision: float | None = None
    budget_s: float = 3.0
    min_samples: int = 20
    min_time_s: float = 0.15
    min_blocks: int = 9
    block_s: float = 0.01
    processes: int | None = None
    interleave: bool = True
    mode: str = "hot"
    seed: int = 0
    warm_up_min_s: float = 0.05
    warm_up_max_s: float = 3.0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        """Check that all values are in range."""
        if self.mode not in MODES:
            raise UsageError(str(unknown("mode", str(self.mode), MODES)))
        if self.precision is not None:
            _check_number("precision", self.precision, 0.0, 1.0)
        _check_number("confidence", self.confidence, 0.5, 1.0)
        for name in ("budget_s", "block_s", "warm_up_max_s"):
            _check_number(name, getattr(self, name), 0.0, math.inf)
        for name in ("min_time_s", "warm_up_min_s"):
            if getattr(self, name) != 0:
                _check_number(name, getattr(self, name), 0.0, math.inf)
        for name in ("min_samples", "min_blocks", "processes"):
            value = getattr(self, name)
            if value is None and name == "processes":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"{name} is {value!r}: expected a whole number of at least 1")

    @property
    def protocol_id(self) -> str:
        """A hash of all settings. Samples with equal ids were measured in the same way."""
        text = json.dumps({"revision": REVISION, **self.to_json()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def within(self, seconds: float) -> MeasureConfig:
        """Return a copy in which sampling takes at most `seconds`.

        The warm-up also takes at most `seconds`, or at most `warm_up_min_s` if that is longer. Raises UsageError if
        `seconds` is out of range.
        """
        warm_up_s = min(self.warm_up_max_s, max(self.warm_up_min_s, seconds))
        return dataclasses.replace(self, budget_s=seconds, warm_up_max_s=warm_up_s)

    def precision_on(self, device: str) -> float:
        """Return the precision at which sampling ends on `device` ('cpu', 'cuda' or 'cuda:N')."""
        if self.precision is not None:
            return self.precision
        return DEFAULT_PRECISION[device_type(device)]

    def processes_on(self, device: str) -> int:
        """Return the number of processes that measure each cell on `device` ('cpu', 'cuda' or 'cuda:N')."""
        if not self.interleave:
            return 1
        if self.processes is not None:
            return self.processes
        affordable = max(MIN_PROCESSES, round(self.budget_s / MIN_BUDGET_PER_PROCESS_S))
        return min(affordable, DEFAULT_PROCESSES[device_type(device)])

    def share(self, processes: int, device: str) -> MeasureConfig:
        """Return the settings of each process if `processes` of them measure a cell on `device`.

        The precision is chosen such that the fewest processes that a cell needs reach that of the cell together.
        """
        if processes == 1:
            return self
        return dataclasses.replace(
            self,
            precision=min(0.99, self.precision_on(device) * math.sqrt(MIN_PROCESSES)),
            budget_s=self.budget_s / processes,
            min_samples=max(MIN_SAMPLES_PER_PROCESS, math.ceil(self.min_samples / processes)),
            min_time_s=self.min_time_s / processes,
            min_blocks=max(min(MIN_BLOCKS_PER_PROCESS, self.min_blocks), math.ceil(self.min_blocks / processes)),
            warm_up_min_s=self.warm_up_min_s / processes,
            # A warm-up of very few calls could not show their usual time on a busy machine.
            warm_up_max_s=min(self.warm_up_max_s, max(0.05, self.warm_up_max_s / processes)),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> MeasureConfig:
        """Build a config from the fields that `to_json` returns, with defaults for missing fields.

        Raises UsageError if a field is unknown or its value is out of range.
        """
        names = [spec.name for spec in dataclasses.fields(cls)]
        for name in fields:
            if name not in names:
                raise UsageError(str(unknown("protocol field", str(name), names)))
        return cls(**fields)


def _check_number(name: str, value: Any, above: float, below: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not above < value < below:
        limit = "" if below == math.inf else f" and below {below:g}"
        raise UsageError(f"{name} is {value!r}: expected a number above {above:g}{limit}")
