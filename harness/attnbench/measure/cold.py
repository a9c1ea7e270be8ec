"""Emptying the caches between calls, so that a cold call finds its inputs in memory alone."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from attnbench.errors import MeasurementError

FACTOR = 2  # so much of the cache is touched; less leaves inputs behind in caches that do not evict the oldest first
CPU_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


class CacheFlush:
    """Writes to FACTOR times `cache` bytes on `device` at each call; refuses, by MeasurementError, to touch less."""

    def __init__(self, device: str, cache: int, touched: int | None = None) -> None:
        self.touched_bytes = FACTOR * cache if touched is None else touched
        if cache <= 0 or self.touched_bytes < FACTOR * cache:
            raise MeasurementError(
                f"a cold call on {device} must find {FACTOR} x {cache} bytes of cache overwritten, "
                f"but {self.touched_bytes} are touched"
            )
        self._buffer = torch.empty(self.touched_bytes, dtype=torch.int8, device=device)

    def __call__(self) -> None:
        """Overwrite the buffer, in the order of work of the current stream."""
        self._buffer.zero_()


def cache_bytes(device: str, caches: Path = CPU_CACHES) -> int:
    """Give the size in bytes of the last-level cache of `device`; raises MeasurementError where it is not told."""
    if device.startswith("cuda"):
        return int(torch.cuda.get_device_properties(torch.device(device)).L2_cache_size)
    sizes = [_parse(path.read_text()) for path in caches.glob("index*/size")]
    sizes += [os.sysconf(name) for name in ("SC_LEVEL3_CACHE_SIZE", "SC_LEVEL2_CACHE_SIZE") if name in os.sysconf_names]
    if largest := max(sizes, default=0):
        return largest
    raise MeasurementError("the size of this CPU's cache is not told, so no call is known to be cold: use hot mode")


def _parse(size: str) -> int:
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    text = size.strip()
    return int(text[:-1]) * units[text[-1]] if text[-1:] in units else int(text or 0)
