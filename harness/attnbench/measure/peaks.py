"""Measure a device's peak rates: copy bandwidth and matmul rate."""

from __future__ import annotations

import math
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
LOAD_S = 0.3  # the device is kept busy for this long first, because the clock of an idle device is low
# Number of timed calls of each copy or matmul. Fewer are made if they take longer than LOAD_S, but at least MIN_TRIES.
TRIES, MIN_TRIES = 15, 3


def measure_peaks(device: str, dtype: str, clock: Clock | None = None) -> Peaks:
    """Measure and return the peak rates of `device` for `dtype`.

    The device is first kept busy for LOAD_S, so that its clock rate has risen. The copied data is much larger than the
    cache, and the copy rate counts each byte twice: once as read and once as written. The matmul rate is the highest
    rate among several sizes. The product of two n x n matrices counts as 2 n^3 FLOPs.
    """
    clock = clock or clock_for(device)
    torch_dtype: torch.dtype = getattr(torch, dtype)
    widths = MATMUL_SIZES[device_type(device)]
    _load(_matmul(max(widths), torch_dtype, device), clock)
    size = max(MIN_COPY_BYTES, 2 * FLUSH_FACTOR * cache_bytes(device))
    source = torch.ones(size, dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    copy_rate = 2 * size / _best_s(partial(target.copy_, source), clock)
    matmul_rate = max(2 * width**3 / _best_s(_matmul(width, torch_dtype, device), clock) for width in widths)
    return Peaks(copy_rate, matmul_rate)


def _matmul(width: int, dtype: torch.dtype, device: str) -> Callable[[], object]:
    """Return a function that computes the product of two square matrices."""
    left, right = (torch.randn(width, width, device=device).to(dtype) for _ in range(2))
    return partial(torch.matmul, left, right)


def _load(action: Callable[[], object], clock: Clock) -> None:
    """Repeat `action` until LOAD_S have passed."""
    begun = clock.now()
    while clock.now() - begun < LOAD_S * 1e9:
        action()
        clock.synchronise()


def _best_s(action: Callable[[], object], clock: Clock) -> float:
    """Return the time of `action` in seconds: the median of the fastest third of the calls.

    Slower calls may have run at a lower clock rate, or beside other work. The minimum is not used, because the clock of
    a virtual machine may report times that are too short.
    """
    action()
    clock.synchronise()
    begun, times = clock.now(), list[float]()
    while len(times) < MIN_TRIES or (len(times) < TRIES and clock.now() - begun < LOAD_S * 1e9):
        start = clock.mark()
        action()
        end = clock.mark()
        clock.synchronise()
        times.append(clock.elapsed_ns(start, end))
    return median(sorted(times)[: math.ceil(len(times) / 3)]) / 1e9
