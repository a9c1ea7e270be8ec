"""Tiles of scores, each of some heads, a chunk of queries and a chunk of keys."""

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
ELEMENTS = {
    "cpu": 1 << 19,
    "cuda": 1 << 26,
}  # of one tile: it fits the CPU's cache, or keeps a GPU busy longer than a kernel launch
KEPT_LIMITS = 4
EVEN_TO = 16  # keys, the width of a vector instruction


@dataclass(frozen=True)
class Chunk:
    """Query `rows` of some key `heads` (counted over the batch), and the range of keys that they see.

    Keys from `start` to `stop` are seen by at least one row, and keys from `full_start` to `full_stop` by every row.
    `low` is the distance of each row's first key from `start`, and `high` that of each row's end from `full_stop`.
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
        """Yield slices of the visible keys, at most `size` long and of about equal length: a narrow one is slow."""
        length = self.stop - self.start
        even = -(-length // max(1, -(-length // size)))
        step = min(size, -(-even // EVEN_TO) * EVEN_TO)
        for start in range(self.start, self.stop, max(1, step)):
            yield slice(start, min(start + step, self.stop))

    def edges(self, keys: slice) -> Iterator[tuple[slice, Edge]]:
        """Yield the parts of `keys` that only some rows see, relative to the start of `keys`, with their edges.

        Keys before `full_start` can be hidden only by a row's low end, and keys from `full_stop` on only by its high
        end. Keys for which both are true are yielded twice.
        """
        before = slice(keys.start, min(keys.stop, self.full_start))
        if before.start < before.stop:
            yield _within(before, keys), Edge(self.low, self.start - before.start, before.stop - before.start, -1)
        after = slice(max(keys.start, self.full_stop), keys.stop)
        if after.start < after.stop:
            yield _within(after, keys), Edge(self.high, self.full_stop - after.start, after.stop - after.start, 1)


@dataclass(frozen=True)
class Edge:
    """A mask's edge across `width` keys; the first key of row i past the edge is `ends[i] + shift`.

    `side` 1 hides the keys from there on, and -1 the keys before. Equal edges hide the same keys relative to their
    part, so that their limits can be cached.
    """

    ends: tuple[int, ...]
    shift: int
    width: int
    side: int

    def limits(self, device: torch.device) -> torch.Tensor:
        """Return upper limits of the scores, (rows, width): -inf for a hidden key and inf for a visible one.

        Taking the minimum with them is several times as fast as masking.
        """
        ends = torch.tensor(self.ends, device=device)[:, None] + self.shift
        columns = torch.arange(self.width, device=device)
        return torch.where(columns >= ends if self.side > 0 else columns < ends, -math.inf, math.inf)


class Plan:
    """The chunks of a workload, and how its scores are computed from products, prepared before the first call."""

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
        apart = heads // max(1, len(ranges))  # heads of one sequence, or of all if the sequences have equal masks
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
        """Return an empty buffer for one tile of scores."""
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

        `query` (heads, group * rows, D) is already scaled, `key` is (heads, keys, D), and `place` is the tile's chunk
        and keys. With a softcap, `bend` is filled with the derivative of the capped scores by the raw ones.
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
        """Return a tile of dropout, (heads, group * rows, keys) float32: 1 / (1 - p) for a kept weight, else 0."""
        heads = torch.arange(chunk.heads.start * self.group, chunk.heads.stop * self.group, device=self.device)
        rows = torch.arange(chunk.rows.start, chunk.rows.stop, device=self.device)
        rows = (heads[:, None] * self.workload.seq_q + rows).view(len(heads) // self.group, -1, 1)
        columns = torch.arange(keys.start, keys.stop, device=self.device)
        kept = _dropout.keep(self.workload.dropout, self.seed, rows, columns)
        return kept.float().div_(1.0 - self.workload.dropout)

    def rows(self, tensor: torch.Tensor, chunk: Chunk) -> torch.Tensor:
        """Return a chunk's rows of a (B, Hq, Sq, X) tensor as (heads, group * rows, X) float32."""
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
    """Return the slice `part` relative to the start of `whole`."""
    return slice(part.start - whole.start, part.stop - whole.start)
