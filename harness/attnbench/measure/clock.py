"""Clocks that time work on a device, and host clocks that check them."""

from __future__ import annotations

import os
import time
import types
from collections.abc import Callable
from typing import Any, Protocol

import torch

from attnbench.device_names import device_type
from attnbench.machine.telemetry import waited_ns

# These references are taken before any plugin is imported, so a plugin that replaces the functions in their modules
# can't change how it is timed.
_now = time.perf_counter_ns
_raw_now = time.clock_gettime_ns
_Event = torch.cuda.Event
_synchronise = torch.cuda.synchronize
_device_count = torch.cuda.device_count
_sleep: Callable[[int], None] = torch.cuda._sleep  # noqa: SLF001 - torch has no public function that delays a stream without the host

SLEEP_CYCLES = 100_000  # the length of a delay is calibrated with delays of this many cycles
SLEEP_TRIES = 5
LAUNCH_FLOOR_CALLS = 20  # the launch floor is the median time of this many empty calls


class Clock(Protocol):
    """The clock of a sampler, which puts marks into the device's work queue and reads the host's wall time.

    - `asynchronous`: whether calls return before the device has finished their work
    - `launch_floor_ns`: the wall time of an empty call, including the wait until all devices are synchronised, minus
      the time between the marks around the call; 0 if `asynchronous` is False
    """

    asynchronous: bool
    launch_floor_ns: float

    def now(self) -> int:
        """Return the wall time in ns since an arbitrary point in time."""

    def mark(self) -> Any:
        """Put a mark into the device's work queue and return the mark."""

    def elapsed_ns(self, start: Any, end: Any) -> float:
        """Return the time between two marks in ns. Call `synchronise` after the second mark and before this method."""

    def delay(self, duration_ns: float) -> None:
        """Put a delay of about `duration_ns` into the device's work queue, without waiting for it.

        The device then reaches the work that follows only after the host has queued it, if the host needs less time.
        The delay reads and writes no memory. Does nothing if `asynchronous` is False.
        """

    def synchronise(self) -> None:
        """Wait until all devices have finished their work on all streams."""


class CpuClock:
    """The clock of a CPU, which uses wall time because a call on a CPU has finished when it returns."""

    asynchronous = False
    launch_floor_ns = 0.0

    def __init__(self) -> None:
        self.now = self.mark = _now  # the C function itself, so that taking a mark runs no Python code

    @staticmethod
    def elapsed_ns(start: int, end: int) -> float:
        """Return the time between two marks in ns."""
        return float(end - start)

    @staticmethod
    def delay(duration_ns: float) -> None:
        """Do nothing, because a call on a CPU does not wait for the host."""

    @staticmethod
    def synchronise() -> None:
        """Do nothing, because a call on a CPU has finished when it returns."""


class CudaClock:
    """The clock of a CUDA device, whose marks are CUDA events on the current stream."""

    asynchronous = True

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self.now = _now
        self.launch_floor_ns = self._measure_launch_floor()
        self._cycles_per_ns = self._measure_cycles_per_ns()

    def mark(self) -> torch.cuda.Event:
        """Record an event on the current stream."""
        event: torch.cuda.Event = _Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    @staticmethod
    def elapsed_ns(start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Return the time between two events in ns."""
        return float(start.elapsed_time(end)) * 1e6

    def delay(self, duration_ns: float) -> None:
        """Queue a kernel on the current stream that waits for about `duration_ns` of the SM clock's cycles."""
        _sleep(int(duration_ns * self._cycles_per_ns))

    @staticmethod
    def synchronise() -> None:
        """Wait for all streams of all devices, so that wall times include work on side streams."""
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

    def _measure_cycles_per_ns(self) -> float:
        """Return the highest measured rate of the cycles that delays are counted in.

        The first delays may run at a lower clock rate, because the device has been idle.
        """
        rates = []
        for _ in range(SLEEP_TRIES):
            start = self.mark()
            _sleep(SLEEP_CYCLES)
            end = self.mark()
            self.synchronise()
            rates.append(SLEEP_CYCLES / self.elapsed_ns(start, end))
        return max(rates)


def clock_for(device: str) -> Clock:
    """Return the clock of `device` ('cpu', 'cuda' or 'cuda:N'). Raises UsageError for any other device."""
    return CudaClock(device) if device_type(device) == "cuda" else CpuClock()


def by_two_clocks(clock: Clock, prepare: Callable[[], Callable[[], object]]) -> tuple[float, float, int]:
    """Time three calls with device events and the wall clock, and return the times of the one whose times differ least.

    `prepare` returns the call to time. The result has three times in ns: by device events; by the wall clock, including
    the wait until all devices are synchronised; and for how long threads waited for a core during all three calls.
    """
    tries, waited = [], waited_ns() or 0
    for _ in range(3):
        ready_call = prepare()
        clock.synchronise()
        begun, start = clock.now(), clock.mark()
        ready_call()
        end = clock.mark()
        clock.synchronise()
        synchronised = float(clock.now() - begun)
        tries.append((synchronised - clock.elapsed_ns(start, end), clock.elapsed_ns(start, end), synchronised))
    _, device_ns, synchronised_ns = min(tries)
    return device_ns, synchronised_ns, max(0, (waited_ns() or 0) - waited)


def gpu_uuid(device: str) -> str:
    """Return the UUID by which NVML identifies `device`, a GPU or a MIG instance.

    A UUID is needed because the index of a device depends on CUDA_VISIBLE_DEVICES. A process that uses a MIG instance
    can use only this one, and its UUID is the one in CUDA_VISIBLE_DEVICES.
    """
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
    if first.startswith("MIG-"):
        return first
    return f"GPU-{torch.cuda.get_device_properties(torch.device(device)).uuid}"


def patched_clocks() -> list[str]:
    """Return the names of the clock functions that have been replaced since this module was imported."""
    current = {
        "time.perf_counter_ns": (time.perf_counter_ns, _now),
        "time.clock_gettime_ns": (time.clock_gettime_ns, _raw_now),
        **{f"time.{name}": (getattr(time, name), clock) for name, clock in _OTHER_CLOCKS.items()},
        "torch.cuda.Event": (torch.cuda.Event, _Event),
        "torch.cuda.synchronize": (torch.cuda.synchronize, _synchronise),
        "torch.cuda.device_count": (torch.cuda.device_count, _device_count),
        "torch.cuda._sleep": (torch.cuda._sleep, _sleep),  # noqa: SLF001
    }
    patched = [name for name, (present, original) in current.items() if present is not original]
    for method, original in _EVENT_METHODS.items():
        if getattr(_Event, method, None) is not original:
            patched.append(f"torch.cuda.Event.{method}")
    if not (isinstance(_now, types.BuiltinFunctionType) and isinstance(_raw_now, types.BuiltinFunctionType)):
        patched.append("the sampler's own clock")
    return patched


_OTHER_CLOCKS = {name: getattr(time, name) for name in ("perf_counter", "monotonic", "monotonic_ns", "time", "time_ns")}
_EVENT_METHODS = {name: getattr(_Event, name) for name in ("record", "elapsed_time", "synchronize", "__init__")}


def cpu_now() -> int:
    """Return the CPU time in ns that all threads of this process have used. Sleeping threads use none."""
    return _raw_now(time.CLOCK_PROCESS_CPUTIME_ID)


def raw_now() -> int:
    """Return the time of the system's monotonic clock in ns. This time is used to check `Clock.now`."""
    return _raw_now(time.CLOCK_MONOTONIC)


class CpuShare:
    """The share of the time since construction for which this process ran, of the time for which it could have run.

    A process whose threads wait for a core, because other processes use the cores, runs as little as one that sleeps.
    Therefore the time for which threads waited is left out.
    """

    def __init__(self) -> None:
        # The waiting time is read before the wall time here, and after it in `read`. A wait between two readings is
        # then left out of the wall time or counted as a wait, and never looks like sleep.
        self._waited = waited_ns()
        self._wall, self._cpu = raw_now(), cpu_now()

    def read(self) -> float | None:
        """Return the share, which is near 0 if the process slept, and more than 1 if several threads ran.

        Returns None if the kernel does not count how long threads waited.
        """
        cpu, wall, waited = cpu_now() - self._cpu, raw_now() - self._wall, waited_ns()
        if waited is None or self._waited is None:
            return None
        return cpu / max(1, wall - max(0, waited - self._waited))
