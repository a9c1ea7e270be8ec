"""How many workers may be resident on a device at the same time.

Workers are kept from one workload to the next, because starting one takes time: a worker of a GPU creates a CUDA
context. Each resident worker holds memory of the host and, on a GPU, memory of the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.isolation.memory_limit import available_bytes, host_memory
from attnbench.plan.memory_frontier import least_bytes

if TYPE_CHECKING:
    from attnbench.plan.devices import Device
    from attnbench.runner.cell_limits import CellLimits
    from attnbench.workloads.workload import Workload

# Device memory of a CUDA context with the libraries of torch. This value is an assumption and was not measured.
CONTEXT_BYTES = 1 << 29
# Host memory of a worker that has loaded torch, without the tensors of its cell. The value for CPU workers is about 1.6
# times what was measured on Linux (154 MiB). The value for CUDA workers is an assumption and was not measured.
WORKER_BYTES = {"cpu": 1 << 28, "cuda": 2 << 30}
USABLE_SHARE = 0.95  # share of a GPU's memory that workers may use; the driver and the display need the rest


def places_on(device: Device, workload: Workload, limits: CellLimits, *, resident: int, devices: int) -> int:
    """Return how many workers may be resident on a device while a workload is measured. The result is at least 1.

    This is the number that the user chose (`limits.max_workers`) or otherwise as many as fit in memory, if each worker
    holds an open cell. `resident` workers are on the device already, and hold no open cell. `devices` is the number of
    devices that share the host's memory. A GPU in the compute mode EXCLUSIVE_PROCESS has only one place.
    """
    member = device.members[0] if device.members else device
    if device.exclusive:
        return 1
    if limits.max_workers is not None:
        return limits.max_workers
    cell = least_bytes(workload.share)
    worker = WORKER_BYTES[device.kind]
    cell_on_host = cell if device.kind == "cpu" else 0
    free = (available_bytes() - host_memory(device.kind).reserve_bytes) / devices + resident * worker
    places = [_places(free, worker, cell_on_host)]
    if device.kind == "cuda" and member.memory_bytes is not None:
        places.append(_places(USABLE_SHARE * member.memory_bytes, CONTEXT_BYTES, cell))
    return max(1, min(places))


def _places(free: float, worker: int, cell: int) -> int:
    """Return how many workers with an open cell fit into `free` bytes.

    The worker whose turn it is needs memory for a second copy of its cell's tensors, e.g. for the audit.
    """
    return int((free - cell) // (worker + cell))
