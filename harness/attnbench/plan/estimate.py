"""Estimates of the time that a cell takes, from its workload, the peak rates of its device, and the budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnbench.measure_config import MIN_PROCESSES
from attnbench.plan.device_peaks import cached_peaks
from attnbench.stats.roofline import Peaks

if TYPE_CHECKING:
    from attnbench.measure_config import MeasureConfig
    from attnbench.plan.devices import Device
    from attnbench.workloads.workload import Workload

# The warm-up compares at least two windows. A window has up to 20 calls, but only 8 if these take longer than 25 ms.
WINDOWS, WINDOW_CALLS, MIN_WINDOW_CALLS, WINDOW_S = 2, 20, 8, 0.025
CHECKED_CALLS = 10  # untimed calls of a cell: the full conformance check, memory and kernels
CALLS_PER_BLOCK = 4  # a block has at least a lead-in, an audited call, an ordinary call and a repeat


@dataclass(frozen=True)
class Costs:
    """What cells cost on a kind of device, besides the work that follows from the workload. Times are in seconds.

    - `attained`: the share of the device's peak rates that a variant attains
    - `worker_s`: the time to start a worker and load the variant's plugin
    - `cell_s`: the time to check a cell's answers in full, and to measure its memory and kernels
    - `open_s`: the time to make the inputs of a cell and its first call, which each of its processes does
    - `warm_up_s`: the time until two windows of short calls agree
    - `block_s`: the time to check an output and to read the state of the machine after each block
    """

    attained: float
    worker_s: float
    cell_s: float
    open_s: float
    warm_up_s: float
    block_s: float


# With a shorter budget for each process, few cells reach their precision before they have used all processes.
SHORT_BUDGET_S = 0.07
# The values for a CPU were measured on two cores. Those for a GPU are assumptions until an earlier run of the GPU shows
# the time that its cells take.
COSTS = {"cpu": Costs(0.5, 0.1, 0.07, 0.01, 0.05, 0.007), "cuda": Costs(0.25, 1.0, 0.35, 0.05, 0.02, 0.006)}
# The peak rates that are assumed until they have been measured (bfloat16, dense; NVIDIA's data sheets), by a part of
# the model's name, the more specific ones first. They are used for estimates alone, never in a report.
NAMED_PEAKS = {
    "B200": Peaks(8.0e12, 2250e12),
    "H200": Peaks(4.8e12, 990e12),
    "H100": Peaks(3.35e12, 990e12),
    "A100": Peaks(2.0e12, 312e12),
    "L40": Peaks(0.86e12, 181e12),
}
USUAL_PEAKS = {"cpu": Peaks(2e10, 1e11), "cuda": Peaks(0.8e12, 150e12)}
FLOAT32_SHARE = 1 / 15  # a GPU's rate of float32 products outside its tensor cores, as a share of the bfloat16 rate


class CellEstimate:
    """The estimate of the seconds that cells take on one device in one environment."""

    def __init__(self, device: Device, environment_id: str) -> None:
        self._device = device
        self._measured = cached_peaks(device, environment_id)

    def seconds(self, workload: Workload, protocol: MeasureConfig) -> float:
        """Return the estimated seconds of a cell with these settings, without the start of its worker."""
        rates = self._measured.get(workload.dtype) or assumed_peaks(self._device, workload.dtype)
        call_s = rates.shortest_s(workload.flops(), workload.bytes()) / COSTS[self._device.kind].attained
        return cell_seconds(call_s, protocol, self._device.kind)


def cell_seconds(call_s: float, protocol: MeasureConfig, kind: str) -> float:
    """Return the estimated seconds of a cell whose calls take `call_s`, on a kind of device ('cpu' or 'cuda')."""
    costs = COSTS[kind]
    most = protocol.processes_on(kind)
    share = protocol.share(most, kind)
    processes: float = most
    if share.budget_s >= SHORT_BUDGET_S:  # some cells need few processes and some need all
        processes = (min(most, MIN_PROCESSES) + most) / 2
    warm_up = max(costs.warm_up_s, WINDOWS * max(MIN_WINDOW_CALLS * call_s, min(WINDOW_CALLS * call_s, WINDOW_S)))
    warm_up = min(max(warm_up, share.warm_up_min_s), max(share.warm_up_max_s, call_s))
    block = max(min(share.block_s, share.budget_s / share.min_blocks), CALLS_PER_BLOCK * call_s)
    # Sampling usually ends at its minimum, because the interval is then narrow enough.
    sampling = min(share.budget_s, max(share.min_time_s, share.min_samples * call_s, share.min_blocks * block))
    blocks = max(1, math.ceil(sampling / block))
    sampling = max(sampling, blocks * block)
    of_process = costs.open_s + call_s + warm_up + sampling + blocks * costs.block_s
    return costs.cell_s + CHECKED_CALLS * call_s + processes * of_process


def assumed_peaks(device: Device, dtype: str) -> Peaks:
    """Return the peak rates that are assumed of a device on which they have not been measured."""
    named = next((peaks for name, peaks in NAMED_PEAKS.items() if name in device.model), USUAL_PEAKS[device.kind])
    if device.kind == "cuda" and dtype == "float32":
        return Peaks(named.copy_bytes_per_s, FLOAT32_SHARE * named.matmul_flops_per_s)
    return named
