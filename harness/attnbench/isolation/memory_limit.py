"""Limit the host memory that a worker may use, so that it can't make the machine run out of memory."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import psutil

from attnbench.machine.cgroups import ControlGroups

RESERVE_SHARE = 0.05  # this share of the memory is reserved for other processes
MIN_RESERVE, MAX_RESERVE = 1 << 30, 8 << 30  # bounds of the reserve, in bytes
CHECK_INTERVAL_S = 0.1  # time between two checks of a worker's memory


@dataclass(frozen=True)
class HostMemory:
    """The limit on one worker's host memory.

    - `limit_bytes`: the maximum memory that the worker may hold, in bytes
    - `reserve_bytes`: the minimum memory that must stay free on the machine, in bytes
    - `refuse`: whether RLIMIT_DATA is set, so that the kernel refuses allocations beyond the limit and the worker gets
      an ordinary out-of-memory error. RLIMIT_DATA is not set for workers on a GPU, because CUDA maps far more memory
      than it uses.

    RLIMIT_DATA does not limit shared memory, for example, so the supervisor also checks every worker with `exceeded`.
    """

    limit_bytes: int
    reserve_bytes: int
    refuse: bool

    @property
    def refused_bytes(self) -> int | None:
        """The worker's RLIMIT_DATA in bytes, or None for no limit."""
        return self.limit_bytes if self.refuse else None

    def exceeded(self, process: int) -> str | None:
        """Return why a process must be ended, or None if the process may continue.

        A process must be ended if it holds more memory than its limit. It must also be ended if the machine has less
        free memory than the reserve while the process holds more than the reserve.
        """
        held = resident_bytes(process)
        if held > self.limit_bytes:
            return f"out of host memory: the worker held {_gib(held)}, and its limit is {_gib(self.limit_bytes)}"
        if held > self.reserve_bytes and (left := available_bytes()) < self.reserve_bytes:
            return f"out of host memory: the worker held {_gib(held)}, and the machine had {_gib(left)} left"
        return None


def host_memory(kind: str, limit_bytes: int | None = None) -> HostMemory:
    """Return the limit on the host memory of a worker on a device of this kind (`cpu` or `cuda`).

    The limit is `limit_bytes`, but at most the machine's memory minus the reserve. This maximum is also the default.
    """
    total = total_bytes()
    reserve = int(min(max(MIN_RESERVE, RESERVE_SHARE * total), MAX_RESERVE, total / 4))
    return HostMemory(min(limit_bytes or total, total - reserve), reserve, refuse=kind == "cpu")


def total_bytes() -> int:
    """Return the total memory in bytes: the machine's memory or the container's limit, whichever is smaller."""
    total = psutil.virtual_memory().total
    limit = ControlGroups().memory_limit()
    return total if limit is None else min(total, limit)


def available_bytes() -> int:
    """Return the available memory in bytes: that of the machine or that of the container, whichever is smaller."""
    available = psutil.virtual_memory().available
    left = ControlGroups().available_memory()
    return available if left is None else min(available, left)


def resident_bytes(process: int) -> int:
    """Return the memory that a process holds, in bytes, or 0 if the process can't be inspected.

    The value includes shared memory but excludes mapped files.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace").splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssShmem")) * 1024
    except (OSError, ValueError, KeyError):
        return 0


def oom_kill_count() -> int:
    """Return how many processes the kernel has killed for lack of memory since the machine started."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
