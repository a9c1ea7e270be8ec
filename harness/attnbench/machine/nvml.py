"""The state of an NVIDIA GPU as reported by NVML: clock, power, temperature, throttling, energy and processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import psutil
import pynvml

# The bits in the result of nvmlDeviceGetCurrentClocksEventReasons that indicate throttling (see the clock event reasons
# in the NVML API reference). Two other bits are left out because they do not indicate throttling: one is set while the
# GPU is idle, and the other is set if the user has limited the clocks.
THROTTLE_BITS = {
    0x0000000000000004: "power_cap",
    0x0000000000000008: "hardware_slowdown",
    0x0000000000000010: "sync_boost",
    0x0000000000000020: "thermal_software",
    0x0000000000000040: "thermal_hardware",
    0x0000000000000080: "power_brake",
}
# The counters of nvmlDeviceGetViolationStatus: how long each limit kept the clocks down. The counter for low
# utilisation is left out, because a limit that applies to an idle GPU does not slow down a call.
VIOLATIONS = {
    "POWER": "power_cap",
    "THERMAL": "thermal",
    "SYNC_BOOST": "sync_boost",
    "BOARD_LIMIT": "board_limit",
    "RELIABILITY": "reliability",
}
VIOLATION_LIMIT = 0.02  # maximum share of the block during which a limit may keep the clocks down
FOREIGN_PERCENT = 5  # maximum share of the time, in percent, during which processes of others may use the SMs
# NVML measures how much each process uses the SMs over periods of at most one second, so what it reports for a block
# may have happened up to one second before.
UTILISATION_PERIOD_US = 1_000_000


class NvmlTelemetry:
    """A reader for the state of the GPU or MIG instance with the given UUID.

    Clock, temperature and throttling of a MIG instance are those of the GPU that it is a part of. Its power and energy
    are unknown, because the GPU's sensor also measures the other instances. `library` is the pynvml module, which tests
    replace. Raises NVMLError if NVML can't be used or has no such GPU.
    """

    def __init__(self, uuid: str, library: Any = pynvml) -> None:
        self._nvml = library
        library.nvmlInit()
        self._handle = self._gpu = library.nvmlDeviceGetHandleByUUID(uuid)
        self._is_instance = uuid.startswith("MIG-")
        if self._is_instance:
            self._gpu = library.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self._handle)
        self._started, self._started_us = time.perf_counter(), time.time_ns() // 1000
        self._energy_mj: int | None = None
        self._violations_ns: dict[str, int] = {}

    def start(self) -> None:
        """Store the counters at the start of a block."""
        self._started, self._started_us = time.perf_counter(), time.time_ns() // 1000
        self._violations_ns, self._energy_mj = self._violations(), self._energy()

    def read(self) -> dict[str, Any]:
        """Return the state as JSON values, with units in the names. Values that NVML does not provide are None.

        - `power_w`: the power as measured last, not averaged; None if the driver does not offer it
        - `power_average_w`: the power that the driver reports by default, which it averages over about one second on
          Ampere and later GPUs, so that it includes what ran before the block
        - `energy_j`: the energy used since `start`. The GPU updates this counter only a few times per second, so only
          the sum over many blocks is meaningful
        - `throttle`: the limits that kept the clocks down since `start` for more than VIOLATION_LIMIT of the time and,
          if the driver does not count this time, the reasons that apply now
        - `foreign_pids`: the PIDs of processes outside this run that use the GPU. None if they can't be told from this
          process, because NVML reports PIDs of the host and this process runs in a container
        - `foreign_sm_percent`: the share of the time during which these processes ran kernels, in percent; None if NVML
          does not report it. A block is `foreign_load` if this is more than FOREIGN_PERCENT
        """
        nvml, elapsed = self._nvml, max(time.perf_counter() - self._started, 1e-9)
        average_mw = None if self._is_instance else self._query(nvml.nvmlDeviceGetPowerUsage)
        before_mj, now_mj = self._energy_mj, self._energy()
        foreign_pids = self._foreign_pids()
        foreign = self._foreign_sm_percent(foreign_pids)
        busy = ["foreign_load"] if (foreign or 0) > FOREIGN_PERCENT else []
        return {
            "sm_clock_mhz": self._query(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
            "power_w": self._power_w(),
            "power_average_w": None if average_mw is None else average_mw / 1000,
            "temperature_c": self._query(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
            "energy_j": None if before_mj is None or now_mj is None else (now_mj - before_mj) / 1000,
            "throttle": [*self._throttle(elapsed), *busy],
            "foreign_pids": foreign_pids,
            "foreign_sm_percent": foreign,
        }

    def used_bytes(self) -> int | None:
        """Return the GPU memory that this process uses, in bytes.

        Returns None if the driver does not report it, or if this process's PID is not among those that NVML reports.
        """
        return next((process.usedGpuMemory for process in self._processes() if process.pid == os.getpid()), None)

    def _power_w(self) -> float | None:
        if self._is_instance:
            return None
        found = self._query(self._nvml.nvmlDeviceGetFieldValues, [self._nvml.NVML_FI_DEV_POWER_INSTANT])
        if not found or found[0].nvmlReturn != self._nvml.NVML_SUCCESS:
            return None
        return float(found[0].value.uiVal) / 1000

    def _energy(self) -> int | None:
        known = None if self._is_instance else self._query(self._nvml.nvmlDeviceGetTotalEnergyConsumption)
        return None if known is None else int(known)

    def _violations(self) -> dict[str, int]:
        """Return for how many ns each limit has kept the clocks down. Limits that are not counted are left out."""
        nvml, found = self._nvml, {}
        for policy, name in VIOLATIONS.items():
            status = self._query(nvml.nvmlDeviceGetViolationStatus, getattr(nvml, f"NVML_PERF_POLICY_{policy}"))
            if status is not None:
                found[name] = int(status.violationTime)
        return found

    def _throttle(self, elapsed_s: float) -> list[str]:
        """Return the limits that kept the clocks down for too long, and the reasons of limits that are not counted."""
        now, before = self._violations(), self._violations_ns
        limits = [
            name for name in now if name in before and now[name] - before[name] > VIOLATION_LIMIT * elapsed_s * 1e9
        ]
        reasons = self._query(self._nvml.nvmlDeviceGetCurrentClocksEventReasons) or 0
        active = [name for bit, name in THROTTLE_BITS.items() if reasons & bit and name not in now]
        return [*limits, *active]

    def _foreign_pids(self) -> list[int] | None:
        pids = {process.pid for process in self._processes()}
        return sorted(filter(_is_foreign, pids)) if os.getpid() in pids else None

    def _foreign_sm_percent(self, foreign_pids: list[int] | None) -> int | None:
        """Return how much of the time foreign processes ran kernels, in percent, according to their latest samples."""
        if foreign_pids is None:
            return None
        if not foreign_pids:
            return 0
        since_us = self._started_us - UTILISATION_PERIOD_US
        try:
            samples = self._nvml.nvmlDeviceGetProcessUtilization(self._handle, since_us)
        except self._nvml.NVMLError_NotFound:  # no process has run a kernel since then
            return 0
        except self._nvml.NVMLError:
            return None
        latest = {sample.pid: sample for sample in sorted(samples, key=lambda sample: int(sample.timeStamp))}
        return min(100, sum(int(sample.smUtil) for pid, sample in latest.items() if pid in foreign_pids))

    def _processes(self) -> list[Any]:
        try:
            return list(self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle))
        except self._nvml.NVMLError:
            return []

    def _query(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(self._gpu, *arguments)
        except self._nvml.NVMLError:
            return None


def _is_foreign(pid: int) -> bool:
    """Return whether a process is not one of this run's workers, which are forked by one process, as this one is."""
    if pid == os.getpid():
        return False
    try:
        return psutil.Process(pid).ppid() != os.getppid()
    except psutil.Error:
        return True
