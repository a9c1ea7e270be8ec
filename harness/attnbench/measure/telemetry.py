"""The machine's state beside each block: never fatal, never in a timed region, without torch."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from pathlib import Path
from typing import Any, Protocol

import psutil

STEAL_LIMIT = 0.02  # of the block's CPU time: above it the hypervisor took the CPU away for long enough to show
FOREIGN_LIMIT = 0.5  # cores: other processes' load from which a block is tagged
QUOTA = (Path("/sys/fs/cgroup/cpu.stat"), Path("/sys/fs/cgroup/cpu/cpu.stat"))
THERMAL = "cpu*/thermal_throttle/core_throttle_count"
CPUS = Path("/sys/devices/system/cpu")


class Telemetry(Protocol):
    """Reads a device's state over a block."""

    def start(self) -> None:
        """Note the state when the block begins."""

    def read(self) -> dict[str, Any]:
        """Give the state over the block: units in the names, JSON values; `throttle` lists what slowed it down."""


def telemetry_for(device: str) -> Telemetry:
    """Give the reader of `device` ('cpu', 'cuda' or 'cuda:N'); without NVML a silent one, with one warning."""
    if not device.startswith("cuda"):
        return CpuTelemetry()
    from attnbench.measure.gpu_identity import torch_uuid
    from attnbench.measure.nvml import NvmlTelemetry

    try:
        return NvmlTelemetry(torch_uuid(device))
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
    """Load, frequency, steal and what other processes took, by psutil and the kernel's counters."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.start()

    def start(self) -> None:
        """Note the counters."""
        self._wall = time.perf_counter()
        self._times = psutil.cpu_times()
        self._own = sum(self._process.cpu_times()[:2])
        self._quota, self._thermal = _quota_throttled_us(), _thermal_throttles()

    def read(self) -> dict[str, Any]:
        """Give `load_1m`, `cpu_mhz`, `steal`, `foreign_cores` and `throttle` since `start`."""
        wall = max(time.perf_counter() - self._wall, 1e-9)
        times = psutil.cpu_times()
        busy = _busy(times) - _busy(self._times)
        steal = (getattr(times, "steal", 0.0) - getattr(self._times, "steal", 0.0)) / (wall * (os.cpu_count() or 1))
        own = sum(self._process.cpu_times()[:2]) - self._own
        foreign = max(0.0, busy - own) / wall
        frequency = None
        with contextlib.suppress(Exception):
            frequency = psutil.cpu_freq().current
        causes = {
            "quota": _quota_throttled_us() > self._quota,
            "thermal": _thermal_throttles() > self._thermal,
            "steal": steal > STEAL_LIMIT,
            "foreign_load": foreign > FOREIGN_LIMIT,
        }
        return {
            "load_1m": round(os.getloadavg()[0], 2),
            "cpu_mhz": None if not frequency else round(frequency, 1),
            "steal": round(max(0.0, steal), 4),
            "foreign_cores": round(foreign, 3),
            "throttle": [cause for cause, applies in causes.items() if applies],
        }


def _busy(times: Any) -> float:
    return float(sum(getattr(times, name, 0.0) for name in ("user", "system", "nice", "irq", "softirq")))


def _quota_throttled_us() -> int:
    """Give for how long the container's CPU quota has stopped us so far."""
    for path in QUOTA:
        with contextlib.suppress(OSError, ValueError):
            fields = dict(line.split() for line in path.read_text().splitlines())
            return int(fields.get("throttled_usec", 0)) or int(fields.get("throttled_time", 0)) // 1000
    return 0


def _thermal_throttles() -> int:
    total = 0
    for path in CPUS.glob(THERMAL):
        with contextlib.suppress(OSError, ValueError):
            total += int(path.read_text())
    return total
