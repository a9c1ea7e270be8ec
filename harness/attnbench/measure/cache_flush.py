"""Flush the cache before a cold call, so that the call reads its inputs from memory."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from attnbench.device_names import device_type
from attnbench.errors import MeasurementError

# A flush overwrites this many times the size of the cache. Overwriting less may leave inputs in a cache that does not
# evict the oldest lines first.
FLUSH_FACTOR = 2
CPU_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


class CacheFlush:
    """A callable that flushes the cache of `device` by overwriting a buffer.

    `cache` is the size of the cache in bytes, and `flushed` is the size of the buffer in bytes, by default FLUSH_FACTOR
    times `cache`. Raises MeasurementError if `cache` is not positive or if the buffer is smaller than the default.
    """

    def __init__(self, device: str, cache: int, flushed: int | None = None) -> None:
        self.flushed_bytes = FLUSH_FACTOR * cache if flushed is None else flushed
        if cache <= 0 or self.flushed_bytes < FLUSH_FACTOR * cache:
            raise MeasurementError(
                f"the flush before a cold call on {device} overwrites only {self.flushed_bytes} bytes: "
                f"expected at least {FLUSH_FACTOR} times the size of the cache, which is {cache} bytes"
            )
        self._buffer = torch.empty(self.flushed_bytes, dtype=torch.int8, device=device)

    def __call__(self) -> None:
        """Overwrite the buffer. On CUDA, this work is queued on the current stream."""
        self._buffer.zero_()


def cache_bytes(device: str, caches: Path = CPU_CACHES) -> int:
    """Return the size of the last-level cache of `device` in bytes. Raises MeasurementError if the size is unknown."""
    if device_type(device) == "cuda":
        return int(torch.cuda.get_device_properties(torch.device(device)).L2_cache_size)
    sizes = [_parse(path.read_text()) for path in caches.glob("index*/size")]
    sizes += [os.sysconf(name) for name in ("SC_LEVEL3_CACHE_SIZE", "SC_LEVEL2_CACHE_SIZE") if name in os.sysconf_names]
    if largest := max(sizes, default=0):
        return largest
    raise MeasurementError(
        "cold mode must flush the CPU's cache, but the system does not report its size: use hot mode"
    )


def _parse(size: str) -> int:
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    text = size.strip()
    return int(text[:-1]) * units[text[-1]] if text[-1:] in units else int(text or 0)
