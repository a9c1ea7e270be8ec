"""Limits of cells and workers.

A cell that exceeds a limit of time or memory is stopped, which does not affect how any other cell is measured.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from attnbench.errors import UsageError

DEADLINES_S = {"start": 60.0, "import": 180.0, "prepare": 600.0, "first_call": 600.0}
OTHER_DEADLINE_S = 300.0  # for every phase that DEADLINES_S does not list
LOADING_PHASES = ("start", "import")  # `timeout_s` does not limit these phases, because a variant can't speed them up


@dataclass(frozen=True)
class CellLimits:
    """Time and memory limits of a cell, and the number of workers on a device.

    - `timeout_s`: the longest time that each phase of a cell may take, in seconds. If None, each phase has its default
      deadline. The phases in `LOADING_PHASES` always have their default deadlines.
    - `exhaustive`: whether to try cells that are predicted to run out of memory
    - `host_memory_bytes`: how much host memory a worker may use, in bytes. If None, a worker may use all memory except
      a reserve.
    - `max_workers`: how many workers may be resident on a device at the same time. If None, as many as fit in memory.
      Raises UsageError if it is less than 1.
    """

    timeout_s: float | None = None
    exhaustive: bool = False
    host_memory_bytes: int | None = None
    max_workers: int | None = None

    def __post_init__(self) -> None:
        """Check the number of workers."""
        if self.max_workers is not None and self.max_workers < 1:
            raise UsageError(f"the number of workers on a device is {self.max_workers}: expected at least 1")

    def deadline_s(self, phase: str) -> float:
        """Return how long a phase may take, in seconds."""
        given = None if phase in LOADING_PHASES else self.timeout_s
        return given or DEADLINES_S.get(phase, OTHER_DEADLINE_S)

    def to_json(self) -> dict[str, Any]:
        """Return the limits as a dict of JSON values."""
        return asdict(self)
