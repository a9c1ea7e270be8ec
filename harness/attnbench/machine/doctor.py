"""Checks for conditions of the machine that distort timings. The checks suggest remedies but change nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from attnbench.machine.cgroups import ControlGroups
from attnbench.machine.finding import OK, UNKNOWN, WARNING, Finding, guarded
from attnbench.machine.gpu_checks import gpus
from attnbench.machine.gpus import list_gpus
from attnbench.machine.software_checks import software

LOAD_SECONDS = 0.3  # load and steal time are measured over this period
BUSY_CORES = 0.3  # warn if more than this many cores are busy
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def examine(root: Path = Path("/"), nvml: Any = None, *, load_extensions: bool = False) -> list[Finding]:
    """Run all checks of the CPU, load, container, memory, GPUs and their software, and return the findings.

    `load_extensions` says whether to load the compiled parts of libraries, which takes seconds. `root` is the folder
    that contains `sys`, `proc` and `dev`, and `nvml` is the pynvml module; tests replace both.
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
    findings = [guarded(name, check) for name, check in checks]
    listed = list_gpus(nvml)
    return [*findings, *gpus(listed, nvml), *software(root, listed, load_extensions=load_extensions)]


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
        "load", WARNING, f"{found}; the busiest: {busiest}", "stop these processes, or expect cells without a verdict"
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
