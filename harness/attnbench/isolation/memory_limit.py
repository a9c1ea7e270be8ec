"""The limit on the host memory that a worker may use, so that it can't bring the machine down."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import psutil

from attnbench.machine.cgroups import ControlGroups

RESERVE_SHARE = 0.05  # share of the memory that stays free for other processes, within these bounds in bytes:
MIN_RESERVE, MAX_RESERVE = 1 << 30, 8 << 30
CHECK_INTERVAL_S = 0.1


@dataclass(frozen=True)
class HostMemory:
    """The limit on one worker's host memory.

    - `limit_bytes`: what one worker may hold
    - `reserve_bytes`: what must stay free on the machine
    - `refuse`: whether the kernel refuses allocations beyond the limit (RLIMIT_DATA), which the worker sees as an
      ordinary error. A GPU's worker is only watched, because CUDA maps far more memory than it uses.

    RLIMIT_DATA does not cover all memory, shared memory for example, so every worker is also checked by `exceeded`.
    """

    limit_bytes: int
    reserve_bytes: int
    refuse: bool

    @property
    def refused_bytes(self) -> int | None:
        """RLIMIT_DATA in bytes, or None for no such limit."""
        return self.limit_bytes if self.refuse else None

    def exceeded(self, process: int) -> str | None:
        """Return the reason why a process must be ended, or None if it may run on.

        It must be ended if it holds more than its limit, or if it holds more than the reserve while less than the
        reserve is left on the machine.
        """
        held = resident_bytes(process)
        if held > self.limit_bytes:
            return f"out of host memory: the worker held {_gib(held)}, its limit is {_gib(self.limit_bytes)}"
        if held > self.reserve_bytes and (left := available_bytes()) < self.reserve_bytes:
            return f"out of host memory: the worker held {_gib(held)} and the machine had {_gib(left)} left"
        return None


def host_memory(kind: str, limit_bytes: int | None = None) -> HostMemory:
    """Return the limit for a worker of a kind of device (`cpu` or `cuda`); by default all memory but the reserve."""
    total = total_bytes()
    reserve = int(min(max(MIN_RESERVE, RESERVE_SHARE * total), MAX_RESERVE, total / 4))
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
    """Return the memory that a process holds, with shared memory but without mapped files; 0 if it can't be read."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace").splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssShmem")) * 1024
    except (OSError, ValueError, KeyError):
        return 0


def oom_kill_count() -> int:
    """Return how many processes the kernel has killed because memory ran out, since the machine started."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
