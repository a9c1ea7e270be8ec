"""Measures what a device can do: copy bandwidth and matmul rate, once an environment."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch

from attnbench.cache import cache_folder
from attnbench.measure.clock import Clock, clock_for
from attnbench.measure.flush import FACTOR, cache_bytes
from attnbench.measure.roofline import Limits

MATMUL_SIZES = {"cuda": (2048, 4096, 8192), "cpu": (256, 512, 1024)}
LEAST_COPY = 2**28
TRIES = 5


def limits_of(device: str, dtype: str, environment_id: str, cache: Path | None = None) -> Limits:
    """Give the limits of `device` for `dtype`, from the cache or else measured (about a second).

    `environment_id` names device, driver and versions: limits measured under another are not used. A cache that can't
    be read or written costs the time of measuring again, no more.
    """
    folder = cache or cache_folder()
    path = folder / f"limits-{environment_id}-{device.replace(':', '-')}-{dtype}.json"
    try:
        return Limits.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        limits = measure_limits(device, dtype)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, encoding="utf-8") as file:
            json.dump(limits.to_json(), file)
        Path(file.name).replace(path)
    except OSError:
        pass
    return limits


def measure_limits(device: str, dtype: str, clock: Clock | None = None) -> Limits:
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
    return Limits(copied, rate)


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
