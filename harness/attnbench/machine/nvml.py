"""An NVIDIA GPU's state by NVML: clocks, power, temperature, throttling, energy, other processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pynvml

# Bits of nvmlDeviceGetCurrentClocksEventReasons that mean slower than asked for (NVML API reference, clock event
# reasons). `idle` and `applications clocks` are left out: the first says nothing of a block, the second is by choice.
THROTTLE_BITS = {
    0x0000000000000004: "power_cap",
    0x0000000000000008: "hardware_slowdown",
    0x0000000000000010: "sync_boost",
    0x0000000000000020: "thermal_software",
    0x0000000000000040: "thermal_hardware",
    0x0000000000000080: "power_brake",
}


class NvmlTelemetry:
    """Reads one GPU. `library` is pynvml or a stand-in for it. Raises what NVML raises when it can't be opened."""

    def __init__(self, uuid: str, library: Any = pynvml) -> None:
        self._nvml = library
        library.nvmlInit()
        self._handle = library.nvmlDeviceGetHandleByUUID(uuid)
        self._energy_mj: int | None = None

    def start(self) -> None:
        """Note the energy counter."""
        self._energy_mj = self._ask(self._nvml.nvmlDeviceGetTotalEnergyConsumption)

    def read(self) -> dict[str, Any]:
        """Give clock, power, temperature, energy since `start`, throttling and other processes; None if refused."""
        nvml = self._nvml
        power_mw = self._ask(nvml.nvmlDeviceGetPowerUsage)
        energy_mj = self._ask(nvml.nvmlDeviceGetTotalEnergyConsumption)
        known = energy_mj is not None and self._energy_mj is not None
        return {
            "sm_clock_mhz": self._ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
            "power_w": None if power_mw is None else power_mw / 1000,
            "temperature_c": self._ask(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
            "energy_j": (energy_mj - self._energy_mj) / 1000 if known else None,
            "throttle": self._throttle(),
            "foreign_pids": self._foreign(),
        }

    def used_bytes(self) -> int | None:
        """Give the GPU memory that this process holds, as the driver counts it; None where it does not tell."""
        processes = self._ask(self._nvml.nvmlDeviceGetComputeRunningProcesses) or []
        return next((process.usedGpuMemory for process in processes if process.pid == os.getpid()), None)

    def _throttle(self) -> list[str]:
        reasons = self._ask(self._nvml.nvmlDeviceGetCurrentClocksEventReasons) or 0
        return [name for bit, name in THROTTLE_BITS.items() if reasons & bit]

    def _foreign(self) -> list[int] | None:
        processes = self._ask(self._nvml.nvmlDeviceGetComputeRunningProcesses)
        return None if processes is None else sorted(p.pid for p in processes if p.pid != os.getpid())

    def _ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return question(self._handle, *arguments)
        except self._nvml.NVMLError:
            return None
