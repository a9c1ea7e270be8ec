"""Measure a device's peak rates: copy bandwidth and matmul rate."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median

import torch

from attnbench.device_names import device_type
from attnbench.measure.cache_flush import FLUSH_FACTOR, cache_bytes
from attnbench.measure.clock import Clock, clock_for
from attnbench.stats.roofline import Peaks

MATMUL_SIZES = {"cuda": (2048, 4096, 8192), "cpu": (256, 512, 1024)}  # widths of the square matrices
MIN_COPY_BYTES = 2**28  # minimum size of the measured copy, which is larger on devices with a very large cache
TRIES = 5  # number of timed calls of each copy or matmul; the rate is computed from their median time


def measure_peaks(device: str, dtype: str, clock: Clock | None = None) -> Peaks:
    """Measure and return the peak rates of `device` for `dtype`.

    The copied data is much larger than the cache, and the copy rate counts each byte twice: once as read and once as
    written. The matmul rate is the highest rate among several sizes. The product of two n x n matrices counts as 2 n^3
    FLOPs.
    """
    clock = clock or clock_for(device)
    torch_dtype: torch.dtype = getattr(torch, dtype)
    size = max(MIN_COPY_BYTES, 2 * FLUSH_FACTOR * cache_bytes(device))
    source = torch.ones(size, dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    copy_rate = 2 * size / _median_s(partial(target.copy_, source), clock)
    matmul_rate = 0.0
    for width in MATMUL_SIZES[device_type(device)]:
        left = torch.randn(width, width, device=device).to(torch_dtype)
        right = torch.randn(width, width, device=device).to(torch_dtype)
        matmul_rate = max(matmul_rate, 2 * width**3 / _median_s(partial(torch.matmul, left, right), clock))
    return Peaks(copy_rate, matmul_rate)


def _median_s(action: Callable[[], object], clock: Clock) -> float:
    """Return the median time of `action` in seconds.

    The minimum is not used, because the clock of a virtual machine may report times that are too short.
    """
    action()
    clock.synchronise()
    marks = []
    for _ in range(TRIES):
        start = clock.mark()
        action()
        marks.append((start, clock.mark()))
    clock.synchronise()
    return median(clock.elapsed_ns(start, end) for start, end in marks) / 1e9
