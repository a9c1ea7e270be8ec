"""Measures what a device can do: copy bandwidth and matmul rate."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median

import torch

from attnbench.measure.clock import Clock, clock_for
from attnbench.measure.cold import FACTOR, cache_bytes
from attnbench.stats.roofline import Peaks

MATMUL_SIZES = {"cuda": (2048, 4096, 8192), "cpu": (256, 512, 1024)}
LEAST_COPY = 2**28
TRIES = 5


def measure_peaks(device: str, dtype: str, clock: Clock | None = None) -> Peaks:
    """Measure copies of more than twice the cache, and square matmuls of several sizes, of which the best counts.

    Bytes of a copy count twice, read and written; a matmul of n x n counts 2 n^3 operations.
    """
    clock = clock or clock_for(device)
    kind = device.partition(":")[0]
    torch_dtype: torch.dtype = getattr(torch, dtype)
    size = max(LEAST_COPY, 2 * FACTOR * cache_bytes(device))
    source = torch.ones(size, dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    copied = 2 * size / _usual_s(partial(target.copy_, source), clock)
    rate = 0.0
    for width in MATMUL_SIZES[kind]:
        left = torch.randn(width, width, device=device).to(torch_dtype)
        right = torch.randn(width, width, device=device).to(torch_dtype)
        rate = max(rate, 2 * width**3 / _usual_s(partial(torch.matmul, left, right), clock))
    return Peaks(copied, rate)


def _usual_s(action: Callable[[], object], clock: Clock) -> float:
    """Give the median: the shortest of a few tries may be a glitch of a virtual machine's clock."""
    action()
    clock.synchronise()
    marks = []
    for _ in range(TRIES):
        start = clock.mark()
        action()
        marks.append((start, clock.mark()))
    clock.synchronise()
    return median(clock.elapsed_ns(start, end) for start, end in marks) / 1e9
