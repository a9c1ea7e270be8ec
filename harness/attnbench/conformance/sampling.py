"""Which part of a workload the gate compares, so that its cost stays bounded at any length."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from attnbench.reference import Part

if TYPE_CHECKING:
    from attnbench.workloads.workload import Workload

PAIRS = {"cpu": 1 << 20, "cuda": 1 << 25}  # query-key pairs compared a round
LEAST_ROWS = 8
EDGES = (63, 64, 127, 128, 255, 256, 511, 512)  # rows at which tiles end and begin


@dataclass(frozen=True)
class Sample:
    """What one round compares; `dense`: grad_output is left as it is, else it is to be 0 off the sampled rows."""

    part: Part
    dense: bool


def across(workload: Workload, device: str, generator: random.Random) -> Sample:
    """Sample query rows of all heads and sequences; of some heads and sequences where all would cost too much."""
    w = workload
    budget = PAIRS.get(device, PAIRS["cpu"])
    heads = max(1, w.batch * w.heads * w.seq_k)
    rows = _rows(w.seq_q, max(LEAST_ROWS, budget // heads), generator)
    cost = max(1, w.heads // w.kv_heads * len(rows) * w.seq_k)  # of one key head of one sequence
    affordable = max(1, 8 * budget // cost)
    kv_heads = _some(w.kv_heads, affordable, generator)
    batches = _some(w.batch, max(1, min(affordable // max(1, len(kv_heads)), 64)), generator)
    if len(batches) > 1:
        batches = tuple(sorted({*batches[:-1], w.batch - 1}))  # the last one is where counters overflow
    return Sample(Part(batches, kv_heads, rows), dense=len(rows) == w.seq_q)


def whole_group(workload: Workload, pairs: int, generator: random.Random) -> Sample | None:
    """Take every row of one key head's query heads, or None where that is more than `pairs` query-key pairs."""
    w = workload
    if not w.batch or w.heads // w.kv_heads * w.seq_q * w.seq_k > pairs:
        return None
    part = Part((generator.randrange(w.batch),), (generator.randrange(w.kv_heads),), tuple(range(w.seq_q)))
    return Sample(part, dense=True)


def few_rows(workload: Workload, count: int, generator: random.Random) -> Sample:
    """Take a few rows of a few heads of one sequence; the first and last row are as likely as all others together."""
    w = workload
    batches, kv_heads = _some(w.batch, 1, generator), _some(w.kv_heads, count, generator)
    rows = set(_some(w.seq_q, count, generator))
    if w.seq_q:
        rows.add(generator.choice((0, w.seq_q - 1)))
    return Sample(Part(batches, kv_heads, tuple(sorted(rows))), dense=True)


def keep_rows(grad_output: torch.Tensor, rows: tuple[int, ...]) -> None:
    """Set grad_output (B, H, S, D) to 0 at all other rows."""
    others = torch.ones(grad_output.shape[2], dtype=torch.bool, device=grad_output.device)
    others[list(rows)] = False
    with torch.no_grad():
        grad_output[:, :, others] = 0


def _rows(length: int, count: int, generator: random.Random) -> tuple[int, ...]:
    if count >= length:
        return tuple(range(length))
    edges = [row for row in EDGES if row < length]
    rows = {0, length - 1, *generator.sample(edges, min(len(edges), count // 4))}
    while len(rows) < count:
        rows.add(generator.randrange(length))
    return tuple(sorted(rows))


def _some(size: int, count: int, generator: random.Random) -> tuple[int, ...]:
    return tuple(sorted(generator.sample(range(size), min(count, size))))
