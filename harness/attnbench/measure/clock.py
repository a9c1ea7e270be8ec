"""Clocks: marks around a call, and the wall time beside them."""

from __future__ import annotations

import time
import types
from typing import Any, Protocol

import torch

from attnbench.errors import MeasurementError

# Taken before any plugin is imported, so that what a plugin puts in their place never times anything.
_now = time.perf_counter_ns
_raw_now = time.clock_gettime_ns
_Event = torch.cuda.Event
_synchronise = torch.cuda.synchronize
_device_count = torch.cuda.device_count

LAUNCH_FLOOR_CALLS = 20


class Clock(Protocol):
    """What the sampler needs of a device: marks in its order of work, and wall time.

    `asynchronous` tells whether calls return before the device is done; `launch_floor_ns` is then what wall time to an
    all-device synchronise exceeds device events by for a call that does nothing.
    """

    asynchronous: bool
    launch_floor_ns: float

    def now(self) -> int:
        """Give wall time in ns from a fixed, unknown start."""

    def mark(self) -> Any:
        """Mark this point in the device's order of work."""

    def elapsed_ns(self, start: Any, end: Any) -> float:
        """Give ns between two marks; `synchronise` must have been called since."""

    def synchronise(self) -> None:
        """Wait until all devices have done all their work, on every stream."""


class CpuClock:
    """Wall time of the CPU, where calls return when they are done."""

    asynchronous = False
    launch_floor_ns = 0.0

    def __init__(self) -> None:
        self.now = self.mark = _now  # bound straight to the C function: nothing of ours runs between the marks

    @staticmethod
    def elapsed_ns(start: int, end: int) -> float:
        """Give ns between two marks."""
        return float(end - start)

    @staticmethod
    def synchronise() -> None:
        """Do nothing: a CPU call is done when it returns."""


class CudaClock:
    """CUDA events on the current stream of one device, and wall time to a synchronise of all devices."""

    asynchronous = True

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self.now = _now
        self.launch_floor_ns = self._measure_launch_floor()

    def mark(self) -> torch.cuda.Event:
        """Record an event on the current stream."""
        event: torch.cuda.Event = _Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    @staticmethod
    def elapsed_ns(start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Give ns between two events."""
        return float(start.elapsed_time(end)) * 1e6

    @staticmethod
    def synchronise() -> None:
        """Wait for all streams of all devices, so that work left elsewhere is waited for too."""
        for index in range(_device_count()):
            _synchronise(index)

    def _measure_launch_floor(self) -> float:
        gaps = []
        for _ in range(LAUNCH_FLOOR_CALLS):
            self.synchronise()
            begun = self.now()
            start, end = self.mark(), self.mark()
            self.synchronise()
            gaps.append(self.now() - begun - self.elapsed_ns(start, end))
        return float(sorted(gaps)[len(gaps) // 2])


def clock_for(device: str) -> Clock:
    """Give the clock of `device` ('cpu', 'cuda' or 'cuda:N'); raises MeasurementError for any other."""
    kind = device.partition(":")[0]
    if kind == "cpu":
        return CpuClock()
    if kind == "cuda":
        return CudaClock(device)
    raise MeasurementError(f"device {device!r} has no clock here: expected cpu, cuda or cuda:N")


def gpu_uuid(device: str) -> str:
    """Return the UUID by which NVML finds torch's `device`, whatever CUDA_VISIBLE_DEVICES renumbers."""
    return f"GPU-{torch.cuda.get_device_properties(torch.device(device)).uuid}"


def patched_clocks() -> list[str]:
    """Name what has been put in place of the clocks since this module was imported, ours or everybody's."""
    current = {
        "time.perf_counter_ns": (time.perf_counter_ns, _now),
        "time.clock_gettime_ns": (time.clock_gettime_ns, _raw_now),
        **{f"time.{name}": (getattr(time, name), clock) for name, clock in _OTHER_CLOCKS.items()},
        "torch.cuda.Event": (torch.cuda.Event, _Event),
        "torch.cuda.synchronize": (torch.cuda.synchronize, _synchronise),
        "torch.cuda.device_count": (torch.cuda.device_count, _device_count),
    }
    patched = [name for name, (there, ours) in current.items() if there is not ours]
    for method, original in _EVENT_METHODS.items():
        if getattr(_Event, method, None) is not original:
            patched.append(f"torch.cuda.Event.{method}")
    if not (isinstance(_now, types.BuiltinFunctionType) and isinstance(_raw_now, types.BuiltinFunctionType)):
        patched.append("the sampler's own clock")
    return patched


_OTHER_CLOCKS = {name: getattr(time, name) for name in ("perf_counter", "monotonic", "monotonic_ns", "time", "time_ns")}
_EVENT_METHODS = {name: getattr(_Event, name) for name in ("record", "elapsed_time", "synchronize", "__init__")}


def cpu_now() -> int:
    """Give the process's CPU time in ns over all its threads; it stands still while the process sleeps."""
    return _raw_now(time.CLOCK_PROCESS_CPUTIME_ID)


def raw_now() -> int:
    """Give ns of a second, independent clock of the system, to check `Clock.now` against."""
    return _raw_now(time.CLOCK_MONOTONIC)
