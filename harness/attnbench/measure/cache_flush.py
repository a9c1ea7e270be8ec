"""Flushing the cache before a call, so that a cold call reads its inputs from memory."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from attnbench.errors import MeasurementError

FLUSH_FACTOR = 2  # times the size of the cache; less may leave inputs in a cache that does not evict the oldest first
CPU_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


class CacheFlush:
    """Overwrites FLUSH_FACTOR times `cache` bytes on `device` at each call.

    `flushed` is another number of bytes to overwrite. Raises MeasurementError if it is too small to flush the cache.
    """

    def __init__(self, device: str, cache: int, flushed: int | None = None) -> None:
        self.flushed_bytes = FLUSH_FACTOR * cache if flushed is None else flushed
        if cache <= 0 or self.flushed_bytes < FLUSH_FACTOR * cache:
            raise MeasurementError(
                f"a cold call on {device} needs {FLUSH_FACTOR} x {cache} bytes of cache to be overwritten, "
                f"but only {self.flushed_bytes} are"
            )
        self._buffer = torch.empty(self.flushed_bytes, dtype=torch.int8, device=device)

    def __call__(self) -> None:
        """Overwrite the buffer, in the order of work of the current stream."""
        self._buffer.zero_()


def cache_bytes(device: str, caches: Path = CPU_CACHES) -> int:
    """Return the size of the last-level cache of `device` in bytes. Raises MeasurementError if it is not known."""
    if device.startswith("cuda"):
        return int(torch.cuda.get_device_properties(torch.device(device)).L2_cache_size)
    sizes = [_parse(path.read_text()) for path in caches.glob("index*/size")]
    sizes += [os.sysconf(name) for name in ("SC_LEVEL3_CACHE_SIZE", "SC_LEVEL2_CACHE_SIZE") if name in os.sysconf_names]
    if largest := max(sizes, default=0):
        return largest
    raise MeasurementError(
        "the system does not report the size of this CPU's cache, which a cold call must flush: use hot mode"
    )


def _parse(size: str) -> int:
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    text = size.strip()
    return int(text[:-1]) * units[text[-1]] if text[-1:] in units else int(text or 0)
