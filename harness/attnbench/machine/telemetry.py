"""The machine's state beside each block: never fatal, never in a timed region, without torch."""

from __future__ import annotations

import collections
import contextlib
import os
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import psutil

from attnbench.machine.cgroups import ControlGroups

STEAL_LIMIT = 0.02  # of the block's CPU time: above it the hypervisor took the CPU away for long enough to show
WAITED_LIMIT = 0.02  # of the block, for which a thread of ours was ready to run while others had the core
FOREIGN_LIMIT = 0.5  # cores: other processes' load from which a block is tagged where waiting is not told
FOREIGN_WINDOW_S = 0.2  # of blocks: the kernel counts CPU time in ticks of 10 ms, too coarse for one block
THERMAL = "cpu*/thermal_throttle/core_throttle_count"
CPUS = Path("/sys/devices/system/cpu")


class Telemetry(Protocol):
    """Reads a device's state over a block."""

    def start(self) -> None:
        """Note the state when the block begins."""

    def read(self) -> dict[str, Any]:
        """Give the state over the block: units in the names, JSON values; `throttle` lists what slowed it down."""


def telemetry_for(device: str, gpu_uuid: Callable[[str], str]) -> Telemetry:
    """Give the reader of `device` ('cpu', 'cuda' or 'cuda:N'); without NVML a silent one, with one warning.

    `gpu_uuid` gives NVML's name of a CUDA device, which needs torch.
    """
    if not device.startswith("cuda"):
        return CpuTelemetry()
    from attnbench.machine.nvml import NvmlTelemetry

    try:
        return NvmlTelemetry(gpu_uuid(device))
    except Exception as error:  # noqa: BLE001 - whatever NVML refuses, timing goes on without it
        warnings.warn(f"no telemetry of {device}: NVML says {error}", RuntimeWarning, stacklevel=2)
        return NoTelemetry()


class NoTelemetry:
    """Where nothing can be read."""

    def start(self) -> None:
        """Do nothing."""

    def read(self) -> dict[str, Any]:
        """Give nothing."""
        return {}


class CpuTelemetry:
    """Load, frequency, steal, and what other processes took of the cores that this one may use.

    A run's other processes sleep while a block is timed, so whoever else was busy then is a stranger.
    """

    def __init__(self) -> None:
        self._process, self._groups = psutil.Process(), ControlGroups()
        self._cores = (
            sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        )
        self._taken: collections.deque[tuple[float, float]] = collections.deque()  # by others, in a block's wall time
        self.start()

    def start(self) -> None:
        """Note the counters."""
        self._wall = time.perf_counter()
        self._busy, self._steal = _cpu_seconds(self._cores)
        self._own = sum(self._process.cpu_times()[:2])
        self._waited = _waited_ns()
        self._throttled_us, self._thermal = self._groups.throttled_us(), _thermal_throttles()

    def read(self) -> dict[str, Any]:
        """Give `load_1m`, `cpu_mhz`, `steal`, `waited`, `throttle` since `start`, and `foreign_cores` over longer.

        `waited` is the share of the time for which a thread was ready to run and had no core, None where the kernel
        does not tell.
        """
        wall = max(time.perf_counter() - self._wall, 1e-9)
        busy, stolen = _cpu_seconds(self._cores)
        steal = (stolen - self._steal) / (wall * len(self._cores))
        foreign = self._foreign(busy - self._busy - (sum(self._process.cpu_times()[:2]) - self._own), wall)
        now = _waited_ns()
        waited = None if now is None or self._waited is None else max(0, now - self._waited) / 1e9 / wall
        frequency = None
        with contextlib.suppress(Exception):
            frequency = psutil.cpu_freq().current
        causes = {
            "quota": self._groups.throttled_us() > self._throttled_us,
            "thermal": _thermal_throttles() > self._thermal,
            "steal": steal > STEAL_LIMIT,
            "foreign_load": (foreign or 0.0) > FOREIGN_LIMIT if waited is None else waited > WAITED_LIMIT,
        }
        return {
            "load_1m": round(os.getloadavg()[0], 2),
            "cpu_mhz": None if not frequency else round(frequency, 1),
            "steal": round(max(0.0, steal), 4),
            "waited": None if waited is None else round(waited, 4),
            "foreign_cores": None if foreign is None else round(foreign, 3),
            "throttle": [cause for cause, applies in causes.items() if applies],
        }

    def _foreign(self, taken_s: float, wall_s: float) -> float | None:
        """Give the cores that others kept busy over the last blocks; None before these are long enough to tell."""
        self._taken.append((taken_s, wall_s))
        while sum(wall for _, wall in list(self._taken)[1:]) >= FOREIGN_WINDOW_S:
            self._taken.popleft()
        wall = sum(wall for _, wall in self._taken)
        return max(0.0, sum(taken for taken, _ in self._taken) / wall) if wall >= FOREIGN_WINDOW_S else None


def _cpu_seconds(cores: Sequence[int]) -> tuple[float, float]:
    """Give the seconds that these cores have been busy, and those that a hypervisor took from them."""
    times = psutil.cpu_times(percpu=True)
    chosen = [times[core] for core in cores if core < len(times)]
    return sum(map(_busy, chosen)), sum(getattr(core, "steal", 0.0) for core in chosen)


def _waited_ns() -> int | None:
    """Give for how long this process's threads were ready to run but had no core (Linux, sched-stats.rst)."""
    waited = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # a thread that ended meanwhile
            waited += int(path.read_text().split()[1])
    return waited or None


def _busy(times: Any) -> float:
    return float(sum(getattr(times, name, 0.0) for name in ("user", "system", "nice", "irq", "softirq")))


def _thermal_throttles() -> int:
    total = 0
    for path in CPUS.glob(THERMAL):
        with contextlib.suppress(OSError, ValueError):
            total += int(path.read_text())
    return total
