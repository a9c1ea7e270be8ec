"""The machine's own memory: how much a worker may have, so that the machine survives it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import psutil

from attnbench.machine.cgroups import ControlGroups

LEAST_RESERVE, MOST_RESERVE = 1 << 30, 8 << 30  # bytes that are kept for everything else
RESERVE_SHARE = 0.05
WATCH_EVERY_S = 0.1


@dataclass(frozen=True)
class HostMemory:
    """What one worker may take of the host's memory.

    `limit_bytes` bounds one worker; `reserve_bytes` are to stay free on the machine. With `refuse` the kernel refuses
    what goes beyond the limit (RLIMIT_DATA), so that the worker meets an ordinary error; CUDA maps more than it uses,
    so a GPU's worker is watched alone. A worker that gets round a refusal (shared memory, say) is found by `exceeded`.
    """

    limit_bytes: int
    reserve_bytes: int
    refuse: bool

    @property
    def refused_bytes(self) -> int | None:
        """The limit beyond which the kernel refuses memory, or None."""
        return self.limit_bytes if self.refuse else None

    def exceeded(self, process: int) -> str | None:
        """Say why a process has to be ended: it holds more than its limit, or nearly all that the machine had."""
        held = resident_bytes(process)
        if held > self.limit_bytes:
            return f"out of host memory: the worker held {_gib(held)}, its limit is {_gib(self.limit_bytes)}"
        if held > self.reserve_bytes and (left := available_bytes()) < self.reserve_bytes:
            return f"out of host memory: the worker held {_gib(held)} and the machine had {_gib(left)} left"
        return None


def host_memory(kind: str, limit_bytes: int | None = None) -> HostMemory:
    """Give what a worker of a kind of device (`cpu`, `cuda`) may take; by default all but the reserve."""
    total = total_bytes()
    reserve = int(min(max(LEAST_RESERVE, RESERVE_SHARE * total), MOST_RESERVE, total / 4))
    return HostMemory(min(limit_bytes or total, total - reserve), reserve, refuse=kind == "cpu")


def total_bytes() -> int:
    """Return the machine's memory, or the container's if that is smaller."""
    total = psutil.virtual_memory().total
    limit = ControlGroups().memory_limit()
    return total if limit is None else min(total, limit)


def available_bytes() -> int:
    """Return how much of the machine's memory, and of the container's, is still available."""
    available = psutil.virtual_memory().available
    left = ControlGroups().available_memory()
    return available if left is None else min(available, left)


def resident_bytes(process: int) -> int:
    """Give the memory that a process holds, its shared memory but no libraries' pages; 0 where that can't be told."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace").splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssShmem")) * 1024
    except (OSError, ValueError, KeyError):
        return 0


def killed_for_memory() -> int:
    """Count the processes that the kernel has killed for want of memory since the machine was started."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
