"""The state of an NVIDIA GPU as reported by NVML: clock, power, temperature, throttling, energy and processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

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


class NvmlTelemetry:
    """A reader for the state of the GPU with the given UUID.

    `library` is the pynvml module, which tests replace. Raises NVMLError if NVML can't be used or has no such GPU.
    """

    def __init__(self, uuid: str, library: Any = pynvml) -> None:
        self._nvml = library
        library.nvmlInit()
        self._handle = library.nvmlDeviceGetHandleByUUID(uuid)
        self._energy_mj: int | None = None

    def start(self) -> None:
        """Store the energy counter at the start of a block."""
        self._energy_mj = self._query(self._nvml.nvmlDeviceGetTotalEnergyConsumption)

    def read(self) -> dict[str, Any]:
        """Return the state as JSON values, with units in the names. Values that NVML does not provide are None.

        `energy_j` is the energy used since `start`, `throttle` lists the reasons why the GPU is slowed down, and
        `foreign_pids` lists the PIDs of other processes that use the GPU.
        """
        nvml = self._nvml
        power_mw = self._query(nvml.nvmlDeviceGetPowerUsage)
        energy_mj = self._query(nvml.nvmlDeviceGetTotalEnergyConsumption)
        known = energy_mj is not None and self._energy_mj is not None
        return {
            "sm_clock_mhz": self._query(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
            "power_w": None if power_mw is None else power_mw / 1000,
            "temperature_c": self._query(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
            "energy_j": (energy_mj - self._energy_mj) / 1000 if known else None,
            "throttle": self._throttle(),
            "foreign_pids": self._foreign_pids(),
        }

    def used_bytes(self) -> int | None:
        """Return the GPU memory that this process uses, in bytes, or None if the driver does not report it."""
        processes = self._query(self._nvml.nvmlDeviceGetComputeRunningProcesses) or []
        return next((process.usedGpuMemory for process in processes if process.pid == os.getpid()), None)

    def _throttle(self) -> list[str]:
        reasons = self._query(self._nvml.nvmlDeviceGetCurrentClocksEventReasons) or 0
        return [name for bit, name in THROTTLE_BITS.items() if reasons & bit]

    def _foreign_pids(self) -> list[int] | None:
        processes = self._query(self._nvml.nvmlDeviceGetComputeRunningProcesses)
        return None if processes is None else sorted(p.pid for p in processes if p.pid != os.getpid())

    def _query(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(self._handle, *arguments)
        except self._nvml.NVMLError:
            return None
