"""Tiles of the score matrix; each tile covers some heads, a chunk of queries and a slice of keys."""

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

# Maximum tile sizes for each device type, in queries, keys and elements. On a CPU, a tile of maximum size fits into the
# cache. On a GPU, computing such a tile takes longer than launching a kernel.
MAX_QUERIES = {"cpu": 256, "cuda": 1024}
MAX_KEYS = {"cpu": 512, "cuda": 4096}
MAX_ELEMENTS = {"cpu": 1 << 19, "cuda": 1 << 26}
MAX_CACHED_LIMITS = 4  # a plan caches at most this many score-limit tensors
KEY_ALIGNMENT = 16  # tile lengths are rounded up to a multiple of this many keys, for efficient vector instructions


@dataclass(frozen=True)
class Chunk:
    """A range of query rows for a range of key heads, and the range of keys that these rows see.

    `heads` is a range of key heads, counted over the whole batch. Each key from `start` to `stop` is seen by at least
    one row, and each key from `full_start` to `full_stop` is seen by every row. For each row, `low` holds the distance
    from `start` to the first key that the row sees, and `high` the distance from `full_stop` to the end of the row's
    range of keys.
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
        """Yield slices of the visible keys, each at most `size` long.

        The slices have about the same length, because a narrow slice at the end would be slow to process.
        """
        length = self.stop - self.start
        even = -(-length // max(1, -(-length // size)))
        step = min(size, -(-even // KEY_ALIGNMENT) * KEY_ALIGNMENT)
        for start in range(self.start, self.stop, max(1, step)):
            yield slice(start, min(start + step, self.stop))

    def edges(self, keys: slice) -> Iterator[tuple[slice, Edge]]:
        """Yield each part of `keys` that only some rows see, with the edge of the mask in that part.

        Parts are relative to the start of `keys`. Keys before `full_start` are hidden from rows whose range starts
        later, and keys from `full_stop` onwards are hidden from rows whose range ends earlier. Keys to which both
        cases apply are yielded twice, once for each edge.
        """
        before = slice(keys.start, min(keys.stop, self.full_start))
        if before.start < before.stop:
            yield _within(before, keys), Edge(self.low, self.start - before.start, before.stop - before.start, -1)
        after = slice(max(keys.start, self.full_stop), keys.stop)
        if after.start < after.stop:
            yield _within(after, keys), Edge(self.high, self.full_stop - after.start, after.stop - after.start, 1)


@dataclass(frozen=True)
class Edge:
    """An edge of a mask within a part of `width` keys.

    In row i, the first key after the edge is at position `ends[i] + shift` in the part. If `side` is 1, the keys after
    the edge are hidden; if it is -1, the keys before the edge are hidden. Edges that compare equal hide the same
    keys, so the result can be cached.
    """

    ends: tuple[int, ...]
    shift: int
    width: int
    side: int

    def limits(self, device: torch.device) -> torch.Tensor:
        """Return a (rows, width) tensor of upper limits for the scores: -inf for hidden keys and inf for visible keys.

        Taking the minimum of scores and limits is several times faster than masking the scores.
        """
        ends = torch.tensor(self.ends, device=device)[:, None] + self.shift
        columns = torch.arange(self.width, device=device)
        return torch.where(columns >= ends if self.side > 0 else columns < ends, -math.inf, math.inf)


class Plan:
    """A workload's chunks and the settings for computing its scores. A plan is made once, before the first call."""

    def __init__(self, workload: Workload, inputs: Inputs) -> None:
        device = inputs.query.device
        self.device = device
        self.workload = workload
        self.scale = workload.effective_scale
        self.group = workload.heads // workload.kv_heads
        self.seed = inputs.seed
        self.queries = max(1, min(workload.seq_q, MAX_QUERIES[device.type] // self.group or 1))
        self.keys = max(1, min(workload.seq_k, MAX_KEYS[device.type]))
        self.heads = max(1, MAX_ELEMENTS[device.type] // (self.queries * self.group * self.keys))
        self.slopes = None
        if inputs.alibi_slopes is not None:
            slopes = inputs.alibi_slopes.view(workload.kv_heads, self.group, 1, 1)
            self.slopes = slopes.repeat(workload.batch, 1, 1, 1)
        self.limits = lru_cache(maxsize=MAX_CACHED_LIMITS)(lambda edge: edge.limits(device))
        self.chunks = list(self._chunks(_visible.ranges(workload, device)))

    def _chunks(self, ranges: list[_visible.Ranges]) -> Iterator[Chunk]:
        heads = self.workload.batch * self.workload.kv_heads
        # The number of key heads that share a mask: the heads of one sequence, or the heads of all sequences.
        apart = heads // max(1, len(ranges))
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
        cap_slope: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return a tile of capped, biased and masked scores, (heads, group * rows, keys) float32, stored in `buffer`.

        `query` is (heads, group * rows, D) and already scaled, `key` is (heads, keys, D), and `place` holds the chunk
        and the keys of the tile. If there is a softcap and `cap_slope` is not None, the derivative of the capped scores
        with respect to the raw scores is written to `cap_slope`.
        """
        chunk, keys = place
        scores = multiply(query, key, buffer)
        if self.workload.softcap is not None:
            scores.div_(self.workload.softcap).tanh_()
            if cap_slope is not None:
                torch.mul(scores, scores, out=cap_slope[: scores.numel()].view(scores.shape)).neg_().add_(1.0)
            scores.mul_(self.workload.softcap)
        grouped = scores.view(len(scores), self.group, -1, scores.shape[-1])
        if self.slopes is not None:
            distances = _visible.distances(chunk.rows, keys, self.workload, self.device)
            grouped.addcmul_(self.slopes[chunk.heads], distances, value=-1)
        for part, edge in chunk.edges(keys):
            torch.minimum(grouped[..., part], self.limits(edge), out=grouped[..., part])
        return scores

    def kept(self, chunk: Chunk, keys: slice) -> torch.Tensor:
        """Return the dropout factors of a tile, (heads, group * rows, keys) float32.

        The factor is 1 / (1 - p) for a weight that is kept, and 0 for one that is dropped.
        """
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
        """Write `values`, (heads, group * rows, X), to a chunk's rows of a contiguous (B, Hq, Sq, X) tensor."""
        grouped = tensor.flatten(0, 1).unflatten(0, (-1, self.group))
        grouped[chunk.heads, :, chunk.rows] = values.unflatten(1, (self.group, -1))


def multiply(left: torch.Tensor, right: torch.Tensor, buffer: torch.Tensor) -> torch.Tensor:
    """Multiply `left`, (heads, m, X), by the transpose of `right`, (heads, n, X).

    The product, (heads, m, n), is stored in `buffer`.
    """
    shape = (left.shape[0], left.shape[1], right.shape[1])
    product = buffer[: math.prod(shape)].view(shape)
    return torch.bmm(left, right.transpose(1, 2), out=product)


def _within(part: slice, whole: slice) -> slice:
    """Return the slice `part` relative to the start of `whole`."""
    return slice(part.start - whole.start, part.stop - whole.start)
