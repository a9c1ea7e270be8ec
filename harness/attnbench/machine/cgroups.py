"""The limits that Linux control groups set on this process. Containers and batch systems use such groups.

Both versions of control groups are read: in version 2 all controllers share one tree under `/sys/fs/cgroup`, and in
version 1 each controller has a separate tree. The limit of a group also holds for all groups below it, so the limits of
all groups from the root to the group of this process apply.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

UNLIMITED_BYTES = 1 << 60  # a limit of this size or more means "no limit"; version 1 control groups report about 2^63


class ControlGroups:
    """The control groups of this process, which the constructor reads from `/proc/self/cgroup`.

    `root` is the folder that contains `proc` and `sys`. On a system without control groups, no limits apply.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._memory: list[Path] = []
        self._cpu: list[Path] = []
        mount = root / "sys/fs/cgroup"
        with contextlib.suppress(OSError):
            for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
                _, controllers, path = line.split(":", 2)
                if not controllers:  # the line describes a cgroup v2 group
                    self._memory += _with_ancestors(mount, path)
                    self._cpu += _with_ancestors(mount, path)
                if "memory" in controllers.split(","):
                    self._memory += _with_ancestors(mount / "memory", path)
                if "cpu" in controllers.split(","):
                    self._cpu += _with_ancestors(mount / "cpu", path)

    def memory_limit(self) -> int | None:
        """Return the smallest memory limit in bytes, or None if there is no limit."""
        return min((limit for limit, _ in self._memory_limits()), default=None)

    def available_memory(self) -> int | None:
        """Return how many bytes this process may allocate before it reaches a limit, or None if there is no limit.

        File caches that the kernel can drop do not count as used.
        """
        return min((limit - used for limit, used in self._memory_limits()), default=None)

    def cpu_quota(self) -> float | None:
        """Return the smallest CPU quota in cores, or None if there is no quota."""
        return min(self._cpu_quotas(), default=None)

    def throttled_us(self) -> int:
        """Return the microseconds for which CPU quotas have paused this process's groups, summed over the groups."""
        statistics = [_statistics(folder / "cpu.stat") for folder in self._cpu]
        version_2 = sum(fields.get("throttled_usec", 0) for fields in statistics)
        version_1_ns = sum(fields.get("throttled_time", 0) for fields in statistics)
        return version_2 + version_1_ns // 1000

    def _memory_limits(self) -> Iterator[tuple[int, int]]:
        """Yield the memory limit and the used memory, in bytes, of each group that has a memory limit."""
        for folder in self._memory:
            limit = _number(folder, "memory.max", "memory.limit_in_bytes")
            if limit is None or limit >= UNLIMITED_BYTES:
                continue
            used = _number(folder, "memory.current", "memory.usage_in_bytes") or 0
            statistics = _statistics(folder / "memory.stat")
            yield limit, used - statistics.get("total_inactive_file", statistics.get("inactive_file", 0))

    def _cpu_quotas(self) -> Iterator[float]:
        """Yield the CPU quota, in cores, of each group that has a quota."""
        for folder in self._cpu:
            with contextlib.suppress(OSError, ValueError):  # in cgroup v2, the quota may be "max" (no limit)
                quota, period = map(int, (folder / "cpu.max").read_text(encoding="ascii").split())
                yield quota / period
            with contextlib.suppress(OSError, ValueError):  # version 1: the quota -1 means no quota
                quota, period = (
                    int((folder / f"cpu.cfs_{name}_us").read_text("ascii")) for name in ("quota", "period")
                )
                if quota > 0:
                    yield quota / period


def _with_ancestors(mount: Path, path: str) -> list[Path]:
    """Return the folder of a group, followed by the folders of the groups above it, up to `mount`.

    In a container, `path` may lead outside the container. In that case, `mount` is the folder of the container's group,
    and only `mount` is returned.
    """
    group = mount / path.strip("/")
    if ".." in group.parts:
        return [mount]
    return [group, *(folder for folder in group.parents if folder.is_relative_to(mount))]


def _number(folder: Path, *names: str) -> int | None:
    """Return the number in the first of the named files that can be read.

    Returns None if no file can be read, or if the first readable file contains "max" instead of a number.
    """
    for name in names:
        with contextlib.suppress(OSError):
            text = (folder / name).read_text(encoding="ascii").strip()
            return int(text) if text.isdecimal() else None
    return None


def _statistics(path: Path) -> dict[str, int]:
    """Return the numbers by name from a file with lines `name number`, or an empty dict if the file can't be read."""
    with contextlib.suppress(OSError, ValueError):
        return {name: int(value) for name, value in map(str.split, path.read_text(encoding="ascii").splitlines())}
    return {}
