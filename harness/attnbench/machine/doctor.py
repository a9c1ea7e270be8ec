"""Checks for conditions of the machine that distort timings. The checks suggest remedies but change nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

from attnbench.machine.cgroups import ControlGroups

OK, WARNING, UNKNOWN = "ok", "warning", "unknown"
LOAD_SECONDS = 0.3  # load and steal time are measured over this period
BUSY_CORES = 0.3  # warn if more than this many cores are busy
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
HOT_CELSIUS = 85


@dataclass(frozen=True)
class Finding:
    """The result of one check: `level` is `ok`, `warning` or `unknown`, and every warning has a `remedy`."""

    check: str
    level: str
    found: str
    remedy: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def examine(root: Path = Path("/"), nvml: Any = None) -> list[Finding]:
    """Run all checks of the CPU, load, container, memory and GPUs, and return their findings.

    `root` is the folder that contains `sys` and `proc`, and `nvml` is the pynvml module. Tests replace both.
    """
    checks: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("governor", lambda: governor(root)),
        ("turbo", lambda: turbo(root)),
        ("load", load),
        ("threads", lambda: threads(root)),
        ("container", lambda: container(root)),
        ("memory", lambda: memory(root)),
        ("virtual machine", lambda: virtual_machine(root)),
    )
    findings = [_guarded(name, check) for name, check in checks]
    return [*findings, *gpus(nvml)]


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - a check that fails on this system must not stop the others
        return Finding(name, UNKNOWN, f"the check failed on this system: {error}")


def governor(root: Path) -> Finding:
    """Check whether the kernel's frequency governor keeps the CPU at its full frequency."""
    paths = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor"))
    chosen = sorted({path.read_text().strip() for path in paths})
    if not chosen:
        return Finding(
            "governor", UNKNOWN, "this system does not show its frequency governor, as is usual in a virtual machine"
        )
    if chosen == ["performance"]:
        return Finding("governor", OK, "performance on all CPUs")
    remedy = "sudo cpupower frequency-set -g performance"
    return Finding("governor", WARNING, f"{', '.join(chosen)}: the frequency follows the load", remedy)


def turbo(root: Path) -> Finding:
    """Check whether turbo is on. With turbo, the CPU's frequency depends on heat and on the number of busy cores."""
    intel, generic = (
        root / "sys/devices/system/cpu/intel_pstate/no_turbo",
        root / "sys/devices/system/cpu/cpufreq/boost",
    )
    if intel.exists():
        on, remedy = intel.read_text().strip() == "0", f"echo 1 | sudo tee {intel}"
    elif generic.exists():
        on, remedy = generic.read_text().strip() == "1", f"echo 0 | sudo tee {generic}"
    else:
        return Finding("turbo", UNKNOWN, "this system does not show whether turbo is on")
    if not on:
        return Finding("turbo", OK, "off")
    return Finding("turbo", WARNING, "on: the CPU's frequency depends on heat and on the number of busy cores", remedy)


def load() -> Finding:
    """Check whether other processes keep the CPUs busy."""
    busy = sum(psutil.cpu_percent(interval=LOAD_SECONDS, percpu=True)) / 100
    average = os.getloadavg()[0]
    found = f"{busy:.1f} of {os.cpu_count()} CPUs busy now, load average {average:.1f}"
    if busy <= BUSY_CORES:
        return Finding("load", OK, found)
    busiest = ", ".join(_busiest()) or "no process above 10%"
    return Finding(
        "load", WARNING, f"{found}; the busiest: {busiest}", "stop these processes, or expect wider intervals"
    )


def _busiest() -> list[str]:
    processes = [process for process in psutil.process_iter(["name", "pid"]) if process.pid != os.getpid()]
    for process in processes:
        _percent(process)
    psutil.cpu_percent(interval=LOAD_SECONDS)
    shares = sorted(((_percent(process), process) for process in processes), key=lambda pair: -pair[0])
    return [f"{process.info['name']} (pid {process.pid}, {share:.0f}%)" for share, process in shares[:3] if share > 10]


def _percent(process: psutil.Process) -> float:
    try:
        return float(process.cpu_percent())
    except psutil.Error:
        return 0.0


def threads(root: Path) -> Finding:
    """Check whether torch would start more threads than there are usable cores."""
    cores = usable_cores(root)
    for name in THREAD_VARIABLES:
        value = os.environ.get(name, "")
        if value.isdigit() and int(value) > cores:
            return Finding("threads", WARNING, f"{name} is {value}, but {cores:g} cores are usable", f"unset {name}")
    default = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    if default > cores and not any(os.environ.get(name) for name in THREAD_VARIABLES):
        remedy = f"export OMP_NUM_THREADS={max(1, int(cores))}"
        return Finding("threads", WARNING, f"torch starts {default} threads, but {cores:g} cores are usable", remedy)
    return Finding("threads", OK, f"no more threads than the {cores:g} usable cores")


def usable_cores(root: Path = Path("/")) -> float:
    """Return the number of cores that CPU affinity and the container's CPU quota allow this process to use."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = ControlGroups(root).cpu_quota()
    return affinity if quota is None else min(affinity, quota)


def container(root: Path) -> Finding:
    """Check for a CPU quota. Once the quota for a period is used up, all threads stop until the next period."""
    quota = ControlGroups(root).cpu_quota()
    if quota is None:
        return Finding("container", OK, "no CPU quota")
    found = f"a CPU quota of {quota:g} cores: once it is used up, all threads stop until the next period"
    remedy = "start the container with whole CPUs (--cpuset-cpus) instead of a quota (--cpus)"
    return Finding("container", WARNING, found, remedy)


def memory(root: Path) -> Finding:
    """Check whether free memory is low, and whether a container's memory limit is below the free memory."""
    free, swap = psutil.virtual_memory(), psutil.swap_memory()
    found = f"{free.available / 2**30:.1f} GiB available, {swap.used / 2**30:.1f} GiB swapped out"
    limit = ControlGroups(root).memory_limit()
    if limit is not None and limit < free.total:
        found += f"; the container is limited to {limit / 2**30:.1f} GiB"
        if limit < free.available:
            return Finding("memory", WARNING, found, "raise the container's --memory, or large workloads may be killed")
    if free.percent > 90 or swap.percent > 50:
        return Finding("memory", WARNING, found, "free memory, or run smaller workloads")
    return Finding("memory", OK, found)


def virtual_machine(root: Path) -> Finding:
    """Check whether this is a virtual machine, whose CPUs the hypervisor may give to other machines at any time."""
    flags = (root / "proc/cpuinfo").read_text()
    if "hypervisor" not in flags:
        return Finding("virtual machine", OK, "no hypervisor")
    steal = float(getattr(psutil.cpu_times_percent(interval=LOAD_SECONDS), "steal", 0.0))
    found = f"a hypervisor runs this machine and took {steal:.1f}% of its CPU time during this check"
    return Finding("virtual machine", WARNING, found, "rely on ratios of interleaved variants, not on absolute times")


def gpus(nvml: Any = None) -> list[Finding]:
    """Run all checks on each NVIDIA GPU, and return their findings."""
    try:
        nvml = nvml or import_module("pynvml")
        nvml.nvmlInit()
        count = nvml.nvmlDeviceGetCount()
    except Exception as error:  # noqa: BLE001 - without a driver, a GPU or permission there is nothing to check
        return [Finding("gpu", UNKNOWN, f"no NVIDIA GPU can be queried: {error}")]
    return [finding for index in range(count) for finding in _gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(index), index)]


def _gpu(nvml: Any, handle: Any, index: int) -> Iterator[Finding]:
    checks = (
        ("persistence", _persistence),
        ("ECC", _ecc),
        ("MIG", _mig),
        ("throttling", _throttling),
        ("co-tenants", _co_tenants),
        ("temperature", _temperature),
        ("clocks", _clocks),
    )
    for name, check in checks:
        yield _guarded(f"gpu {index} {name}", partial(_gpu_finding, f"gpu {index} {name}", check, nvml, handle, index))


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
    from attnbench.machine.nvml import THROTTLE_BITS

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
