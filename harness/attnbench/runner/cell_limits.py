"""Limits of cells and workers.

A cell that exceeds a limit of time or memory is stopped, which does not affect how any other cell is measured.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from attnbench.errors import UsageError
from attnbench.plan.memory_frontier import MAX_CALL_S

if TYPE_CHECKING:
    from attnbench.workloads.workload import Workload

DEADLINES_S = {"start": 60.0, "import": 180.0, "prepare": 600.0, "first_call": 600.0}
OTHER_DEADLINE_S = 300.0  # for every phase that DEADLINES_S does not list
# In these phases a variant may time several candidates of its kernels. Their default deadlines allow for this many
# calls, each of which is assumed to run at the rate below, but to take at most MAX_CALL_S. The rates are meant to be
# lower than those of fused kernels on data-centre GPUs. They are assumptions and were not measured.
TUNING_PHASES = ("prepare", "first_call")
TUNING_CALLS = 200
SLOW_FLOPS_PER_S = {"float32": 1e13, "float16": 5e13, "bfloat16": 5e13}
LOADING_PHASES = ("start", "import")  # `timeout_s` does not limit these phases, because a variant can't speed them up


@dataclass(frozen=True)
class CellLimits:
    """Time and memory limits of a cell, and the number of workers on a device.

    - `timeout_s`: the longest time that each phase of a cell may take, in seconds. If None, each phase has its default
      deadline, which grows with the workload in the phases in `TUNING_PHASES`. The phases in `LOADING_PHASES` always
      have their default deadlines.
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
            raise UsageError(f"max_workers is {self.max_workers}: expected at least 1 worker on a device")

    def deadline_s(self, phase: str, workload: Workload | None = None) -> float:
        """Return how long a phase of a cell with this workload may take, in seconds."""
        given = None if phase in LOADING_PHASES else self.timeout_s
        return given or DEADLINES_S.get(phase, OTHER_DEADLINE_S) + _tuning_s(phase, workload)

    def to_json(self) -> dict[str, Any]:
        """Return the limits as a dict of JSON values."""
        return asdict(self)


def _tuning_s(phase: str, workload: Workload | None) -> float:
    """Return for how many seconds a variant may tune its kernels in a phase."""
    if workload is None or phase not in TUNING_PHASES:
        return 0.0
    return TUNING_CALLS * min(MAX_CALL_S, workload.flops() / SLOW_FLOPS_PER_S[workload.dtype])
