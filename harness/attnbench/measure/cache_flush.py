"""Flush the cache before a cold call, so that the call reads its inputs from memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from attnbench.device_names import device_type
from attnbench.errors import MeasurementError

# A flush overwrites this many times the size of the cache. Overwriting less may leave inputs in a cache that does not
# evict the oldest lines first.
FLUSH_FACTOR = 2
# On CUDA, a flush overwrites at least this many bytes, as that of triton.testing.do_bench does. The flush then takes
# longer, so that it also gives the host time to queue the call.
MIN_CUDA_FLUSH_BYTES = 2**28
PERSISTING_L2_CACHE_SIZE = 6  # CU_LIMIT_PERSISTING_L2_CACHE_SIZE in the CUDA driver API
CPU_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


class CacheFlush:
    """A callable that flushes the cache of `device` by overwriting a buffer.

    `cache` is the size of the cache in bytes, and `flushed` is the size of the buffer in bytes: by default FLUSH_FACTOR
    times `cache`, and on CUDA at least MIN_CUDA_FLUSH_BYTES. Raises MeasurementError if `cache` is not positive or if
    the buffer is smaller than FLUSH_FACTOR times `cache`.
    """

    def __init__(self, device: str, cache: int, flushed: int | None = None) -> None:
        least = MIN_CUDA_FLUSH_BYTES if device_type(device) == "cuda" else 0
        self.flushed_bytes = max(least, FLUSH_FACTOR * cache) if flushed is None else flushed
        if cache <= 0 or self.flushed_bytes < FLUSH_FACTOR * cache:
            raise MeasurementError(
                f"the flush before a cold call on {device} overwrites only {self.flushed_bytes} bytes: "
                f"expected at least {FLUSH_FACTOR} times the size of the cache, which is {cache} bytes"
            )
        self._buffer = torch.empty(self.flushed_bytes, dtype=torch.int8, device=device)
        if device_type(device) == "cuda":
            forbid_persisting_lines()

    def __call__(self) -> None:
        """Overwrite the buffer. On CUDA, this work is queued on the current stream."""
        self._buffer.zero_()


def forbid_persisting_lines(load: Callable[[str], Any] = ctypes.CDLL) -> None:
    """Give back the part of a GPU's L2 cache that is set aside for persisting accesses, and reset its lines.

    A flush could not overwrite these lines. `load` loads the CUDA driver's library. GPUs that have no such lines report
    an error, which is ignored.
    """
    with contextlib.suppress(OSError, AttributeError):
        driver = load("libcuda.so.1")
        driver.cuCtxSetLimit(PERSISTING_L2_CACHE_SIZE, ctypes.c_size_t(0))
        driver.cuCtxResetPersistingL2Cache()


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
