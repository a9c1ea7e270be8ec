"""Checks for conditions of an NVIDIA GPU that distort timings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pynvml

from attnbench.machine.finding import OK, UNKNOWN, WARNING, Finding, Problem, guarded
from attnbench.machine.gpus import GpuList, compute_mode
from attnbench.machine.nvml import THROTTLE_BITS

HOT_CELSIUS = 85


def gpus(listed: GpuList, nvml: Any = None) -> list[Finding]:
    """Run all checks on each GPU that is usable, and return their findings.

    `nvml` is the pynvml module unless a test replaces it. A GPU that NVML refuses is `unknown`, because on a shared
    machine it belongs to someone else.
    """
    if listed.problem is not None:
        return [Finding("gpu", UNKNOWN, f"no NVIDIA GPU can be queried: {listed.problem}")]
    nvml = pynvml if nvml is None else nvml
    nvml.nvmlInit()
    try:
        findings = [_unusable(f"gpu {index}", problem) for index, problem in listed.unusable]
        for index in sorted({gpu.index for gpu in listed.gpus}):
            findings += _gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(index), index)
        return findings
    finally:
        nvml.nvmlShutdown()


def _unusable(name: str, problem: Problem | str) -> Finding:
    if isinstance(problem, str):
        return Finding(name, UNKNOWN, f"can't be used: {problem}")
    return Finding(name, WARNING, f"can't be used: {problem.reason}", problem.remedy)


def _gpu(nvml: Any, handle: Any, index: int) -> Iterator[Finding]:
    checks = (
        ("persistence", _persistence),
        ("compute mode", _compute_mode),
        ("ECC", _ecc),
        ("MIG", _mig),
        ("throttling", _throttling),
        ("co-tenants", _co_tenants),
        ("temperature", _temperature),
        ("clocks", _clocks),
    )
    for name, check in checks:
        yield guarded(f"gpu {index} {name}", partial(_gpu_finding, f"gpu {index} {name}", check, nvml, handle, index))


Found = tuple[str, str, str | None]  # the level, the finding and the remedy


def _gpu_finding(name: str, check: Callable[..., Found], nvml: Any, handle: Any, index: int) -> Finding:
    return Finding(name, *check(nvml, handle, index))


def _persistence(nvml: Any, handle: Any, index: int) -> Found:
    if nvml.nvmlDeviceGetPersistenceMode(handle):
        return OK, "on", None
    return (
        WARNING,
        "off: the driver is unloaded between runs, and the GPU starts each run at a low clock",
        f"sudo nvidia-smi -i {index} -pm 1",
    )


def _compute_mode(nvml: Any, handle: Any, index: int) -> Found:
    if compute_mode(nvml, handle) != nvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS:
        return OK, "several processes may use the GPU", None
    found = (
        "EXCLUSIVE_PROCESS: only one process at a time may use the GPU, so variants are timed one after the other, and "
        "small differences between them can't be told from the drift of the machine"
    )
    return WARNING, found, f"sudo nvidia-smi -i {index} -c DEFAULT"


def _ecc(nvml: Any, handle: Any, _index: int) -> Found:
    current, _ = nvml.nvmlDeviceGetEccMode(handle)
    errors = nvml.nvmlDeviceGetTotalEccErrors(handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC)
    if errors:
        return (
            WARNING,
            f"{errors} uncorrected memory errors since boot",
            "have the GPU checked before you publish its results",
        )
    return OK, f"{'on' if current else 'off'}, no uncorrected errors", None


def _mig(nvml: Any, handle: Any, index: int) -> Found:
    current, _ = nvml.nvmlDeviceGetMigMode(handle)
    if not current:
        return OK, "off", None
    remedy = f"publish the slice's name with the results, or run sudo nvidia-smi -i {index} -mig 0"
    return WARNING, "on: each slice of the GPU shares bandwidth and power with the other slices", remedy


def _throttling(nvml: Any, handle: Any, index: int) -> Found:
    reasons = nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
    active = [name for bit, name in THROTTLE_BITS.items() if reasons & bit]
    if not active:
        return OK, "none", None
    return WARNING, ", ".join(active), f"improve the cooling, or lower the clock: sudo nvidia-smi -i {index} -lgc <MHz>"


def _co_tenants(nvml: Any, handle: Any, _index: int) -> Found:
    pids = [process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle) if process.pid != os.getpid()]
    if not pids:
        return OK, "none", None
    return (
        WARNING,
        f"processes {', '.join(map(str, pids))} use this GPU",
        "stop these processes, or choose another GPU with -d",
    )


def _temperature(nvml: Any, handle: Any, _index: int) -> Found:
    celsius = nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
    if celsius < HOT_CELSIUS:
        return OK, f"{celsius} C", None
    return WARNING, f"{celsius} C", "let the GPU cool down, or improve the cooling"


def _clocks(nvml: Any, handle: Any, index: int) -> Found:
    now = nvml.nvmlDeviceGetApplicationsClock(handle, nvml.NVML_CLOCK_SM)
    maximum = nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM)
    if now >= maximum:
        return OK, f"applications may use the full {maximum} MHz", None
    remedy = f"run sudo nvidia-smi -i {index} -rac, or publish the clock with the results"
    return WARNING, f"applications are limited to {now} of {maximum} MHz", remedy
