"""The state of the machine during each block of samples.

Reading the state does not require torch. If the state can't be read, the run continues without it.
"""

from __future__ import annotations

import collections
import contextlib
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from attnbench.device_names import device_type
from attnbench.machine.cgroups import ControlGroups

# If a block exceeds one of these limits, its `throttle` entry contains the reason.
STEAL_LIMIT = 0.02  # maximum share of the block's CPU time that the hypervisor may take
# Maximum time that this process's threads may wait while other processes use their cores, as a share of the block's
# time. The kernel's own work interrupts each core now and then, so the share grows with the number of threads.
WAITED_LIMIT, WAITED_PER_THREAD = 0.05, 0.001
ACTIVE_SHARE = 0.01  # a thread is active if it ran or waited for more than this share of the block
# Maximum number of cores that other processes may use. This limit applies only if the kernel does not report how long
# threads waited for a core.
FOREIGN_LIMIT = 0.5
# The load of other processes is averaged over this time, because the kernel may count CPU time in ticks of 10 ms.
FOREIGN_WINDOW_S = 0.2
THERMAL = "cpu*/thermal_throttle/core_throttle_count"
CPUS = Path("/sys/devices/system/cpu")


class Telemetry(Protocol):
    """A reader for the state of a device during a block."""

    def start(self) -> None:
        """Store the state at the start of a block."""

    def read(self) -> dict[str, Any]:
        """Return the state during the block as JSON values, with units in the names.

        `throttle` lists the reasons why the block was slowed down.
        """


def telemetry_for(device: str, gpu_uuid: Callable[[str], str]) -> Telemetry:
    """Return the reader for the state of `device` ('cpu', 'cuda' or 'cuda:N').

    `gpu_uuid` is a function that returns the UUID of a CUDA device. It is a parameter because finding the UUID requires
    torch. If NVML can't be used, this function issues a warning and returns a reader whose state is always empty.
    """
    if device_type(device) != "cuda":
        return CpuTelemetry()
    from attnbench.machine.nvml import NvmlTelemetry

    try:
        return NvmlTelemetry(gpu_uuid(device))
    except Exception as error:  # noqa: BLE001 - timing does not need NVML
        warnings.warn(
            f"the state of {device} is not recorded, because NVML can't be used: {error}", RuntimeWarning, stacklevel=2
        )
        return NoTelemetry()


class NoTelemetry:
    """A reader that always returns an empty state, for devices whose state can't be read."""

    def start(self) -> None:
        """Do nothing."""

    def read(self) -> dict[str, Any]:
        """Return an empty state."""
        return {}


class CpuTelemetry:
    """A reader for load, frequency, steal time and the CPU time that other processes use on this process's cores.

    The CPU time of the run's other workers does not matter here, because they sleep while a block is timed.
    """

    def __init__(self) -> None:
        self._groups = ControlGroups()
        self._cores = (
            sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        )
        # For each recent block, the CPU time that other processes used and the duration of the block, both in seconds.
        self._taken: collections.deque[tuple[float, float]] = collections.deque()
        self.start()

    def start(self) -> None:
        """Store the counters at the start of a block."""
        self._wall = time.perf_counter()
        self._busy, self._steal = _cpu_seconds(self._cores)
        self._process_s = time.process_time()
        self._threads = thread_times()
        self._throttled_us, self._thermal = self._groups.throttled_us(), _thermal_throttles()

    def read(self) -> dict[str, Any]:
        """Return the state since `start`.

        - `load_1m`, `cpu_mhz`: the load average of the last minute and the CPU frequency
        - `steal`: the share of the CPU time that the hypervisor took
        - `waited`: the time for which threads of this process were ready to run but had no core, as a share of the
          block's duration; None if the kernel does not count this time
        - `cores_used`: the mean number of cores that this process kept busy
        - `foreign_cores`: the number of cores that other processes kept busy during the last FOREIGN_WINDOW_S; None
          until the timed blocks add up to this duration
        - `throttle`: the reasons why the block was slowed down
        """
        wall = max(time.perf_counter() - self._wall, 1e-9)
        busy, stolen = _cpu_seconds(self._cores)
        steal = (stolen - self._steal) / (wall * len(self._cores))
        own_s = time.process_time() - self._process_s
        foreign = self._foreign_cores(busy - self._busy - own_s, wall)
        load = ThreadLoad.between(self._threads, thread_times(), wall, len(self._cores))
        frequency = None
        with contextlib.suppress(Exception):
            frequency = psutil.cpu_freq().current
        causes = {
            "quota": self._groups.throttled_us() > self._throttled_us,
            "thermal": _thermal_throttles() > self._thermal,
            "steal": steal > STEAL_LIMIT,
            "foreign_load": (foreign or 0.0) > FOREIGN_LIMIT if load is None else load.is_foreign(foreign or 0.0),
        }
        return {
            "load_1m": round(os.getloadavg()[0], 2),
            "cpu_mhz": None if not frequency else round(frequency, 1),
            "steal": round(max(0.0, steal), 4),
            "waited": None if load is None else round(load.waited, 4),
            "cores_used": round(own_s / wall, 3),
            "foreign_cores": None if foreign is None else round(foreign, 3),
            "throttle": [cause for cause, applies in causes.items() if applies],
        }

    def _foreign_cores(self, taken_s: float, wall_s: float) -> float | None:
        """Return the mean number of cores that other processes kept busy during the last FOREIGN_WINDOW_S.

        Returns None until the blocks timed so far add up to this duration.
        """
        self._taken.append((taken_s, wall_s))
        while sum(wall for _, wall in list(self._taken)[1:]) >= FOREIGN_WINDOW_S:
            self._taken.popleft()
        wall = sum(wall for _, wall in self._taken)
        return max(0.0, sum(taken for taken, _ in self._taken) / wall) if wall >= FOREIGN_WINDOW_S else None


def _cpu_seconds(cores: Sequence[int]) -> tuple[float, float]:
    """Return the total seconds for which the cores were busy, and the seconds that the hypervisor took from them."""
    times = psutil.cpu_times(percpu=True)
    chosen = [times[core] for core in cores if core < len(times)]
    return sum(map(_busy, chosen)), sum(getattr(core, "steal", 0.0) for core in chosen)


ThreadTimes = dict[str, tuple[int, int]]  # key: thread id; value: how long the thread ran and waited for a core, in ns


@dataclass(frozen=True)
class ThreadLoad:
    """How busy the threads of a process were during a block.

    - `active`: the number of threads that ran or waited for more than ACTIVE_SHARE of the block
    - `ran`, `waited`: the time for which threads ran and waited for a core, summed over the threads, as a share of the
      block's duration
    - `cores`: the number of cores that the process may use
    """

    active: int
    ran: float
    waited: float
    cores: int

    @classmethod
    def between(cls, before: ThreadTimes, now: ThreadTimes, wall_s: float, cores: int) -> ThreadLoad | None:
        """Return the load between two results of `thread_times`, or None if the kernel does not count these times."""
        if not before or not now:
            return None
        starts = {thread: before.get(thread, (0, 0)) for thread in now}
        shares = [
            (max(0, ran - starts[thread][0]) / 1e9 / wall_s, max(0, waited - starts[thread][1]) / 1e9 / wall_s)
            for thread, (ran, waited) in now.items()
        ]
        active = sum(ran + waited > ACTIVE_SHARE for ran, waited in shares)
        return cls(active, sum(ran for ran, _ in shares), sum(waited for _, waited in shares), cores)

    def is_foreign(self, foreign_cores: float) -> bool:
        """Return whether threads waited too long for cores that other processes used.

        `foreign_cores` is the number of cores that other processes kept busy. If the process has more active threads
        than cores, its threads also wait for each other. Then others can have caused no more of the waiting than the
        cores' time that the process did not get, and no more than the others used.
        """
        waited = self.waited
        if self.active > self.cores:
            waited = min(waited, self.cores - self.ran, foreign_cores)
        return waited > WAITED_LIMIT + WAITED_PER_THREAD * max(0, self.active - 1)


def thread_times() -> ThreadTimes:
    """Return how long each thread of this process has run and waited for a core, in ns.

    The result is empty if the kernel does not count these times (see sched-stats.rst in the documentation of Linux).
    """
    times = {}
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # the thread may have exited
            ran, waited = path.read_text().split()[:2]
            times[path.parent.name] = int(ran), int(waited)
    return times if any(waited for _, waited in times.values()) else {}


def waited_ns() -> int | None:
    """Return how long, in ns, this process's threads were ready to run but had no core, summed over the threads.

    Returns None if the kernel does not count this time.
    """
    return sum(waited for _, waited in thread_times().values()) or None


def _busy(times: Any) -> float:
    return float(sum(getattr(times, name, 0.0) for name in ("user", "system", "nice", "irq", "softirq")))


def _thermal_throttles() -> int:
    total = 0
    for path in CPUS.glob(THERMAL):
        with contextlib.suppress(OSError, ValueError):
            total += int(path.read_text())
    return total
