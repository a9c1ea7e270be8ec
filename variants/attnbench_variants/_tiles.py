"""Tiles of scores: those of some heads, a chunk of queries and a chunk of keys."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from attnbench_variants import _dropout, _visible

if TYPE_CHECKING:
    from attnbench import Inputs, Workload

QUERIES = {"cpu": 256, "cuda": 1024}
KEYS = {"cpu": 512, "cuda": 4096}
ELEMENTS = {"cpu": 1 << 19, "cuda": 1 << 26}  # of one tile: what fits a cache, what hides launches
KEPT_LIMITS = 4
EVEN_TO = 16  # keys: a vector's width


@dataclass(frozen=True)
class Chunk:
    """Query `rows` of some key `heads` (counted over the batch), and the keys that matter to them.

    Keys from `start` to `stop` are seen by some row; those from `full_start` to `full_stop` by every row. `low` says of
    each row how far after `start` its first key lies, `high` how far after `full_stop` its last one ends.
    """

    heads: slice
    rows: slice
    low: tuple[int, ...]
    high: tuple[int, ...]
    start: int
    stop: int
    full_start: int
    full_stop: int

    def tiles(self, size: int) -> Iterator[slice]:
        """Cut the keys that matter into slices of at most `size`, about even: a narrow last one would be slow."""
        length = self.stop - self.start
        even = -(-length // max(1, -(-length // size)))
        step = min(size, -(-even // EVEN_TO) * EVEN_TO)
        for start in range(self.start, self.stop, max(1, step)):
            yield slice(start, min(start + step, self.stop))

    def edges(self, keys: slice) -> Iterator[tuple[slice, Edge]]:
        """Give the parts of `keys`, counted from their start, that only some rows see, each with what it hides.

        Keys before `full_start` are hidden by a row's low end alone, those from `full_stop` on by its high end; keys
        that are both come twice.
        """
        before = slice(keys.start, min(keys.stop, self.full_start))
        if before.start < before.stop:
            yield _within(before, keys), Edge(self.low, self.start - before.start, before.stop - before.start, -1)
        after = slice(max(keys.start, self.full_stop), keys.stop)
        if after.start < after.stop:
            yield _within(after, keys), Edge(self.high, self.full_stop - after.start, after.stop - after.start, 1)


@dataclass(frozen=True)
class Edge:
    """A mask's edge across `width` keys: row i's first key past it is `ends[i] + shift`; `side` is what it hides.

    1 hides the keys from there on, -1 those before. Edges that are alike hide alike, wherever they lie.
    """

    ends: tuple[int, ...]
    shift: int
    width: int
    side: int

    def limits(self, device: torch.device) -> torch.Tensor:
        """Give the upper limits of scores, (rows, width): -inf where a key is hidden, else inf.

        Taking the minimum is several times as fast as masking.
        """
        ends = torch.tensor(self.ends, device=device)[:, None] + self.shift
        columns = torch.arange(self.width, device=device)
        return torch.where(columns >= ends if self.side > 0 else columns < ends, -math.inf, math.inf)


class Plan:
    """What is known of a workload before it runs: its chunks, and what becomes of a score."""

    def __init__(self, workload: Workload, inputs: Inputs) -> None:
        device = inputs.query.device
        self.device = device
        self.workload = workload
        self.scale = workload.effective_scale
        self.group = workload.heads // workload.kv_heads
        self.seed = inputs.seed
        self.queries = max(1, min(workload.seq_q, QUERIES[device.type] // self.group or 1))
        self.keys = max(1, min(workload.seq_k, KEYS[device.type]))
        self.heads = max(1, ELEMENTS[device.type] // (self.queries * self.group * self.keys))
        self.slopes = None
        if inputs.alibi_slopes is not None:
            slopes = inputs.alibi_slopes.view(workload.kv_heads, self.group, 1, 1)
            self.slopes = slopes.repeat(workload.batch, 1, 1, 1)
        self.limits = lru_cache(maxsize=KEPT_LIMITS)(lambda edge: edge.limits(device))
        self.chunks = list(self._chunks(_visible.ranges(workload, device)))

    def _chunks(self, ranges: list[_visible.Ranges]) -> Iterator[Chunk]:
        heads = self.workload.batch * self.workload.kv_heads
        apart = heads // max(1, len(ranges))  # heads of one sequence, or of all where sequences are alike
        for number, each in enumerate(ranges):
            for first in range(0, apart, self.heads):
                begin = number * apart + first
                of_heads = slice(begin, number * apart + min(first + self.heads, apart))
                for row in range(0, self.workload.seq_q, self.queries):
                    rows = slice(row, min(row + self.queries, self.workload.seq_q))
                    lows, highs = each.low_list[rows], each.high_list[rows]
                    low, high = tuple(end - lows[0] for end in lows), tuple(end - highs[0] for end in highs)
                    yield Chunk(of_heads, rows, low, high, lows[0], highs[-1], lows[-1], highs[0])

    def buffer(self) -> torch.Tensor:
        """Make room for one tile of scores."""
        heads = min(self.heads, self.workload.batch * self.workload.kv_heads)
        return torch.empty(heads * self.group * self.queries * self.keys, dtype=torch.float32, device=self.device)

    def scores(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        place: tuple[Chunk, slice],
        buffer: torch.Tensor,
        *,
        bend: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Fill `buffer` with a tile of capped, biased and masked scores, (heads, group * rows, keys) float32.

        `query` (heads, group * rows, D) comes scaled, `key` is (heads, keys, D); `place` is the tile's chunk and keys.
        Under a softcap, `bend` is filled with the capped scores' derivative by the raw ones.
        """
        chunk, keys = place
        scores = multiply(query, key, buffer)
        if self.workload.softcap is not None:
            scores.div_(self.workload.softcap).tanh_()
            if bend is not None:
                torch.mul(scores, scores, out=bend[: scores.numel()].view(scores.shape)).neg_().add_(1.0)
            scores.mul_(self.workload.softcap)
        grouped = scores.view(len(scores), self.group, -1, scores.shape[-1])
        if self.slopes is not None:
            distances = _visible.distances(chunk.rows, keys, self.workload, self.device)
            grouped.addcmul_(self.slopes[chunk.heads], distances, value=-1)
        for part, edge in chunk.edges(keys):
            torch.minimum(grouped[..., part], self.limits(edge), out=grouped[..., part])
        return scores

    def kept(self, chunk: Chunk, keys: slice) -> torch.Tensor:
        """Redraw a tile of dropout: 1 / (1 - p) where a weight is kept, else 0; (heads, group * rows, keys) float32."""
        heads = torch.arange(chunk.heads.start * self.group, chunk.heads.stop * self.group, device=self.device)
        rows = torch.arange(chunk.rows.start, chunk.rows.stop, device=self.device)
        rows = (heads[:, None] * self.workload.seq_q + rows).view(len(heads) // self.group, -1, 1)
        columns = torch.arange(keys.start, keys.stop, device=self.device)
        kept = _dropout.keep(self.workload.dropout, self.seed, rows, columns)
        return kept.float().div_(1.0 - self.workload.dropout)

    def rows(self, tensor: torch.Tensor, chunk: Chunk) -> torch.Tensor:
        """Take a chunk's rows of a (B, Hq, Sq, X) tensor as (heads, group * rows, X) float32."""
        grouped = tensor.flatten(0, 1).unflatten(0, (-1, self.group))
        return grouped[chunk.heads, :, chunk.rows].flatten(1, 2).float()

    def store(self, tensor: torch.Tensor, chunk: Chunk, values: torch.Tensor) -> None:
        """Write (heads, group * rows, X) `values` to a chunk's rows of a contiguous (B, Hq, Sq, X) tensor."""
        grouped = tensor.flatten(0, 1).unflatten(0, (-1, self.group))
        grouped[chunk.heads, :, chunk.rows] = values.unflatten(1, (self.group, -1))


def multiply(left: torch.Tensor, right: torch.Tensor, buffer: torch.Tensor) -> torch.Tensor:
    """Multiply (heads, m, X) by the transpose of (heads, n, X) into the start of `buffer`: (heads, m, n)."""
    shape = (left.shape[0], left.shape[1], right.shape[1])
    product = buffer[: math.prod(shape)].view(shape)
    return torch.bmm(left, right.transpose(1, 2), out=product)


def _within(part: slice, whole: slice) -> slice:
    """Count `part` from the start of `whole`."""
    return slice(part.start - whole.start, part.stop - whole.start)
