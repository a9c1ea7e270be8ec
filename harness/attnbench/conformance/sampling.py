"""Sampling: the part of a workload that the gate compares, so that its cost is bounded at any length."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from attnbench.reference import Part

if TYPE_CHECKING:
    from attnbench.workloads.workload import Workload

PAIRS = {"cpu": 1 << 20, "cuda": 1 << 25}  # query-key pairs compared per round
LEAST_ROWS = 8
TILE_BORDERS = (63, 64, 127, 128, 255, 256, 511, 512)  # rows at which tiles end and begin


@dataclass(frozen=True)
class Sample:
    """The part that one round compares; unless `dense`, grad_output must be 0 except at the sampled rows."""

    part: Part
    dense: bool


def across(workload: Workload, device: str, generator: random.Random) -> Sample:
    """Sample query rows of all heads and sequences, or of some of them if all would cost too much."""
    w = workload
    budget = PAIRS.get(device, PAIRS["cpu"])
    pairs_of_row = max(1, w.batch * w.heads * w.seq_k)
    rows = _rows(w.seq_q, max(LEAST_ROWS, budget // pairs_of_row), generator)
    cost = max(1, w.heads // w.kv_heads * len(rows) * w.seq_k)  # pairs per key head and sequence
    affordable = max(1, 8 * budget // cost)
    kv_heads = _some(w.kv_heads, affordable, generator)
    batches = _some(w.batch, max(1, min(affordable // max(1, len(kv_heads)), 64)), generator)
    if len(batches) > 1:
        batches = tuple(sorted({*batches[:-1], w.batch - 1}))  # counters overflow at the last one
    return Sample(Part(batches, kv_heads, rows), dense=len(rows) == w.seq_q)


def whole_group(workload: Workload, pairs: int, generator: random.Random) -> Sample | None:
    """Return every row of one key head's query heads, or None if these are more than `pairs` query-key pairs."""
    w = workload
    if not w.batch or w.heads // w.kv_heads * w.seq_q * w.seq_k > pairs:
        return None
    part = Part((generator.randrange(w.batch),), (generator.randrange(w.kv_heads),), tuple(range(w.seq_q)))
    return Sample(part, dense=True)


def few_rows(workload: Workload, count: int, generator: random.Random) -> Sample:
    """Return a few rows of a few heads of one sequence; one of them is the first or the last row."""
    w = workload
    batches, kv_heads = _some(w.batch, 1, generator), _some(w.kv_heads, count, generator)
    rows = set(_some(w.seq_q, count, generator))
    if w.seq_q:
        rows.add(generator.choice((0, w.seq_q - 1)))
    return Sample(Part(batches, kv_heads, tuple(sorted(rows))), dense=True)


def keep_rows(grad_output: torch.Tensor, rows: tuple[int, ...]) -> None:
    """Set grad_output (B, H, S, D) to 0 at all rows but these."""
    others = torch.ones(grad_output.shape[2], dtype=torch.bool, device=grad_output.device)
    others[list(rows)] = False
    with torch.no_grad():
        grad_output[:, :, others] = 0


def _rows(length: int, count: int, generator: random.Random) -> tuple[int, ...]:
    """Choose `count` rows: the first, the last, some at borders of tiles, and random ones."""
    if count >= length:
        return tuple(range(length))
    borders = [row for row in TILE_BORDERS if row < length]
    rows = {0, length - 1, *generator.sample(borders, min(len(borders), count // 4))}
    while len(rows) < count:
        rows.add(generator.randrange(length))
    return tuple(sorted(rows))


def _some(size: int, count: int, generator: random.Random) -> tuple[int, ...]:
    """Choose at most `count` of the numbers below `size`, in order."""
    return tuple(sorted(generator.sample(range(size), min(count, size))))
