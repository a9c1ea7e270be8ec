"""Measure the memory that one call needs. The measured call is not timed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch

from attnbench.device_names import device_type
from attnbench.measure.call import DirectionCall
from attnbench.measure.clock import gpu_uuid
from attnbench.measure.kernels import MEMORY, profiled

if TYPE_CHECKING:
    from attnbench.plugins.variant import Timed
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload


@dataclass(frozen=True)
class Memory:
    """The memory of one call, in bytes.

    - `peak_bytes`: the peak of allocated memory during the timed part, minus the memory allocated beforehand
    - `saved_bytes`: the memory that the forward pass saves for the backward pass, without the output; None in direction
      `forward`
    - `reserved_bytes`: the increase in the device memory that torch's allocator reserves; None on CPU
    - `driver_bytes`: the increase in the process's memory as reported by the driver, which includes memory that torch's
      allocator does not manage; None on CPU, if NVML does not report it, or in a container for which NVML reports the
      PIDs of the host
    - `harness_bytes`: the memory by which the peak of the whole cell, since `watch_peak`, exceeds the peak of one call.
      It is held by the checks and the audit, and is 0 if these fit into memory that the call needs too. None on CPU.
    """

    peak_bytes: int
    saved_bytes: int | None = None
    reserved_bytes: int | None = None
    driver_bytes: int | None = None
    harness_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def watch_peak(device: str) -> None:
    """Start to watch the peak of allocated memory, for `harness_bytes`. On a CPU this does nothing."""
    if device_type(device) == "cuda":
        torch.cuda.reset_peak_memory_stats(torch.device(device))


def measure_memory(call: Timed, inputs: Inputs, workload: Workload, device: str) -> Memory:
    """Return the memory that one call in the workload's direction needs.

    Make at least one call beforehand, so that workspaces that are allocated only once are not counted. On a CPU, the
    peak is the largest running sum of the allocations that torch's profiler reports, which is exact. On CUDA, the peak
    comes from the statistics of torch's caching allocator.
    """
    if device_type(device) == "cuda":
        return _on_cuda(DirectionCall(call, inputs, workload), call, workload, torch.device(device))
    return _on_cpu(DirectionCall(call, inputs, workload), call, workload)


def _on_cpu(direction_call: DirectionCall, call: Timed, workload: Workload) -> Memory:
    ready_call = direction_call.prepare()[0]
    _, events = profiled(ready_call, device="cpu", memory=True)
    changes = [event.bytes for event in events if event.name == MEMORY]
    saved = None
    if workload.needs_gradient:
        output, kept = profiled(call, device="cpu", memory=True)
        saved = sum(event.bytes for event in kept if event.name == MEMORY) - _storage_bytes(output)
    return Memory(max(accumulate(changes), default=0), saved)


def _on_cuda(direction_call: DirectionCall, call: Timed, workload: Workload, device: torch.device) -> Memory:
    peak_of_cell = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    ready_call = direction_call.prepare()[0]  # in direction `backward`, this runs the forward pass
    torch.cuda.synchronize(device)
    peak_of_preparing = torch.cuda.max_memory_allocated(device)
    torch.cuda.empty_cache()
    driver = _driver_bytes(device)
    torch.cuda.reset_peak_memory_stats(device)
    before, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    result = ready_call()
    torch.cuda.synchronize(device)
    peak_of_call = torch.cuda.max_memory_allocated(device)
    reserved = torch.cuda.max_memory_reserved(device) - reserved
    grown = _driver_bytes(device)
    del result, ready_call
    saved = None
    if workload.needs_gradient:
        before = torch.cuda.memory_allocated(device)
        output = call()
        saved = torch.cuda.memory_allocated(device) - before - _storage_bytes(output)
    return Memory(
        peak_of_call - before,
        saved,
        reserved,
        None if driver is None or grown is None else grown - driver,
        max(0, peak_of_cell - max(peak_of_preparing, peak_of_call)),
    )


def _storage_bytes(output: torch.Tensor) -> int:
    return output.untyped_storage().nbytes()


def _driver_bytes(device: torch.device) -> int | None:
    from attnbench.machine.nvml import NvmlTelemetry

    try:
        return NvmlTelemetry(gpu_uuid(str(device))).used_bytes()
    except Exception:  # noqa: BLE001 - NVML may be missing, and `driver_bytes` is optional
        return None
